"""Read the shards of a cohort, load/shards/*.h5ad: raw counts of whole donors as CSR of int32.

obs has the labels and covariates of the cells, var the symbols of the genes, which all shards share.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from files._h5ad import read_column, read_columns, read_names, read_rows


class Shard(NamedTuple):
    """One shard in memory."""

    counts: sparse.csr_matrix  # (cells, genes) raw counts
    obs: pd.DataFrame  # labels and covariates, indexed by cell
    genes: pd.DataFrame  # gene_id, symbol


def read_shard(path: str) -> Shard:
    """A whole shard."""
    with h5py.File(path) as file:
        obs = read_columns(file["obs"]).set_axis(pd.Index(read_names(file["obs"]), dtype="str"))
        return Shard(sparse.csr_matrix(read_rows(file["X"], 0, len(obs))), obs, genes_of(file))


def read_genes(path: str) -> pd.DataFrame:
    """gene_id and symbol of every gene, in the order of the counts' columns."""
    with h5py.File(path) as file:
        return genes_of(file)


def genes_of(file: h5py.File) -> pd.DataFrame:
    """As `read_genes`, of an open h5ad."""
    var = file["var"]
    return pd.DataFrame({"gene_id": read_names(var), "symbol": read_column(var, "symbol")}, dtype="str")


def read_kept(
    shards: list[str], cells: pd.Index, *, block: int = 4096
) -> Iterator[tuple[np.ndarray, sparse.csr_array]]:
    """Counts of some cells in blocks of at most `block` cells, shard after shard.

    cells: their names. Yields (positions in `cells`, (cells, genes) counts).
    Raises ValueError if one of the cells is in no shard or in two.
    """
    times = np.zeros(len(cells), dtype=int)
    for path in shards:
        with h5py.File(path) as file:
            positions = cells.get_indexer(read_names(file["obs"]))
            for start in range(0, len(positions), block):
                here = positions[start : start + block]
                times[here[here >= 0]] += 1
                if (here >= 0).any():
                    rows = read_rows(file["X"], start, start + len(here))
                    yield here[here >= 0], rows[here >= 0]
    if (times != 1).any():
        raise ValueError(f"{(times != 1).sum()} of {len(cells)} cells are not in exactly one shard")


def read_in_order(
    shards: list[str], cells: pd.DataFrame, *, block: int = 16_384
) -> Iterator[sparse.csr_array]:
    """Counts of the kept cells in input order, from blocks of `block` cells of the input.

    shards: files in the order of their numbers; cells: cell, shard (its number as text, "" in an unusable
    cell), kept, in input order, which cells have within a shard too: every shard is read once, forwards.
    Raises ValueError where a shard has another cell.
    """
    number = pd.to_numeric(cells["shard"]).fillna(-1).to_numpy(dtype=int)  # -1: in no shard
    kept, names = cells["kept"].to_numpy(), cells["cell"].to_numpy(dtype=object)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(h5py.File(path)) for path in shards]
        done = np.zeros(len(files), dtype=int)
        for first in range(0, len(cells), block):
            here = slice(first, first + block)
            parts, places = [], []
            for shard, file in enumerate(files):
                own = np.flatnonzero(number[here] == shard) + first
                start, done[shard] = done[shard], done[shard] + len(own)
                if len(own) == 0:
                    continue
                if not np.array_equal(read_names(file["obs"], slice(start, done[shard])), names[own]):
                    raise ValueError(f"{shards[shard]}: its cells are not in the order of the input")
                parts.append(read_rows(file["X"], start, done[shard])[np.flatnonzero(kept[own])])
                places.append(own[kept[own]])
            if parts:
                yield sparse.csr_array(sparse.vstack(parts, format="csr"))[np.argsort(np.concatenate(places))]
