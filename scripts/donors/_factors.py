"""Hidden factors of samples: what varies in many genes alike and is not in the design.

Log counts per million Y (samples, genes), divided by the trend of their standard deviations, are a model of
the design, plus Z G' of k factors Z with loadings G, plus noise. The design is split into the columns that a
test leaves in, and directions T of the tested term, orthonormal and orthogonal to these.
1. Residuals of the full design have no signal of the tested term. Their first k singular vectors U, scaled to
   the variance of a residual, are the factors as far as these are orthogonal to the design; G their loadings.
2. A factor that goes with the tested term adds G a' to what the term does in all genes, T' Y. a is the robust
   regression (Huber's) of T' Y on G over genes, both divided by the noise of the gene: genes that the term
   changes themselves are outliers there, if they are the minority. Z = U + T a.
Without step 2 a factor keeps what it shares with the tested term, and its false discoveries.
Source: Wang, Zhao, Hastie & Owen 2017, Annals of Statistics 45:1863 (confounder adjustment by robust
regression, CATE); residuals as in Risso et al. 2014, Nature Biotechnology 32:896 (RUVr).
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.linalg import orth

from donors._design import Design, confounding
from donors._gls import fit_models
from donors._size_factors import library_sizes, size_factors
from donors._voom import fit, log_cpm, voom_weights

MOST = 5  # factors


@dataclass(frozen=True)
class Parts:
    """Values of genes, split by a design."""

    tested: np.ndarray  # (samples, effects) orthonormal directions of the tested term
    along: np.ndarray  # (effects, genes) values along these
    residuals: np.ndarray  # (samples, genes)
    u: np.ndarray  # (samples, MOST) singular vectors of the residuals
    values: np.ndarray  # all singular values
    df: int  # residual degrees of freedom


def split_values(y: np.ndarray, matrix: np.ndarray, reduced: np.ndarray) -> Parts:
    """Values along the tested term, and residuals of the design.

    y: (samples, genes) with noise that is alike in genes; matrix, reduced: model matrices of full rank, with
    and without the tested term.
    """
    base = np.linalg.qr(reduced).Q
    rest = matrix - base @ (base.T @ matrix)
    tested = orth(rest)[:, : matrix.shape[1] - reduced.shape[1]]
    along = tested.T @ y
    residuals = y - base @ (base.T @ y) - tested @ along
    u, values, _ = np.linalg.svd(residuals, full_matrices=False)
    return Parts(tested, along, residuals, u[:, :MOST], values, len(y) - matrix.shape[1])


def find_factors(parts: Parts, number: int) -> np.ndarray:
    """(samples, number) hidden factors, of unit variance beside the design; loadings have sums above 0."""
    import statsmodels.api as sm

    factors = parts.u[:, :number] * np.sqrt(parts.df)
    if number == 0:
        return factors
    factors = factors * np.where((factors.T @ parts.residuals).sum(axis=1) < 0, -1, 1)
    loadings = parts.residuals.T @ factors / parts.df
    noise = np.sqrt(((parts.residuals - factors @ loadings.T) ** 2).sum(axis=0) / (parts.df - number))
    varies = noise > 0
    loadings = loadings[varies] / noise[varies, None]
    for direction, along in zip(parts.tested.T, parts.along[:, varies] / noise[varies], strict=True):
        robust = sm.RLM(along, loadings, M=sm.robust.norms.HuberT()).fit()
        factors = factors + np.outer(direction, robust.params)
    return factors


def scale_counts(counts: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(samples, genes) log2 counts per million divided by the trend of their standard deviations."""
    libraries = library_sizes(counts, size_factors(counts)[0])
    y = log_cpm(counts, libraries)
    weights = voom_weights(y, libraries, matrix, fit_models(y, matrix))
    return y * np.sqrt(weights.mean(axis=0))


def add_factors(design: Design, factors: np.ndarray) -> Design:
    """The design with a column factor1, factor2, ... for each hidden factor."""
    names = [f"factor{number + 1}" for number in range(factors.shape[1])]
    columns = pd.DataFrame(factors, index=design.matrix.index, columns=names)
    matrix = pd.concat([design.matrix, columns], axis=1)
    hypothesis = np.pad(design.hypothesis, ((0, 0), (0, len(names))))
    vif, correlate, correlation = confounding(matrix, hypothesis, list(design.term))
    confounded = {"vif": vif, "correlate": correlate, "correlation": correlation}
    alone = {"two_groups": design.two_groups and not names}
    return replace(design, matrix=matrix, hypothesis=hypothesis, **confounded, **alone)


def compare_numbers(
    counts: pd.DataFrame, design: Design, parts: Parts, chosen: int, *, fdr: float, **settings
) -> pd.DataFrame:
    """How the answer of limma-voom depends on the number of factors, 0 to MOST: a row of each.

    counts: samples x genes; design: without factors; chosen: the number that the contrast asks for; settings:
    of the test. A number that leaves fewer than 2 residual degrees of freedom has no row. correlation is
    Spearman's of t or F with those of the chosen number; variance is the part of the residuals' variance that
    the last factor explains.
    """
    numbers = range(min(MOST, parts.df - 2) + 1)
    designs = {number: add_factors(design, find_factors(parts, number)) for number in numbers}
    tables = {number: fit(counts, own, **settings)[0] for number, own in designs.items()}
    shares = parts.values**2 / (parts.values**2).sum()
    rows = []
    for number, table in tables.items():
        significant = table["padj"] < fdr
        rows.append(
            {
                "factors": number,
                "in_contrast": number == chosen,
                "significant": int(significant.sum()),
                "shared": int((significant & (tables[chosen]["padj"] < fdr)).sum()),
                "correlation": table["stat"].corr(tables[chosen]["stat"], method="spearman"),
                "vif": designs[number].vif,
                "variance": shares[number - 1] if number else np.nan,
            }
        )
    return pd.DataFrame(rows)
