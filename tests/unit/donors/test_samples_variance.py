"""Shares of variance: by hand, against R's anova and statsmodels' nested models, and what chance explains."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from donors._components import indicator
from donors._variance_shares import sequential_shares


def test_shares_by_hand():
    # mean 5, total 4 + 1 + 1 + 4 = 10; group means 3.5 and 6.5: 4 x 1.5^2 = 9; within groups 4 x 0.5^2 = 1
    values, group = np.array([[3.0], [4], [6], [7]]), np.array([[0.0], [0], [1], [1]])
    shares, df = sequential_shares(values, [group])
    assert shares[:, 0] == pytest.approx([0.9, 0.1])
    assert df.tolist() == [1, 2]
    # then a covariate across the groups: -1, 1, -1, 1 explains the other 1
    shares, df = sequential_shares(values, [group, np.array([[-1.0], [1], [-1], [1]])])
    assert shares[:, 0] == pytest.approx([0.9, 0.1, 0])
    assert df.tolist() == [1, 1, 1]


TABLE = pd.DataFrame(
    {
        "y": [5.1, 6.3, 4.8, 7.2, 6.9, 5.5, 8.1, 7.7, 6.0, 5.2],
        "age": [20, 35, 28, 60, 52, 33, 71, 66, 45, 24],
        "sex": list("fmfmfmfmfm"),
        "pool": list("1122331231"),
    }
)
R = {  # anova(lm(y ~ ...)) of R 4.2.2: sums of squares as shares, degrees of freedom
    ("age", "sex", "pool"): (
        [0.92922082964820, 0.00641764678501, 0.04254748570249, 0.02181403786429],
        [1, 1, 2, 5],
    ),
    ("pool", "age", "sex"): (
        [0.02960709125264, 0.94035019617742, 0.00822867470565, 0.02181403786429],
        [2, 1, 1, 5],
    ),
}


@pytest.mark.parametrize("order", R)
def test_shares_are_those_of_anova_in_r(order):
    blocks = [indicator(TABLE[name], is_number=name == "age") for name in order]
    shares, df = sequential_shares(TABLE[["y"]].to_numpy(), blocks)
    assert shares[:, 0] == pytest.approx(R[order][0], rel=1e-10)
    assert df.tolist() == R[order][1]


def test_shares_are_differences_of_nested_models():
    rng = np.random.default_rng(1)
    blocks, values = [rng.normal(size=(25, d)) for d in (1, 3, 2)], rng.normal(size=(25, 4))
    shares, _ = sequential_shares(values, blocks)
    for gene in range(4):
        nested = [sm.OLS(values[:, gene], sm.add_constant(np.hstack(blocks[:k]))).fit() for k in (1, 2, 3)]
        explained = np.array([fit.rsquared for fit in nested])
        assert shares[:, gene] == pytest.approx([*np.diff([0, *explained]), 1 - explained[-1]])


def test_what_earlier_covariates_explain_is_given_once():
    rng = np.random.default_rng(2)
    values, block = rng.normal(size=(10, 3)), rng.normal(size=(10, 2))
    shares, df = sequential_shares(values, [block, block @ np.array([[1.0], [2]]), np.ones((10, 1))])
    assert shares[1:3] == pytest.approx(0)
    assert df.tolist() == [2, 0, 0, 7]
    assert shares.sum(axis=0) == pytest.approx(1)


def test_units_change_nothing():
    rng = np.random.default_rng(3)
    values, age = rng.normal(size=(12, 4)), rng.uniform(0, 0.02, (12, 1))
    small, _ = sequential_shares(values, [age])
    large, _ = sequential_shares(values, [1e9 + 1e7 * age])
    assert small == pytest.approx(large, abs=1e-5)


def test_chance_explains_degrees_of_freedom_over_samples_less_one():
    rng = np.random.default_rng(4)
    blocks = [rng.normal(size=(16, 1)), rng.normal(size=(16, 7))]
    shares, df = sequential_shares(rng.normal(size=(16, 4000)), blocks)
    assert shares.mean(axis=1) == pytest.approx(df / 15, abs=0.005)
    assert shares[1].mean() > 0.45, "eight levels of 16 samples explain half of nothing"
