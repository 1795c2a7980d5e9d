"""Composition: shares and odds by hand, least squares and moderation by other formulas, planted truth."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import optimize, stats

from donors import _cell_counts, _gls
from donors._composition_figure import draw
from donors._contrast import resolve_contrast
from donors._moderation import moderate
from donors.composition import compare_shares, composition, describe_samples, summary
from files import count_cells, logit_shares

LIMITS = {"min_samples": 2, "min_residual_df": 3, "min_cells": 5}


def compare(cells, matrix, hypothesis, block=None, min_cells=5) -> pd.DataFrame:
    return compare_shares(cells, matrix, hypothesis, block, min_cells=min_cells)[0]


def fit(y, matrix, hypothesis) -> pd.DataFrame:
    """The moderated linear models of logit shares: limma."""
    tests = _gls.test_models(_gls.fit_models(y, matrix), np.atleast_2d(hypothesis))
    names = {"log_odds": "effects", "se": "se", "t": "t", "f": "f", "df": "df", "pvalue": "pvalues"}
    return pd.DataFrame({ours: getattr(tests, name) for ours, name in names.items()})


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
    """Its logit share would seem to fall as samples have more cells: p < 1e-20, with nothing there."""
    rng = np.random.default_rng(0)
    total = np.r_[rng.normal(500, 20, 10), rng.normal(2000, 50, 10)].astype(int)
    some = rng.binomial(total, 0.4)
    cells = pd.DataFrame({"A": some, "absent": 0, "B": total - some})
    design = pd.DataFrame({"Intercept": 1.0, "many": np.repeat([0.0, 1.0], 10)})
    logits = fit(logit_shares(cells).to_numpy(), design.to_numpy(), np.array([0.0, 1.0]))
    assert logits.loc[1, "pvalue"] < 1e-20
    table = compare(cells, design, np.array([0.0, 1.0])).set_index("cell_type")
    assert table["reason"].to_dict() == {"A": "", "B": "", "absent": "no_cells"}
    assert table.loc["absent", ["log_odds", "pvalue", "padj"]].isna().all()
    assert (table.loc[["A", "B"], "pvalue"] > 0.01).all()


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


# the binomial model


def two_groups(first: list[int], second: list[int], totals: int = 100):
    """Cells of a type and of another in two groups of samples of `totals` cells, and the matrix."""
    some = np.array([*first, *second])
    matrix = pd.DataFrame({"Intercept": 1.0, "group": np.repeat([0.0, 1.0], [len(first), len(second)])})
    return pd.DataFrame({"A": some, "other": totals - some}), matrix


def test_without_variance_between_samples_groups_are_compared_by_all_their_cells():
    """Shares vary less than by the noise of counts: one table of 2 x 2, half a cell added to each number."""
    cells, matrix = two_groups([10, 9, 11, 10], [20, 21, 19, 20])
    table, fits = compare_shares(cells, matrix, np.array([0.0, 1.0]), min_cells=5)
    row = table.set_index("cell_type").loc["A"]
    odds = 80.5 / 320.5 / (40.5 / 360.5)
    share = np.array([40.5, 80.5]) / 401
    assert fits.within < 1e-6
    assert row["odds_ratio"] == pytest.approx(odds, rel=1e-5)
    assert row["se"] == pytest.approx(np.sqrt((1 / (400 * share * (1 - share))).sum()), rel=1e-4)
    assert (row["df"], row["expected_cells"]) == (12, 60)
    assert row["low"] < odds < row["high"]


def test_a_group_without_a_cell_has_a_finite_odds_ratio():
    cells, matrix = two_groups([10, 9, 11, 10], [0, 0, 0, 0])
    row = compare(cells, matrix, np.array([0.0, 1.0])).set_index("cell_type").loc["A"]
    assert row["odds_ratio"] == pytest.approx(0.5 / 400.5 / (40.5 / 360.5), rel=1e-3)
    assert row["pvalue"] < 0.05


def test_many_cells_without_variance_between_samples_are_a_binomial_glm(matrix):
    rng = np.random.default_rng(8)
    totals = rng.integers(20_000, 60_000, 40)
    share = 1 / (1 + np.exp(2 - 0.1 * matrix["age"]))
    some = np.round(totals * share).astype(int)  # less than the noise of counts
    cells = pd.DataFrame({"A": some, "other": totals - some})
    glm = sm.GLM(cells[["A", "other"]], matrix, family=sm.families.Binomial()).fit()
    for place, name in enumerate(matrix):
        row = compare(cells, matrix, np.eye(3)[place]).set_index("cell_type").loc["A"]
        assert row["log_odds"] == pytest.approx(glm.params[name], abs=0.01 * glm.bse[name])
        assert row["se"] == pytest.approx(glm.bse[name], rel=1e-3)


def test_variances_between_samples_are_of_the_largest_restricted_likelihood(matrix):
    """Against the likelihood of dense matrices, of the linear response at the solution."""
    cells, block = simulated(matrix, 0.1, seed=4), np.repeat(np.arange(20), 2)
    rng = np.random.default_rng(4)
    shift = rng.normal(0, 0.5, (20, 6))[block]
    cells = pd.DataFrame(np.ceil(cells * np.exp(shift)).astype(int))
    counts, totals, x = cells.to_numpy().T, cells.sum(axis=1).to_numpy(), matrix.to_numpy()
    fits = _cell_counts.fit_shares(counts, totals, x, block)
    same = (block[:, None] == block).astype(float)
    shares = 1 / (1 + np.exp(-fits.models.coefficients @ x.T))
    information = totals * shares * (1 - shares)

    def covariance(place: int, within: float, between: float) -> np.ndarray:
        return np.diag(1 / information[place] + within) + between * same

    def deviance(variances: np.ndarray) -> float:
        total = 0.0
        for place in range(6):
            unscaled = np.linalg.inv(x.T @ np.linalg.inv(covariance(place, fits.within, fits.between)) @ x)
            response = (counts[place] - totals * shares[place]) / information[place]
            response += (1 - 2 * shares[place]) * np.diag(x @ unscaled @ x.T) / 2
            inverse = np.linalg.inv(covariance(place, *variances))
            of_effects = x.T @ inverse @ x
            residuals = response - x @ np.linalg.solve(of_effects, x.T @ inverse @ response)
            total += np.linalg.slogdet(of_effects)[1] - np.linalg.slogdet(inverse)[1]
            total += residuals @ inverse @ residuals
        return total

    best = optimize.minimize(deviance, [0.2, 0.2], method="Nelder-Mead", options={"xatol": 1e-5}).x
    assert [fits.within, fits.between] == pytest.approx(best, rel=0.01)
    assert fits.correlation == pytest.approx(fits.between / (fits.within + fits.between))
    assert 0.3 < fits.correlation < 0.9


def rare_with_trend(seed: int, sd: float = 0.3):
    """100 donors; the oldest have a third of the cells of the youngest. No share changes; two are rare."""
    rng = np.random.default_rng(seed)
    age = np.linspace(-1, 1, 100)
    totals = rng.poisson(300 * 3 ** (-age / 2))
    shares = np.array([0.5, 0.3, 0.15, 0.001, 0.0005]) * np.exp(rng.normal(0, sd, (100, 5)))
    cells = [rng.multinomial(n, p / p.sum()) for n, p in zip(totals, shares, strict=True)]
    return pd.DataFrame(cells, columns=[*"ABC", "rare", "rarest"]), pd.DataFrame({"one": 1.0, "age": age})


def test_a_rare_type_does_not_seem_to_rise_where_donors_have_fewer_cells():
    counted, logits = [], []
    for seed in range(60):
        cells, matrix = rare_with_trend(seed)
        there = cells.loc[:, cells.sum() > 0]
        table = compare(cells, matrix, np.array([0.0, 1.0])).set_index("cell_type")
        limma = fit(logit_shares(there).to_numpy(), matrix.to_numpy(), np.array([0.0, 1.0]))
        counted.append(table["pvalue"])
        logits.append(pd.Series(limma["pvalue"].to_numpy(), there.columns))
    ours, before = (pd.concat(tables, axis=1) for tables in (counted, logits))
    false = (ours < 0.05).sum(axis=1) / ours.notna().sum(axis=1)
    rejected = (before < 0.05).mean(axis=1)
    print(f"\ntype I error {false.round(3).to_dict()}, by limma {rejected.round(2).to_dict()}")
    assert (rejected[["rare", "rarest"]] > 0.9).all()
    assert (false <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)).all()
    assert ours.loc[["rare", "rarest"]].notna().mean(axis=None) > 0.8


def test_a_rare_type_that_rises_is_found():
    found = []
    for seed in range(20):
        cells, matrix = rare_with_trend(seed, sd=0.1)
        added = np.random.default_rng(seed).poisson(0.004 * cells.sum(axis=1) * (matrix["age"] > 0))
        cells["rare"] += added
        row = compare(cells, matrix, np.array([0.0, 1.0])).set_index("cell_type").loc["rare"]
        found.append(row["padj"] < 0.05 and row["odds_ratio"] > 1)
    assert np.mean(found) > 0.9


# reasons


def samples_of(number: int) -> pd.DataFrame:
    samples = pd.DataFrame({"sample": [f"s{place:02d}" for place in range(number)], "age": np.arange(number)})
    samples["donor"] = samples["sample"]
    samples["condition"] = ["stim", *["ctrl"] * (number - 1)]
    return samples.set_index("sample", drop=False)


def contrast_of(samples: pd.DataFrame, **settings):
    return resolve_contrast({"name": "asked", **settings}, samples)


AGE = {"design": "~ age", "test": "age", "unit": 1}
STIM = {"design": "~ condition", "test": "condition", "level": "stim", "reference": "ctrl"}


@pytest.mark.parametrize("settings", [AGE, STIM])
def test_equal_cells_of_every_sample_are_not_tested(settings):
    samples = samples_of(30)
    cells = pd.DataFrame(15, index=samples.index, columns=list("ABC"))
    types, status, _ = composition(cells, samples, contrast_of(samples, **settings), **LIMITS)
    assert list(types["reason"]) == ["no_variation"] * 3
    assert (status["status"], status["cell_types"]) == ("no_variation", 0)
    line = summary(types, status)
    assert line.startswith("not tested: no_variation; ")
    assert line.endswith("the same share in every sample: A, B, C")
    assert "not tested" in draw(types, "age", summary(types, status)).axes[0].texts[0].get_text()


@pytest.mark.parametrize("settings", [AGE, STIM])
def test_shares_that_vary_less_than_the_noise_of_counts_claim_nothing(settings):
    samples = samples_of(30)
    cells = pd.DataFrame(15, index=samples.index, columns=list("ABC"))
    cells.iloc[0, :2] += [1, -1]
    types = composition(cells, samples, contrast_of(samples, **settings), **LIMITS).types
    tested = types.set_index("cell_type").loc[["A", "B"]]
    assert (tested["reason"] == "").all()
    assert (tested["pvalue"] > 0.7).all()
    assert ((tested["low"] < 1) & (tested["high"] > 1)).all()


def test_cells_are_expected_on_the_smaller_side_of_the_effect():
    """A has 6 of 1,000 cells in each of 30 samples, the one stimulated sample has 1,000 of the 30,000."""
    samples = samples_of(30)
    cells = pd.DataFrame({"A": 6, "B": 594, "C": 400}, index=samples.index)
    cells.iloc[1] = [5, 590, 405]
    stim = composition(cells, samples, contrast_of(samples, **STIM), **LIMITS | {"min_cells": 7})
    row = stim.types.set_index("cell_type").loc["A"]
    assert (row["cells"], row["reason"]) == (179, "too_few_cells")
    assert row["expected_cells"] == pytest.approx(179 / 30)
    assert np.isnan(row["pvalue"])
    assert stim.status["message"].endswith(
        "too few cells expected on the smaller side of the effect, composition.min_cells is 7: A (5.97)"
    )
    assert (stim.status["status"], stim.status["cell_types"]) == ("tested", 2)
    age = composition(cells, samples, contrast_of(samples, **AGE), **LIMITS).types.set_index("cell_type")
    assert age.loc["A", "expected_cells"] == pytest.approx(179 / 2)
    assert age.loc["A", "reason"] == ""


def test_of_a_type_with_nearly_all_cells_the_others_are_counted():
    samples = samples_of(10)
    cells = pd.DataFrame({"A": 99, "B": 1}, index=samples.index)
    types, status, _ = composition(cells, samples, contrast_of(samples, **AGE), **LIMITS | {"min_cells": 6})
    assert types["expected_cells"].tolist() == pytest.approx([5, 5])
    assert status["status"] == "too_few_cells"


def test_several_effects_need_cells_on_each_side_of_each_of_them():
    samples = samples_of(12)
    samples["condition"] = ["a"] * 8 + ["b"] * 3 + ["c"]
    cells = pd.DataFrame({"A": 12, "B": 88}, index=samples.index)
    contrast = contrast_of(samples, design="~ condition", test="condition")
    types = composition(cells, samples, contrast, **LIMITS | {"min_cells": 13}).types
    assert (types["reason"] == "too_few_cells").all()


def test_what_cannot_be_fitted_has_the_reason_of_the_design():
    samples = samples_of(30)
    cells = pd.DataFrame(15, index=samples.index, columns=list("ABC"))
    limits = LIMITS | {"min_residual_df": 29}
    types, status, compared = composition(cells, samples, contrast_of(samples, **STIM), **limits)
    assert types.empty
    assert (status["status"], status["samples_used"], compared) == ("no_residual_df", 30, "stim against ctrl")
    one = cells[["A"]].assign(B=0)
    assert (
        composition(one, samples, contrast_of(samples, **AGE), **LIMITS).status["status"]
        == "single_cell_type"
    )
