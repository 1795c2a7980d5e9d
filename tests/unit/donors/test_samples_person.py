"""One person under two names: planted persons, a null of unrelated donors, batches, swapped samples."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from donors._same_person import (
    MANY,
    compare_samples,
    correlate,
    expect_correlation,
    largest_third,
    leftover,
    list_pairs,
    standardise,
    z_limit,
)
from donors._sums import Sums, correlate_samples

GENES = 800
TECHNICAL = {"log_cells": 0.0, "log_depth": 0.0, "pct_counts_mt": 0.0}


def draw_types(rng, persons, *, types=3, donor_sd=0.2, groups=None, group_sd=0.0, cells=60):
    """Counts (samples, genes) of each cell type: types differ most, persons by donor_sd, groups by group_sd.

    persons, groups: (samples,) numbers; cells: mean number of cells of a sample in a type.
    """
    base = rng.normal(0, 1.2, GENES)
    own = rng.normal(0, donor_sd, (persons.max() + 1, GENES))[persons]
    if groups is not None:
        own = own + rng.normal(0, group_sd, (groups.max() + 1, GENES))[groups]
    counts = []
    for _ in range(types):
        share = np.exp(base + rng.normal(0, 0.8, GENES))
        number = np.maximum(rng.poisson(cells * rng.lognormal(0, 0.5, len(persons))), 10)[:, None]
        mean = 1000 * number * share / share.sum() * 2 ** (own + rng.normal(0, 0.1, own.shape))
        counts.append(rng.poisson(rng.gamma(number / 0.3, 0.3 / number, mean.shape) * mean))
    return counts


def find_pairs(counts, donors, covariates=None, alpha=0.01):
    """The pairs of rule samples, and their limit. donors: (samples,) numbers."""
    names = np.array([f"s{number:02d}" for number in range(len(donors))])
    obs = pd.DataFrame({"sample": names, "donor": donors.astype(str), "pool": ""} | TECHNICAL)
    kinds = {}
    for name, values in (covariates or {}).items():
        obs[name], kinds[name] = values, False
    places, correlations = np.arange(len(donors)), []
    for part in counts:
        genes = np.median(part, axis=0) >= 10
        total = part.sum(axis=1, keepdims=True)
        values = np.log2((part[:, genes] + 2) / (total + 4) * 1e6)
        sums = Sums("", part[:, genes], values, np.zeros(genes.sum(), bool), obs)
        correlations.append((places, correlate_samples(sums, kinds, 500)))
    limit = z_limit(len(donors), alpha, 1)
    return list_pairs(compare_samples(correlations, donors), names, donors, limit)


def flagged(pairs, check):
    """The pairs of a check, by name."""
    return {(row.sample, row.other) for row in pairs[pairs["check"] == check].itertuples()}


def count_cohorts(seeds, n, *, twice, **settings):
    """Cohorts in which the planted pair is found, and in which another one is flagged."""
    found = wrong = 0
    for seed in range(seeds):
        rng = np.random.default_rng([n, seed])
        persons = np.arange(n)
        if twice:
            persons[-1] = 0
        alike = flagged(find_pairs(draw_types(rng, persons, **settings), np.arange(n)), "alike")
        planted = {("s00", f"s{n - 1:02d}")}
        found += planted <= alike
        wrong += bool(alike - (planted if twice else set()))
    return found, wrong


@pytest.mark.parametrize("n", [8, 24])
def test_unrelated_donors_are_not_flagged_and_one_person_twice_is(n):
    assert count_cohorts(12, n, twice=False)[1] <= 1
    found, wrong = count_cohorts(12, n, twice=True)
    assert found == 12
    assert wrong <= 1


def test_donors_that_differ_little_are_found_less_often_but_not_wrongly():
    found, wrong = count_cohorts(12, 24, twice=True, donor_sd=0.03, cells=20)
    assert found <= 6
    assert wrong <= 1


def test_a_batch_that_nobody_stated_is_a_group_and_not_a_pair():
    groups = np.arange(24) % 3
    assert count_cohorts(8, 24, twice=False, groups=groups, group_sd=0.2)[1] == 0
    found, wrong = count_cohorts(8, 24, twice=True, groups=groups, group_sd=0.1)
    assert found == 8
    assert wrong == 0


def test_a_batch_that_is_stated_is_removed():
    rng, groups = np.random.default_rng(2), np.arange(24) % 4
    persons = np.where(np.arange(24) == 20, 0, np.arange(24))  # 0 and 20 in one batch
    counts = draw_types(rng, persons, groups=groups, group_sd=0.5)
    stated = {"batch": groups.astype(str)}
    assert flagged(find_pairs(counts, np.arange(24), stated), "alike") == {("s00", "s20")}
    assert flagged(find_pairs(counts, np.arange(24)), "alike") == set(), "hidden, it covers the person"


def visits(rng, donors=10, **settings):
    """Two samples of each donor, before and after a treatment that changes many genes."""
    donor, treated = np.repeat(np.arange(donors), 2), np.tile([0, 1], donors)
    return donor, treated, draw_types(rng, donor, groups=treated, group_sd=0.5, **settings)


def test_samples_of_a_donor_are_alike_beyond_the_treatment():
    donor, treated, counts = visits(np.random.default_rng(3))
    pairs = find_pairs(counts, donor, {"treated": treated.astype(str)})
    own = pairs[pairs["same_donor"]]
    assert len(own) == 10
    assert (own["z"] > own["limit"]).all()
    assert (pairs["control"] == "passes").all()
    assert (pairs["check"] == "").all()


def test_two_swapped_samples_are_found_from_both_sides():
    donor, treated, counts = visits(np.random.default_rng(4))
    stated = donor.copy()
    stated[[1, 3]] = stated[[3, 1]]  # the second samples of the donors 0 and 1
    pairs = find_pairs(counts, stated, {"treated": treated.astype(str)})
    assert flagged(pairs, "not_alike") == {("s00", "s03"), ("s01", "s02")}
    assert flagged(pairs, "alike") == {("s00", "s01"), ("s02", "s03")}


def test_a_cohort_that_does_not_tell_persons_apart_flags_none_and_says_so():
    donor, treated, counts = visits(np.random.default_rng(5), donor_sd=0.0)
    pairs = find_pairs(counts, donor, {"treated": treated.astype(str)})
    assert (pairs["control"] == "fails").all()
    assert (pairs["check"] == "").all()


def test_without_repeated_donors_there_is_no_control():
    counts = draw_types(np.random.default_rng(6), np.arange(8), types=1)
    assert (find_pairs(counts, np.arange(8))["control"] == "none").all()


def test_a_covariate_that_names_the_donor_does_not_take_the_donor_away():
    donor, treated, counts = visits(np.random.default_rng(7))
    stated = {"donor_id": donor.astype(str), "treated": treated.astype(str)}
    pairs = find_pairs(counts, donor, stated)
    assert (pairs["control"] == "passes").all()


def test_the_limit_holds_its_share_of_cohorts_of_independent_pairs():
    donors, beyond = np.arange(12), 0
    rng, limit = np.random.default_rng(8), z_limit(12, 0.05, 1)
    for _ in range(400):
        r = np.triu(rng.standard_normal((12, 12)), 1)
        beyond += np.nanmax(compare_samples([(donors, np.tanh((r + r.T) / 30))], donors)) > limit
    assert beyond / 400 == pytest.approx(0.05, abs=0.03)
    pairs = (MANY + 1) * MANY / 2
    assert z_limit(MANY + 1, 0.01, 1) == stats.norm.isf(0.01 / pairs) * (1 + 3 / np.sqrt(pairs))
    assert z_limit(MANY, 0.01, 1) == pytest.approx(z_limit(MANY + 1, 0.01, 1), rel=0.05)


def test_the_parts_by_hand():
    values = np.array([[1.0, 2], [3, 6], [5, 1]])
    assert leftover(np.zeros((3, 0))) @ values == pytest.approx(values - [3, 3])
    group = np.array([[0.0], [0], [1]])
    assert leftover(group) @ values == pytest.approx(np.array([[-1.0, -2], [1, 2], [0, 0]]))
    batches = leftover(np.array([[0.0], [0], [0], [1], [1], [1]]))
    expected = expect_correlation(batches)
    assert expected[0] == pytest.approx([1, -0.5, -0.5, 0, 0, 0], abs=1e-12)
    assert expect_correlation(leftover(group))[2] == pytest.approx([0, 0, 0])
    residuals = batches @ np.random.default_rng(1).normal(size=(6, 20_000))
    assert np.corrcoef(residuals) == pytest.approx(expected, abs=0.03)
    numbers = np.array([0.0, 1, 2, 3, 100])
    assert standardise(numbers, np.ones(5, bool)) == pytest.approx((numbers - 2) / 1.4826)
    rng = np.random.default_rng(9)
    values = rng.normal(size=(5, 40))
    scaled = (values - values.mean(axis=0)) / values.std(axis=0)
    assert correlate(values) == pytest.approx(stats.spearmanr(scaled.T).statistic)
    assert np.isnan(correlate(values[:, :5])).all(), "too few genes"


def test_a_third_donor_is_neither_of_the_two():
    z = np.full((4, 4), np.nan)
    for i, j, value in ((0, 1, 9.0), (0, 2, 3), (1, 2, 8), (0, 3, 1), (1, 3, 2), (2, 3, 0)):
        z[i, j] = z[j, i] = value
    donors = np.array([0, 1, 1, 2])
    assert largest_third(z, donors, 0, 1) == 2
    assert largest_third(z, np.array([0, 1, 1, 1]), 0, 1) == -np.inf
