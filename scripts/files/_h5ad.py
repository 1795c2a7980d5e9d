"""AnnData on disk (h5ad): columns, names and rows of one file, read and written piece by piece.

By h5py where a file is read: importing anndata would cost each of many short jobs seconds.
Format: https://anndata.readthedocs.io/en/stable/fileformat-prose.html
"""

from collections.abc import Iterable

import h5py
import numpy as np
import pandas as pd
from scipy.sparse import csr_array

INT32_MAX = np.iinfo(np.int32).max
CHUNKS = {"chunks": (65_536,), "shuffle": True}  # of the values and indices of appended rows


def read_column(table: h5py.Group, name: str, rows: slice = slice(None)) -> np.ndarray:
    """One column of an obs or var table that anndata wrote: numbers as they are, labels as str.

    A missing label is "". Raises ValueError for an encoding that none of our files has.
    """
    item = table[name]
    if isinstance(item, h5py.Dataset):
        return item.asstr()[rows] if h5py.check_string_dtype(item.dtype) else item[rows]
    if item.attrs["encoding-type"] == "categorical":
        return np.append(item["categories"].asstr()[:], "")[item["codes"][rows]]  # code -1: missing
    if item.attrs["encoding-type"] == "nullable-string-array":
        return np.where(item["mask"][rows], "", item["values"].asstr()[rows])
    raise ValueError(f"{table.file.filename}: {item.name} is a {item.attrs['encoding-type']}, not read here")


def read_names(table: h5py.Group, rows: slice = slice(None)) -> np.ndarray:
    """The names of the rows of an obs or var table."""
    return read_column(table, table.attrs["_index"], rows)


def read_columns(table: h5py.Group) -> pd.DataFrame:
    """All columns of an obs or var table, rows numbered from 0."""
    return pd.DataFrame({name: read_column(table, name) for name in table.attrs["column-order"]})


def read_rows(x: h5py.Group, start: int, stop: int) -> csr_array:
    """Consecutive rows of a CSR matrix."""
    indptr = x["indptr"][start : stop + 1]
    stored = slice(int(indptr[0]), int(indptr[-1]))
    parts = x["data"][stored], x["indices"][stored], indptr - indptr[0]
    return csr_array(parts, shape=(stop - start, int(x.attrs["shape"][1])))


def count_rows(path: str) -> int:
    """Number of rows of an h5ad, without reading their names."""
    with h5py.File(path) as file:
        names = file["obs"][file["obs"].attrs["_index"]]
        return len(names["values"] if isinstance(names, h5py.Group) else names)


def count_values(path: str) -> int:
    """Number of stored values of X in an h5ad."""
    with h5py.File(path) as file:
        return len(file["X/data"])


def create_h5ad(
    path: str,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    *,
    uns: dict | None = None,
    obsm: Iterable[tuple[str, np.ndarray]] | None = None,
    **options: int,
) -> h5py.File:
    """A new h5ad without X, open; its rows can be appended by RowAppender.

    obsm: name and array of one embedding after the other, so that one is in memory at a time; options: of
    h5py.File.
    """
    from anndata.io import write_elem

    file = h5py.File(path, "w", **options)
    file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    write_elem(file, "obs", obs)
    write_elem(file, "var", var)
    if uns is not None:
        write_elem(file, "uns", uns)
    if obsm is not None:
        write_elem(file, "obsm", {})
        for name, values in obsm:
            write_elem(file["obsm"], name, values)
    return file


class RowAppender:
    """X of an open h5ad as CSR, to which blocks of rows are appended.

    Not anndata's `sparse_dataset(group).append`: it resizes the index pointers with each block, so they must
    be int64 and in chunks from the start. Here they are written once, in the smallest type that can count
    the values, as in a file that is written whole.
    """

    def __init__(
        self, file: h5py.File, shape: tuple[int, int], *, values: type, indices: type, **compression: object
    ):
        """shape: of X in the end; values, indices: their types; compression: options of create_dataset."""
        self.file, self.lengths = file, []
        self.x = file.create_group("X")
        self.x.attrs.update(
            {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(shape)}
        )
        for name, dtype in {"data": values, "indices": indices}.items():
            self.x.create_dataset(name, shape=(0,), maxshape=(None,), dtype=dtype, **CHUNKS, **compression)

    def append(self, rows: csr_array) -> None:
        """Add rows after those that are there."""
        end = len(self.x["data"])
        for name, values in (("data", rows.data), ("indices", rows.indices)):
            self.x[name].resize((end + len(values),))
            self.x[name][end:] = values
        self.lengths.append(np.diff(rows.indptr))

    def finish(self) -> None:
        """Write the index pointers: in the type of the indices, or int64 for more values than int32 has."""
        indptr = np.cumsum(np.concatenate([[0], *self.lengths]), dtype=np.int64)
        smallest = np.int32 if indptr[-1] <= INT32_MAX else np.int64
        self.x["indptr"] = indptr.astype(np.result_type(smallest, self.x["indices"].dtype))
