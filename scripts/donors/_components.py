"""Principal components of the sums, what goes with them, and samples that lie far out.

Scores are those of the centred log expression, each sample divided by the deviation expected at its depth
(_expression.equalise), by its singular values, signs such that the largest loading is positive. R2 of a
covariate and a component is that of the linear model of the score. Its p-value counts permutations of
samples, (1 + permutations with at least this R2) / (1 + permutations). Where a donor has several samples, a
covariate that is constant within donors is tested on the donors' mean scores, and another one by permutations
within donors, so that samples of one donor do not count as independent.

The robust distance of a sample is the root of the sum over components of ((score - median) / MAD)^2, MAD
scaled to the standard deviation of a normal distribution. Its limit is simulated, since the MAD of few
samples varies: alpha of cohorts of as many samples with independent normal scores have any sample beyond it.
Scores of sums have heavier tails, so a sample is outlying beyond WIDER times this limit.

Sources: Rousseeuw & Hubert 2011, WIREs Data Mining 1:73 (robust distances); Winkler et al. 2014, NeuroImage
92:381 (permutations in blocks).
"""

from functools import lru_cache

import numpy as np
import pandas as pd

WIDER = 1.5
SIMULATIONS = 4000  # of a cohort without outlying samples
VALUES = 2**22  # of scores that are simulated at a time


def principal_components(values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (samples, k) and share of the variance (k,); k is n, or the rank if that is lower.

    values: (samples, genes) log expression.
    """
    left, singular, loadings = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    rank = int((singular > singular[0] * 1e-10).sum()) if len(singular) and singular[0] > 0 else 0
    k = min(n, rank)
    largest = np.abs(loadings[:k]).argmax(axis=1)
    signs = np.sign(loadings[np.arange(k), largest])
    return left[:, :k] * singular[:k] * signs, singular[:k] ** 2 / (singular**2).sum()


def robust_distances(scores: np.ndarray) -> np.ndarray:
    """(..., samples) distance from the median of the samples. scores: (..., samples, components).

    A component in which half of the samples or more are alike does not count.
    """
    off = np.abs(scores - np.median(scores, axis=-2, keepdims=True))
    mad = 1.4826 * np.median(off, axis=-2, keepdims=True)
    return np.sqrt((np.divide(off, mad, out=np.zeros_like(off), where=mad > 0) ** 2).sum(axis=-1))


@lru_cache
def distance_limit(samples: int, components: int, alpha: float, random_state: int) -> float:
    """The distance that any of the samples is beyond in a share alpha of cohorts of normal scores."""
    rng = np.random.default_rng([random_state, samples, components])
    size = max(1, VALUES // (samples * components))
    largest = []
    for start in range(0, SIMULATIONS, size):
        shape = (min(size, SIMULATIONS - start), samples, components)
        largest.append(robust_distances(rng.standard_normal(shape)).max(axis=1))
    return float(np.quantile(np.concatenate(largest), 1 - alpha))


def indicator(values: pd.Series, *, is_number: bool) -> np.ndarray:
    """(rows, d) columns of a covariate without missing values: the number, or one per level but the first."""
    if is_number:
        return values.to_numpy(dtype=float)[:, None]
    return pd.get_dummies(values.astype(str)).to_numpy(dtype=float)[:, 1:]


def basis(columns: np.ndarray) -> np.ndarray:
    """(rows, rank) orthonormal basis of the centred columns."""
    left, singular, _ = np.linalg.svd(columns - columns.mean(axis=0), full_matrices=False)
    scale = np.abs(columns).max(initial=0) * len(columns)
    return left[:, singular > 1e-10 * max(scale, np.finfo(float).tiny)]


def r_squared(scores: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(components,) R2 of each score on an orthonormal basis of a centred covariate."""
    centred = scores - scores.mean(axis=0)
    return ((vectors.T @ centred) ** 2).sum(axis=0) / (centred**2).sum(axis=0)


def permute(rng: np.random.Generator, blocks: np.ndarray | None, size: int) -> np.ndarray:
    """(size,) a random order, within blocks of the same code where there are blocks."""
    if blocks is None:
        return rng.permutation(size)
    order, target = np.argsort(blocks + rng.random(size)), np.argsort(blocks, kind="stable")
    result = np.empty(size, dtype=int)
    result[target] = order
    return result


def is_constant_within(values: pd.Series, donors: np.ndarray) -> bool:
    """Whether a covariate has one value in each donor."""
    return bool(
        not pd.DataFrame({"donor": donors, "value": values.astype(str)})
        .drop_duplicates()["donor"]
        .duplicated()
        .any()
    )


def associate(
    scores: np.ndarray,
    values: pd.Series,
    donors: np.ndarray,
    *,
    is_number: bool,
    permutations: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, str]:
    """R2 and p-value per component (NaN where the covariate does not vary), and the unit that is permuted.

    scores: (samples, components); values: (samples,) without a missing one; donors: (samples,) labels.
    unit: `samples`, `donors`, or `samples within donors`.
    """
    vectors = basis(indicator(values, is_number=is_number))
    missing = np.full(scores.shape[1], np.nan)
    if not 0 < vectors.shape[1] < len(values) - 1:
        return missing, missing, ""
    r2 = r_squared(scores, vectors)
    repeats = len(np.unique(donors)) < len(donors)
    blocks, unit = None, "samples"
    if repeats and is_constant_within(values, donors):
        unit = "donors"
        scores = pd.DataFrame(scores).groupby(donors, sort=True).mean().to_numpy()
        values = values.groupby(donors, sort=True).first()
        vectors = basis(indicator(values, is_number=is_number))
        if not 0 < vectors.shape[1] < len(values) - 1:
            return r2, missing, unit
    elif repeats and values.name != "donor":
        blocks, unit = np.unique(donors, return_inverse=True)[1], "samples within donors"
    observed = r_squared(scores, vectors)
    drawn = (r_squared(scores, vectors[permute(rng, blocks, len(vectors))]) for _ in range(permutations))
    as_large = sum((r2 >= observed - 1e-12).astype(int) for r2 in drawn)
    return r2, (1 + as_large) / (1 + permutations), unit
