"""Log expression of sums of counts, and the genes that are counted often enough for it.

log2((count + prior_s) / (total_s + 2 prior_s) x 10^6), prior_s = 2 total_s / mean total: edgeR's cpm(log =
TRUE), in which a gene without counts has the same value at any depth up to rounding. Source: Robinson,
McCarthy & Smyth 2010, Bioinformatics 26:139.
"""

import numpy as np
from scipy import stats

PRIOR = 2.0  # counts that are added in a sample of mean total


def log_cpm(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """(samples, genes) log2 counts per million. totals: (samples,) counts of all genes, above 0."""
    prior = PRIOR * totals / totals.mean()
    return np.log2((counts + prior[:, None]) / (totals + 2 * prior)[:, None] * 1e6)


def choose_genes(counts: np.ndarray, *, min_count: float) -> np.ndarray:
    """(genes,) whether the median count over samples reaches min_count. counts: (samples, genes)."""
    return np.median(counts, axis=0) >= min_count


def counting_variance(counts: np.ndarray) -> np.ndarray:
    """Variance of log2 expression that Poisson counts have, about 1 / (count ln(2)^2); same shape."""
    return 1 / (counts + PRIOR) / np.log(2) ** 2


def reliable_genes(counts: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Columns of the n genes with the largest ratio of variance to that of counting, ascending.

    counts, values: (samples, genes), and their log2 expression.
    """
    ratio = values.var(axis=0) / counting_variance(counts).mean(axis=0)
    return np.sort(np.argsort(-ratio, kind="stable")[:n])


def equalise(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Deviations from the median sample, divided by what is expected of a sample of that depth.

    Expected is the root of a + b v, v the mean counting variance of the sample and a, b the robust line
    (Theil & Sen) of the samples' mean squared deviation on v. Without it, components point at the samples
    with the fewest cells. counts, values: (samples, genes), and their log2 expression.
    """
    deviation = values - np.median(values, axis=0)
    squared, counting = (deviation**2).mean(axis=1), counting_variance(counts).mean(axis=1)
    slope = max(stats.theilslopes(squared, counting).slope, 0) if np.ptp(counting) > 0 else 0
    floor = max(np.median(squared - slope * counting), 0)
    expected = np.sqrt(floor + slope * counting)
    return deviation / np.where(expected > 0, expected, 1)[:, None]
