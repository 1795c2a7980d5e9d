"""What is read and appended piece by piece is what anndata reads and writes whole."""

import itertools

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from files import RowAppender, count_rows, count_values, create_h5ad
from files import _h5ad as h5ad
from files import _shards as shards

# anndata 0.13 asks pandas for two options that pandas 4 will drop
pytestmark = pytest.mark.filterwarnings(
    "ignore:The '(future.infer_string|mode.chained_assignment)' option is deprecated"
)


@pytest.fixture
def counts():
    """(9, 5) whole numbers with an empty row and an empty column."""
    values = np.random.default_rng(0).poisson(1, (9, 5)).astype(np.int32)
    values[4], values[:, 2] = 0, 0
    return sp.csr_array(values)


def labels(n, letter):
    return pd.Index([f"{letter}{i}" for i in range(n)], dtype=object)


def appended(path, counts, cuts, **types):
    obs = pd.DataFrame({"donor": pd.Categorical(["a", None, "b"] * 3)}, index=labels(9, "c"))
    var = pd.DataFrame({"symbol": list("ABCDE")}, index=labels(5, "g")).astype(object)
    with create_h5ad(path, obs, var) as file:
        appender = RowAppender(file, (9, 5), **({"values": np.int32, "indices": np.int32} | types))
        for start, stop in itertools.pairwise(cuts):
            appender.append(counts[start:stop])
        appender.finish()
    return path


@pytest.mark.parametrize("cuts", [[0, 9], [0, 4, 5, 9], [0, 0, 9]])
def test_rows_appended_in_blocks_are_what_anndata_reads(tmp_path, counts, cuts):
    whole = ad.read_h5ad(appended(tmp_path / "x.h5ad", counts, cuts))
    np.testing.assert_array_equal(whole.X.toarray(), counts.toarray())
    assert whole.X.dtype == np.int32
    assert count_rows(tmp_path / "x.h5ad") == 9
    assert count_values(tmp_path / "x.h5ad") == counts.nnz
    with h5py.File(tmp_path / "x.h5ad") as file:
        np.testing.assert_array_equal(h5ad.read_rows(file["X"], 3, 6).toarray(), counts[3:6].toarray())
        assert h5ad.read_rows(file["X"], 4, 4).shape == (0, 5)


def test_index_pointers_count_all_values(tmp_path, counts, monkeypatch):
    for indices, limit, expected in [
        (np.int32, 2**31 - 1, np.int32),
        (np.int32, 3, np.int64),
        (np.int64, 2**31 - 1, np.int64),
    ]:
        monkeypatch.setattr(h5ad, "INT32_MAX", limit)
        with h5py.File(appended(tmp_path / "x.h5ad", counts, [0, 9], indices=indices)) as file:
            assert (file["X/indices"].dtype, file["X/indptr"].dtype) == (indices, expected)


def test_columns_of_every_encoding_that_anndata_writes(tmp_path):
    obs = pd.DataFrame(
        {
            "number": [1.5, np.nan, 3],
            "truth": [True, False, True],
            "text": pd.Series(["a", "b", "NA"], dtype=object),
            "category": pd.Categorical(["x", None, "y"]),
            "nullable": pd.array(["p", None, "q"], dtype="string"),
        },
    ).set_index(labels(3, "c"))
    with ad.settings.override(allow_write_nullable_strings=True):
        ad.AnnData(obs=obs).write_h5ad(tmp_path / "x.h5ad", convert_strings_to_categoricals=False)
    with h5py.File(tmp_path / "x.h5ad") as file:
        table = h5ad.read_columns(file["obs"])
        assert list(h5ad.read_names(file["obs"], slice(1, 3))) == ["c1", "c2"]
        assert list(h5ad.read_column(file["obs"], "category", slice(1, 3))) == ["", "y"]

    assert list(table) == list(obs)
    assert table["number"].tolist()[::2] == [1.5, 3]
    assert table["truth"].tolist() == [True, False, True]
    assert table["text"].tolist() == ["a", "b", "NA"]
    assert table["category"].tolist() == ["x", "", "y"]
    assert table["nullable"].tolist() == ["p", "", "q"]


def test_a_shard_is_read_as_it_was_written(tmp_path, counts):
    shard = shards.read_shard(appended(tmp_path / "00.h5ad", counts, [0, 9]))
    np.testing.assert_array_equal(shard.counts.toarray(), counts.toarray())
    assert shard.obs["donor"].tolist() == ["a", "", "b"] * 3
    assert shard.obs.index.tolist() == list(labels(9, "c"))
    assert shard.genes["gene_id"].tolist() == list(labels(5, "g"))
    assert shard.genes["symbol"].tolist() == list("ABCDE")
