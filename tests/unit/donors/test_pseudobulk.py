"""Sums by hand, scanpy.get.aggregate as oracle, invariance to shards, reasons of every label."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from donors import pseudobulk

# anndata 0.13 asks pandas 3.1 for an option that is about to go
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")

TYPES = pd.DataFrame(
    {
        "id": ["b", "rare", "t_cd4"],
        "label": ["B", "rare", "T CD4+"],
        "kept": [True, False, True],
        "reason": ["", "few_cells_in_type", ""],
    }
)
SAMPLES = pd.DataFrame(
    {
        "sample": ["s1", "s2"],
        "donor": ["d1", "d2"],
        "pool": ["", ""],
        "pools": [0, 0],
        "age": [30.0, np.nan],
        "sex": ["F", None],
        "cells": [4, 2],
        "shard": ["00", "01"],
    }
)


def cohort(seed: int, cells: int = 60, genes: int = 7, largest: int = 9) -> tuple[np.ndarray, pd.DataFrame]:
    """Counts and the cells' table; every sample in one of two types, some cells not kept."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, largest, (cells, genes)).astype(np.int32)
    sample = rng.integers(0, 5, cells)
    table = pd.DataFrame(
        {
            "cell": [f"c{i}" for i in range(cells)],
            "sample": [f"s{i}" for i in sample],
            "cell_type": rng.choice(["T CD4+", "B"], cells),
            "total_counts": counts.sum(axis=1).astype(float),
            "pct_counts_mt": rng.random(cells) * 100,
            "kept": rng.random(cells) < 0.7,
        }
    )
    return counts, table


def write_shards(folder, counts, table, shard_of_sample, number) -> list[str]:
    paths = []
    for shard in range(number):
        rows = table["sample"].map(shard_of_sample).to_numpy() == shard
        obs = pd.DataFrame(index=table.loc[rows, "cell"].to_numpy(dtype=object))
        var = pd.DataFrame({"symbol": "x"}, index=[f"g{i}" for i in range(counts.shape[1])]).astype(
            "category"
        )
        paths.append(str(folder / f"{number}_{shard}.h5ad"))
        ad.AnnData(X=sparse.csr_matrix(counts[rows]), obs=obs, var=var).write_h5ad(paths[-1])
    return paths


def summed(paths, table) -> tuple[np.ndarray, pd.DataFrame]:
    kept = table[table["kept"]]
    sums = pseudobulk.name_sums(kept, TYPES)
    total, _ = pseudobulk.sum_shards(paths, pseudobulk.row_of_cells(kept, sums), len(sums))
    assert total.dtype == np.int64
    return total.toarray(), sums


def test_sums_by_hand():
    counts = sparse.csr_matrix(np.array([[1, 0, 2], [0, 0, 5], [7, 0, 0], [1, 1, 1]], dtype=np.int32))
    total = pseudobulk.sum_rows(counts, np.array([1, 0, 1, -1]), 3)
    assert total.toarray().tolist() == [[0, 0, 5], [8, 0, 2], [0, 0, 0]]


def test_sums_stay_exact_where_float32_and_int32_fail():
    large = np.iinfo(np.int32).max
    counts = sparse.csr_matrix(np.array([[2**24], [1], [large], [large]], dtype=np.int32))
    total = pseudobulk.sum_rows(counts, np.array([0, 0, 1, 1]), 2)
    assert total.toarray().ravel().tolist() == [2**24 + 1, 2 * large]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 6))
def test_every_count_is_in_exactly_one_sum(seed, cells, sums):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (cells, 5)).astype(np.int32)
    rows = rng.integers(-1, sums, cells)
    total = pseudobulk.sum_rows(sparse.csr_matrix(counts), rows, sums)
    assert np.array_equal(total.sum(axis=0), counts[rows >= 0].sum(axis=0))
    assert np.array_equal(total.toarray(), np.array([counts[rows == i].sum(axis=0) for i in range(sums)]))


def test_agrees_with_scanpy(tmp_path):
    import scanpy as sc

    counts, table = cohort(1)
    ours, sums = summed(write_shards(tmp_path, counts, table, lambda s: int(s[1:]) % 2, 2), table)
    kept = table["kept"].to_numpy()
    adata = ad.AnnData(
        X=sparse.csr_matrix(counts[kept]), obs=table.loc[kept].set_index("cell").astype(object)
    )
    theirs = sc.get.aggregate(adata, by=["cell_type", "sample"], func="sum")
    pairs = pd.MultiIndex.from_frame(theirs.obs[["cell_type", "sample"]].astype(str))
    expected = pd.DataFrame(theirs.layers["sum"], index=pairs)
    assert np.array_equal(ours, expected.loc[pd.MultiIndex.from_frame(sums[["label", "sample"]])])
    assert ours.sum() == counts[kept].sum()


def test_shards_do_not_matter(tmp_path):
    counts, table = cohort(2)
    results = [
        summed(write_shards(tmp_path, counts, table, lambda s, n=n: int(s[1:]) % n, n), table)[0]
        for n in (1, 2, 5)
    ]
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_rows_are_sorted_by_type_then_sample_and_contiguous():
    _, table = cohort(3)
    sums = pseudobulk.name_sums(table[table["kept"]].sample(frac=1, random_state=0), TYPES)
    pairs = list(zip(sums["cell_type"], sums["sample"], strict=True))
    assert pairs == sorted(set(pairs))
    assert set(sums["cell_type"]) == {"b", "t_cd4"}


def test_columns_by_hand():
    cells = pd.DataFrame(
        {
            "cell": list("abcd"),
            "sample": ["s1", "s1", "s1", "s2"],
            "cell_type": ["B", "B", "T CD4+", "B"],
            "total_counts": [10.0, 30.0, 7.0, 5.0],
            "pct_counts_mt": [50.0, 10.0, 0.0, 20.0],
        }
    )
    sums = pseudobulk.name_sums(cells, TYPES)
    obs = pseudobulk.describe_sums(
        sums, np.array([40, 5, 7]), SAMPLES, ["age", "sex"], min_cells=2, min_counts=1
    )
    assert list(obs.index) == ["b::s1", "b::s2", "t_cd4::s1"]
    assert obs["cells"].tolist() == [2, 1, 1]
    assert obs["pct_counts_mt"].tolist() == [20.0, 20.0, 0.0]  # (5 + 3) / 40, by counts
    assert obs["log_cells"].tolist() == pytest.approx([np.log(2), 0, 0])
    assert obs["log_depth"].tolist() == pytest.approx(np.log([40, 5, 7]))
    assert obs["used"].tolist() == [True, False, False]
    assert obs["reason"].tolist() == ["", "too_few_cells", "too_few_cells"]
    assert obs["age"].tolist()[::2] == [30.0, 30.0]
    assert np.isnan(obs.loc["b::s2", "age"])
    assert pd.isna(obs.loc["b::s2", "sex"])
    assert obs.loc["b::s1", ["label", "donor", "sex"]].tolist() == ["B", "d1", "F"]


def test_a_sample_needs_cells_and_counts():
    cells = pd.DataFrame({"cell": list("abcdef"), "sample": ["s1", "s1", "s2", "s2", "s3", "s4"]})
    cells = cells.assign(cell_type="B", pct_counts_mt=0.0, total_counts=[50.0, 50, 49, 50, 500, 9])
    sums = pseudobulk.name_sums(cells, TYPES)
    samples = pd.DataFrame({"sample": ["s1", "s2", "s3", "s4"], "donor": "d", "pool": ""})
    limits = {"min_cells": 2, "min_counts": 100}
    obs = pseudobulk.describe_sums(sums, np.array([100, 99, 500, 9]), samples, [], **limits)
    assert obs["reason"].tolist() == ["", "too_few_counts", "too_few_cells", "too_few_cells"]
    assert obs["used"].tolist() == [True, False, False, False]
    types = pseudobulk.judge_cell_types(obs, TYPES, min_samples=1)
    assert types.set_index("id").loc["b", ["samples", "cells"]].tolist() == [1, 2]


def test_sums_survive_the_file(tmp_path):
    counts, table = cohort(4)
    total, sums = summed(write_shards(tmp_path, counts, table, lambda s: 0, 1), table)
    samples = pd.DataFrame(
        {"sample": [f"s{i}" for i in range(5)], "donor": "d", "pool": "", "sex": ["F", None] * 2 + ["M"]}
    )
    obs = pseudobulk.describe_sums(sums, total.sum(axis=1), samples, ["sex"], min_cells=1, min_counts=1)
    ad.AnnData(X=sparse.csr_matrix(total), obs=obs).write_h5ad(tmp_path / "sums.h5ad")
    back = ad.read_h5ad(tmp_path / "sums.h5ad")
    assert back.X.dtype == np.int64
    assert np.array_equal(back.X.toarray(), total)
    for column in obs:
        assert back.obs[column].astype(object).equals(obs[column].astype(object)), column


def test_a_sum_that_is_not_its_cells_counts_is_refused():
    _, table = cohort(5)
    sums = pseudobulk.name_sums(table, TYPES)
    wrong = sums["expected_counts"].to_numpy().copy()
    wrong[1] += 1
    with pytest.raises(RuntimeError, match="'B' in 's1' is not that of its cells"):
        pseudobulk.describe_sums(sums, wrong, SAMPLES, ["age", "sex"], min_cells=1, min_counts=1)


def test_a_kept_cell_that_no_shard_has_is_refused(tmp_path):
    counts, table = cohort(6)
    paths = write_shards(tmp_path, counts, table, lambda s: int(s[1:]) % 2, 2)
    with pytest.raises(RuntimeError, match=r"cells are kept, \d+ of them are in the shards"):
        summed(paths[:1], table)


def test_every_label_has_a_verdict():
    sums = pd.DataFrame(
        {
            "cell_type": ["b", "b", "b", "t_cd4"],
            "cells": [10, 20, 3, 50],
            "used": [True, True, False, True],
        }
    )
    judged = pseudobulk.judge_cell_types(sums, TYPES, min_samples=2)
    assert judged.to_dict("list") == {
        "id": ["b", "rare", "t_cd4"],
        "label": ["B", "rare", "T CD4+"],
        "samples": [2, 0, 1],
        "cells": [30, 0, 50],
        "tested": [True, False, False],
        "reason": ["", "few_cells_in_type", "too_few_samples"],
    }
    line = pseudobulk.summary(sums.assign(counts=1), judged)
    assert line.endswith("1 of 3 cell types tested (few_cells_in_type 1; too_few_samples 1)")
