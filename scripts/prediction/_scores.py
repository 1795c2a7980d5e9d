"""Score out-of-fold predictions, with intervals by a bootstrap over donors that is paired between models.

With y observed and p predicted values of the samples, each score the mean over repeats:

r2      1 - sum (y - p)^2 / sum (y - mean y)^2; below 0 if the mean is a better prediction
mae     mean |y - p|, in units of the target
rmse    sqrt(mean (y - p)^2), in units of the target
pearson correlation of y and p; does not depend on scale or level

For a target of two levels, with y 1 or 0 and p a probability, R2 = 1 - Brier score / Brier score of the
share of the level, and also:

auroc   of the pairs of a sample with the level and one of the reference, both of the same fold, the share in
        which p is larger with the level; equal p count half. Predictions of different folds are of different
        models: over all pairs, the share of the level in the training samples, which is lower where the fold
        has more of it, would score below 0.5 (Parker, Guenter & Bedo 2007, BMC Bioinformatics 8:326)
calibration_slope, calibration_intercept
        least-squares line y = intercept + slope * p over samples and repeats; slope 1 and intercept 0 if the
        share of the level is p among samples with p, slope below 1 if p is too near to 0 and 1
"""

import numpy as np
import pandas as pd

SCORES = ["r2", "mae", "rmse", "pearson"]
LEVEL_SCORES = ["auroc", "calibration_slope", "calibration_intercept"]
INTERVAL = (0.025, 0.975)  # quantiles of the resamples: a 95 % interval


def arrange(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Predictions of one cell type by one model as arrays.

    Returns observed, predicted and fold (repeats, samples), samples by name, and the donor of each sample.
    Raises ValueError unless every sample is predicted once per repeat, all samples of a donor in one fold.
    """
    table = predictions.sort_values(["repeat", "sample"], kind="stable")
    samples, repeats = table["sample"].nunique(), table["repeat"].nunique()
    if table.duplicated(["repeat", "sample"]).any() or len(table) != samples * repeats:
        raise ValueError(
            f"{len(table)} predictions of {samples} samples in {repeats} repeats: not one for each"
        )
    folds = table.groupby(["repeat", "donor"])["fold"].nunique()
    if folds.max() > 1:
        raise ValueError(f"donor {folds.idxmax()[1]} is in more than one fold of a repeat")
    observed, predicted, fold = (
        table[name].to_numpy(float).reshape(repeats, samples) for name in ("observed", "predicted", "fold")
    )
    return observed, predicted, fold, table["donor"].to_numpy(object)[:samples]


def resample(donors: np.ndarray, *, bootstraps: int, random_state: int) -> np.ndarray:
    """Weights of the samples: (1 + bootstraps, samples), the first row all 1, then one row per resample.

    A resample draws as many donors as there are, with replacement, each with all its samples.
    Source: Davison & Hinkley 1997, Bootstrap Methods and their Application, section 3.8.
    """
    codes, names = pd.factorize(donors)
    rng = np.random.default_rng(random_state)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=bootstraps)
    return np.vstack([np.ones(len(donors)), counts[:, codes]])


def score(observed: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """SCORES of weighted samples, mean over repeats: (resamples, 4).

    observed, predicted: (repeats, samples); weights: (resamples, samples). R2 and Pearson's r are NaN if a
    resample has a constant target, Pearson's r also if the predictions of a repeat are constant.
    """
    y, error = observed - observed.mean(), observed - predicted
    p = predicted - predicted.mean(axis=1, keepdims=True)
    parts = [np.ones_like(y), np.abs(error), error**2, y, y**2, p, p**2, y * p]
    n, absolute, squared, sy, syy, sp, spp, syp = (weights @ part.T for part in parts)
    variance_y, variance_p = mask_constant(syy - sy**2 / n, syy), mask_constant(spp - sp**2 / n, spp)
    r2, mae, rmse = 1 - squared / variance_y, absolute / n, np.sqrt(squared / n)
    pearson = (syp - sy * sp / n) / np.sqrt(variance_y * variance_p)
    return np.stack([values.mean(axis=1) for values in (r2, mae, rmse, pearson)], axis=1)


def score_levels(
    observed: np.ndarray, predicted: np.ndarray, fold: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """LEVEL_SCORES of weighted samples: (resamples, 3).

    observed: 0 or 1, predicted and fold: (repeats, samples); weights: (resamples, samples). NaN if a resample
    has no pair in a fold, or equal predictions.
    """
    wins, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for y, p, folds in zip(observed, predicted, fold, strict=True):
        one, zero = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
        together = (folds[one][:, None] == folds[zero]).astype(float)
        larger = (1 + np.sign(p[one][:, None] - p[zero])) / 2 * together
        wins += ((weights[:, one] @ larger) * weights[:, zero]).sum(axis=1)
        pairs += ((weights[:, one] @ together) * weights[:, zero]).sum(axis=1)
    p, y = predicted.T, observed.T  # (samples, repeats); all repeats in one line
    n, sp, spp = weights.sum(axis=1) * p.shape[1], weights @ p.sum(axis=1), weights @ (p**2).sum(axis=1)
    sy, spy = weights @ y.sum(axis=1), weights @ (p * y).sum(axis=1)
    slope = (spy - sp * sy / n) / mask_constant(spp - sp**2 / n, spp)
    auroc = wins / np.where(pairs > 0, pairs, np.nan)
    return np.stack([auroc, slope, (sy - slope * sp) / n], axis=1)


def mask_constant(centred: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Sums of squares about the mean; NaN if they are only rounding errors."""
    return np.where(centred > 1e-10 * squares, centred, np.nan)


def add_interval(name: str, values: np.ndarray) -> dict[str, float]:
    """A score and its interval under three names: name, name_low and name_high.

    values: (1 + bootstraps,), the score first. Resamples in which it is not defined are left out.
    """
    finite = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(finite, INTERVAL) if len(finite) else (np.nan, np.nan)
    return {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}


def compare(expression: np.ndarray, baselines: dict[str, np.ndarray]) -> dict[str, object]:
    """The gain of expression over the best baseline.

    expression, and each baseline: (1 + bootstraps, scores) of the same resamples, so that differences are
    paired; scores: SCORES, then LEVEL_SCORES for a target of two levels. The best baseline has the smallest
    mean absolute error, or the largest R2 for two levels, where the mean absolute error of a probability is
    smallest at 0 or 1. gain_mae = MAE of the baseline - MAE of expression, in units of the target; gain_r2
    and gain_auroc = score of expression - score of the baseline. Above 0: expression predicts better.
    """
    names = [*SCORES, *LEVEL_SCORES][: expression.shape[1]]
    sign = {"mae": -1, "r2": 1} | ({"auroc": 1} if "auroc" in names else {})
    by = "r2" if "auroc" in names else "mae"
    best = max(baselines, key=lambda name: sign[by] * baselines[name][0, names.index(by)])
    gain = expression - baselines[best]
    gains = {"best_baseline": best}
    for name in sign:
        gains |= add_interval(f"gain_{name}", sign[name] * gain[:, names.index(name)])
    for name in [f"gain_{name}" for name in sign]:
        gains[f"{name}_excludes_0"] = not gains[f"{name}_low"] <= 0 <= gains[f"{name}_high"]
    return gains


def correct_gaps(predictions: pd.DataFrame) -> pd.DataFrame:
    """Gap between predicted and observed target of each sample, also corrected for regression to the mean.

    predictions: out of fold, of one cell type; predicted is the mean over repeats. gap = predicted -
    observed. Predictions are shrunk towards the mean, so gaps decrease with the target. expected = a + b *
    observed is the least-squares line through the predictions; corrected_gap = predicted - expected is
    uncorrelated with the target. Source: Le et al. 2018, Frontiers in Aging Neuroscience 10:317; Beheshti et
    al. 2019, NeuroImage: Clinical 24:102063.
    """
    gaps = predictions.groupby(["sample", "donor"], as_index=False)[["observed", "predicted"]].mean()
    observed, predicted = gaps["observed"], gaps["predicted"]
    centred = observed - observed.mean()
    slope = (centred * predicted).sum() / (centred**2).sum()
    expected = predicted.mean() + slope * centred
    return gaps.assign(gap=predicted - observed, expected=expected, corrected_gap=predicted - expected)
