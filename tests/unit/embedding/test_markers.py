"""Markers: equal to scanpy's t-test, whatever the shards; clusters that cannot be tested say so."""

from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import ttest_ind

from embedding.markers import accumulate, compare, log_normalise, rank
from files import read_kept

# anndata 0.13 asks pandas for two options that pandas 4 will drop
pytestmark = pytest.mark.filterwarnings(
    "ignore:The '(future.infer_string|mode.chained_assignment)' option is deprecated"
)

N_CELLS, N_GENES = 300, 120
COLUMNS = ["cluster", "rank", "gene_id", "symbol", "score", "log2_fold_change", "pvalue", "padj"]
COLUMNS += ["pct_in", "pct_out", "reason"]
GENES = pd.DataFrame(
    {"gene_id": [f"ENSG{i}" for i in range(N_GENES)], "symbol": [f"G{i}" for i in range(N_GENES)]}
)


@pytest.fixture(scope="module")
def clusters():
    """Three and two clusters of the same cells."""
    three = np.random.default_rng(0).choice(3, N_CELLS, p=[0.6, 0.3, 0.1])
    return [three, (three == 2).astype(int)]


@pytest.fixture(scope="module")
def counts(clusters):
    """(cells, genes); genes 0-9 mark cluster 0, 10-19 cluster 1 and so on; the last gene is not counted."""
    rng = np.random.default_rng(1)
    means = rng.lognormal(0, 1, N_GENES) * np.ones((3, 1))
    for cluster in range(3):
        means[cluster, 10 * cluster : 10 * cluster + 10] *= 4
    means[:, -1] = 0
    return sp.csr_matrix(rng.poisson(means[clusters[0]]).astype(np.int32))


def write_shards(folder, counts, n):
    """Cells c0, c1, ... interleaved over n files, with as many that were not clustered, and an empty file."""
    paths = []
    for shard in range(n + 1):
        rows = np.arange(shard, counts.shape[0], n) if shard < n else np.arange(0)
        names = [f"c{i}" for i in rows] + [f"dropped{i}" for i in rows]
        values = sp.vstack([counts[rows], counts[rows] * 9]).tocsr()
        obs = pd.DataFrame(index=pd.Index(names, dtype=object))
        var = GENES[["symbol"]].astype(object).set_axis(GENES["gene_id"].astype(object))
        paths.append(f"{folder}/{n}-{shard}.h5ad")
        ad.AnnData(values, obs=obs, var=var).write_h5ad(paths[-1])
    return paths


def totals(folder, counts, partitions, n=1):
    cells = pd.Index([f"c{i}" for i in range(counts.shape[0])])
    return accumulate(log_normalise(write_shards(folder, counts, n), cells, 1e4), partitions, N_GENES)


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.drop is deprecated")  # in scanpy
def test_markers_are_those_of_scanpy(tmp_path, counts, clusters):
    import scanpy as sc

    obs = pd.DataFrame(index=pd.RangeIndex(N_CELLS).astype(str).astype(object))
    for number, total in enumerate(totals(tmp_path, counts, clusters)):
        cells = ad.AnnData(
            counts.astype(np.float64), obs=obs.copy(), var=GENES.set_index("gene_id").astype(object)
        )
        cells.obs["cluster"] = pd.Categorical(clusters[number].astype(str))
        cells.X.data = np.log1p(
            cells.X.data * np.repeat(1e4 / counts.sum(axis=1).A1, np.diff(cells.X.indptr))
        )
        sc.tl.rank_genes_groups(cells, "cluster", method="t-test", pts=True)
        ours = rank(total, np.bincount(clusters[number]), GENES, n_genes=N_GENES)
        for cluster, mine in ours.groupby("cluster"):
            theirs = sc.get.rank_genes_groups_df(cells, cluster).set_index("names").loc[mine["gene_id"]]
            for my_name, their_name, factor in [
                ("score", "scores", 1),
                ("log2_fold_change", "logfoldchanges", 1),
                ("pvalue", "pvals", 1),
                ("padj", "pvals_adj", 1),
                ("pct_in", "pct_nz_group", 100),
                ("pct_out", "pct_nz_reference", 100),
            ]:
                np.testing.assert_allclose(
                    mine[my_name], theirs[their_name] * factor, rtol=1e-6, atol=1e-12, err_msg=my_name
                )


def test_planted_markers_lead(tmp_path, counts, clusters):
    table = rank(totals(tmp_path, counts, clusters)[0], np.bincount(clusters[0]), GENES, n_genes=10)
    assert list(table) == COLUMNS
    assert table.groupby("cluster").size().to_dict() == {"0": 10, "1": 10, "2": 10}
    for cluster, best in table.groupby("cluster"):
        assert best["rank"].tolist() == list(range(1, 11))
        assert best["score"].is_monotonic_decreasing
        start = 10 * int(cluster)
        assert set(best["symbol"]) == {f"G{i}" for i in range(start, start + 10)}
        assert (best["log2_fold_change"] > 1).all()
        assert (best["padj"] < 0.05).all()


def test_number_of_shards_and_size_of_blocks_change_nothing(tmp_path, counts, clusters, monkeypatch):
    one = totals(tmp_path, counts, clusters, 1)
    blocks = partial(read_kept, block=7)  # some hold no clustered cell
    monkeypatch.setattr("embedding.markers.read_kept", blocks)
    three = totals(tmp_path, counts, clusters, 3)
    for a, b in zip(one, three, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
        np.testing.assert_array_equal(a[2], b[2])


def test_compare_by_hand():
    # two cells inside with values 1 and 3 of the first gene; outside 0, 0, 3; no cell has the second gene
    total = np.zeros((3, 2, 2))
    total[:, 0, 0], total[:, 1, 0] = [4, 10, 2], [3, 9, 1]
    table = compare(total, np.array([2, 3]), 0)
    assert table["score"].tolist() == pytest.approx([(2 - 1) / np.sqrt(2 / 2 + 3 / 3), 0])
    assert table["pct_in"].tolist() == [100, 0]
    assert table["pct_out"].tolist() == pytest.approx([100 / 3, 0])
    assert table["log2_fold_change"].tolist() == pytest.approx([np.log2(np.expm1(2) / np.expm1(1)), 0])
    assert table["pvalue"].tolist() == pytest.approx(
        [ttest_ind([1, 3], [0, 0, 3], equal_var=False).pvalue, 1]
    )
    assert table["padj"].tolist() == [1, 1]


def test_equal_scores_keep_the_order_of_genes():
    total = np.zeros((3, 2, N_GENES))
    total[:, 0], total[:, 1] = [[4], [10], [2]], [[3], [9], [1]]
    total[:, 0, ::3] = [[2], [4], [1]]  # every third gene has a lower score
    table = rank(total, np.array([2, 3]), GENES, n_genes=N_GENES)
    first = [*np.delete(np.arange(N_GENES), np.s_[::3]), *range(0, N_GENES, 3)]
    assert table.loc[table["cluster"] == "0", "gene_id"].tolist() == [f"ENSG{i}" for i in first]


def test_clusters_that_cannot_be_tested_say_why(tmp_path, counts):
    lone = np.append(np.zeros(N_CELLS - 1, dtype=int), 1)
    everyone = np.zeros(N_CELLS, dtype=int)
    several = np.r_[np.zeros(N_CELLS - 3, dtype=int), 1, 1, 2]
    for partition, reasons in [
        (lone, ["too_few_other_cells", "too_few_cells"]),
        (everyone, ["too_few_other_cells"]),
        (several, ["", "", "too_few_cells"]),
    ]:
        table = rank(totals(tmp_path, counts, [partition])[0], np.bincount(partition), GENES, n_genes=5)
        assert list(table) == COLUMNS
        assert table.groupby("cluster")["reason"].first().tolist() == reasons
        untested = table[table["reason"] != ""]
        assert (untested["rank"] == 0).all()
        assert (untested["gene_id"] == "").all()
        assert untested[["score", "pvalue", "padj", "pct_in"]].isna().all(axis=None)
        assert table["score"].dtype == float
        assert table.loc[table["reason"] == "", "rank"].tolist() == [1, 2, 3, 4, 5] * reasons.count("")


def test_a_clustered_cell_that_no_shard_holds(tmp_path, counts):
    shards = write_shards(tmp_path, counts, 3)
    cells = pd.Index([f"c{i}" for i in range(N_CELLS)])
    with pytest.raises(ValueError, match="100 of 300 cells are not in exactly one shard"):
        list(log_normalise(shards[1:], cells, 1e4))
