"""A weight of each sample by the variance of its residuals over all genes, so that poor samples count less.

Gene g in sample j has variance s_g^2 / (u_gj w_j): u the weights by the trend of variances, w = exp(-v) that
of the sample, v of sum 0, so the weights have a geometric mean of 1. v maximises the restricted likelihood of
all genes, each with its own s_g^2, and of PRIOR genes more, in which every sample has the same variance: with
few genes, or samples that the design fits closely, weights stay near 1. The weighted fits have residuals r
and hat matrices H, h the diagonal. Twice the derivative is the sum over genes of u w r^2 / s^2 - (1 - h),
twice the expected information that of (I - H)^2, entry by entry, less what s^2 takes. Newton steps with these
(scoring) find the maximum.
Sources: Ritchie et al. 2006, BMC Bioinformatics 7:261 (weights of arrays); Smyth 2002, J Comput Graph Stat
11:836 (scoring); Liu et al. 2015, Nucleic Acids Research 43:e97 (with voom). R's limma has it as "reml".
"""

import numpy as np
from scipy.linalg import null_space

from donors._gls import groups, weight_models

PRIOR = 10.0  # genes
STEPS = 100
LARGEST = 2.0  # change of a log weight in one step
PRECISE = 1e-8


def sample_weights(y: np.ndarray, matrix: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(samples,) weights; 1 where the design leaves fewer than 2 residual degrees of freedom.

    y, weights: (samples, genes); matrix: (samples, coefficients), full rank. Raises RuntimeError when the
    steps do not end.
    """
    samples, columns = matrix.shape
    if samples - columns < 2:
        return np.ones(samples)
    basis, log_variance = null_space(np.ones((1, samples))), np.zeros(samples)
    for _ in range(STEPS):
        score, information = score_samples(y, matrix, weights, np.exp(-log_variance))
        step = basis @ np.linalg.solve(basis.T @ information @ basis, basis.T @ score)
        step *= min(1, LARGEST / max(np.abs(step).max(), PRECISE))
        log_variance += step
        if np.abs(step).max() < PRECISE:
            return np.exp(-log_variance)
    raise RuntimeError(f"weights of {samples} samples do not converge in {STEPS} steps")


def score_samples(
    y: np.ndarray, matrix: np.ndarray, weights: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Derivative, (samples,), and expected information, (samples, samples), both twice, at weights `own`."""
    samples, columns = matrix.shape
    score, information = PRIOR * (own - 1), PRIOR * np.eye(samples)
    for part in groups(y.shape[1], samples**2):
        own_y, own_x = weight_models(y[:, part], matrix, weights[:, part] * own[:, None])
        q = np.linalg.qr(np.moveaxis(own_x, 2, 0)).Q
        hat = q @ q.mT
        residuals = own_y.T - (hat @ own_y.T[..., None])[..., 0]
        variances = (residuals**2).sum(axis=1, keepdims=True) / (samples - columns)
        free = 1 - np.diagonal(hat, axis1=1, axis2=2)
        varies = variances[:, 0] > 1e-15  # a gene that the design fits exactly tells nothing
        score += (residuals[varies] ** 2 / variances[varies] - free[varies]).sum(axis=0)
        information += (hat**2).sum(axis=0) + np.diag((2 * free - 1).sum(axis=0))
        information -= free.T @ free / (samples - columns)
    return score, information
