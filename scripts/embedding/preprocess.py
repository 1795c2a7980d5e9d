"""Select variable genes, normalise the kept cells and compute their principal components.

Variable genes (`_variable_genes.py`): seurat_v3. Components: x = ln(1 + target_sum * count / counts of the
cell) of the variable genes, centred, not scaled; exact eigenvectors of the covariance, each with its largest
loading positive.

scanpy's functions need the whole matrix in memory. Here three passes over the shards hold a block of cells,
sums per batch, and at the end the variable genes alone (sparse float32). Nothing is random, and cells are in
the order of cells.parquet: the number of shards does not change the result.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from embedding._variable_genes import ALL_CELLS, Blocks, variable_genes
from job import InputError, Progress, announce, job

BLOCK = 4096  # cells in memory at a time: 100 MB of dense float64 at 3,000 variable genes


def kept_counts(shards: list[str], kept: pd.Index) -> Iterator[tuple[np.ndarray, sp.csr_matrix]]:
    """Counts of the kept cells in blocks of cells, shard by shard.

    kept: ids of kept cells. Yields (positions in `kept`, (cells, genes) counts).
    Raises ValueError unless each kept cell is in exactly one shard.
    """
    times = np.zeros(len(kept), dtype=int)
    for path in shards:
        shard = ad.read_h5ad(path, backed="r")
        positions = kept.get_indexer(shard.obs_names)
        for start in range(0, shard.n_obs, BLOCK):
            block = positions[start : start + BLOCK]
            times[block[block >= 0]] += 1
            if (block >= 0).any():
                yield block[block >= 0], shard.X[start : start + BLOCK][block >= 0]
        shard.file.close()
    if (times != 1).any():
        raise ValueError(f"{(times != 1).sum()} of {len(kept)} kept cells are not in exactly one shard")


def track_blocks(progress: Progress, shards: list[str], kept: pd.Index) -> Blocks:
    """Yield the blocks of kept_counts and count their cells when the next block is requested."""
    for block in kept_counts(shards, kept):
        yield block
        progress.add(len(block[0]))


def gene_table(shard: str) -> pd.DataFrame:
    """gene_id and symbol of every gene, in the order of the counts' columns."""
    genes = ad.read_h5ad(shard, backed="r")
    genes.file.close()
    return genes.var["symbol"].astype(str).rename_axis("gene_id").reset_index()


def nuisance_kind(symbols: pd.Series, exclude: dict[str, str]) -> pd.Series:
    """Name of the first pattern that matches the whole symbol in upper case, "" for none.

    Raises InputError if a pattern is not a regular expression.
    """
    kind = pd.Series("", index=symbols.index)
    for name, pattern in reversed(exclude.items()):
        try:
            kind[symbols.str.upper().map(re.compile(pattern).fullmatch).notna()] = name
        except re.error as error:
            raise InputError(
                f"preprocess.exclude.{name}: {pattern!r} is not a regular expression: {error}"
            ) from None
    return kind


def log_normalised(counts: sp.csr_matrix, genes: np.ndarray, target_sum: float) -> sp.csr_matrix:
    """ln(1 + target_sum * count / counts of the cell) of the selected genes, as sparse float32.

    counts: (cells, all genes), each cell with a count; genes: (all genes,) bool.
    """
    scale = target_sum / np.asarray(counts.sum(axis=1)).ravel()
    values = counts[:, genes].astype(np.float32)
    values.data = np.log1p(values.data * np.repeat(scale, np.diff(values.indptr)).astype(np.float32))
    return values


def pca(values: list[sp.csr_matrix], n_comps: int) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Exact principal components of the rows of all blocks, from their covariance.

    values: blocks of (cells, genes). Returns scores (cells, n_comps) float32; loadings (genes, n_comps),
    columns of length 1 with the largest absolute entry positive; a table of component, variance and
    variance_ratio, its share of the total variance. Raises InputError if there are fewer components.
    """
    cells, genes = sum(block.shape[0] for block in values), values[0].shape[1]
    if n_comps > (limit := min(cells - 1, genes)):
        raise InputError(
            f"preprocess.n_comps: {cells:,} cells x {genes:,} variable genes have only {limit} components, "
            f"not {n_comps}; lower preprocess.n_comps"
        )
    total, products = np.zeros(genes), np.zeros((genes, genes))
    for block in values:
        dense = block.toarray().astype(np.float64)  # faster than a sparse product at 10 % non-zeros
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
    exclude: dict[str, str],
    n_comps: int,
    **voting: float,
) -> dict[str, pd.DataFrame]:
    """The tables of this step by the name of their output.

    blocks: each call yields all (positions in cells, counts); cells: kept cells with their batches; genes:
    gene_id and symbol; voting: settings of `variable_genes`. Rows of `pca` are in the order of cells.
    """
    nuisance = nuisance_kind(genes["symbol"], exclude)
    statistics, batches = variable_genes(
        blocks,
        pd.Series(ALL_CELLS, cells.index) if batch == "none" else cells[batch].astype(str),
        nuisance.ne("").to_numpy(),
        **voting,
    )
    variable = statistics["highly_variable"].to_numpy()
    positions, values = [], []
    for block, counts in blocks():
        positions.append(block)
        values.append(log_normalised(counts, variable, target_sum))
    announce(f"principal components of {len(cells):,} cells")
    scores, loadings, variance = pca(values, n_comps)
    names = list(variance["component"])
    components = pd.DataFrame(scores[np.argsort(np.concatenate(positions))], columns=names)
    components.insert(0, "cell", cells["cell"].to_numpy())
    statistics.insert(len(statistics.columns) - 1, "nuisance", nuisance)
    return {
        "genes": genes.join(statistics),
        "batches": batches,
        "pca": components,
        "loadings": genes[variable].reset_index(drop=True).join(pd.DataFrame(loadings, columns=names)),
        "variance": variance,
    }


if __name__ == "__main__":
    with job(snakemake) as out:
        cells = pd.read_parquet(snakemake.input.cells).query("kept")
        if cells.empty:
            raise InputError("preprocess: no cell was kept; relax the limits of filter, qc or doublets")
        shards = snakemake.input.shards
        genes = gene_table(shards[0])
        progress = Progress(3 * len(cells), "cells of three passes")
        blocks = partial(track_blocks, progress, shards, pd.Index(cells["cell"]))
        tables = preprocess(blocks, cells, genes, **snakemake.params)
        for name in ("genes", "pca", "loadings"):
            tables[name].to_parquet(getattr(out, name), index=False)
        for name in ("batches", "variance"):
            tables[name].to_csv(getattr(out, name), sep="\t", index=False)
        share = tables["variance"]["variance_ratio"].sum()
        print(
            f"preprocess: {len(cells):,} cells, {len(tables['loadings']):,} variable genes voted by "
            f"{tables['batches']['voted'].sum()} batches, {share:.1%} of variance in the components"
        )
