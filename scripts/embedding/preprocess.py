"""Vote for variable genes, normalise the kept cells and compute their principal components.

Variable genes: seurat_v3 (Stuart et al. 2019, Cell 177:1888; as scanpy 1.12's `highly_variable_genes`).
Per batch, log10 variance of the raw counts is regressed on log10 mean by loess; counts are standardised
with the fitted deviation and clipped at sqrt(cells); genes are ranked by the variance of the result, and
by their median rank over the batches that vote. Nuisance genes are measured but take no part in the vote.
Components: counts per `target_sum` counts of all genes, natural log(1 + x), variable genes, centred, not
scaled; the exact eigenvectors of the covariance, each with its largest loading positive.

Own sums instead of scanpy's calls because those need the whole matrix: three passes over the shards hold a
block of cells, per-batch sums, and at the end the variable genes alone (sparse float32). The sums are exact,
so that genes of equal mean stay equal in loess, which breaks ties by the last bit. Nothing is drawn at random
and cells are in the order of cells.parquet: the number of shards changes nothing.
"""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import pandas as pd
import scipy.sparse as sp
from skmisc.loess import loess

from files import match_symbols, read_genes, read_kept, read_species, write_tsv
from job import InputError, Progress, announce, conclude, job, warn

ALL_CELLS = "(all cells)"

Blocks = Iterable[tuple[np.ndarray, sp.csr_matrix]]


def read_blocks(progress: Progress, shards: list[str], kept: pd.Index) -> Blocks:
    """The blocks of read_kept; a block's cells are added to the progress when the next one is asked for."""
    for block in read_kept(shards, kept):
        yield block
        progress.add(len(block[0]))


def moments(
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


def fitted_deviation(mean: np.ndarray, variance: np.ndarray, span: float) -> np.ndarray:
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


def standardised_variance(
    blocks: Blocks, codes: np.ndarray, cells: np.ndarray, means: np.ndarray, deviations: np.ndarray
) -> np.ndarray:
    """Variance of standardised counts, clipped at sqrt(cells), per batch and gene; NaN without a deviation.

    codes: batch of each kept cell; cells: (batches, 1); means, deviations: (batches, genes).
    """
    clip = means + deviations * np.sqrt(cells)
    sums, squares = moments(blocks, codes, means.shape, clip)
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


def variable_genes(
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

    sums, squares = moments(blocks(), codes, (len(large) + 1, len(nuisance)))
    sums[-1], squares[-1] = sums.sum(axis=0), squares.sum(axis=0)  # from here the last row: all cells
    cells = np.append(batches.loc[large, "cells"], len(batch))[:, None]
    means = sums / cells
    variances = (squares - sums * means) / (cells - 1)
    deviations = np.full(means.shape, np.nan)
    for row in range(len(large)):
        deviations[row] = fitted_deviation(means[row], variances[row], span)
    voted = np.isfinite(deviations).all(axis=1)
    batches.loc[large[~voted[:-1]], "reason"] = "loess_singular"
    batches["voted"] = batches["reason"] == ""
    if not voted.any():
        deviations[-1] = fitted_deviation(means[-1], variances[-1], span)
        if not np.isfinite(deviations[-1]).all():
            raise InputError(f"preprocess.span: {span} gives {len(batch):,} cells no loess fit; raise it")
        voted[-1], codes = True, np.full(len(codes), len(large))
        batches.loc[len(batches)] = [ALL_CELLS, len(batch), "no_batch_could_vote", True]
    norm = standardised_variance(blocks(), codes, cells, means, deviations)[voted]
    measured = {"means": means[-1], "variances": variances[-1], "variances_norm": norm.mean(axis=0)}
    genes = pd.DataFrame(measured).join(vote(norm, ~nuisance & (variances[-1] > 0), n_top_genes))
    return genes, batches[["batch", "cells", "voted", "reason"]]


def nuisance_kind(symbols: pd.Series, exclude: dict[str, dict[str, str]], species: str) -> pd.Series:
    """Name of the species' first pattern that matches the whole symbol in upper case, "" for none.

    Raises InputError if a pattern is not a regular expression.
    """
    kind = pd.Series("", index=symbols.index)
    for name, pattern in reversed(exclude[species].items()):
        kind[match_symbols(symbols, pattern, f"preprocess.exclude.{species}.{name}")] = name
    return kind


def warn_of(nuisance: pd.Series, exclude: dict[str, dict[str, str]], species: str) -> None:
    """Warn of patterns that match no gene. nuisance: as from `nuisance_kind`."""
    for name in exclude[species]:
        if not nuisance.eq(name).any():
            what = f"no gene symbol matches pattern {name} of {species}, so it excludes none"
            warn("exclude_matches_nothing", what, setting=f"preprocess.exclude.{species}.{name}")


def log_normalised(counts: sp.csr_matrix, genes: np.ndarray, target_sum: float) -> sp.csr_matrix:
    """Natural log(1 + counts per target_sum counts of all genes) of some genes, as sparse float32.

    counts: (cells, all genes), no cell empty; genes: (all genes,) bool.
    """
    scale = target_sum / np.asarray(counts.sum(axis=1)).ravel()
    values = counts[:, genes].astype(np.float32)
    values.data = np.log1p(values.data * np.repeat(scale, np.diff(values.indptr)).astype(np.float32))
    return values


def pca(values: list[sp.csr_matrix], n_comps: int) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Exact principal components of the rows of all blocks, from their covariance.

    values: blocks of (cells, genes). Returns scores (cells, n_comps) float32; loadings (genes, n_comps), unit
    columns with a positive largest entry by size; a table of component, variance, share of all variance.
    Raises InputError if there are not n_comps components.
    """
    cells, genes = sum(block.shape[0] for block in values), values[0].shape[1]
    if n_comps > (most := min(cells - 1, genes)):
        raise InputError(
            f"preprocess.n_comps: {n_comps} components wanted, {cells:,} cells x {genes:,} variable genes "
            f"have {most}; lower preprocess.n_comps"
        )
    total, products = np.zeros(genes), np.zeros((genes, genes))
    for block in values:
        dense = block.toarray().astype(np.float64)  # half the time of a sparse product at 10 % non-zeros
        total += dense.sum(axis=0)
        products += dense.T @ dense
    mean = total / cells
    covariance = (products - cells * np.outer(mean, mean)) / (cells - 1)
    variances, loadings = np.linalg.eigh(covariance)
    variances, loadings = variances[: -n_comps - 1 : -1], loadings[:, : -n_comps - 1 : -1]
    loadings = loadings * np.sign(loadings[np.abs(loadings).argmax(axis=0), np.arange(n_comps)])
    scores = [(block @ loadings - mean @ loadings).astype(np.float32) for block in values]
    table = pd.DataFrame({"component": [f"PC{i + 1}" for i in range(n_comps)], "variance": variances})
    table["variance_ratio"] = table["variance"] / np.trace(covariance)
    return np.concatenate(scores), loadings, table


def preprocess(
    blocks: Callable[[], Blocks],
    cells: pd.DataFrame,
    genes: pd.DataFrame,
    *,
    target_sum: float,
    batch: str,
    exclude: dict[str, dict[str, str]],
    species: str,
    n_comps: int,
    **voting: float,
) -> dict[str, pd.DataFrame]:
    """Everything that this step writes, by name of the output.

    blocks: gives (positions in cells, counts) again at each call; cells: kept cells with their batches;
    genes: gene_id and symbol; exclude: patterns by species; voting: settings of `variable_genes`. Rows of
    `pca` are in the order of cells.
    """
    nuisance = nuisance_kind(genes["symbol"], exclude, species)
    warn_of(nuisance, exclude, species)
    measured, batches = variable_genes(
        blocks,
        pd.Series(ALL_CELLS, cells.index) if batch == "none" else cells[batch].astype(str),
        nuisance.ne("").to_numpy(),
        **voting,
    )
    variable = measured["highly_variable"].to_numpy()
    positions, values = [], []
    for block, counts in blocks():
        positions.append(block)
        values.append(log_normalised(counts, variable, target_sum))
    announce(f"principal components of {len(cells):,} cells")
    scores, loadings, variance = pca(values, n_comps)
    names = list(variance["component"])
    placed = pd.DataFrame(scores[np.argsort(np.concatenate(positions))], columns=names)
    placed.insert(0, "cell", cells["cell"].to_numpy())
    measured.insert(len(measured.columns) - 1, "nuisance", nuisance)
    return {
        "genes": genes.join(measured),
        "batches": batches,
        "pca": placed,
        "loadings": genes[variable].reset_index(drop=True).join(pd.DataFrame(loadings, columns=names)),
        "variance": variance,
    }


if __name__ == "__main__":
    with job(snakemake) as out:
        cells = pd.read_parquet(snakemake.input.cells).query("kept")
        if cells.empty:
            raise InputError("preprocess: no cell is kept; relax the limits of filter, qc or doublets")
        shards = snakemake.input.shards
        genes = read_genes(shards[0])
        progress = Progress(3 * len(cells), "cells of three passes")
        blocks = partial(read_blocks, progress, shards, pd.Index(cells["cell"]))
        species = read_species(snakemake.input.cohort)
        tables = preprocess(blocks, cells, genes, species=species, **snakemake.params)
        for name in ("genes", "pca", "loadings"):
            tables[name].to_parquet(getattr(out, name), index=False)
        for name in ("batches", "variance"):
            write_tsv(tables[name], getattr(out, name))
        share = tables["variance"]["variance_ratio"].sum()
        conclude(
            f"{len(cells):,} cells, {len(tables['loadings']):,} variable genes voted by "
            f"{tables['batches']['voted'].sum()} batches, {share:.1%} of variance in the components"
        )
