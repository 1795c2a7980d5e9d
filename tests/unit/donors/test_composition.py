"""Composition: shares by hand, least squares and moderation by independent formulas, planted truth."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from donors import composition
from donors._moderation import moderate
from donors.composition import describe_samples, draw, present
from files import count_cells, logit_shares


def compare(cells, matrix, hypothesis, block=None) -> pd.DataFrame:
    return composition.compare_shares(cells, matrix, hypothesis, block)[0]


def fit(y, matrix, hypothesis, block=None) -> pd.DataFrame:
    return composition.fit(y, matrix, hypothesis, block)[0]


@pytest.fixture
def matrix():
    age = np.linspace(-3, 3, 40)
    return pd.DataFrame({"Intercept": 1.0, "age": age, "sex": np.arange(40) % 2.0})


def test_absent_combinations_count_as_zero():
    rows = pd.DataFrame({"sample": ["a", "a", "b"], "label": ["T", "B", "T"], "cells": [3, 1, 5]})
    assert count_cells(rows).to_dict() == {"B": {"a": 1, "b": 0}, "T": {"a": 3, "b": 5}}


def test_logit_of_shares_by_hand():
    y = logit_shares(pd.DataFrame({"T": [3, 5], "B": [1, 0]}))
    np.testing.assert_allclose(y["T"], [np.log(3.5 / 1.5), np.log(5.5 / 0.5)])
    np.testing.assert_allclose(y["B"], [np.log(1.5 / 3.5), np.log(0.5 / 5.5)])


def test_a_type_that_no_sample_has_is_not_tested():
    """It would seem to fall as samples have more cells: p < 1e-20, with nothing there."""
    rng = np.random.default_rng(0)
    total = np.r_[rng.normal(500, 20, 10), rng.normal(2000, 50, 10)].astype(int)
    some = rng.binomial(total, 0.4)
    cells = pd.DataFrame({"A": some, "absent": 0, "B": total - some})
    design = pd.DataFrame({"Intercept": 1.0, "many": np.repeat([0.0, 1.0], 10)})
    assert compare(cells, design, np.array([0.0, 1.0])).iloc[0]["pvalue"] < 1e-20
    there, absent = present(cells)
    assert (list(there), absent) == (["A", "B"], ["absent"])
    assert (compare(there, design, np.array([0.0, 1.0]))["pvalue"] > 0.01).all()


def test_columns_of_a_sample_are_over_all_its_cells():
    rows = pd.DataFrame(
        {
            "cell_type": ["t", "b"],
            "label": ["T", "B"],
            "sample": "a",
            "donor": "d",
            "pool": "",
            "age": 40.0,
            "cells": [3, 1],
            "counts": [100, 300],
            "log_cells": 0.0,
            "log_depth": 0.0,
            "pct_counts_mt": [4.0, 8.0],
            "used": True,
            "reason": "",
        }
    )
    row = describe_samples(rows, ["age"]).loc["a"]
    assert row["log_cells"] == np.log(4)
    assert row["log_depth"] == np.log(400)
    assert row["pct_counts_mt"] == pytest.approx(7)
    assert row["age"] == 40


def test_without_a_prior_it_is_ordinary_least_squares(matrix):
    y = np.random.default_rng(1).normal(size=(40, 1))
    ols = sm.OLS(y[:, 0], matrix).fit()
    mine = fit(y, matrix.to_numpy(), np.array([0, 1, 0])).iloc[0]
    assert mine["log_odds"] == pytest.approx(ols.params["age"], rel=1e-12)
    assert mine["se"] == pytest.approx(ols.bse["age"], rel=1e-12)
    assert mine["pvalue"] == pytest.approx(ols.pvalues["age"], rel=1e-9)


def test_a_joint_test_is_the_f_test_of_least_squares_with_moderated_variances(matrix):
    rng = np.random.default_rng(5)
    matrix = matrix.assign(bmi=rng.normal(size=40))
    y = rng.normal(size=(40, 5)) * [1, 0.5, 2, 1.5, 1]
    hypothesis = np.array([[0, 1, 0, 0], [0, 0, 1, -1.0]])
    mine = fit(y, matrix.to_numpy(), hypothesis)
    plain = [sm.OLS(column, matrix).fit() for column in y.T]
    moderated, prior_df, _ = moderate(np.array([ols.mse_resid for ols in plain]), 36)
    for place, ols in enumerate(plain):
        expected = ols.f_test(hypothesis).fvalue * ols.mse_resid / moderated[place]
        assert mine.loc[place, "f"] == pytest.approx(expected, rel=1e-9)
    assert mine["df"].iloc[0] == pytest.approx(min(36 + prior_df, 36 * 5))
    assert mine[["log_odds", "se", "t"]].isna().all(axis=None)
    single = fit(y, matrix.to_numpy(), hypothesis[0])
    np.testing.assert_allclose(single["t"] ** 2, single["f"])
    np.testing.assert_allclose(single["pvalue"], 2 * stats.t.sf(single["t"].abs(), single["df"]))


def test_moderated_variances_solve_the_equations_of_the_prior():
    df, prior_df, scale = 10, 6.0, 0.3
    rng = np.random.default_rng(2)
    true = scale * prior_df / rng.chisquare(prior_df, 20_000)
    variances = true * rng.chisquare(df, 20_000) / df
    moderated, found_df, found_scale = moderate(variances, df)
    assert found_df == pytest.approx(prior_df, rel=0.1)
    assert found_scale == pytest.approx(scale, rel=0.03)
    np.testing.assert_allclose(moderated, (found_df * found_scale + df * variances) / (found_df + df))


def test_equal_variances_are_pooled_with_infinite_prior():
    moderated, prior_df, scale = moderate(np.array([1.0, 1.01, 0.99]), 20)
    assert prior_df == np.inf
    assert scale == pytest.approx(1)
    np.testing.assert_allclose(moderated, 1)


def simulated(matrix, log_odds, seed):
    """Cells of 6 types in 40 samples of about 500; the first type's odds change with age."""
    rng = np.random.default_rng(seed)
    logits = np.log([0.3, 0.25, 0.2, 0.15, 0.07, 0.03]) + rng.normal(0, 0.3, (40, 6))
    logits[:, 0] += log_odds * matrix["age"].to_numpy()
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    cells = [
        rng.multinomial(total, share) for total, share in zip(rng.integers(300, 700, 40), shares, strict=True)
    ]
    return pd.DataFrame(cells, columns=list("ABCDEF"))


def test_a_planted_change_is_found_with_its_size(matrix):
    results = compare(simulated(matrix, 0.3, seed=3), matrix, np.array([0, 1, 0])).set_index("cell_type")
    assert results.index[0] == "A"
    assert results.loc["A", "padj"] < 1e-4
    assert results.loc["A", "low"] < np.exp(0.3) < results.loc["A", "high"]


def test_without_a_change_pvalues_are_uniform(matrix):
    pvalues = np.concatenate(
        [compare(simulated(matrix, 0, seed), matrix, np.array([0, 1, 0]))["pvalue"] for seed in range(100)]
    )
    ks = stats.kstest(pvalues, "uniform").pvalue
    share = (pvalues < 0.05).mean()
    print(f"type I error {share:.3f} of {len(pvalues)}, KS p = {ks:.3f}")
    assert ks > 0.001
    assert abs(share - 0.05) < 4 * np.sqrt(0.05 * 0.95 / len(pvalues))


def test_intervals_hold_the_planted_odds_ratio(matrix):
    """Of the first type; the share of the others falls as it grows."""
    for log_odds in (0.1, 0.3):
        tables = [
            compare(simulated(matrix, log_odds, seed), matrix, np.array([0, 1, 0])) for seed in range(60)
        ]
        first = pd.concat(tables).query("cell_type == 'A'")
        others = pd.concat(tables).query("cell_type != 'A'")
        # softmax: the odds of A against the rest change by log_odds exactly
        held = (first["low"] < np.exp(log_odds)) & (np.exp(log_odds) < first["high"])
        found = (first["padj"] < 0.05).mean()
        print(f"log odds {log_odds}: found {found:.2f}, interval holds it {held.mean():.2f}, ", end="")
        print(f"mean {first['log_odds'].mean():.3f}, others {others['log_odds'].mean():.3f}")
        assert held.mean() > 0.85
        assert first["log_odds"].mean() == pytest.approx(log_odds, rel=0.1)
        assert others["log_odds"].mean() < 0


def test_without_odds_ratios_the_figure_shows_pvalues(matrix):
    hypothesis = np.array([[0, 1, 0], [0, 0, 1.0]])
    results = compare(simulated(matrix, 0.3, seed=3), matrix, hypothesis)
    assert results.loc[0, "cell_type"] == "A"
    assert results["odds_ratio"].isna().all()
    axes = draw(results, "any change with pool", "").axes[0]
    assert axes.get_xlabel().startswith("-log10 p-value of any change with pool")
    assert len(axes.patches) == 6


def test_the_figure_names_types_and_unit(matrix):
    results = compare(simulated(matrix, 0.3, seed=3), matrix, np.array([0, 1, 0]))
    axes = draw(results, "10 of age", "").axes[0]
    assert "10 of age" in axes.get_xlabel()
    assert len(axes.get_yticklabels()) == 6
    assert "not tested" in draw(results.head(0), "", "not tested: single_level").axes[0].texts[0].get_text()
