"""Read the sums of cell types from pseudobulk/sums.h5ad.

By h5py and only the rows wanted: importing anndata would cost each of many short jobs seconds.
"""

from collections.abc import Iterable, Iterator

import h5py
import numpy as np
import pandas as pd
from scipy.sparse import csr_array


def read_column(table: h5py.Group, name: str) -> np.ndarray:
    """One column of an obs or var table that anndata wrote: numbers as they are, labels as str.

    A missing label is "".
    """
    item = table[name]
    if isinstance(item, h5py.Dataset):
        return item.asstr()[:] if h5py.check_string_dtype(item.dtype) else item[:]
    if item.attrs["encoding-type"] == "categorical":
        return np.append(item["categories"].asstr()[:], "")[item["codes"][:]]  # code -1: missing
    if item.attrs["encoding-type"] == "nullable-string-array":
        return np.where(item["mask"][:], "", item["values"].asstr()[:])
    raise ValueError(f"{table.file.filename}: {item.name} is a {item.attrs['encoding-type']}, not read here")


def read_obs(path: str) -> pd.DataFrame:
    """The obs table of the sums of all cell types, without the counts."""
    with h5py.File(path) as file:
        return obs_table(file["obs"])


def obs_table(obs: h5py.Group) -> pd.DataFrame:
    """All columns of an obs table, rows numbered from 0."""
    return pd.DataFrame({name: read_column(obs, name) for name in obs.attrs["column-order"]})


def read_types(
    path: str, cell_types: Iterable[str]
) -> Iterator[tuple[csr_array, pd.DataFrame, pd.DataFrame]]:
    """Rows of each cell type in pseudobulk/sums.h5ad in turn, the counts of one type in memory at a time.

    Yields counts (samples, genes), obs in the same order, and genes (gene_id, symbol).
    Raises ValueError unless the rows of a type are contiguous, as pseudobulk writes them.
    """
    with h5py.File(path) as file:
        obs, var, x = file["obs"], file["var"], file["X"]
        table = obs_table(obs)
        genes = pd.DataFrame(
            {"gene_id": read_column(var, var.attrs["_index"]), "symbol": read_column(var, "symbol")}
        )
        for cell_type in cell_types:
            rows = np.flatnonzero(table["cell_type"] == cell_type)
            start, stop = (rows[0], rows[-1] + 1) if len(rows) else (0, 0)
            if stop - start != len(rows):
                raise ValueError(f"{path}: the rows of {cell_type} are not contiguous")
            indptr = x["indptr"][start : stop + 1]
            stored = slice(indptr[0], indptr[-1])
            parts = x["data"][stored], x["indices"][stored], indptr - indptr[0]
            counts = csr_array(parts, shape=(stop - start, len(genes)))
            yield counts, table.iloc[start:stop].reset_index(drop=True), genes
