"""Scores of out-of-fold predictions, and how uncertain they are: bootstrap over donors, paired over models.

R2 = 1 - sum (observed - predicted)^2 / sum (observed - mean observed)^2, below 0 where the mean would predict
better; MAE and RMSE are in units of the target; Pearson's r says nothing about scale or level.
A score is the mean of the repeats' scores.
"""

import numpy as np
import pandas as pd

SCORES = ["r2", "mae", "rmse", "pearson"]
INTERVAL = (0.025, 0.975)  # quantiles of the resamples: a 95 % interval


def arrange(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions of one cell type by one model as arrays.

    Returns observed and predicted (repeats, samples), samples by name, and the donor of each sample.
    Raises ValueError unless every sample is predicted once per repeat, all samples of a donor in one fold.
    """
    table = predictions.sort_values(["repeat", "sample"], kind="stable")
    samples, repeats = table["sample"].nunique(), table["repeat"].nunique()
    if table.duplicated(["repeat", "sample"]).any() or len(table) != samples * repeats:
        raise ValueError(
            f"{len(table)} predictions of {samples} samples in {repeats} repeats: not one of each"
        )
    folds = table.groupby(["repeat", "donor"])["fold"].nunique()
    if folds.max() > 1:
        raise ValueError(f"donor {folds.idxmax()[1]} is in more than one fold of a repeat")
    arrays = [table[name].to_numpy(float).reshape(repeats, samples) for name in ("observed", "predicted")]
    return arrays[0], arrays[1], table["donor"].to_numpy(object)[:samples]


def resample(donors: np.ndarray, *, bootstraps: int, random_state: int) -> np.ndarray:
    """How often each sample counts: (1 + bootstraps, samples), first once each, then with donors redrawn.

    A resample draws as many donors as there are, with replacement; a donor's samples come along together.
    Source: Davison & Hinkley 1997, Bootstrap Methods and their Application, section 3.8.
    """
    codes, names = pd.factorize(donors)
    rng = np.random.default_rng(random_state)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=bootstraps)
    return np.vstack([np.ones(len(donors)), counts[:, codes]])


def score(observed: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """SCORES of weighted samples, mean over repeats: (resamples, 4).

    observed, predicted: (repeats, samples); weights: (resamples, samples). R2 and Pearson's r are NaN where
    a resample is of one target only, the latter also where a repeat's predictions are constant.
    """
    y, error = observed - observed.mean(), observed - predicted
    p = predicted - predicted.mean(axis=1, keepdims=True)
    parts = [np.ones_like(y), np.abs(error), error**2, y, y**2, p, p**2, y * p]
    n, absolute, squared, sy, syy, sp, spp, syp = (weights @ part.T for part in parts)
    variance_y, variance_p = varying(syy - sy**2 / n, syy), varying(spp - sp**2 / n, spp)
    r2, mae, rmse = 1 - squared / variance_y, absolute / n, np.sqrt(squared / n)
    pearson = (syp - sy * sp / n) / np.sqrt(variance_y * variance_p)
    return np.stack([each.mean(axis=1) for each in (r2, mae, rmse, pearson)], axis=1)


def varying(centred: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Sums of squares about the mean, NaN where they are nothing but rounding."""
    return np.where(centred > 1e-10 * squares, centred, np.nan)


def with_interval(name: str, values: np.ndarray) -> dict[str, float]:
    """A number and its interval: values (1 + bootstraps,), the number itself first.

    Resamples in which the number does not exist are left out.
    """
    finite = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(finite, INTERVAL) if len(finite) else (np.nan, np.nan)
    return {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}


def compare(expression: np.ndarray, baselines: dict[str, np.ndarray]) -> dict[str, object]:
    """The gain of expression over the best baseline, the one with the smallest mean absolute error.

    expression, and each baseline: (1 + bootstraps, 4) as `score` gives them for the same resamples, so that
    differences are paired. gain_mae is the baseline's error minus that of expression, in units of the target;
    gain_r2 the R2 of expression minus the baseline's. Both are above 0 where expression predicts better.
    """
    best = min(baselines, key=lambda name: baselines[name][0, SCORES.index("mae")])
    gain = expression - baselines[best]
    mae = with_interval("gain_mae", -gain[:, SCORES.index("mae")])
    r2 = with_interval("gain_r2", gain[:, SCORES.index("r2")])
    found = {"best_baseline": best, **mae, **r2}
    for name in ("gain_mae", "gain_r2"):
        found[f"{name}_excludes_0"] = not found[f"{name}_low"] <= 0 <= found[f"{name}_high"]
    return found


def correct_gaps(pooled: pd.DataFrame) -> pd.DataFrame:
    """How far each sample is predicted from its observed target, and how much of that its target explains.

    pooled: out-of-fold predictions of one cell type. predicted is the mean over repeats, gap = predicted -
    observed. Predictions are drawn towards the mean, so gaps fall with the target whatever the sample;
    expected = a + b x observed is the least-squares line through the predictions, corrected_gap = predicted -
    expected, uncorrelated with the target. Source: Le et al. 2018, Frontiers in Aging Neuroscience 10:317;
    Beheshti et al. 2019, NeuroImage: Clinical 24:102063.
    """
    gaps = pooled.groupby(["sample", "donor"], as_index=False)[["observed", "predicted"]].mean()
    observed, predicted = gaps["observed"], gaps["predicted"]
    centred = observed - observed.mean()
    slope = (centred * predicted).sum() / (centred**2).sum()
    expected = predicted.mean() + slope * centred
    return gaps.assign(gap=predicted - observed, expected=expected, corrected_gap=predicted - expected)
