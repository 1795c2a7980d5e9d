"""Scores, intervals, gains and gaps, by hand and against scikit-learn, scipy and plain loops."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score, root_mean_squared_error

from prediction._scores import (
    SCORES,
    add_interval,
    arrange,
    compare,
    correct_gaps,
    resample,
    score,
    score_levels,
)


def predictions(seed=0, repeats=3, samples=30, noise=8.0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "repeat": np.repeat(np.arange(repeats), samples),
            "fold": np.tile(np.arange(samples) % 5, repeats),
            "sample": np.tile([f"s{number:02d}" for number in range(samples)], repeats),
            "donor": np.tile([f"d{number:02d}" for number in range(samples)], repeats),
            "observed": np.tile(rng.normal(50, 10, samples), repeats),
        }
    )
    return table.assign(predicted=table["observed"] + rng.normal(0, noise, len(table)))


def test_scores_are_those_of_scikit_learn_and_of_resampled_tables():
    table = predictions()
    observed, predicted, _, donors = arrange(table.sample(frac=1, random_state=0))
    weights = resample(donors, bootstraps=4, random_state=1)
    assert np.array_equal(weights[0], np.ones(30))
    assert (weights[1:].sum(axis=1) == 30).all()
    found = score(observed, predicted, weights)
    for counts, values in zip(weights.astype(int), found, strict=True):
        expected = []
        for _, one in table.groupby("repeat"):
            drawn = one.iloc[np.repeat(np.arange(30), counts)]
            pair = drawn["observed"], drawn["predicted"]
            own = [measure(*pair) for measure in (r2_score, mean_absolute_error, root_mean_squared_error)]
            expected.append([*own, pair[0].corr(pair[1])])
        assert dict(zip(SCORES, values, strict=True)) == pytest.approx(
            dict(zip(SCORES, np.mean(expected, axis=0), strict=True))
        )


def test_scores_by_hand():
    observed = np.array([[1.0, 2, 3, 4], [1.0, 2, 3, 4]])
    predicted = np.array([[1.0, 2, 3, 3], [2.5, 2.5, 2.5, 2.5]])
    once = np.ones((1, 4))
    assert score(observed[:1], predicted[:1], once)[0] == pytest.approx([0.8, 0.25, 0.5, 0.9438798074485389])
    both = score(observed, predicted, once)[0]
    assert both[:2] == pytest.approx([0.4, 0.625])
    assert np.isnan(both[3])  # constant predictions have no correlation


def test_samples_of_a_donor_are_drawn_together():
    donors = np.array(["a", "b", "a", "c", "b", "a"])
    weights = resample(donors, bootstraps=200, random_state=0)
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert np.array_equal(weights[:, 1], weights[:, 4])
    assert (weights[1:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_intervals_are_those_of_scipy():
    table = predictions(repeats=1, samples=80)
    observed, predicted, _, donors = arrange(table)
    values = score(observed, predicted, resample(donors, bootstraps=4000, random_state=0))[:, 1]
    found = add_interval("mae", values)
    errors = np.abs(table["observed"] - table["predicted"])
    assert found["mae"] == pytest.approx(errors.mean())
    draw = {"n_resamples": 4000, "method": "percentile", "rng": 1}
    expected = stats.bootstrap((errors.to_numpy(),), np.mean, **draw).confidence_interval
    assert found["mae_low"] == pytest.approx(expected.low, abs=0.1)
    assert found["mae_high"] == pytest.approx(expected.high, abs=0.1)


def test_the_best_baseline_has_the_smallest_error_and_differences_are_paired():
    def values(r2, mae):
        return np.array([[r2, mae, 0, 0]] * 3, dtype=float)

    expression = values(0.5, 8) + np.array([[0, 0, 0, 0], [0.1, -1, 0, 0], [-0.1, 1, 0, 0]])
    baselines = {"mean": values(0, 12), "sex": values(0.2, 10)}
    baselines["sex"] = baselines["sex"] + (expression - expression[0])  # moves with expression
    found = compare(expression, baselines)
    assert found["best_baseline"] == "sex"
    assert [found[f"gain_mae{end}"] for end in ("", "_low", "_high")] == pytest.approx([2, 2, 2])
    assert [found[f"gain_r2{end}"] for end in ("", "_low", "_high")] == pytest.approx([0.3, 0.3, 0.3])
    assert found["gain_mae_excludes_0"]
    baselines = {"mean": values(0.5, 8)}
    found = compare(expression, baselines)
    assert found["gain_mae_low"] < 0 < found["gain_mae_high"]
    assert not found["gain_mae_excludes_0"]
    worse = compare(values(0, 12), {"mean": values(0.5, 8)})
    assert worse["gain_mae"] == -4
    assert worse["gain_mae_excludes_0"]


def test_a_sample_predicted_twice_or_not_at_all_is_refused():
    table = predictions()
    with pytest.raises(ValueError, match="89 predictions of 30 samples in 3 repeats"):
        arrange(table.iloc[1:])
    twice = table.assign(sample=table["sample"].where(table.index != 0, "s01"))
    with pytest.raises(ValueError, match="90 predictions of 30 samples"):
        arrange(twice)


def test_a_donor_in_two_folds_is_refused():
    table = predictions()
    split = table.assign(donor=table["donor"].replace("d03", "d02"))
    with pytest.raises(ValueError, match="donor d02 is in more than one fold"):
        arrange(split)


def test_corrected_gaps_do_not_depend_on_the_target():
    rng = np.random.default_rng(0)
    table = predictions(samples=50)
    table["predicted"] = 50 + 0.4 * (table["observed"] - 50) + rng.normal(0, 3, len(table))
    gaps = correct_gaps(table)
    mean = table.groupby("sample")["predicted"].mean()
    assert gaps["predicted"].tolist() == pytest.approx(mean.tolist())
    slope, intercept = np.polyfit(gaps["observed"], gaps["predicted"], 1)
    np.testing.assert_allclose(gaps["expected"], intercept + slope * gaps["observed"])
    assert np.corrcoef(gaps["gap"], gaps["observed"])[0, 1] < -0.8
    assert abs(np.corrcoef(gaps["corrected_gap"], gaps["observed"])[0, 1]) < 1e-9
    np.testing.assert_allclose(gaps["gap"], gaps["predicted"] - gaps["observed"])


def test_a_gap_by_hand():
    table = pd.DataFrame(
        {
            "repeat": [0, 0, 0, 1, 1, 1],
            "sample": list("abc") * 2,
            "donor": list("abc") * 2,
            "observed": [1.0, 2, 3] * 2,
            "predicted": [1.0, 3, 2, 3.0, 3, 2],
        }
    )
    gaps = correct_gaps(table)  # predicted 2, 3, 2: a flat line at 7 / 3
    assert gaps["gap"].tolist() == [1, 1, -1]
    assert gaps["corrected_gap"].tolist() == pytest.approx([-1 / 3, 2 / 3, -1 / 3])


def two_levels(seed=0, repeats=2, samples=40):
    table = predictions(seed=seed, repeats=repeats, samples=samples)
    observed = np.tile(np.random.default_rng(seed).integers(0, 2, samples), repeats).astype(float)
    noise = np.random.default_rng(seed + 1).normal(0, 0.3, len(table))
    return table.assign(observed=observed, predicted=np.clip(0.3 + 0.4 * observed + noise, 0, 1).round(2))


def test_auroc_and_calibration_are_those_of_scikit_learn_and_numpy_in_every_resample():
    observed, predicted, fold, donors = arrange(two_levels())
    weights = resample(donors, bootstraps=6, random_state=2)
    for counts, values in zip(
        weights.astype(int), score_levels(observed, predicted, fold, weights), strict=True
    ):
        wins = pairs = 0
        drawn = [np.repeat(array, counts, axis=1) for array in (observed, predicted, fold)]
        for y, p, folds in zip(*drawn, strict=True):
            for number in np.unique(folds):
                here = folds == number
                of_fold = (y[here] == 1).sum() * (y[here] == 0).sum()
                if of_fold:
                    wins += of_fold * roc_auc_score(y[here], p[here])
                    pairs += of_fold
        assert values[0] == pytest.approx(wins / pairs)
        slope, intercept = np.polyfit(drawn[1].ravel(), drawn[0].ravel(), 1)
        assert values[1:].tolist() == pytest.approx([slope, intercept])


def test_auroc_by_hand_and_of_the_share_of_the_level():
    observed = np.array([[1.0, 0, 0, 1, 0, 1]])
    fold = np.array([[0.0, 0, 0, 1, 1, 1]])
    predicted = np.array([[0.5, 0.4, 0.5, 0.1, 0.2, 0.3]])  # fold 0: 1 and 1/2 of 2; fold 1: 0 and 1 of 2
    assert score_levels(observed, predicted, fold, np.ones((1, 6)))[0, 0] == pytest.approx(2.5 / 4)
    share = np.where(fold == 0, 2 / 3, 1 / 3)  # of the level in the other fold
    assert roc_auc_score(observed[0], share[0]) < 0.5  # over all pairs
    values = score_levels(observed, share, fold, np.ones((1, 6)))[0]
    assert values[0] == 0.5
    assert values[1] == pytest.approx(-1)
    constant = score_levels(observed, np.full((1, 6), 0.5), fold, np.ones((1, 6)))[0]
    assert constant[0] == 0.5
    assert np.isnan(constant[1:]).all()


def test_without_a_pair_in_a_fold_there_is_no_auroc():
    observed, fold = np.array([[1.0, 1, 0, 0]]), np.array([[0.0, 0, 1, 1]])
    assert np.isnan(score_levels(observed, np.array([[0.1, 0.2, 0.3, 0.4]]), fold, np.ones((1, 4)))[0, 0])


def test_probabilities_are_compared_by_r2_and_not_by_absolute_error():
    def values(r2, mae, auroc):
        return np.array([[r2, mae, 0, 0, auroc, 1, 0]] * 3, dtype=float)

    baselines = {"mean": values(0, 0.42, 0.5), "zero": values(-0.4, 0.3, 0.5)}
    gains = compare(values(0.2, 0.35, 0.8), baselines)
    assert gains["best_baseline"] == "mean"
    assert [gains["gain_auroc"], gains["gain_r2"]] == pytest.approx([0.3, 0.2])
    assert gains["gain_auroc_excludes_0"]
    assert "gain_auroc" not in compare(values(0.2, 0.35, 0.8)[:, :4], {"mean": values(0, 1, 0)[:, :4]})
