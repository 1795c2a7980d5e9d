"""Which genes have enough counts to be tested: edgeR's filterByExpr for the tested term, or a share.

filterByExpr (Chen, Lun & Smyth 2016, F1000Research 5:1438; edgeR 3.40.2, to which a test holds it): counts
per million reach min_count per median library in at least as many samples as the smallest group has, for any
model matrix 1 / its largest leverage, of which beyond large_n only min_prop count; and all samples together
have min_total_count. No Python library of the lock has it.

The model matrix is the part of the design that the tested term belongs to (tested_part): a covariate or donor
that is adjusted for does not change in how many samples a gene has to be seen. So this is edgeR's rule for a
design without further terms, and that for groups where levels are tested beside others: 8 pairs of a design
with donors need 8 samples, where the leverage of all its columns would ask for 1.8. For a number, 1 / the
largest leverage of its straight line is a quarter of samples at even distances, and less where one sample is
far from the others.
"""

import numpy as np
import pandas as pd
from scipy import sparse

from donors._contrast import Contrast
from donors._formula import parse, variables_of

TOLERANCE = 1e-14  # edgeR's, of a number of samples and of a total
GENES = {"counts": int, "samples_with_count": int, "samples_needed": float, "threshold": float, "reason": str}


def judge_genes(
    counts: sparse.csr_array,
    matrix: np.ndarray,
    *,
    gene_filter: str,
    min_count: int,
    min_count_samples: float,
    min_total_count: int,
    large_n: int,
    min_prop: float,
) -> pd.DataFrame:
    """A row per gene: its counts, why it is not tested (reason, "" where it is), and by which numbers.

    counts: (samples, genes) raw counts of the samples used; matrix: their model matrix as far as it is about
    the tested term. gene_filter: share or filterByExpr. samples_with_count samples reach threshold, which is
    counts (share) or counts per million (filterByExpr); samples_needed may have a fraction.
    Reasons: no_counts, few_samples_with_count, few_counts_in_all (below min_total_count).
    """
    totals = np.asarray(counts.sum(axis=0)).ravel()
    if gene_filter == "share":
        reached, needed, threshold = counted(counts, min_count=min_count, min_count_samples=min_count_samples)
        enough = np.full(len(totals), True)
    else:
        genes = filter_by_expr(
            counts,
            matrix,
            min_count=min_count,
            min_total_count=min_total_count,
            large_n=large_n,
            min_prop=min_prop,
        )
        reached, needed = genes["samples_above"].to_numpy(), genes.attrs["samples_needed"]
        threshold, enough = genes.attrs["cpm_cutoff"], totals >= min_total_count - TOLERANCE
    seen = reached >= needed - TOLERANCE
    reason = np.select(
        [totals == 0, ~seen, ~enough], ["no_counts", "few_samples_with_count", "few_counts_in_all"], ""
    )
    columns = [totals, reached, needed, threshold, reason]
    return pd.DataFrame(dict(zip(GENES, columns, strict=True))).astype(GENES)


def counted(
    counts: sparse.csr_array, *, min_count: int, min_count_samples: float
) -> tuple[np.ndarray, int, int]:
    """(genes,) samples that reach the count, how many have to, and the count: min_count, at least 1.

    counts: (samples, genes) raw counts. Needed are min_count_samples x samples, rounded up, at least 1.
    """
    needed = max(1, int(np.ceil(np.round(min_count_samples * counts.shape[0], 9))))
    least = max(min_count, 1)
    return np.asarray(sparse.csr_array(counts >= least).sum(axis=0)).ravel(), needed, least


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

    counts: (samples, genes), a count in every sample; matrix: (samples, coefficients).
    attrs: effective_samples, samples_needed, median_library_size, cpm_cutoff, kept.
    """
    effective = 1 / largest_leverage(matrix)
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


def largest_leverage(matrix: np.ndarray) -> float:
    """The largest diagonal element of the hat matrix; columns may depend on each other."""
    basis, values, _ = np.linalg.svd(matrix, full_matrices=False)
    return float((basis[:, values > 1e-8 * values.max()] ** 2).sum(axis=1).max())


def tested_part(contrast: Contrast, terms: dict[str, list[str]]) -> list[str]:
    """Columns of the terms made of the tested variables and of those that are multiplied with them.

    terms: term of the design -> its columns. Of `~ condition * sex + age`, condition tested: intercept,
    condition, sex and their product.
    """
    names = {term: set(variables_of(parse(term, "design"))[0]) for term in terms}
    tested = set(contrast.tested)
    related = tested.union(*(name for name in names.values() if name & tested))
    return [column for term, columns in terms.items() if names[term] <= related for column in columns]
