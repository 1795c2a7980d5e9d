"""limma-voom: weights by a trend of variances and of samples, one correlation of the samples of a donor.

Counts K of gene i in sample j with library size L_j (size factor x geometric mean of the libraries) become
y = log2((K + 0.5) / (L + 1) x 10^6). A linear model per gene gives its residual standard deviation; the
lowess curve of its square root against the mean log2 count is the trend, and y has the weight trend^-4 at the
log2 count that the model fits to it. The samples of a donor share one correlation (_gls.py). Weights and
correlation depend on each other, so both are found twice. Weights of samples (_sample_weights.py) multiply
those of the trend; they do not know the correlation, as in limma. The variances are moderated, the test is t
or F.
Sources: Law et al. 2014, Genome Biology 15:R29 (voom); Smyth, Michaud & Scott 2005, Bioinformatics 21:2067
(correlation); Smyth 2004, SAGMB 3:3 (moderation). Held to R's limma by tests/unit/donors/test_voom.py.
"""

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.nonparametric.smoothers_lowess import lowess

from donors._design import Design
from donors._gls import LinearFits, common_correlation, fit_models, test_models
from donors._sample_weights import sample_weights
from donors._size_factors import library_sizes, size_factors

SPAN = 0.5  # of the lowess curve
ROUNDS = 2  # of weights and correlation


def log_cpm(counts: np.ndarray, libraries: np.ndarray) -> np.ndarray:
    """(samples, genes) log2 counts per million with 0.5 added to the count and 1 to the library."""
    return np.log2((counts + 0.5) / (libraries + 1)[:, None] * 1e6)


def voom_weights(y: np.ndarray, libraries: np.ndarray, matrix: np.ndarray, fits: LinearFits) -> np.ndarray:
    """(samples, genes) weights by the trend of the residual standard deviations of `fits`."""
    to_count = np.log2(libraries + 1) - np.log2(1e6)
    means = y.mean(axis=0) + to_count.mean()
    roots = fits.variances**0.25
    curve = lowess(roots, means, frac=SPAN, it=3, delta=0.01 * np.ptp(means))
    fitted = matrix @ fits.coefficients.T + to_count[:, None]
    where, first = np.unique(curve[:, 0], return_index=True)
    return 1 / np.interp(fitted, where, curve[first, 1]) ** 4


def fit_voom(
    counts: np.ndarray,
    libraries: np.ndarray,
    matrix: np.ndarray,
    block: np.ndarray,
    *,
    weigh_samples: bool = False,
) -> tuple[LinearFits, float, np.ndarray]:
    """Models of all genes, the correlation within blocks, and the weights of samples; two rounds.

    counts: (samples, genes); libraries: (samples,); matrix: (samples, coefficients); block: (samples,).
    Weights of samples are 1 unless they are asked for; trend and samples are weighed in turns, twice a round.
    """
    y, correlation = log_cpm(counts, libraries), 0.0
    for _ in range(ROUNDS):
        own = np.ones(len(y))
        for _ in range(ROUNDS if weigh_samples else 1):
            known = np.broadcast_to(own[:, None], y.shape)
            fits = fit_models(y, matrix, weights=known, block=block, correlation=correlation)
            trend = voom_weights(y, libraries, matrix, fits)
            own = sample_weights(y, matrix, trend) if weigh_samples else own
        weights = trend * own[:, None]
        correlation = common_correlation(y, matrix, block, weights=weights)
    fits = fit_models(y, matrix, weights=weights, block=block, correlation=correlation)
    return fits, correlation, own


def fit(
    counts: pd.DataFrame, design: Design, *, block: bool, weigh_samples: bool
) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Table of genes, size_factor and sample_weight of the samples, and what was chosen: as _deseq2.fit.

    counts: samples x genes, a count in every gene; design: one that can be fitted; block: the samples of
    a donor are correlated. What a model of log counts has not, such as dispersions, is missing.
    """
    values = counts.to_numpy(dtype=float)
    factors, method = size_factors(values)
    libraries = library_sizes(values, factors)
    matrix = design.matrix.to_numpy()
    donors = design.donors.to_numpy() if block else np.arange(len(values))
    fits, correlation, own = fit_voom(values, libraries, matrix, donors, weigh_samples=weigh_samples)
    tests = test_models(fits, design.hypothesis)
    term = [place for place, name in enumerate(design.matrix) if name in design.term]
    normalised = values / factors[:, None]
    genes = pd.DataFrame(
        {
            "baseMean": normalised.mean(axis=0),
            "log2FoldChange": np.nan if design.joint else tests.effects,
            "lfcSE": np.nan if design.joint else tests.se,
            "stat": tests.f if design.joint else tests.t,
            "pvalue": tests.pvalues,
            "padj": stats.false_discovery_control(tests.pvalues),
            "df": len(design.hypothesis),
            "log2Range": np.ptp(matrix[:, term] @ fits.coefficients[:, term].T, axis=0),
            "converged": True,
        },
        index=counts.columns,
    )
    numbers = ["log2FoldChange_shrunk", "lfcSE_shrunk", "dispersion", "dispersion_gene", "dispersion_trend"]
    genes[[*numbers, "dispersion_map"]] = np.nan
    genes[["dispersion_searched", "replaced", "outlier"]] = False
    chosen = {"size_factors": method, "trend": "voom", "shrinkage": "not shrunk: limma-voom"}
    chosen |= {"filter_threshold": np.nan, "block_correlation": correlation if block else np.nan}
    samples = {"size_factor": factors, "sample_weight": own if weigh_samples else np.nan}
    return genes, pd.DataFrame(samples, index=counts.index), chosen
