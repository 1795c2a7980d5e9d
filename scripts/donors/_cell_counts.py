"""Binomial models of many cell types that share the variance between samples.

Of the n cells of a sample, k are of a type; E k = n p, logit p = x b. The log odds of samples vary around x b
with variance v, and with u in common to the samples of a block, so that for samples s and t of one block

    cov(k_s, k_t) = i_s i_t ([s = t] (1 / i_s + v) + u),    i = n p (1 - p).

A rare type has i v << 1 and the noise of counts; in a frequent one samples weigh the same. b solves
X' V^-1 (r + a) = 0 with r = (k - n p) / i, V = cov(r), and a = (1 - 2 p) diag(X (X' V^-1 X)^-1 X') / 2, which
removes the bias of order 1 / cells; it is finite where a group has no cell. v and u are those of all types,
by restricted maximum likelihood (REML) of r + a. The residual variance of a type, r' V^-1 r / df, is 1 if it
varies as the others do; it is at least the part of the noise of counts in V, as cells are drawn at random.

Sources: McCullagh & Nelder 1989, Generalized Linear Models, chapter 9 (quasi-likelihood); Liang & Zeger 1986,
Biometrika 73:13 (correlated samples); Firth 1993, Biometrika 80:27, and Kosmidis & Firth 2009, Biometrika
96:793 (bias); Harville 1977, JASA 72:320 (REML).
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from donors._gls import LinearFits

ROUNDS = 300
START = 0.1  # of v and u
LONGEST_STEP = 2.0  # of a log odds in one round
FIXED_ROUNDS = 3  # at first, with v and u of the start
TOLERANCE = 1e-6  # of log odds
VARIANCE_TOLERANCE = 1e-4  # of v and u, relative to the variance of the most precise sample


@dataclass(frozen=True)
class ShareFits:
    """Models of the shares of many cell types."""

    models: LinearFits  # coefficients in log odds, residual variances relative to V; the floor of these is
    # the part of the noise of counts in V, mean over samples
    within: float  # v, variance of log odds between samples
    between: float  # u, the variance that the samples of a block share
    converged: np.ndarray  # (types,)

    @property
    def correlation(self) -> float:
        """Of the log odds of two samples of a block, without the noise of counts."""
        return self.between / (self.within + self.between) if self.between else 0.0


class _Covariance:
    """V of each type: diagonal 1 / i + v, and u between the samples of a block."""

    def __init__(self, information: np.ndarray, codes: np.ndarray, within: float, between: float):
        self.codes, self.between = codes, between
        self.precision = 1 / (1 / information + within)
        ones = np.ones(len(codes))
        self.indicator = sparse.csr_array((ones, (codes, np.arange(len(codes)))))
        if between:
            self.shrink = between / (1 + between * self.sums(self.precision[..., None]))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(types, blocks, columns) sums over the samples of each block."""
        types, samples, columns = values.shape
        flat = np.moveaxis(values, 1, 0).reshape(samples, -1)
        return np.moveaxis((self.indicator @ flat).reshape(-1, types, columns), 0, 1)

    def solve(self, values: np.ndarray) -> np.ndarray:
        """V^-1 values, (types, samples, columns)."""
        weighted = self.precision[..., None] * values
        if not self.between:
            return weighted
        return weighted - self.precision[..., None] * (self.shrink * self.sums(weighted))[:, self.codes]

    def trace(self) -> float:
        """Sum of the traces of V^-1."""
        if not self.between:
            return self.precision.sum()
        return (self.precision - self.precision**2 * self.shrink[:, self.codes, 0]).sum()


def fit_shares(
    cells: np.ndarray, totals: np.ndarray, matrix: np.ndarray, block: np.ndarray | None = None
) -> ShareFits:
    """Fit each cell type.

    cells: (types, samples), each type with some cells, but not all; totals: (samples,) cells of all types;
    matrix: (samples, coefficients), full rank; block: (samples,) labels of samples that are correlated.
    Raises ValueError when the blocks are columns of the matrix.
    """
    types, samples = cells.shape
    codes = np.arange(samples) if block is None else np.unique(block, return_inverse=True)[1]
    repeats = codes.max() + 1 < samples
    odds = (cells.sum(axis=1) + 0.5) / (totals.sum() - cells.sum(axis=1) + 0.5)
    linear = np.repeat(np.log(odds)[:, None], samples, axis=1)
    variances = (START, START if repeats else 0.0)
    design = np.broadcast_to(matrix, (types, *matrix.shape))
    for place in range(ROUNDS):
        information, residuals, curvature = _linearise(cells, totals, linear)
        covariance = _Covariance(information, codes, *variances)
        solved = covariance.solve(design)
        unscaled = np.linalg.inv(matrix.T @ solved)
        leverages = ((matrix @ unscaled) * matrix).sum(axis=2)
        response = residuals + curvature * leverages / 2
        change = (unscaled @ (solved.mT @ response[..., None]))[..., 0] @ matrix.T
        longest = np.abs(change).max(axis=1, keepdims=True)
        if place < FIXED_ROUNDS:
            updated = variances
        else:
            updated = _update(variances, covariance, response, solved, unscaled)
        moved = np.abs(np.subtract(updated, variances)).max() * covariance.precision.max()
        if place > FIXED_ROUNDS and longest.max() < TOLERANCE and moved < VARIANCE_TOLERANCE:
            break
        linear = linear + change * np.minimum(1, LONGEST_STEP / np.maximum(longest, TOLERANCE))
        variances = updated
    of_type = (residuals * covariance.solve(residuals[..., None])[..., 0]).sum(axis=1)
    coefficients = np.linalg.lstsq(matrix, linear.T, rcond=None)[0].T
    df = samples - matrix.shape[1]
    floors = (covariance.precision / information).mean(axis=1)
    models = LinearFits(coefficients, unscaled, of_type / df, df, floors)
    return ShareFits(models, *variances, converged=longest[:, 0] < 100 * TOLERANCE)


def _linearise(cells, totals, linear) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """i, r and 1 - 2 p at these log odds, (types, samples) each."""
    share = 1 / (1 + np.exp(-linear))
    information = totals * share * (1 - share)
    return information, (cells - totals * share) / information, 1 - 2 * share


def _update(variances, covariance: _Covariance, response, solved, unscaled) -> tuple[float, float]:
    """The variances v and u after one step of REML: each times its observed over its expected square."""
    within, between = variances
    fitted = solved @ (unscaled @ (solved.mT @ response[..., None]))
    projected = (covariance.solve(response[..., None]) - fitted)[..., 0]
    expected = covariance.trace() - (unscaled * (solved.mT @ solved)).sum()
    updated = within * (projected**2).sum() / expected
    if not between:
        return updated, 0.0
    whole = covariance.sums(covariance.solve(np.ones_like(response)[..., None])).sum()
    of_blocks = covariance.sums(solved)
    expected = whole - (unscaled * (of_blocks.mT @ of_blocks)).sum()
    if expected < 1e-8 * whole:
        raise ValueError("the blocks are columns of the design")
    return updated, between * (covariance.sums(projected[..., None]) ** 2).sum() / expected


def expected_cells(
    cells: np.ndarray, totals: np.ndarray, matrix: np.ndarray, hypothesis: np.ndarray
) -> np.ndarray:
    """(types,) cells on the smaller side of the tested effects if a type has the same share in all samples.

    Arguments as of fit_shares; hypothesis: (effects, coefficients). The sides of an effect are the samples
    that raise its estimate and those that lower it: the level and the reference, or the samples above and
    below the mean of a number. Of a type with most of the cells, the others are counted.
    """
    share = cells.sum(axis=1) / totals.sum()
    influence = matrix @ np.linalg.solve(matrix.T @ (totals[:, None] * matrix), np.atleast_2d(hypothesis).T)
    influence = influence / np.abs(influence).max(axis=0)
    sides = [totals @ (sign * influence > TOLERANCE) for sign in (1, -1)]
    return np.minimum(share, 1 - share) * np.min(sides)
