"""Knee and inflection equal those of DropletUtils, and what is below them is empty."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cohort import _empty_droplets
from cohort._empty_droplets import Ranks, count_knots, rank_barcodes, smooth


def lognormal(barcodes, median, sd):
    """Totals at even quantiles of a log-normal distribution, so that R was given the same numbers."""
    return np.round(median * np.exp(sd * stats.norm.ppf((np.arange(barcodes) + 0.5) / barcodes))).astype(int)


def poisson(barcodes, mean):
    return stats.poisson.ppf((np.arange(barcodes) + 0.5) / barcodes, mean).astype(int)


def capture(*parts):
    return np.random.default_rng(0).permutation(np.concatenate(parts))


CELLS = {  # totals, then knee and inflection of DropletUtils 1.18.1 on R 4.2.2
    "small": (
        capture(lognormal(80, 2500, 0.35), poisson(1300, 40), np.linspace(100, 400, 200).astype(int)),
        Ranks(1756, 1043),
    ),
    "shallow": (capture(lognormal(800, 900, 0.5), lognormal(20000, 15, 1.0)), Ranks(649, 275)),
    "large": (
        capture(lognormal(5000, 6000, 0.6), lognormal(60000, 60, 0.9), poisson(200000, 2)),
        Ranks(3578, 1274),
    ),
    "deep background": (capture(lognormal(1500, 8000, 0.4), lognormal(10000, 250, 0.5)), Ranks(5336, 2051)),
    "fewer points than degrees": (
        capture(lognormal(65, 3000, 0.3), poisson(300, 20)),
        Ranks(2272, 1649),
    ),
    "nothing after the excluded": (capture(lognormal(12, 3000, 0.3), poisson(300, 20)), Ranks(2124, 2124)),
    "filtered": (lognormal(3000, 2000, 0.5), Ranks(1067, 386)),
}


@pytest.mark.parametrize("case", CELLS)
def test_knee_and_inflection_are_those_of_dropletutils(case):
    totals, expected = CELLS[case]
    assert rank_barcodes(totals) == expected


@pytest.mark.parametrize(("case", "cells"), [("small", 80), ("large", 5000), ("deep background", 1500)])
def test_the_inflection_keeps_the_cells_and_the_knee_most_of_them(case, cells):
    totals, _ = CELLS[case]
    ranks = rank_barcodes(totals)
    assert 0.98 * cells <= (totals >= ranks.inflection).sum() <= 1.02 * cells
    assert 0.75 * cells <= (totals >= ranks.knee).sum() <= cells


def test_knots_are_those_of_smooth_spline():
    points = (10, 49, 50, 199, 200, 800, 3199, 3200, 10_000)
    assert [count_knots(n) for n in points] == [10, 49, 49, 99, 99, 140, 199, 200, 205]


def test_a_straight_line_has_its_slope_and_no_curvature():
    x = np.sort(np.random.default_rng(1).uniform(0, 5, 200))
    first, second = smooth(x, 3 - 2 * x)
    np.testing.assert_allclose(first, -2, atol=1e-6)
    np.testing.assert_allclose(second, 0, atol=1e-4)


@given(st.lists(st.integers(0, 100), max_size=200), st.integers(0, 2))
def test_fewer_than_three_totals_above_the_background_have_no_knee(background, above):
    assert rank_barcodes(np.array([*background, *range(101, 101 + above)], dtype=int)) is None


@settings(deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=3, max_size=300), st.randoms(use_true_random=False))
def test_any_totals_have_a_knee_at_or_above_the_inflection_in_any_order(totals, random):
    ranks = rank_barcodes(np.array(totals))
    random.shuffle(totals)
    assert rank_barcodes(np.array(totals)) == ranks
    if ranks is not None:
        assert ranks.knee >= ranks.inflection > _empty_droplets.LOWER
        assert set(ranks) <= set(totals)
