"""Choose variable genes by the vote of batches.

seurat_v3 (Stuart et al. 2019, Cell 177:1888), as in scanpy 1.12's `highly_variable_genes`: per batch, log10
variance of the raw counts is regressed on log10 mean by loess; counts are standardised with the fitted
deviation and clipped at sqrt(cells); genes are ranked by the variance of the result, and by their median rank
over the batches that vote. Nuisance genes are measured but take no part in the vote.

Sums are exact, so genes of equal mean stay equal in loess, which breaks ties by the last bit.
"""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import scipy.sparse as sp
from skmisc.loess import loess

from job import InputError

ALL_CELLS = "(all cells)"

Blocks = Iterable[tuple[np.ndarray, sp.csr_matrix]]  # positions among the kept cells, counts of all genes


def sum_moments(
    blocks: Blocks, codes: np.ndarray, shape: tuple[int, int], clip: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Sums and sums of squares of counts per batch and gene, as (batches, genes) exact floats.

    codes: batch of each kept cell; shape: (batches, genes); clip: (batches, genes) largest value of a count.
    """
    sums, squares = np.zeros(shape), np.zeros(shape)
    for positions, counts in blocks:
        batches = codes[positions]
        present, row = np.unique(batches, return_inverse=True)
        members = sp.csr_matrix((np.ones(len(row)), (row, np.arange(len(row)))))
        values = counts.astype(np.float64)
        if clip is not None:
            limits = clip[np.repeat(batches, np.diff(values.indptr)), values.indices]
            values.data = np.minimum(values.data, limits)
        sums[present] += (members @ values).toarray()
        squares[present] += (members @ values.power(2)).toarray()
    return sums, squares


def fit_deviation(mean: np.ndarray, variance: np.ndarray, span: float) -> np.ndarray:
    """Standard deviation that genes of this mean have, by loess; NaN where the fit is singular.

    mean, variance: (genes,) of counts; a constant gene gets 1.
    """
    varies = variance > 0
    if int(span * varies.sum()) < 3:  # with no gene in its window skmisc kills the process, not the fit
        return np.full(len(mean), np.nan)
    model = loess(np.log10(mean[varies]), np.log10(variance[varies]), span=span, degree=2)
    try:
        model.fit()
    except ValueError:  # a window with too few different means: cells too few or too shallow
        return np.full(len(mean), np.nan)
    deviation = np.ones(len(mean))
    deviation[varies] = np.sqrt(10**model.outputs.fitted_values)
    return deviation


def standardise_variance(
    blocks: Blocks, codes: np.ndarray, cells: np.ndarray, means: np.ndarray, deviations: np.ndarray
) -> np.ndarray:
    """Variance of standardised counts, clipped at sqrt(cells), per batch and gene; NaN without a deviation.

    codes: batch of each kept cell; cells: (batches, 1); means, deviations: (batches, genes).
    """
    clip = means + deviations * np.sqrt(cells)
    sums, squares = sum_moments(blocks, codes, means.shape, clip)
    return (cells * means**2 + squares - 2 * sums * means) / ((cells - 1) * deviations**2)


def vote(variances_norm: np.ndarray, eligible: np.ndarray, n_top_genes: int) -> pd.DataFrame:
    """Rank genes in each batch and choose those with the best median rank, as scanpy does.

    variances_norm: (batches, genes); eligible: (genes,) bool. Returns one row per gene: highly_variable_rank
    (median of the ranks below n_top_genes, from 0; NaN if there are none), highly_variable_nbatches and
    highly_variable. Ties go to the earlier gene; only eligible genes have a rank.
    Raises InputError if fewer than n_top_genes are eligible.
    """
    if eligible.sum() < n_top_genes:
        raise InputError(
            f"preprocess.n_top_genes: {n_top_genes:,} variable genes wanted, {eligible.sum():,} genes vary "
            "and are not excluded; lower preprocess.n_top_genes"
        )
    ranks = np.full(variances_norm.shape, n_top_genes)
    ranks[:, eligible] = np.argsort(np.argsort(-variances_norm[:, eligible], axis=1, kind="stable"), axis=1)
    top = np.ma.masked_greater_equal(ranks.astype(np.float32), n_top_genes)
    genes = pd.DataFrame(
        {
            "highly_variable_rank": np.ma.median(top, axis=0).filled(np.nan),
            "highly_variable_nbatches": (ranks < n_top_genes).sum(axis=0),
        }
    )
    best = genes[eligible].sort_values(list(genes), ascending=[True, False], na_position="last").index
    genes["highly_variable"] = genes.index.isin(best[:n_top_genes])
    return genes


def choose_variable_genes(
    blocks: Callable[[], Blocks],
    batch: pd.Series,
    nuisance: np.ndarray,
    *,
    min_cells_per_batch: int,
    n_top_genes: int,
    span: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Variable genes by the vote of the batches that are large enough, and who voted.

    blocks: gives the counts again at each call; batch: label of each kept cell; nuisance: (genes,) bool.
    Returns genes (means, variances: over all kept cells; variances_norm: mean over voting batches; the vote)
    and batches (batch, cells, voted, reason: too_few_cells, loess_singular). A single batch always votes; if
    no batch can, all cells vote as one, in a row of its own with the reason no_batch_could_vote.
    Raises InputError if too few genes can be chosen or all cells together have no loess fit.
    """
    batches = batch.value_counts().sort_index().rename_axis("batch").reset_index(name="cells")
    enough = (batches["cells"] >= max(min_cells_per_batch, 2)) | (len(batches) == 1)
    batches["reason"] = np.where(enough, "", "too_few_cells")
    large = batches.index[enough]
    code = pd.Series(len(large), index=batches["batch"])  # the last code: all the small batches
    code.iloc[large] = range(len(large))
    codes = code.loc[batch].to_numpy()

    sums, squares = sum_moments(blocks(), codes, (len(large) + 1, len(nuisance)))
    sums[-1], squares[-1] = sums.sum(axis=0), squares.sum(axis=0)  # from here the last row: all cells
    cells = np.append(batches.loc[large, "cells"], len(batch))[:, None]
    means = sums / cells
    variances = (squares - sums * means) / (cells - 1)
    deviations = np.full(means.shape, np.nan)
    for row in range(len(large)):
        deviations[row] = fit_deviation(means[row], variances[row], span)
    voted = np.isfinite(deviations).all(axis=1)
    batches.loc[large[~voted[:-1]], "reason"] = "loess_singular"
    batches["voted"] = batches["reason"] == ""
    if not voted.any():
        deviations[-1] = fit_deviation(means[-1], variances[-1], span)
        if not np.isfinite(deviations[-1]).all():
            raise InputError(f"preprocess.span: {span} gives {len(batch):,} cells no loess fit; raise it")
        voted[-1], codes = True, np.full(len(codes), len(large))
        batches.loc[len(batches)] = [ALL_CELLS, len(batch), "no_batch_could_vote", True]
    norm = standardise_variance(blocks(), codes, cells, means, deviations)[voted]
    measured = {"means": means[-1], "variances": variances[-1], "variances_norm": norm.mean(axis=0)}
    genes = pd.DataFrame(measured).join(vote(norm, ~nuisance & (variances[-1] > 0), n_top_genes))
    return genes, batches[["batch", "cells", "voted", "reason"]]
