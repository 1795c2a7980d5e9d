"""The sums of cell types, pseudobulk/sums.h5ad: exact counts, a row per cell type and sample, types in turn.

Only the rows wanted are read: the counts of all types may not fit into memory together.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from files._h5ad import read_columns, read_rows
from files._shards import genes_of


def write_sums(path: str, counts: sparse.csr_array, obs: pd.DataFrame, genes: pd.DataFrame) -> None:
    """Write the sums of all cell types, those of a type below each other.

    counts: (sums, genes) int64; obs: what each sum is; genes: gene_id, symbol.
    """
    import anndata as ad

    sums = ad.AnnData(X=sparse.csr_matrix(counts), obs=obs, var=genes.set_index("gene_id"))
    sums.write_h5ad(Path(path), compression="lzf")


def read_obs(path: str) -> pd.DataFrame:
    """The obs table of the sums of all cell types, without the counts."""
    with h5py.File(path) as file:
        return read_columns(file["obs"])


def read_types(
    path: str, cell_types: Iterable[str]
) -> Iterator[tuple[sparse.csr_array, pd.DataFrame, pd.DataFrame]]:
    """Rows of each cell type in pseudobulk/sums.h5ad in turn, the counts of one type in memory at a time.

    Yields counts (samples, genes), obs in the same order, and genes (gene_id, symbol).
    Raises ValueError unless the rows of a type are contiguous, as pseudobulk writes them.
    """
    with h5py.File(path) as file:
        table, genes = read_columns(file["obs"]), genes_of(file)
        for cell_type in cell_types:
            rows = np.flatnonzero(table["cell_type"] == cell_type)
            start, stop = (rows[0], rows[-1] + 1) if len(rows) else (0, 0)
            if stop - start != len(rows):
                raise ValueError(f"{path}: the rows of {cell_type} are not contiguous")
            yield (
                read_rows(file["X"], start, stop),
                table.iloc[start:stop].reset_index(drop=True),
                genes,
            )
