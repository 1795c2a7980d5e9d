"""Shrunken effects with apeglm's prior (Zhu, Ibrahim & Love 2019, Bioinformatics 35:2084), by PyDESeq2.

The fits are PyDESeq2's lfc_shrink_nbinom_glm. What is ours: the unit, the counts (those that the raw effects
were fitted to, outliers replaced) and the posterior standard deviation.
"""

import numpy as np
from pydeseq2.dds import DeseqDataSet
from scipy.optimize import brentq

from donors._design import Design

NO_SHRINKAGE = 15  # scale of the normal prior of the other coefficients, natural log (apeglm's)
PRIOR_VARIANCES = (1e-6, 400.0)  # bounds, natural log squared (apeglm's)


def why_not_shrunk(design: Design) -> str:
    """Why an effect cannot be shrunk, "" if it can: apeglm's prior is one of a single coefficient."""
    if design.joint:
        return "not shrunk: several effects are tested together"
    single = np.count_nonzero(design.vector) == 1
    return "" if single else f"not shrunk: {design.coefficient} is a combination of coefficients"


def shrunk(dataset: DeseqDataSet, design: Design, counts: np.ndarray, se: np.ndarray) -> np.ndarray:
    """(genes, 2) shrunken log2 effect per unit and its posterior standard deviation.

    counts: (samples, genes) that the coefficients were fitted to; se: (genes,) of raw effects, natural log.
    Maximum a posteriori under a Cauchy prior with a scale found from all genes. A number is shrunk per
    standard deviation over the samples used, so that the bounds of the prior do not depend on the unit; a
    level against its reference as it stands.
    """
    place = int(np.flatnonzero(design.vector)[0])
    matrix = design.matrix.to_numpy().copy()
    column = matrix[:, place]
    scale = column.std(ddof=1) if len(np.unique(column)) > 2 else 1.0
    matrix[:, place] = column / scale
    weight = design.vector[place]
    effects = dataset.varm["LFC"].iloc[:, place].to_numpy() * scale
    variance = prior_variance(effects, se / abs(weight) * scale)
    prior_scale = min(np.sqrt(variance), 1.0)
    size = 1 / dataset.var["dispersions"].to_numpy()
    offset = np.log(dataset.obs["size_factors"].to_numpy())
    coefficients, _, _ = dataset.inference.lfc_shrink_nbinom_glm(
        design_matrix=matrix,
        counts=counts,
        size=size,
        offset=offset,
        prior_no_shrink_scale=NO_SHRINKAGE,
        prior_scale=prior_scale,
        optimizer="L-BFGS-B",
        shrink_index=place,
    )
    sd = posterior_sd(matrix, counts, size, offset, coefficients, place=place, prior_scale=prior_scale)
    to_unit = weight / scale / np.log(2)
    return np.column_stack([coefficients[:, place] * to_unit, sd * abs(to_unit)])


def prior_variance(effects: np.ndarray, se: np.ndarray) -> float:
    """Variance of true effects, their estimates having the standard errors se (Zhu et al. 2019, natural log).

    The root of sum w (effects^2 - se^2 - a) over a, w = 1 / (a + se^2)^2, within PRIOR_VARIANCES.
    """
    squares, errors = effects**2, se**2

    def excess(a: float) -> float:
        weights = 1 / (a + errors) ** 2
        return np.sum(weights * (squares - errors)) / np.sum(weights) - a

    low, high = PRIOR_VARIANCES
    if excess(low) < 0:
        return low
    return high if excess(high) > 0 else brentq(excess, low, high)


def posterior_sd(matrix, counts, size, offset, coefficients, *, place: int, prior_scale: float) -> np.ndarray:
    """(genes,) Laplace approximation of the posterior standard deviation of one coefficient, natural log.

    The inverse Hessian at the maximum. PyDESeq2's own adds the prior's part to whole columns, not to the
    diagonal, so it is not used. Missing where the Hessian is not positive there.
    """
    mean = np.exp(coefficients @ matrix.T + offset).T
    weights = (counts + size) * size * mean / (size + mean) ** 2
    squares = coefficients[:, place] ** 2
    of_prior = 2 * (prior_scale**2 - squares) / (prior_scale**2 + squares) ** 2
    diagonal = np.full(matrix.shape[1], 1 / NO_SHRINKAGE**2)
    unit = np.eye(matrix.shape[1])[place]
    variance = np.empty(len(coefficients))
    for gene, weight in enumerate(weights.T):
        diagonal[place] = of_prior[gene]
        variance[gene] = np.linalg.solve((matrix.T * weight) @ matrix + np.diag(diagonal), unit)[place]
    return np.sqrt(np.where(variance > 0, variance, np.nan))
