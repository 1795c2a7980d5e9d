"""Sum the counts of kept cells per cell type and sample, and decide which cell types can be tested.

The sums are exact: int64 throughout (float32 loses counts above 2^24). Each shard is read once and multiplied
from the left by the indicator matrix (sums x cells) of its kept cells, the computation of
scanpy.get.aggregate(func="sum"), which is the oracle in the tests; calling it would cost every run the 7 s of
importing scanpy. Every sum is compared with the counts that `qc` found in its cells.

log_cells and log_depth are natural logarithms of the number of cells and of the counts of a sum;
pct_counts_mt is the percent of its counts in mitochondrial genes. A design can use them.
"""

import numpy as np
import pandas as pd
from scipy import sparse

from files import read_cell_types, read_shard, write_sums, write_tsv
from job import InputError, Progress, conclude, job


def name_sums(cells: pd.DataFrame, cell_types: pd.DataFrame) -> pd.DataFrame:
    """One row per cell type x sample that has a kept cell, by cell type id, then sample.

    cells: kept cells with sample, cell_type (label), total_counts and pct_counts_mt; cell_types: id, label.
    Returns cell_type (id), label, sample, cells, expected_counts (int64, the sum of total_counts) and
    pct_counts_mt (weighted by counts; 0 where there are none).
    """
    counts = cells["total_counts"].astype(np.int64)
    table = pd.DataFrame(
        {
            "label": cells["cell_type"].astype(str),
            "sample": cells["sample"].astype(str),
            "expected_counts": counts,
            "mt": cells["pct_counts_mt"].astype(float) * counts,
        }
    )
    grouped = table.groupby(["label", "sample"])
    sums = grouped.sum().assign(cells=grouped.size()).reset_index()
    sums.insert(0, "cell_type", sums["label"].map(cell_types.set_index("label")["id"]))
    sums["pct_counts_mt"] = sums.pop("mt") / sums["expected_counts"].clip(lower=1)
    return sums.sort_values(["cell_type", "sample"], ignore_index=True)


def row_of_cells(cells: pd.DataFrame, sums: pd.DataFrame) -> pd.Series:
    """The row of `sums` that each kept cell (index: its name) belongs to."""
    rows = pd.Series(sums.index, index=pd.MultiIndex.from_frame(sums[["label", "sample"]]))
    pairs = pd.MultiIndex.from_arrays([cells["cell_type"].astype(str), cells["sample"].astype(str)])
    return pd.Series(rows.loc[pairs].to_numpy(), index=cells["cell"].astype(str))


def sum_rows(counts: sparse.csr_matrix, rows: np.ndarray, size: int) -> sparse.csr_array:
    """Exact sums of the rows of a count matrix.

    counts: (cells, genes) integers; rows: (cells,) the sum that each cell belongs to, -1 for none.
    Returns (size, genes) CSR of int64 without stored zeros, columns ascending. Does not modify its input.
    """
    taken = np.flatnonzero(rows >= 0)
    ones = np.ones(len(taken), dtype=np.int64)
    indicator = sparse.csr_array((ones, (rows[taken], taken)), shape=(size, counts.shape[0]))
    total = sparse.csr_array(indicator @ counts)
    total.eliminate_zeros()
    total.sort_indices()
    return total


def sum_shards(shards: list[str], rows: pd.Series, size: int) -> tuple[sparse.csr_array, pd.DataFrame]:
    """Sum over all shards, one of them in memory at a time; also gene_id and symbol of the genes.

    rows: the sum of each kept cell, by cell name. Raises RuntimeError if a kept cell is in no shard, or genes
    differ between shards.
    """
    total, genes, found = sparse.csr_array((size, 0), dtype=np.int64), None, 0
    progress = Progress(len(rows), "cells summed")
    for path in shards:
        shard = read_shard(path)
        row = rows.reindex(shard.obs.index).fillna(-1).to_numpy(dtype=np.int64)
        part = sum_rows(shard.counts, row, size)
        if genes is None:
            genes, total = shard.genes, part
        elif not genes["gene_id"].equals(shard.genes["gene_id"]):
            raise RuntimeError(f"{path}: its genes are not those of {shards[0]}")
        else:
            total = total + part
        found += int((row >= 0).sum())
        progress.add(int((row >= 0).sum()))
    if found != len(rows):
        raise RuntimeError(f"{len(rows):,} cells are kept, {found:,} of them are in the shards")
    return total, genes


def describe_sums(
    sums: pd.DataFrame,
    counts: np.ndarray,
    samples: pd.DataFrame,
    covariates: list[str],
    *,
    min_cells: int,
    min_counts: int,
) -> pd.DataFrame:
    """Columns of every sum: what it is, the sample's covariates, its size, and whether it takes part.

    counts: (sums,) total counts of each sum; samples: load/samples.parquet with these covariates.
    Index "<cell type id>::<sample>". Reasons: too_few_cells, too_few_counts.
    Raises RuntimeError if the counts are not exactly those of the cells.
    """
    if not np.array_equal(counts, sums["expected_counts"]):
        worst = sums.loc[(counts != sums["expected_counts"].to_numpy()).argmax()]
        raise RuntimeError(f"sum of {worst['label']!r} in {worst['sample']!r} is not that of its cells")
    known = samples.assign(sample=samples["sample"].astype(str)).set_index("sample")
    table = sums[["cell_type", "label", "sample"]].join(known[["donor", "pool", *covariates]], on="sample")
    table["cells"] = sums["cells"].astype(np.int64)
    table["counts"] = counts
    table["log_cells"] = np.log(table["cells"])
    table["log_depth"] = np.log(table["counts"].clip(lower=1))
    table["pct_counts_mt"] = sums["pct_counts_mt"]
    short = [table["cells"] < min_cells, table["counts"] < min_counts]
    table["reason"] = np.select(short, ["too_few_cells", "too_few_counts"], "")
    table["used"] = table["reason"] == ""
    text = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    table = table.astype(dict.fromkeys(text, "category"))  # h5ad takes no missing text
    return table.set_index(pd.Index(sums["cell_type"] + "::" + sums["sample"], dtype=object))


def judge_cell_types(sums: pd.DataFrame, cell_types: pd.DataFrame, *, min_samples: int) -> pd.DataFrame:
    """Samples and cells that take part in each label of filter/cell_types.tsv, and whether it is tested.

    A type that `filter` dropped keeps that reason; too_few_samples: fewer than min_samples take part.
    """
    used = sums[sums["used"]].groupby("cell_type", observed=True)
    table = cell_types[["id", "label"]].copy()
    table["samples"] = table["id"].map(used.size()).fillna(0).astype(int)
    table["cells"] = table["id"].map(used["cells"].sum()).fillna(0).astype(int)
    enough = table["samples"] >= min_samples
    table["tested"] = cell_types["kept"] & enough
    table["reason"] = cell_types["reason"].where(
        ~cell_types["kept"], enough.map({True: "", False: "too_few_samples"})
    )
    return table


def summary(sums: pd.DataFrame, cell_types: pd.DataFrame) -> str:
    """`5,210 cells, 901,222 counts in 190 sums; 5 of 7 cell types tested (too_few_samples 2)`."""
    why = cell_types.loc[~cell_types["tested"], "reason"].value_counts().sort_index()
    reasons = "; ".join(f"{code} {number}" for code, number in why.items())
    tested = f"{cell_types['tested'].sum()} of {len(cell_types)} cell types tested"
    return (
        f"{sums['cells'].sum():,} cells, {sums['counts'].sum():,} counts in {len(sums):,} sums; "
        + tested
        + (f" ({reasons})" if reasons else "")
    )


if __name__ == "__main__":
    with job(snakemake) as out:
        files, params = snakemake.input, snakemake.params
        wanted = ["cell", "sample", "cell_type", "total_counts", "pct_counts_mt", "kept"]
        cells = pd.read_parquet(files.cells, columns=wanted, filters=[("kept", "==", True)])
        if cells.empty:
            raise InputError(
                "cells: none is kept; cells/attrition.tsv says why, relax filter, qc or doublets"
            )
        types = read_cell_types(files.cell_types)
        named = name_sums(cells, types)
        matrix, genes = sum_shards(list(files.shards), row_of_cells(cells, named), len(named))
        totals = np.asarray(matrix.sum(axis=1), dtype=np.int64)
        samples = pd.read_parquet(files.samples)
        limits = {"min_cells": params.min_cells, "min_counts": params.min_counts}
        obs = describe_sums(named, totals, samples, params.covariates, **limits)
        write_sums(out.sums, matrix, obs, genes)
        judged = judge_cell_types(obs, types, min_samples=params.min_samples)
        write_tsv(judged, out.cell_types)
        conclude(summary(obs, judged))
