"""Size factors by the median of ratios (Anders & Huber 2010, Genome Biology 11:R106, eq. 5)."""

import numpy as np


def choose_method(counts: np.ndarray) -> str:
    """`ratio`, or `poscounts` when every gene has a zero in some sample. counts: (samples, genes)."""
    return "poscounts" if (counts == 0).any(axis=0).all() else "ratio"


def size_factors(counts: np.ndarray) -> tuple[np.ndarray, str]:
    """(samples,) factors, unitless, and the method; normalised = counts / factor.

    counts: (samples, genes). ratio: genes without a zero. poscounts: geometric means over the samples of
    log(count) with 0 for a count of 0, ratios of the counts above 0, factors with geometric mean 1.
    """
    method = choose_method(counts)
    if method == "ratio":
        logs = np.log(counts[:, (counts > 0).all(axis=0)])
        return np.exp(np.median(logs - logs.mean(axis=0), axis=1)), method
    logs = np.log(np.where(counts > 0, counts, 1))
    ratios = np.where(counts > 0, logs - logs.mean(axis=0), np.nan)
    centred = np.nanmedian(ratios, axis=1)
    return np.exp(centred - centred.mean()), method


def genes_under(counts: np.ndarray, method: str) -> int:
    """Number of genes that a size factor is the median of; of poscounts the fewest of a sample.

    counts: (samples, genes).
    """
    counted = counts > 0
    return int(counted.all(axis=0).sum() if method == "ratio" else counted.sum(axis=1).min())


def library_sizes(counts: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """(samples,) sizes proportional to the factors, with the geometric mean of the sums of counts."""
    totals = np.log(counts.sum(axis=1))
    return factors * np.exp(totals.mean() - np.log(factors).mean())
