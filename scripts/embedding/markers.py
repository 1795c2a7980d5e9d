"""Rank the marker genes of each cluster at every resolution, in one pass over the shards.

x = ln(1 + target_sum * count / counts of the cell). Welch's t-test of x between the cells of a cluster and
all other cells, Benjamini-Hochberg over all genes: scanpy's `rank_genes_groups(method="t-test")`, but
computed from sums over shards, because scanpy needs the whole matrix in memory. Cells of a donor are not
independent, and the clusters come from the same data: the score ranks genes, and the p-value is not evidence
that a cluster exists. A cluster with fewer than two cells, or with fewer than two other cells, is not tested.
It has one row of rank 0 with the reason too_few_cells or too_few_other_cells.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy import stats

from files import read_genes, read_kept
from job import conclude, job, track_progress


def log_normalise(
    shards: list[str], clustered: pd.Index, target_sum: float
) -> Iterator[tuple[np.ndarray, sp.csr_array]]:
    """Values of the clustered cells in blocks of cells, shard after shard.

    Yields (positions in `clustered`, (cells, genes) float64).
    Raises ValueError unless each clustered cell is in exactly one shard.
    """
    for positions, counts in read_kept(shards, clustered):
        values = counts.astype(np.float64)
        scale = target_sum / values.sum(axis=1)
        values.data = np.log1p(values.data * np.repeat(scale, np.diff(values.indptr)))
        yield positions, values


def accumulate(
    blocks: Iterable[tuple[np.ndarray, sp.csr_matrix]], partitions: list[np.ndarray], n_genes: int
) -> list[np.ndarray]:
    """Sum, sum of squares and number of cells with the gene: (3, clusters, genes) for each partition.

    partitions: (cells,) cluster numbers, one array per resolution.
    """
    totals = [np.zeros((3, codes.max() + 1, n_genes)) for codes in partitions]
    for positions, values in blocks:
        powers = [values, values.power(2), values.astype(bool).astype(np.float64)]
        for codes, total in zip(partitions, totals, strict=True):
            cells = (codes[positions], np.arange(len(positions)))
            members = sp.csr_matrix((np.ones(len(positions)), cells), shape=(total.shape[1], len(positions)))
            for k, power in enumerate(powers):
                total[k] += (members @ power).toarray()
    return totals


def compare(total: np.ndarray, sizes: np.ndarray, cluster: int) -> pd.DataFrame:
    """Welch's t-test of every gene, one cluster against all other cells, in the order of genes.

    total: from `accumulate`; sizes: (clusters,) cells. Returns score (t), log2_fold_change (of
    back-transformed means, as in scanpy), pvalue, padj (over these genes), pct_in, pct_out (percent of cells
    with the gene). A gene that is constant on both sides has score 0 and p-value 1.
    """
    inside, outside = total[:, cluster], total.sum(axis=1) - total[:, cluster]
    n = np.array([sizes[cluster], sizes.sum() - sizes[cluster]])
    means = [side[0] / cells for side, cells in zip((inside, outside), n, strict=True)]
    variances = [
        np.maximum(side[1] - side[0] * mean, 0) / (cells - 1)
        for side, mean, cells in zip((inside, outside), means, n, strict=True)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):  # genes without variance
        score, pvalue = stats.ttest_ind_from_stats(
            means[0], np.sqrt(variances[0]), n[0], means[1], np.sqrt(variances[1]), n[1], equal_var=False
        )
    pvalue = np.where(np.isnan(pvalue), 1, pvalue)
    return pd.DataFrame(
        {
            "score": np.where(np.isnan(score), 0, score),
            "log2_fold_change": np.log2((np.expm1(means[0]) + 1e-9) / (np.expm1(means[1]) + 1e-9)),
            "pvalue": pvalue,
            "padj": stats.false_discovery_control(pvalue),
            "pct_in": 100 * inside[2] / n[0],
            "pct_out": 100 * outside[2] / n[1],
        }
    )


def rank(total: np.ndarray, sizes: np.ndarray, genes: pd.DataFrame, *, n_genes: int) -> pd.DataFrame:
    """The n_genes genes with the highest score in each cluster, ranked from 1; ties in the order of genes.

    total: from `accumulate`; sizes: (clusters,) cells; genes: gene_id and symbol.
    """
    tables = []
    for cluster, size in enumerate(sizes):
        reason = "too_few_cells" if size < 2 else "too_few_other_cells" if sizes.sum() - size < 2 else ""
        if reason:
            best = pd.DataFrame({"gene_id": [""], "symbol": [""]})
        else:
            tested = pd.concat([genes, compare(total, sizes, cluster)], axis=1)
            best = tested.sort_values("score", ascending=False, kind="stable").head(n_genes)
        best.insert(0, "cluster", str(cluster))
        best.insert(1, "rank", [0] if reason else np.arange(1, len(best) + 1))
        tables.append(best.assign(reason=reason))
    columns = ["cluster", "rank", "gene_id", "symbol", "score", "log2_fold_change", "pvalue", "padj"]
    table = pd.concat(tables, ignore_index=True)
    return table.reindex(columns=[*columns, "pct_in", "pct_out", "reason"])


if __name__ == "__main__":
    with job(snakemake) as out:
        settings, shards = snakemake.params, snakemake.input.shards
        tables = [pd.read_parquet(path).set_index("cell") for path in snakemake.input.clusters]
        cells = tables[0].index
        partitions = [table.loc[cells, "cluster"].astype(int).to_numpy() for table in tables]
        genes = read_genes(shards[0])
        blocks = log_normalise(shards, cells, settings.target_sum)
        blocks = track_progress(blocks, len(cells), "cells", lambda block: len(block[0]))
        totals, counts = accumulate(blocks, partitions, len(genes)), []
        for path, codes, total in zip(out.markers, partitions, totals, strict=True):
            markers = rank(total, np.bincount(codes), genes, n_genes=settings.n_genes)
            markers.to_parquet(path, index=False)
            tested = markers.loc[markers["reason"] == "", "cluster"].nunique()
            counts.append(f"{tested} of {codes.max() + 1}")
        conclude(f"{', '.join(counts)} clusters tested on {len(cells):,} cells")
