"""Doublet scores per group, their thresholds, and what is not scored."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scrublet
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from sklearn.metrics import roc_auc_score

from cells import doublets
from job import collect_warnings

SCRUBLET = {
    "expected_doublet_rate": 0.1,
    "n_prin_comps": 20,
    "min_gene_variability_pctl": 85,
    "sim_doublet_ratio": 2.0,
}
GROUP = SCRUBLET | {"min_cells": 30, "max_called_share": 0.25, "random_state": 1}
CELLS, GENES, TYPES = 400, 800, 6


def mixture(seed, cells=CELLS, share=0.1):
    """Counts of a mixture of types in which the first cells hold a second cell, and which do."""
    random = np.random.default_rng(seed)
    profiles = random.gamma(0.2, 1, GENES) * np.exp(
        random.normal(0, 2, (TYPES, GENES)) * (random.random((TYPES, GENES)) < 0.2)
    )
    profiles /= profiles.sum(axis=1, keepdims=True)
    depth = random.lognormal(np.log(1500), 0.3, cells)
    counts = random.poisson(profiles[random.integers(TYPES, size=cells)] * depth[:, None])
    planted = np.arange(cells) < share * cells
    counts[planted] += counts[random.choice(np.flatnonzero(~planted), planted.sum())]
    return sparse.csr_matrix(counts.astype(np.int32)), planted


@pytest.fixture(scope="module")
def cohort():
    """Counts, group and planted doublets of three donors of different size, cells interleaved."""
    parts = [mixture(seed, cells) for seed, cells in ((1, 400), (2, 200), (3, 20))]
    counts = sparse.vstack([part[0] for part in parts], format="csr")
    group = np.repeat(["d1", "NA", "0003"], [400, 200, 20])
    order = np.random.default_rng(0).permutation(len(group))
    return counts[order], group[order], np.concatenate([part[1] for part in parts])[order]


# scores


def scores_of_scanpys_port(counts, **settings):
    import anndata as ad
    import scanpy as sc

    cells = ad.AnnData(counts.astype(np.float32))
    sc.pp.scrublet(cells, use_approx_neighbors=False, random_state=1, verbose=False, **settings)
    return cells.obs["doublet_score"].to_numpy()


# anndata asks pandas for an option that pandas 3 keeps for the time being
from_anndata = pytest.mark.filterwarnings("ignore:The 'future.infer_string':pandas.errors.Pandas4Warning")


@from_anndata
def test_planted_doublets_are_found_as_scanpys_port_finds_them():
    counts, planted = mixture(1)
    scores = doublets.simulate_and_score(counts, seed=1, **SCRUBLET).doublet_scores_obs_
    port = scores_of_scanpys_port(counts, expected_doublet_rate=0.1, n_prin_comps=20)
    ours, theirs = roc_auc_score(planted, scores), roc_auc_score(planted, port)
    assert ours >= 0.85
    assert ours == pytest.approx(theirs, abs=0.05)
    assert np.corrcoef(scores, port)[0, 1] > 0.8  # not of ranks: within a type they are noise


@from_anndata
def test_real_cells_rank_as_in_scanpys_port(shared_data):
    counts = scipy.io.mmread(shared_data / "pbmc3k_10x" / "matrix.mtx", spmatrix=True).T.tocsr()[:600]
    counts = counts[:, np.asarray((counts > 0).sum(axis=0)).ravel() > 5].astype(np.int32)
    scores = doublets.simulate_and_score(counts, seed=1, **SCRUBLET).doublet_scores_obs_
    port = scores_of_scanpys_port(counts, expected_doublet_rate=0.1, n_prin_comps=20)
    # variable genes are chosen in another way there; with another seed ours correlate by 0.9
    assert stats.spearmanr(scores, port).statistic > 0.5


def test_the_steps_equal_scrublets_own_pipeline():
    counts, _ = mixture(4, cells=150)
    ours = doublets.simulate_and_score(counts, seed=7, **SCRUBLET)
    whole = scrublet.Scrublet(
        sparse.csc_matrix(counts),
        total_counts=np.asarray(counts.sum(axis=1)).ravel(),
        expected_doublet_rate=0.1,
        random_state=7,
    )
    with np.errstate(invalid="ignore"):
        scores, _ = whole.scrub_doublets(
            use_approx_neighbors=False, n_prin_comps=20, min_gene_variability_pctl=85, verbose=False
        )
    np.testing.assert_array_equal(ours.doublet_scores_obs_, scores)
    assert ours.threshold_ == whole.threshold_


def test_genes_that_do_not_vary_change_nothing():
    counts, _ = mixture(4, cells=100)
    padded = sparse.hstack([counts, sparse.csr_matrix((100, 50), dtype=np.int32)], format="csr")
    plain, wide = (doublets.simulate_and_score(c, seed=1, **SCRUBLET) for c in (counts, padded))
    np.testing.assert_array_equal(plain.doublet_scores_obs_, wide.doublet_scores_obs_)


@pytest.mark.parametrize(("cells", "genes"), [(35, GENES), (200, 12)])
def test_components_are_held_below_cells_and_genes(cells, genes):
    counts, _ = mixture(5, cells=cells)
    most = np.argsort(-np.asarray(counts.sum(axis=0)).ravel())[:genes]
    scores, status = doublets.score_group(counts[:, most], "d", **GROUP | {"n_prin_comps": 500})
    assert status["status"] == "scored"
    assert np.isfinite(scores).all()


def test_the_input_is_not_modified():
    counts, _ = mixture(5, cells=60)
    before = counts.copy()
    doublets.score_group(counts, "d", **GROUP)
    assert (counts != before).nnz == 0
    assert counts.dtype == np.int32


# thresholds

SCORES = np.arange(100) / 100


def threshold(automatic, rate=0.06, cap=0.25):
    return doublets.choose_threshold(SCORES, automatic, expected_doublet_rate=rate, max_called_share=cap)


def test_the_automatic_threshold_is_kept_while_it_calls_few_enough():
    assert threshold(0.745) == (0.745, "automatic")  # calls 25
    assert threshold(2.0) == (2.0, "automatic")  # calls none


@pytest.mark.parametrize("automatic", [None, 0.735, 0.0])
def test_otherwise_the_expected_rate_is_called_at_most(automatic):
    value, source = threshold(automatic)
    assert source == "expected_rate"
    assert (value < SCORES).sum() == 5  # six of a hundred would need a threshold between two scores


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), min_size=1), st.floats(0, 0.5))
def test_never_more_than_the_expected_rate_even_with_ties(scores, rate):
    scores = np.array(scores)
    value, _ = doublets.choose_threshold(scores, None, expected_doublet_rate=rate, max_called_share=0.25)
    assert (scores > value).mean() <= rate + 1e-12


def test_a_group_of_one_type_does_not_lose_all_its_cells():
    random = np.random.default_rng(0)
    counts = sparse.csr_matrix(random.poisson(3.0, (31, 500)).astype(np.int32))
    _, status = doublets.score_group(counts, "d", **GROUP)
    assert status["status"] == "scored"
    assert status["called_share"] <= GROUP["max_called_share"]


def test_a_cap_of_zero_turns_every_automatic_call_off():
    counts, _ = mixture(1)
    scores, free = doublets.score_group(counts, "d", **GROUP)
    _, capped = doublets.score_group(counts, "d", **GROUP | {"max_called_share": 0.0})
    assert free["threshold_from"] == "automatic"
    assert free["called"] == (scores > free["threshold"]).sum() > 0
    assert capped["threshold_from"] == "expected_rate"
    assert capped["called_share"] <= 0.1


# groups that are not scored


def test_small_groups_are_not_run():
    counts, _ = mixture(5, cells=30)
    assert doublets.score_group(counts, "d", **GROUP)[1]["status"] == "scored"
    counts = counts[:29]
    scores, status = doublets.score_group(counts, "d", **GROUP)
    assert scores is None
    assert (status["status"], status["reason"]) == ("not_run", "too_few_cells")
    assert status["threshold"] is None
    assert status["called"] is None


def test_cells_without_a_pool_are_not_run():
    counts, _ = mixture(5, cells=60)
    assert doublets.score_group(counts, "", **GROUP)[1]["reason"] == "no_pool"


RANDOM = np.random.default_rng(6)


@pytest.mark.parametrize(
    "counts",
    [
        np.ones((40, 100)),
        np.tile(RANDOM.poisson(2.0, 100) + 1, (40, 1)),  # the same cell again and again
        np.outer(RANDOM.integers(1, 9, 40), RANDOM.integers(1, 9, 100)),  # at different depths
        np.eye(40, 100) * 3,  # each gene in one cell
        RANDOM.random((40, 100)) < 0.05 + np.eye(40, 100),  # no gene reaches three counts
        np.tile([[5, 2], [1, 9]], (20, 1)),
        np.full((40, 1), 7),
    ],
)
def test_degenerate_groups_are_not_run(counts):
    scores, status = doublets.score_group(sparse.csr_matrix(counts.astype(np.int32)), "d", **GROUP)
    assert scores is None
    assert (status["status"], status["reason"]) == ("not_run", "few_variable_genes")


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 12), st.floats(0.01, 5))
def test_no_group_of_any_shape_fails(seed, cells, genes, mean):
    random = np.random.default_rng(seed)
    counts = random.poisson(random.gamma(0.5, mean, genes), (cells, genes)) * 3
    counts[:, 0] += 1  # no empty cell comes here
    sparse_counts = sparse.csr_matrix(counts.astype(np.int32))
    scores, status = doublets.score_group(sparse_counts, "d", **GROUP | {"min_cells": 2})
    assert (status["status"] == "scored") == (scores is not None)
    if scores is not None:
        assert np.isfinite(scores).all()


# the whole shard


def test_cells_and_status_of_a_shard(cohort):
    counts, group, planted = cohort
    passed = np.ones(len(group), dtype=bool)
    passed[np.flatnonzero(group == "d1")[:50]] = False
    cells, status = doublets.score_groups(counts, group, passed, threads=2, **GROUP)
    assert cells.columns.tolist() == ["group", "doublet_score", "doublet", "scored"]
    assert status.columns.tolist() == doublets.STATUS
    status = status.set_index("group")
    assert status["cells"].to_dict() == {"0003": 20, "NA": 200, "d1": 350}
    assert status["status"].to_dict() == {"0003": "not_run", "NA": "scored", "d1": "scored"}
    assert cells["scored"].equals(pd.Series(passed & (group != "0003")))
    assert cells["doublet_score"].notna().equals(cells["scored"])
    assert not cells.loc[~cells["scored"], "doublet"].any()
    called = cells.groupby("group")["doublet"].sum()
    assert called["d1"] == status.loc["d1", "called"]
    assert status["called"].isna().to_dict() == {"0003": True, "NA": False, "d1": False}
    scored = cells["scored"]
    assert roc_auc_score(planted[scored], cells.loc[scored, "doublet_score"]) > 0.8


def test_results_depend_neither_on_threads_nor_on_who_shares_the_shard(cohort):
    counts, group, _ = cohort
    passed = np.ones(len(group), dtype=bool)
    one, _ = doublets.score_groups(counts, group, passed, threads=1, **GROUP)
    two, _ = doublets.score_groups(counts, group, passed, threads=2, **GROUP)
    pd.testing.assert_frame_equal(one, two)
    mine = group == "NA"
    alone, _ = doublets.score_groups(counts[mine], group[mine], passed[mine], threads=1, **GROUP)
    pd.testing.assert_frame_equal(one[mine].reset_index(drop=True), alone)


def test_only_one_thread_at_a_time_draws_from_numpys_generator():
    counts, _ = mixture(5, cells=40)
    scrub = doublets.Scrublet(sparse.csc_matrix(counts), total_counts=np.ones(40))
    with ThreadPoolExecutor(1) as pool:
        with doublets.RANDOM:
            drawn = pool.submit(scrub.simulate_doublets)
            with pytest.raises(TimeoutError):
                drawn.result(timeout=0.3)
        drawn.result(timeout=60)
    assert scrub.doublet_parents_.shape == (80, 2)


def test_an_empty_shard_gives_empty_tables():
    cells, status = doublets.score_groups(
        sparse.csr_matrix((0, 5), dtype=np.int32),
        np.array([], dtype=str),
        np.array([], bool),
        threads=1,
        **GROUP,
    )
    assert (len(cells), len(status)) == (0, 0)
    assert status.columns.tolist() == doublets.STATUS


def test_seeds_differ_between_groups_and_random_states_and_stay_the_same():
    assert (
        doublets.seed_of(1, "donor") == doublets.seed_of(1, "donor") == 2494268698
    )  # the first eight digits of `printf 1:donor | sha256sum`
    assert len({doublets.seed_of(state, name) for state in range(3) for name in "abc"}) == 9
    assert all(0 <= doublets.seed_of(i, "x") < 2**32 for i in range(100))  # what numpy accepts


def test_groups_that_were_not_scored_or_have_another_threshold_are_warned_of():
    rows = [
        {"group": "d1", "status": "scored", "threshold_from": "automatic", "threshold": 0.3, "called": 4},
        {
            "group": "d2",
            "status": "scored",
            "threshold_from": "expected_rate",
            "threshold": 0.25,
            "called": 2,
        },
        {"group": "d3", "status": "not_run", "reason": "too_few_cells", "cells": 12},
        {"group": "", "status": "not_run", "reason": "no_pool", "cells": 7},
    ]
    with collect_warnings() as warned:
        doublets.warn_of(pd.DataFrame(rows, columns=doublets.STATUS).astype({"called": "Int64"}))
    assert [(row["code"], row["message"], row["number"], row["setting"]) for row in warned] == [
        (
            "doublet_threshold_replaced",
            "d2: the threshold 0.25 is that of the expected doublet rate",
            2,
            "doublets.max_called_share",
        ),
        ("doublets_not_scored", "d3 is not scored for doublets: too few cells", 12, "doublets.min_cells"),
        (
            "doublets_not_scored",
            "cells without a pool are not scored for doublets: no pool",
            None,
            "load.pool",
        ),
    ]
