"""Choose variable genes, normalise the kept cells and compute their principal components.

Variable genes: by the vote of the batches (_variable_genes.py). Components: counts per `target_sum` counts of
all genes, natural log(1 + x), variable genes, centred, not scaled; the exact eigenvectors of the covariance,
each with its largest loading positive.

Own sums instead of scanpy's calls because those need the whole matrix: three passes over the shards hold a
block of cells, per-batch sums, and at the end the variable genes alone (sparse float32). Nothing is drawn at
random and cells are in the order of cells.parquet: the number of shards changes nothing.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import scipy.sparse as sp

from embedding._variable_genes import ALL_CELLS, Blocks, choose_variable_genes
from files import match_symbols, read_genes, read_kept, read_species, write_tsv
from job import InputError, Progress, announce, conclude, job, warn


def read_blocks(progress: Progress, shards: list[str], kept: pd.Index) -> Blocks:
    """The blocks of read_kept; a block's cells are added to the progress when the next one is asked for."""
    for block in read_kept(shards, kept):
        yield block
        progress.add(len(block[0]))


def match_nuisance(symbols: pd.Series, exclude: dict[str, dict[str, str]], species: str) -> pd.Series:
    """Name of the species' first pattern that matches the whole symbol in upper case, "" for none.

    Raises InputError if a pattern is not a regular expression.
    """
    kind = pd.Series("", index=symbols.index)
    for name, pattern in reversed(exclude[species].items()):
        kind[match_symbols(symbols, pattern, f"preprocess.exclude.{species}.{name}")] = name
    return kind


def warn_of(nuisance: pd.Series, exclude: dict[str, dict[str, str]], species: str) -> None:
    """Warn of patterns that match no gene. nuisance: as from `match_nuisance`."""
    for name in exclude[species]:
        if not nuisance.eq(name).any():
            what = f"no gene symbol matches pattern {name} of {species}, so it excludes none"
            warn("exclude_matches_nothing", what, setting=f"preprocess.exclude.{species}.{name}")


def log_normalise(counts: sp.csr_matrix, genes: np.ndarray, target_sum: float) -> sp.csr_matrix:
    """Natural log(1 + counts per target_sum counts of all genes) of some genes, as sparse float32.

    counts: (cells, all genes), no cell empty; genes: (all genes,) bool.
    """
    scale = target_sum / np.asarray(counts.sum(axis=1)).ravel()
    values = counts[:, genes].astype(np.float32)
    values.data = np.log1p(values.data * np.repeat(scale, np.diff(values.indptr)).astype(np.float32))
    return values


def compute_pca(values: list[sp.csr_matrix], n_comps: int) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
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
    genes: gene_id and symbol; exclude: patterns by species; voting: settings of `choose_variable_genes`. Rows
    of `pca` are in the order of cells.
    """
    nuisance = match_nuisance(genes["symbol"], exclude, species)
    warn_of(nuisance, exclude, species)
    measured, batches = choose_variable_genes(
        blocks,
        pd.Series(ALL_CELLS, cells.index) if batch == "none" else cells[batch].astype(str),
        nuisance.ne("").to_numpy(),
        **voting,
    )
    variable = measured["highly_variable"].to_numpy()
    positions, values = [], []
    for block, counts in blocks():
        positions.append(block)
        values.append(log_normalise(counts, variable, target_sum))
    announce(f"principal components of {len(cells):,} cells")
    scores, loadings, variance = compute_pca(values, n_comps)
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
