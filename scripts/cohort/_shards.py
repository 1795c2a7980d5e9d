"""Writing blocks of counts into shards: AnnData files (h5ad) with X as CSR of int32, filled block by block.

One pass over the input; cells keep its order within their shard. Every value is checked to be a non-negative
whole number before it is written; sums are int64, so exact.
"""

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from cohort._source import Source
from files import RowAppender, create_h5ad
from job import InputError, Progress

# 20,000 cells with 29 million values, seconds to write and to read, MB: none 0.6 0.6 230, lzf 1.3 0.9 120,
# gzip-1 2.3 1.2 64; shuffled lzf 1.0 0.6 53, shuffled gzip-1 1.4 1.0 43. Chunks four times as long: the same.
COMPRESSION = "lzf"
CACHE = 2**22  # bytes: room for the chunk that is being filled


def check_counts(block: csr_array, place: str, cells: np.ndarray, *, rounded: bool = False) -> csr_array:
    """The block as int32 without stored zeros, columns ascending. InputError for a value that is not a count.

    cells: names of the block's rows, for the message. rounded: a value with a fraction is rounded, half to
    even.
    """
    if rounded and not np.issubdtype(block.dtype, np.integer):
        block = csr_array((np.rint(block.data), block.indices, block.indptr), shape=block.shape)
    with np.errstate(
        invalid="ignore"
    ):  # NaN and what is beyond int32 differ after the cast, whatever it gives
        data = block.data.astype(np.int32)
    if len(data) and (data.min() < 0 or not np.array_equal(data, block.data)):
        where = np.flatnonzero((data < 0) | (data != block.data))[0]
        cell = cells[np.searchsorted(block.indptr, where, side="right") - 1]
        raise InputError(
            f"{place}: cell {cell!r} has {block.data[where]:g}, not a count; set load.counts to raw counts"
        )
    counts = csr_array((data, block.indices, block.indptr), shape=block.shape)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    return counts


def create_shard(path: str, obs: pd.DataFrame, var: pd.DataFrame) -> RowAppender:
    """An h5ad of these cells and genes, with an X to which rows of int32 counts are appended."""
    file = create_h5ad(path, obs, var, rdcc_nbytes=CACHE)
    shape = len(obs), len(var)
    return RowAppender(file, shape, values=np.int32, indices=np.int32, compression=COMPRESSION)


def write_shards(
    paths: list[str],
    sources: list[Source],
    genes: pd.DataFrame,
    obs: pd.DataFrame,
    shard: np.ndarray,
    *,
    block_values: int,
    rounded: bool = False,
) -> dict:
    """Read every count once and append each cell's row to its shard's file.

    genes: gene_id of the genes to keep. obs: labels of all input cells, indexed by their names. shard:
    (cells,) position in `paths`, -1 for unusable cells. Returns input_counts (sum of all counts of all
    cells), and of what was written the counts and the cells of each gene and the values (non-zeros) of each
    shard.
    """
    total, fractions, values = 0, 0, np.zeros(len(paths), dtype=np.int64)
    gene_counts, gene_cells = np.zeros((2, len(genes)), dtype=np.int64)
    var = genes[["symbol"]].astype(object).set_axis(pd.Index(genes["gene_id"], dtype=object))
    # After a failed write HDF5 may crash as it closes a file: they stay open then, and the job removes them.
    appenders = [create_shard(path, _select(obs, shard == number), var) for number, path in enumerate(paths)]
    first, progress = 0, Progress(len(obs), "cells")
    for source in sources:
        columns = source.columns[source.symbols.index.get_indexer(genes["gene_id"])]
        for block in source.blocks(block_values):
            here = slice(first, first + block.shape[0])
            fractions += int((block.data != np.rint(block.data)).sum()) if rounded else 0
            rows = check_counts(block, f"{source.name}: {source.place}", obs.index[here], rounded=rounded)
            total += int(rows.data.sum(dtype=np.int64))
            if not np.array_equal(columns, np.arange(rows.shape[1])):
                rows = rows[:, columns].sorted_indices()
            for number in np.unique(shard[here][shard[here] >= 0]):
                piece = rows[np.flatnonzero(shard[here] == number)]
                appenders[number].append(piece)
                values[number] += piece.nnz
                # float64 sums of a block are exact: below 2^53
                sums = np.bincount(piece.indices, weights=piece.data, minlength=len(genes))
                gene_counts += sums.astype(np.int64)
                gene_cells += np.bincount(piece.indices, minlength=len(genes))
            first = here.stop
            progress.add(block.shape[0])
    for appender in appenders:
        appender.finish()
        appender.file.close()
    return {
        "input_counts": total,
        "gene_counts": gene_counts,
        "gene_cells": gene_cells,
        "values": values.tolist(),
        "rounded": fractions,
    }


def _select(obs: pd.DataFrame, chosen: np.ndarray) -> pd.DataFrame:
    """The chosen cells with the categories that they have; text as objects, which every h5ad reader knows."""
    part = obs[chosen]
    used = {name: part[name].cat.remove_unused_categories() for name in part.select_dtypes("category")}
    return part.assign(**used).set_axis(part.index.astype(object))
