"""Variable genes and components: equal to scanpy and scikit-learn, whatever the shards."""

from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import yaml

from embedding._variable_genes import choose_variable_genes, fit_deviation, vote
from embedding.preprocess import compute_pca, log_normalise, match_nuisance, preprocess, warn_of
from files import read_genes, read_kept
from job import InputError, collect_warnings

# anndata 0.13 asks pandas for two options that pandas 4 will drop
pytestmark = pytest.mark.filterwarnings(
    "ignore:The '(future.infer_string|mode.chained_assignment)' option is deprecated"
)

N_CELLS, N_GENES, N_TOP = 900, 600, 80
SETTINGS = {
    "target_sum": 1e4,
    "batch": "pool",
    "min_cells_per_batch": 50,
    "n_top_genes": N_TOP,
    "span": 0.3,
    "exclude": {"human": {"mt": "MT-.+"}},
    "species": "human",
    "n_comps": 10,
}


@pytest.fixture(scope="module")
def counts():
    """(cells, genes) counts of three types with 60 marker genes each, deep enough for a smooth trend."""
    rng = np.random.default_rng(7)
    means = np.tile(rng.lognormal(0, 1.2, N_GENES), (3, 1))
    for cell_type in range(3):
        means[cell_type, cell_type * 60 : cell_type * 60 + 60] *= rng.uniform(2, 6, 60)
    cells = means[rng.integers(0, 3, N_CELLS)] * rng.lognormal(0, 0.3, (N_CELLS, 1))
    values = rng.poisson(rng.gamma(3, cells / 3)).astype(np.int32)
    values[np.arange(20), np.arange(500, 520)] = 3000  # outliers, which are clipped
    return sp.csr_matrix(values)


@pytest.fixture(scope="module")
def cells():
    """Three pools in which cells are interleaved, and a fourth of 20 cells."""
    pool = np.array(["a", "b", "c"], dtype=object)[np.arange(N_CELLS) % 3]
    pool[::45] = "tiny"
    return pd.DataFrame({"cell": [f"cell{i}" for i in range(N_CELLS)], "pool": pool})


@pytest.fixture(scope="module")
def genes():
    symbols = [f"GENE{i}" for i in range(N_GENES)]
    symbols[:10] = [f"MT-{i}" for i in range(10)]
    return pd.DataFrame({"gene_id": [f"ENSG{i:05d}" for i in range(N_GENES)], "symbol": symbols})


def blocks_of(counts, size=250):
    """What read_kept yields, from memory and in another order."""
    order = np.random.default_rng(1).permutation(counts.shape[0])
    return lambda: ((order[i : i + size], counts[order[i : i + size]]) for i in range(0, len(order), size))


def choose(counts, batch, nuisance=None, min_cells=50, n_top=N_TOP, span=0.3):
    return choose_variable_genes(
        blocks_of(counts),
        pd.Series(batch),
        np.zeros(counts.shape[1], dtype=bool) if nuisance is None else nuisance,
        min_cells_per_batch=min_cells,
        n_top_genes=n_top,
        span=span,
    )


def scanpy_choice(counts, batch=None, n_top=N_TOP, span=0.3):
    import scanpy as sc

    obs = pd.DataFrame(index=pd.RangeIndex(counts.shape[0]).astype(str).astype(object))
    if batch is not None:
        obs["batch"] = pd.Categorical(batch)
    return sc.pp.highly_variable_genes(
        ad.AnnData(counts, obs=obs),
        flavor="seurat_v3",
        n_top_genes=n_top,
        span=span,
        batch_key=None if batch is None else "batch",
        inplace=False,
    ).reset_index()


def assert_same_choice(ours, theirs):
    for exact in ("highly_variable", "highly_variable_nbatches", "highly_variable_rank"):
        if exact in theirs:
            np.testing.assert_array_equal(ours[exact], theirs[exact], err_msg=exact)
    for close in ("means", "variances", "variances_norm"):
        np.testing.assert_allclose(ours[close], theirs[close], rtol=1e-6, err_msg=close)


# variable genes


def test_variable_genes_are_those_of_scanpy(counts):
    # Genes of equal mean are left out: scanpy's running means differ in the last bit between such genes when
    # there is a batch key, which moves its loess fit by up to 1e-3.
    batch = np.array(["x", "y", "z"])[np.arange(N_CELLS) * 3 // N_CELLS]
    sums = pd.DataFrame(counts.toarray()).groupby(batch).sum()
    repeated = sums.apply(lambda sum_of_gene: sum_of_gene.duplicated(keep=False), axis=1).any()
    distinct = counts[:, ~repeated.to_numpy()]
    assert distinct.shape[1] > 2 * N_TOP
    ours, batches = choose(distinct, batch)
    assert_same_choice(ours, scanpy_choice(distinct, batch))
    assert set(ours["highly_variable_nbatches"]) == {0, 1, 2, 3}
    assert batches.to_dict("list") == {
        "batch": ["x", "y", "z"],
        "cells": [300, 300, 300],
        "voted": [True] * 3,
        "reason": [""] * 3,
    }


def test_each_batch_is_measured_as_scanpy_measures_it_alone(counts, cells):
    ours, batches = choose(counts, cells["pool"])
    alone = [scanpy_choice(counts[(cells["pool"] == pool).to_numpy()])["variances_norm"] for pool in "abc"]
    np.testing.assert_allclose(ours["variances_norm"], np.mean(alone, axis=0), rtol=1e-6)
    voted = vote(np.stack(alone), np.ones(N_GENES, dtype=bool), N_TOP)
    pd.testing.assert_frame_equal(ours[voted.columns], voted)
    np.testing.assert_allclose(ours["means"], counts.toarray().mean(axis=0))  # of all cells
    np.testing.assert_allclose(ours["variances"], counts.toarray().var(axis=0, ddof=1))
    tiny = batches.set_index("batch").loc["tiny"].to_dict()
    assert tiny == {"cells": 20, "voted": False, "reason": "too_few_cells"}


def test_variable_genes_of_real_cells_are_those_of_scanpy(shared_data):
    import scanpy as sc

    pbmc = sc.read_10x_mtx(shared_data / "pbmc3k_10x").X.tocsr().astype(np.int32)
    ours, _ = choose(pbmc, np.repeat("one", pbmc.shape[0]), n_top=2000)
    theirs = scanpy_choice(pbmc, n_top=2000)
    np.testing.assert_allclose(ours["variances_norm"], theirs["variances_norm"], rtol=1e-6)
    last = ours["variances_norm"].nlargest(2000).iloc[-1]
    tied = np.isclose(ours["variances_norm"], last, rtol=1e-9)  # 1 count in all; scanpy takes any of them
    np.testing.assert_array_equal(ours["highly_variable"][~tied], theirs["highly_variable"][~tied])
    assert ours["highly_variable"].sum() == theirs["highly_variable"].sum() == 2000
    assert (np.diff(ours["highly_variable"][tied].astype(int)) <= 0).all()  # ours the first


def test_all_cells_vote_when_no_batch_can(counts, cells):
    ours, batches = choose(counts, cells["pool"], min_cells=400)
    assert_same_choice(ours, scanpy_choice(counts))
    assert batches["reason"].tolist() == ["too_few_cells"] * 4 + ["no_batch_could_vote"]
    assert batches.iloc[-1][["batch", "cells", "voted"]].tolist() == ["(all cells)", N_CELLS, True]


def test_a_single_batch_votes_however_small(counts):
    ours, batches = choose(counts, np.repeat("one", N_CELLS), min_cells=10_000)
    assert_same_choice(ours, scanpy_choice(counts))
    assert batches["voted"].tolist() == [True]


def test_a_batch_without_loess_fit_does_not_vote(counts):
    batch = np.where(np.arange(N_CELLS) < 3, "shallow", "deep")  # three cells: a handful of different means
    _, batches = choose(counts, batch, min_cells=2, span=0.05)
    assert batches["reason"].tolist() == ["", "loess_singular"]
    assert batches["voted"].tolist() == [True, False]


def test_all_cells_vote_when_no_batch_has_a_loess_fit(counts):
    ours, batches = choose(counts, (np.arange(N_CELLS) // 3).astype(str), min_cells=2, span=0.05)
    assert_same_choice(ours, scanpy_choice(counts, span=0.05))
    assert batches["reason"].tolist() == ["loess_singular"] * 300 + ["no_batch_could_vote"]


def test_too_small_a_span_for_all_cells_names_the_setting(counts):
    with pytest.raises(InputError, match=r"preprocess.span: 0.001 gives 900 cells no loess fit; raise it"):
        choose(counts, np.repeat("one", N_CELLS), span=0.001)


def test_deviation_is_undefined_where_skmisc_would_crash():
    values = np.array([0.5, 1.0, 2.0])  # a window of 0.3 x 3 genes holds none
    assert np.isnan(fit_deviation(values, values, span=0.3)).all()


def test_deviation_follows_the_trend_and_is_one_for_constant_genes():
    mean = np.append(np.geomspace(0.01, 100, 200), 5)
    variance = np.append(mean[:-1] + 0.1 * mean[:-1] ** 2, 0)
    deviation = fit_deviation(mean, variance, span=0.3)
    np.testing.assert_allclose(deviation[:-1], np.sqrt(variance[:-1]), rtol=0.02)
    assert deviation[-1] == 1


def test_vote_by_hand():
    variances_norm = np.array([[9, 8, 7, 1, 5], [9, 1, 8, 7, 6]])
    voted = vote(variances_norm, np.array([False, True, True, True, True]), n_top_genes=2)
    # ranks without the first gene: 0 1 3 2 and 3 0 1 2; below 2: 0 1 - - and - 0 1 -
    np.testing.assert_array_equal(voted["highly_variable_rank"], [np.nan, 0, 0.5, 1, np.nan])
    assert voted["highly_variable_nbatches"].tolist() == [0, 1, 2, 1, 0]
    assert voted["highly_variable"].tolist() == [False, True, True, False, False]


def test_more_batches_win_over_the_earlier_gene():
    # the best of one batch, and the best of two: both have the median rank 0
    voted = vote(np.array([[9, 1, 1], [1, 9, 1], [1, 9, 1]]), np.ones(3, dtype=bool), n_top_genes=1)
    assert voted["highly_variable_rank"].tolist()[:2] == [0, 0]
    assert voted["highly_variable"].tolist() == [False, True, False]


def test_nuisance_genes_are_measured_but_never_chosen(counts, genes):
    free, _ = choose(counts, np.repeat("one", N_CELLS))
    nuisance = free["highly_variable_rank"].lt(10).to_numpy()  # the very best
    ours, _ = choose(counts, np.repeat("one", N_CELLS), nuisance=nuisance)
    np.testing.assert_array_equal(ours["variances_norm"], free["variances_norm"])
    best = free["variances_norm"].mask(nuisance).nlargest(N_TOP).index
    assert sorted(best) == np.flatnonzero(ours["highly_variable"]).tolist()


def test_too_many_variable_genes_wanted(counts):
    nuisance = np.arange(N_GENES) < 550
    with pytest.raises(
        InputError, match=r"n_top_genes: 80 .* 50 genes vary .*; lower preprocess.n_top_genes"
    ):
        choose(counts, np.repeat("one", N_CELLS), nuisance=nuisance)


def test_default_patterns_spare_the_decoys(request):
    config = yaml.safe_load((request.config.rootpath / "config" / "config.yaml").read_text())
    kinds = {
        "receptor": [
            "TRAV1-2",
            "TRBC1",
            "TRAC",
            "TRDD3",
            "IGHM",
            "IGHG1",
            "IGKC",
            "IGLV3-1",
            "IGHD",
            "Trav1",
        ],
        "mt": ["MT-CO1", "mt-Nd1"],
        "ribo": ["RPS6", "RPL10A", "RPS4Y1", "RPLP0", "RPSA", "RPS27L"],
        "": ["TRADD", "TRAF1", "RPS6KA1", "RPS6KB2", "IGHMBP2", "IGF1", "MTOR", "TRAPPC1", "TRBV", ""],
    }
    for kind, symbols in kinds.items():
        found = match_nuisance(pd.Series(symbols), config["preprocess"]["exclude"], "human")
        assert dict(zip(symbols, found, strict=True)) == dict.fromkeys(symbols, kind)


def test_a_broken_pattern_is_named():
    with pytest.raises(InputError, match=r"preprocess.exclude.human.mt: 'MT-\(' is not a regular expression"):
        match_nuisance(pd.Series(["A"]), {"human": {"mt": "MT-("}}, "human")


def test_receptors_of_mouse_are_nuisance_and_their_decoys_are_not(request):
    config = yaml.safe_load((request.config.rootpath / "config" / "config.yaml").read_text(encoding="utf-8"))
    receptors = "Trac Trbc1 Trav12-1 Tcrg-C1 Tcrg-V6 Igha Ighm Ighd Ighg1 Ighg2b Iglc1 Igkc Igkv3-2 Ighv1-2"
    others = "Tradd Traf1 Ighmbp2 Igf1 Tcrb Tram1 Trappc1 Igll1"
    exclude = config["preprocess"]["exclude"]
    assert set(match_nuisance(pd.Series(receptors.split()), exclude, "mouse")) == {"receptor"}
    assert set(match_nuisance(pd.Series(others.split()), exclude, "mouse")) == {""}


def test_a_pattern_without_a_gene_is_warned_of():
    exclude = {"mouse": {"mt": "MT-.+", "ribo": "RPL.+"}}
    kind = match_nuisance(pd.Series(["mt-Nd1", "Actb"]), exclude, "mouse")
    with collect_warnings() as warned:
        warn_of(kind, exclude, "mouse")
    assert [(row["code"], row["setting"]) for row in warned] == [
        ("exclude_matches_nothing", "preprocess.exclude.mouse.ribo")
    ]


# components


def test_normalised_values_by_hand():
    counts = sp.csr_matrix([[1, 0, 3], [0, 20, 60]])
    values = log_normalise(counts, np.array([True, False, True]), target_sum=100)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values.toarray(), np.log([[1 + 25, 1 + 75], [1, 1 + 75]]), rtol=1e-6)


def test_components_are_those_of_scikit_learn(counts):
    from sklearn.decomposition import PCA

    values = log_normalise(counts, np.arange(N_GENES) < 100, 1e4)
    scores, loadings, variance = compute_pca([values[:500], values[500:]], 10)
    oracle = PCA(10, svd_solver="full").fit(values.toarray().astype(np.float64))
    sign = np.sign((oracle.components_.T * loadings).sum(axis=0))
    np.testing.assert_allclose(loadings, oracle.components_.T * sign, atol=1e-9)
    np.testing.assert_allclose(scores, oracle.transform(values.toarray()) * sign, atol=1e-4)
    np.testing.assert_allclose(variance["variance"], oracle.explained_variance_)
    np.testing.assert_allclose(variance["variance_ratio"], oracle.explained_variance_ratio_)
    assert (np.abs(loadings).max(axis=0) == loadings.max(axis=0)).all()


def test_too_many_components_wanted():
    values = sp.csr_matrix(np.eye(5, 20, dtype=np.float32))
    assert compute_pca([values], 4)[0].shape == (5, 4)
    message = "preprocess.n_comps: 5 .* 5 cells x 20 variable genes have 4; lower preprocess.n_comps"
    with pytest.raises(InputError, match=message):
        compute_pca([values], 5)


# shards


def write_shards(folder, counts, cells, genes, n):
    """Some files and an empty one; every 50th cell is not kept and would change every number."""
    shard_of = np.arange(len(cells)) * 7 % n
    paths = []
    for shard in range(n + 1):
        rows = np.flatnonzero(shard_of == shard)[::-1]
        values = counts[rows].tolil()
        values[np.flatnonzero(rows % 50 == 0)] = 1000
        obs = pd.DataFrame(index=pd.Index(cells["cell"].iloc[rows], dtype=object))
        var = pd.DataFrame(
            {"symbol": genes["symbol"].astype(object).to_numpy()}, index=genes["gene_id"].astype(object)
        )
        paths.append(f"{folder}/{n}-{shard}.h5ad")
        ad.AnnData(values.tocsr(), obs=obs, var=var).write_h5ad(paths[-1])
    return paths


def test_number_of_shards_and_size_of_blocks_change_nothing(tmp_path, counts, cells, genes):
    kept = cells[np.arange(N_CELLS) % 50 != 0]
    tables = []
    for n, block in [(1, 4096), (3, 1)]:  # in blocks of 1 some hold no kept cell
        shards = write_shards(tmp_path, counts, cells, genes, n)
        pd.testing.assert_frame_equal(read_genes(shards[0]), genes)
        blocks = partial(read_kept, shards, pd.Index(kept["cell"]), block=block)
        tables.append(preprocess(blocks, kept, genes, **SETTINGS))
    one, three = tables
    for exact in ("genes", "batches"):
        pd.testing.assert_frame_equal(one[exact], three[exact], check_exact=True)
    for close in ("pca", "loadings", "variance"):
        pd.testing.assert_frame_equal(one[close], three[close], rtol=0, atol=1e-5)

    assert one["pca"]["cell"].tolist() == kept["cell"].tolist()
    assert one["genes"]["highly_variable"].sum() == len(one["loadings"]) == N_TOP
    assert one["genes"]["nuisance"].eq("mt").sum() == 10
    whole = log_normalise(counts, one["genes"]["highly_variable"].to_numpy(), 1e4)[kept.index].toarray()
    loadings = one["loadings"].filter(like="PC")
    np.testing.assert_allclose(
        one["pca"].filter(like="PC"), (whole - whole.mean(axis=0)) @ loadings, atol=1e-4
    )


def test_a_kept_cell_that_no_shard_holds(tmp_path, counts, cells, genes):
    shards = write_shards(tmp_path, counts, cells, genes, 2)
    with pytest.raises(ValueError, match="450 of 900 cells are not in exactly one shard"):
        list(read_kept(shards[:1], pd.Index(cells["cell"])))
