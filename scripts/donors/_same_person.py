"""Samples that look like one person, by the genes that differ between people.

In each cell type, log expression without its covariates is compared between samples by Spearman's correlation
over genes that vary most beyond counting (reliable_genes), each centred and scaled, less the correlation that
removing covariates leaves between unrelated samples. atanh of the pairs is standardised by median and MAD of
the pairs of different donors, added up over the cell types of both samples, divided by the root of their
number, centred by the median of either sample, since a poor sample is unlike all others, and standardised
again: z.

Two samples are alike when z is beyond a limit that no pair of unrelated samples reaches in 1 - alpha of
cohorts, and more than twice the z of either with any third donor: a group that was processed together is
alike as a whole, a person under two names is a pair.
"""

from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats

LEAST = 20  # genes, for a correlation
MANY, SIMULATIONS = 40, 1000
UNLIKE = 1.64  # 95 % of pairs of different people are below


def leftover(columns: np.ndarray) -> np.ndarray:
    """(samples, samples) projection on what an intercept and the columns of a model leave."""
    n = len(columns)
    space = np.linalg.svd(np.hstack([np.ones((n, 1)), columns]), full_matrices=False)
    basis = space[0][:, space[1] > 1e-10 * space[1][0]]
    return np.eye(n) - basis @ basis.T


def expect_correlation(projection: np.ndarray) -> np.ndarray:
    """Correlation of residuals of unrelated samples: in a batch of m that is removed it is -1 / (m - 1).

    projection: of leftover. 0 for a sample of which the model leaves nothing.
    """
    size = np.sqrt(np.clip(np.diag(projection), 0, None))
    size = np.where(size > 1e-6, size, np.inf)
    return projection / size[:, None] / size


def correlate(values: np.ndarray) -> np.ndarray:
    """(samples, samples) Spearman's correlation over genes, each gene centred and scaled before."""
    centred, deviation = values - values.mean(axis=0), values.std(axis=0)
    scaled = centred[:, deviation > 0] / deviation[deviation > 0]
    if scaled.shape[1] < LEAST:
        return np.full((len(values), len(values)), np.nan)
    return np.atleast_2d(np.corrcoef(stats.rankdata(scaled, axis=1)))


def standardise(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Values less median and divided by the scaled MAD of those that reference (bool) marks."""
    own = values[reference & np.isfinite(values)]
    if len(own) < 3:
        return np.full_like(values, np.nan)
    middle = np.median(own)
    mad = 1.4826 * np.median(np.abs(own - middle))
    return (values - middle) / mad if mad > 0 else np.full_like(values, np.nan)


def compare_samples(correlations: list[tuple[np.ndarray, np.ndarray]], donors: np.ndarray) -> np.ndarray:
    """(samples, samples) z of each pair; NaN on the diagonal and where two samples share no cell type.

    correlations: for each cell type the positions of its samples among all and their correlations; donors:
    (samples,) codes.
    """
    n = len(donors)
    different = donors[:, None] != donors
    total, number = np.zeros((n, n)), np.zeros((n, n))
    for places, correlation in correlations:
        z = np.arctanh(np.clip(correlation, -0.999999, 0.999999))
        z = standardise(z, different[np.ix_(places, places)])
        is_known = np.isfinite(z)
        total[np.ix_(places, places)] += np.where(is_known, z, 0)
        number[np.ix_(places, places)] += is_known
    np.fill_diagonal(number, 0)
    z = np.divide(total, np.sqrt(number), out=np.full((n, n), np.nan), where=number > 0)
    others = np.where(different & np.isfinite(z), z, np.nan)
    has_others = np.isfinite(others).any(axis=1)
    middle = np.full(n, np.nan)
    middle[has_others] = np.nanmedian(others[has_others], axis=1)
    return standardise(z - middle[:, None] - middle, different)


def largest_third(z: np.ndarray, donors: np.ndarray, i: int, j: int) -> float:
    """The largest z of either sample of a pair with a third donor; -inf where there is none."""
    third = (donors != donors[i]) & (donors != donors[j])
    others = np.concatenate([z[i, third], z[j, third]])
    return float(np.max(others, initial=-np.inf, where=np.isfinite(others)))


def list_pairs(z: np.ndarray, samples: np.ndarray, donors: np.ndarray, limit: float) -> pd.DataFrame:
    """Pairs of one donor, those beyond the limit, and each sample with its nearest other donor.

    check: `alike`, different donors that look like one person; `not_alike`, one donor that does not, where
    donors as a rule do; "" otherwise. control: whether the median pair of one donor is beyond the limit,
    `passes` or `fails`; `none` where no donor has two samples. z, donors: of compare_samples; samples:
    (samples,) names.
    """
    same = donors[:, None] == donors
    is_pair = np.triu(np.isfinite(z), 1)
    own = z[same & is_pair]
    control = ("passes" if np.median(own) > limit else "fails") if len(own) else "none"
    others = np.where(~same & np.isfinite(z), z, -np.inf)
    near, rows = others.argmax(axis=1), np.flatnonzero(np.isfinite(others).any(axis=1))
    is_near = np.zeros(z.shape, dtype=bool)
    is_near[rows, near[rows]] = True
    chosen = is_pair & (same | is_near | is_near.T | (z > limit))
    table = []
    for i, j in np.argwhere(chosen):
        third = largest_third(z, donors, i, j)
        check = ""
        if same[i, j] and control == "passes" and z[i, j] < UNLIKE:
            check = "not_alike"
        if not same[i, j] and z[i, j] > limit and third < z[i, j] / 2:
            check = "alike"
        numbers = {"z": z[i, j], "third": third if np.isfinite(third) else np.nan, "limit": limit}
        about = {"same_donor": bool(same[i, j]), "check": check, "control": control}
        table.append({"sample": samples[i], "other": samples[j]} | numbers | about)
    columns = ["sample", "other", "z", "third", "limit", "same_donor", "check", "control"]
    return pd.DataFrame(table, columns=columns)


@lru_cache
def z_limit(samples: int, alpha: float, random_state: int) -> float:
    """The z that any pair of different donors is beyond in a share alpha of cohorts of independent pairs.

    It is simulated up to MANY samples, since the MAD of few pairs varies. Above, it is the normal quantile of
    1 - alpha / pairs, widened by 3 / sqrt(pairs) for that.
    """
    pairs = samples * (samples - 1) // 2
    if samples > MANY:
        return float(stats.norm.isf(alpha / pairs) * (1 + 3 / np.sqrt(pairs)))
    rng, donors = np.random.default_rng([random_state, samples]), np.arange(samples)
    largest = []
    for _ in range(SIMULATIONS):
        r = np.triu(rng.standard_normal((samples, samples)), 1)
        z = compare_samples([(donors, np.tanh((r + r.T) / 50))], donors)
        largest.append(np.nanmax(z, initial=-np.inf))
    return float(np.quantile(largest, 1 - alpha))
