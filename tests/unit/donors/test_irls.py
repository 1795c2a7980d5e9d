"""Regressions of many genes at once against PyDESeq2's own, which takes one gene after the other."""

import numpy as np
import pytest
from pydeseq2.default_inference import DefaultInference

from donors import _irls
from donors._deseq2 import RInference

GIVEN = {"min_mu": 0.5, "beta_tol": 1e-8}
NAMES = ("coefficients", "means", "leverages", "converged")


@pytest.fixture(scope="module")
def cohort():
    """120 genes of one to thousands of counts in 30 samples: counts, size factors, design, dispersions."""
    rng = np.random.default_rng(3)
    size_factors = rng.uniform(0.4, 2.5, 30)
    age, sex = rng.normal(size=30), rng.integers(0, 2, 30)
    design = np.column_stack([np.ones(30), age, sex]).astype(float)
    dispersions = np.exp(rng.uniform(np.log(1e-8), np.log(10), 120))
    log_means = rng.uniform(-1, 8, (120, 1)) + rng.normal(0, 0.7, (120, 2)) @ design[:, 1:].T
    mu, size = size_factors * np.exp(log_means), 1 / dispersions[:, None]
    counts = rng.poisson(mu * rng.gamma(size, 1 / size, mu.shape))
    counts[:, 0] = np.maximum(counts[:, 0], 1)  # a count in every gene, as the gene filter leaves them
    return counts.T, size_factors, design, dispersions


def compared(counts, size_factors, design, dispersions, **options):
    """Ours, after checking that all four agree with PyDESeq2's, for which a bound has converged too."""
    ours, theirs = (
        inference(n_cpus=1).irls(counts, size_factors, design, dispersions, **GIVEN, **options)
        for inference in (RInference, DefaultInference)
    )
    bound = options.get("max_beta", 30) * (1 - 1e-6)
    theirs = (*theirs[:3], theirs[3] & (np.abs(theirs[0]) < bound).all(axis=1))
    for name, one, other in zip(NAMES, ours, theirs, strict=True):
        assert one.shape == other.shape, name
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=name)
    return ours


def test_every_number_is_that_of_pydeseq2(cohort):
    _, mu, _, converged = compared(*cohort)
    assert converged.all()
    assert (mu < 0.5).any()  # also where means are below min_mu


def test_a_gene_alone_and_a_block_of_few_give_the_same(cohort, monkeypatch):
    counts, size_factors, design, dispersions = cohort
    whole = RInference(n_cpus=1).irls(*cohort, **GIVEN)
    compared(counts[:, :1], size_factors, design, dispersions[:1])
    monkeypatch.setattr(_irls, "VALUES", 7 * len(counts) + 1)
    assert [part.stop - part.start for part in _irls.blocks(21, len(counts))] == [7, 7, 7]
    for name, one, other in zip(NAMES, compared(*cohort), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14, err_msg=name)


def test_what_diverges_is_left_to_pydeseq2(cohort, monkeypatch):
    """A bound that many coefficients exceed on their way, and too few steps for others."""
    left = []
    plain = DefaultInference.irls
    monkeypatch.setattr(
        DefaultInference,
        "irls",
        lambda self, counts, *a, **b: left.append(counts) or plain(self, counts, *a, **b),
    )
    for options in ({"max_beta": 6.5}, {"maxiter": 4}):
        left.clear()
        compared(*cohort, **options)
        ours, theirs = left
        assert 0 < ours.shape[1] < theirs.shape[1]


def test_a_coefficient_at_the_bound_has_not_converged(cohort):
    coefficients, _, _, converged = compared(*cohort, max_beta=6.5)
    at_bound = (np.abs(coefficients) > 6.5 * (1 - 1e-6)).any(axis=1)
    assert 0 < at_bound.sum() < len(converged)
    assert not converged[at_bound].any()


def test_a_design_without_full_rank_is_left_to_pydeseq2(cohort):
    counts, size_factors, design, dispersions = cohort
    double = np.column_stack([design, design[:, 1]])
    positive = counts + 1  # it begins with the mean of logarithms there
    compared(positive[:, :5], size_factors, double, dispersions[:5])
