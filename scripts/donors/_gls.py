"""Linear models of many responses with a weight per value and one correlation within blocks.

Response y of a model (a gene, a cell type) has mean X b and covariance s^2 D^-1/2 R D^-1/2: D its weights, R
1 on the diagonal, `correlation` between two samples of one block, 0 elsewhere. With u = D^1/2 y and
U = D^1/2 X this is ordinary least squares of R^-1/2 u on R^-1/2 U. In a block of m samples R^-1/2 divides
the mean by sqrt(1 + (m - 1) correlation) and what is left by sqrt(1 - correlation).

The correlation is one for all models: each has its own by restricted maximum likelihood, and they are
averaged as atanh, 15 % trimmed at each end, since one model has too few samples to tell.
Source: Smyth, Michaud & Scott 2005, Bioinformatics 21:2067.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats

from donors._moderation import moderate

TRIM = 0.15  # of the correlations at each end
EDGE = 0.01  # a correlation stays this far from the bounds at which R is singular
VALUES = 2**20  # numbers in the arrays of a group of models that are worked on together


@dataclass(frozen=True)
class LinearFits:
    """Many linear models of one design."""

    coefficients: np.ndarray  # (models, columns)
    covariance: np.ndarray  # (models, columns, columns) of the coefficients, without the residual variance
    variances: np.ndarray  # (models,) residual
    df: int  # residual degrees of freedom of each
    floors: np.ndarray | None = None  # (models,) what a residual variance is at least, where that is known


@dataclass(frozen=True)
class Tests:
    """The moderated test of the same hypothesis in each model. NaN where several effects are tested."""

    effects: np.ndarray  # (models,)
    se: np.ndarray
    t: np.ndarray
    f: np.ndarray  # t^2 of one effect
    pvalues: np.ndarray
    df: float  # of t, and the second of f: residual and of the prior


def fit_models(
    y: np.ndarray,
    matrix: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    block: np.ndarray | None = None,
    correlation: float = 0.0,
) -> LinearFits:
    """Fit each column of y.

    y, weights: (samples, models), weights above 0; matrix: (samples, columns), full rank; block: (samples,)
    labels.
    """
    samples, columns = matrix.shape
    codes = np.arange(samples) if block is None else np.unique(block, return_inverse=True)[1]
    models = y.shape[1]
    coefficients, variances = np.empty((models, columns)), np.empty(models)
    covariance = np.empty((models, columns, columns))
    for part in groups(models, samples * columns):
        own_y, own_x = weight_models(y[:, part], matrix, None if weights is None else weights[:, part])
        own_y, own_x = (_whiten(values, codes, correlation) for values in (own_y, own_x))
        q, r = np.linalg.qr(np.moveaxis(own_x, 2, 0))
        own_y = own_y.T[..., None]
        solved = np.linalg.solve(r, q.mT @ own_y)
        residuals = own_y - np.moveaxis(own_x, 2, 0) @ solved
        inverse = np.linalg.inv(r)
        coefficients[part], covariance[part] = solved[..., 0], inverse @ inverse.mT
        variances[part] = (residuals[..., 0] ** 2).sum(axis=1) / (samples - columns)
    return LinearFits(coefficients, covariance, variances, samples - columns)


def test_models(fits: LinearFits, hypothesis: np.ndarray) -> Tests:
    """Moderated t or F of hypothesis @ coefficients = 0, (effects, columns), in each model.

    A residual variance below its floor is so by chance. One that chance leaves in 1 of 100 models counts for
    the prior instead of a smaller one.
    """
    number, models = len(hypothesis), len(fits.variances)
    floors = np.zeros(models) if fits.floors is None else fits.floors
    by_chance = floors * stats.chi2.ppf(0.01, fits.df) / fits.df
    variances, prior_df, _ = moderate(np.maximum(fits.variances, by_chance), fits.df)
    variances = np.maximum(variances, floors)
    df = min(fits.df + prior_df, fits.df * models)
    effects = fits.coefficients @ hypothesis.T
    covariance = hypothesis @ fits.covariance @ hypothesis.T
    solved = np.linalg.solve(covariance, effects[..., None])[..., 0]
    f = (effects * solved).sum(axis=1) / number / variances
    none = np.full(models, np.nan)
    se = np.sqrt(variances * covariance[:, 0, 0]) if number == 1 else none
    effect = effects[:, 0] if number == 1 else none
    pvalues = stats.f.sf(f, number, df) if np.isfinite(df) else stats.chi2.sf(f * number, number)
    return Tests(effect, se, effect / se, f, pvalues, float(df))


def common_correlation(
    y: np.ndarray, matrix: np.ndarray, block: np.ndarray, *, weights: np.ndarray | None = None
) -> float:
    """The correlation within blocks that all models share; 0 when no block has two samples.

    Raises ValueError when the blocks are all explained by the design.
    """
    codes, sizes = np.unique(block, return_inverse=True, return_counts=True)[1:]
    if sizes.max() == 1:
        return 0.0
    lowest, highest = 1 / (1 - sizes.max()) + EDGE, 1 - EDGE
    found = correlations(y, matrix, codes, weights=weights).clip(lowest, highest)
    return float(np.tanh(stats.trim_mean(np.arctanh(found), TRIM)))


def correlations(
    y: np.ndarray, matrix: np.ndarray, codes: np.ndarray, *, weights: np.ndarray | None = None
) -> np.ndarray:
    """(models,) correlation within blocks by restricted maximum likelihood.

    codes: (samples,) number of the block. u = D^1/2 y has covariance s^2 (I + ratio Z Z'), Z the indicator of
    blocks, so its residuals from U, along the eigenvectors of Z' (I - P) Z with eigenvalues d, have variances
    s^2 (1 + ratio d) and in all other directions s^2; correlation = ratio / (1 + ratio).
    """
    samples, models, blocks = len(y), y.shape[1], codes.max() + 1
    indicator = _indicator(codes)
    sizes = np.bincount(codes).astype(float)
    found = np.empty(models)
    for part in groups(models, max(samples * matrix.shape[1], blocks**2)):
        own_y, own_x = weight_models(y[:, part], matrix, None if weights is None else weights[:, part])
        q = np.linalg.qr(np.moveaxis(own_x, 2, 0)).Q
        residuals = own_y.T - (q @ (q.mT @ own_y.T[..., None]))[..., 0]
        of_blocks = np.stack([indicator.T @ each for each in q])
        d, vectors = np.linalg.eigh(np.diag(sizes) - of_blocks @ of_blocks.mT)
        informative = d > 1e-8 * sizes.max()
        if not informative.any():
            raise ValueError("the blocks are columns of the design")
        along = (vectors.mT @ (indicator.T @ residuals.T).T[..., None])[..., 0] ** 2
        squares = np.where(informative, along / np.where(informative, d, 1), 0)
        d = np.where(informative, d, 0)
        rest = (residuals**2).sum(axis=1) - squares.sum(axis=1)
        found[part] = _most_likely(d, squares, rest, samples - matrix.shape[1], int(sizes.max()))
    return found


def _most_likely(d, squares, rest, df: int, largest: int) -> np.ndarray:
    """(models,) correlation of the largest likelihood, by a grid and golden sections."""

    def deviance(correlation: np.ndarray) -> np.ndarray:
        scale = 1 + (correlation / (1 - correlation))[:, None] * d
        return df * np.log(rest + (squares / scale).sum(axis=1)) + np.log(scale).sum(axis=1)

    grid = np.linspace(1 / (1 - largest) + 1e-6, 1 - 1e-6, 80)
    heights = np.stack([deviance(np.full(len(d), value)) for value in grid])
    place = heights.argmin(axis=0)
    low, high = grid[np.maximum(place - 1, 0)], grid[np.minimum(place + 1, len(grid) - 1)]
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(45):
        one, other = high - golden * (high - low), low + golden * (high - low)
        left = deviance(one) < deviance(other)
        low, high = np.where(left, low, one), np.where(left, other, high)
    return (low + high) / 2


def weight_models(y, matrix, weights) -> tuple[np.ndarray, np.ndarray]:
    """D^1/2 y, (samples, models), and D^1/2 X of each model, (samples, columns, models)."""
    if weights is None:
        return y, np.broadcast_to(matrix[..., None], (*matrix.shape, y.shape[1]))
    root = np.sqrt(weights)
    return y * root, matrix[..., None] * root[:, None]


def _whiten(values: np.ndarray, codes: np.ndarray, correlation: float) -> np.ndarray:
    """R^-1/2 values, along the first axis."""
    if correlation == 0:
        return values
    flat = values.reshape(len(values), -1)
    indicator, sizes = _indicator(codes), np.bincount(codes)
    means = (indicator.T @ flat) / sizes[:, None]
    of_means = 1 / np.sqrt(1 + (sizes - 1) * correlation)
    spread = (flat - means[codes]) / np.sqrt(1 - correlation)
    return (spread + (means * of_means[:, None])[codes]).reshape(values.shape)


def _indicator(codes: np.ndarray) -> sparse.csr_array:
    """(samples, blocks) 1 where a sample is of a block."""
    rows = np.arange(len(codes))
    return sparse.csr_array((np.ones(len(codes)), (rows, codes)))


def groups(models: int, size: int):
    """Consecutive models that are computed together, with arrays of `size` numbers each."""
    step = max(1, VALUES // size)
    for start in range(0, models, step):
        yield slice(start, start + step)
