"""Which genes have enough counts to be tested: a share of samples, or edgeR's filterByExpr.

filterByExpr without groups (Chen, Lun & Smyth 2016, F1000Research 5:1438; edgeR 3.40.2, to which a test holds
it): counts per million reach min_count per median library in at least as many samples as the smallest group
of the design would have, 1 / the largest leverage, of which beyond large_n only min_prop count; and all
samples together have min_total_count. No Python library of the lock has it.
"""

import numpy as np
import pandas as pd
from scipy import sparse

from donors._design import leverage

TOLERANCE = 1e-14  # edgeR's, of a number of samples and of a total


def keep_genes(
    counts: sparse.csr_array,
    matrix: np.ndarray,
    *,
    gene_filter: str,
    min_count: int,
    min_count_samples: float,
    min_total_count: int,
    large_n: int,
    min_prop: float,
) -> np.ndarray:
    """(genes,) bool: which genes are tested, by gene_filter: share or filterByExpr.

    counts: (samples, genes) raw counts of the samples used; matrix: their model matrix. A gene without any
    count is never kept.
    """
    if gene_filter == "share":
        return counted(counts, min_count=min_count, min_count_samples=min_count_samples)
    genes = filter_by_expr(
        counts,
        matrix,
        min_count=min_count,
        min_total_count=max(min_total_count, 1),
        large_n=large_n,
        min_prop=min_prop,
    )
    return genes["keep"].to_numpy()


def counted(counts: sparse.csr_array, *, min_count: int, min_count_samples: float) -> np.ndarray:
    """(genes,) bool: which genes reach min_count, at least 1, in enough samples.

    counts: (samples, genes) raw counts. Enough is min_count_samples x samples, rounded up, at least 1.
    """
    enough = max(1, int(np.ceil(np.round(min_count_samples * counts.shape[0], 9))))
    reached = sparse.csr_array(counts >= max(min_count, 1))
    return np.asarray(reached.sum(axis=0)).ravel() >= enough


def filter_by_expr(
    counts: sparse.csr_array,
    matrix: np.ndarray,
    *,
    min_count: int,
    min_total_count: int,
    large_n: int,
    min_prop: float,
) -> pd.DataFrame:
    """samples_above (the cutoff) and keep of each gene.

    counts: (samples, genes); matrix: (samples, coefficients), full rank, with intercept.
    attrs: effective_samples, samples_needed, median_library_size, cpm_cutoff, kept.
    """
    effective = 1 / leverage(matrix).max()
    needed = large_n + (effective - large_n) * min_prop if effective > large_n else effective
    library = np.asarray(counts.sum(axis=1)).ravel()
    cutoff = min_count / np.median(library) * 1e6
    per_million = sparse.csr_array(counts.multiply(1 / library[:, None])) * 1e6
    above = np.asarray((per_million >= max(cutoff, np.finfo(float).tiny)).sum(axis=0)).ravel()
    above = above if cutoff > 0 else np.full(counts.shape[1], counts.shape[0])
    enough = np.asarray(counts.sum(axis=0)).ravel() >= min_total_count - TOLERANCE
    keep = (above >= needed - TOLERANCE) & enough
    genes = pd.DataFrame({"samples_above": above, "keep": keep})
    genes.attrs = {
        "effective_samples": effective,
        "samples_needed": needed,
        "median_library_size": np.median(library),
        "cpm_cutoff": cutoff,
        "kept": int(keep.sum()),
    }
    return genes
