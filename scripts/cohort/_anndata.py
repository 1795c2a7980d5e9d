"""AnnData stores: h5ad files since anndata 0.7, and zarr folders.

Counts are in X, raw.X or a layer. Files come without anndata's encoding attributes too, or with R's, which
are arrays of one value. Format: https://anndata.readthedocs.io/en/stable/fileformat-prose.html
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from anndata.io import read_elem

from cohort._blocks import is_array, open_hdf5, read_matrix, sample_rows
from cohort._choice import choose_counts
from cohort._entries import Entry
from cohort._features import GENES, choose_genes
from cohort._source import Source, Wanted, join_names, select_columns
from job import CorruptedInput, InputError

INDEX = ("_index", "index")  # names of the index in files that do not say it
GENOME = "genome"  # var column of 10x's genome


@contextlib.contextmanager
def open_zarr(path: Path) -> Iterator:
    """A zarr folder for reading. CorruptedInput when it is not one."""
    import zarr
    from zarr.errors import GroupNotFoundError

    try:
        yield zarr.open_group(path, mode="r")
    except GroupNotFoundError as error:
        raise CorruptedInput(f"{path}: not a zarr group; get the folder again") from error


def choose_opener(path: Path) -> Callable:
    """A context manager that opens the store at a path."""
    return partial(open_zarr if path.suffix == ".zarr" else open_hdf5, path)


def open_anndata(store, entry: Entry, wanted: Wanted, *, rounded: bool, cells: tuple | None = None) -> Source:
    """Labels and genes of an open store, and where its counts are. InputError for what cannot be used.

    cells: as from read_labels, for a store with labels of its cells elsewhere too.
    """
    path = entry.path
    if "obs" not in store or is_array(store["obs"]):
        raise InputError(
            f"{path}: written by anndata before 0.7; read it and write it again with a current anndata"
            if "obs" in store
            else f"{path}: has no obs, so it is not an AnnData store; correct cohort.path or the sheet"
        )
    places = find_places(store)
    barcodes, available, read = cells or read_labels(store["obs"])
    obs = select_columns(path, barcodes, available, read, entry.row, wanted)
    variables = {name: store["raw/var" if name == "raw.X" else "var"] for name in places}
    indexes = {name: read_labels(group)[0] for name, group in variables.items()}
    layouts = {name: find_layout(matrix, len(obs), len(indexes[name])) for name, matrix in places.items()}
    for name, (_, shape) in layouts.items():
        if list(shape) != [len(obs), len(indexes[name])]:
            raise CorruptedInput(
                f"{path}: {name} is {list(shape)} for {len(obs)} cells and {len(indexes[name])} genes; "
                "get the file again"
            )
    sample = {
        name: partial(sample_rows, matrix, layouts[name][0], len(obs), len(indexes[name]))
        for name, matrix in places.items()
    }
    place, also = choose_counts(path, places, indexes, sample, wanted.counts, rounded=rounded)
    ids, available, read = read_labels(variables[place])
    if wanted.symbols is not None and wanted.symbols not in available:
        has = join_names(available) or "none"
        raise InputError(
            f"load.symbols: {path} has no column {wanted.symbols!r} for its genes (it has: {has}); "
            "set load.symbols, to null when gene ids are symbols"
        )
    symbols = pd.Series(np.asarray(read(wanted.symbols) if wanted.symbols else ids, dtype=object), index=ids)
    kinds = {name: np.asarray(read(name), dtype=object) for name in GENES if name in available}
    genomes = np.asarray(read(GENOME), dtype=object).astype(str) if GENOME in available else None
    genes, columns, left_out = choose_genes(path, symbols, kinds, wanted.genome, genomes)
    key = f"{store.name.strip('/')}/{'raw/X' if place == 'raw.X' else place}".strip("/")
    blocks = partial(read_matrix, choose_opener(path), key, layouts[place][0], len(obs), len(ids))
    return Source(
        entry.name, entry.row is not None, obs, genes, columns, place, blocks, also=also, left_out=left_out
    )


def find_places(store) -> dict:
    """Matrices of cells x genes in order of preference, by the names that load.counts takes."""
    layers = sorted(
        store["layers"].keys() if "layers" in store else (),
        key=lambda name: ("count" not in name.lower(), name),
    )
    raw = store.get("raw")
    found = {"X": store.get("X"), "raw.X": None if raw is None or is_array(raw) else raw.get("X")}
    found |= {f"layers/{layer}": store["layers"][layer] for layer in layers}
    return {
        name: element
        for name, element in found.items()
        if element is not None and read_attribute(element, "encoding-type") != "null"
    }


def find_layout(matrix, n_rows: int, n_columns: int) -> tuple[str, list[int]]:
    """`dense`, `csr` or `csc`, and the shape that the matrix says it has."""
    if is_array(matrix):
        return "dense", list(matrix.shape)
    written = read_attribute(matrix, "encoding-type") or read_attribute(matrix, "h5sparse_format") or ""
    shape = read_attribute(matrix, "shape", read_attribute(matrix, "h5sparse_shape", [n_rows, n_columns]))
    kind = "csc" if "csc" in str(written) else "csr" if "csr" in str(written) else None
    lines = matrix["indptr"].shape[0] - 1
    if kind is None:
        kind = "csr" if lines == n_rows else "csc"
    return kind, [int(length) for length in shape]


def read_attribute(element, name: str, default=None):
    """An attribute of an element; of R's arrays of one text, the text."""
    value = element.attrs.get(name, default)
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    return value.decode() if isinstance(value, bytes) else value


def read_labels(group) -> tuple[pd.Index, list[str], Callable]:
    """Index, column names and a reader of one column of an obs or var group."""
    plain = isinstance(group.attrs.get("encoding-version"), str)
    if plain and group.attrs["encoding-version"] == "0.2.0" and isinstance(group.attrs["_index"], str):
        index = pd.Index(read_elem(group[group.attrs["_index"]])).astype(str)
        return index, list(group.attrs["column-order"]), lambda column: read_elem(group[column])
    if plain and "column-order" in group.attrs:  # anndata 0.7 kept categories apart from their column
        frame = read_elem(group)
        return frame.index.astype(str), list(frame), frame.__getitem__
    return _read_without_encoding(group)


def _read_without_encoding(group) -> tuple[pd.Index, list[str], Callable]:
    """The same where the group does not say what it holds: every array besides the index is a column."""
    names = [name for name in group if name != "__categories"]
    written = read_attribute(group, "_index")
    index = next((name for name in (written, *INDEX) if name in names), None)
    if index is None:
        raise InputError(
            f"{group.name.strip('/')} has no index ({join_names(names) or 'it is empty'}) and no encoding; "
            "read the file and write it again with a current anndata"
        )
    read = partial(_read_column, group)
    return pd.Index(read(index)).astype(str), [name for name in names if name != index], read


def _read_column(group, name: str) -> np.ndarray:
    """A column as values; codes of categories become labels, missing where the code is -1."""
    element, categories = group[name], None
    if not is_array(element):
        if "codes" not in element:
            return read_elem(element)
        element, categories = element["codes"], element["categories"]
    elif "__categories" in group and name in group["__categories"]:
        categories = group["__categories"][name]
    values = _read_text(element)
    if categories is None:
        return values
    return np.append(_read_text(categories).astype(object), None)[values]


def _read_text(array) -> np.ndarray:
    """An array; text as str."""
    values = array[:]
    if values.dtype.kind in "SO":
        return np.array(
            [value.decode() if isinstance(value, bytes) else value for value in values], dtype=object
        )
    return values
