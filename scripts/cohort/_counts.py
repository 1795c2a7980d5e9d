"""Readers of the formats a cohort may come in: labels and genes first, the counts later in blocks of rows.

h5ad (counts in X, raw.X or a layer), 10x h5 (v2, v3), 10x matrix folder (v2, v3; gzip or not) and a TSV sheet
of these, with a column `path` and any columns that hold for all cells of a file.
Formats: https://anndata.readthedocs.io/en/stable/fileformat-prose.html and Cell Ranger's "Feature-barcode
matrices", https://www.10xgenomics.com/support/software/cell-ranger
"""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from scipy.sparse import csr_array

from cohort._blocks import hdf5, hdf5_blocks, in_row_order, matrix_market, matrix_market_shape
from files import read_tsv
from job import CorruptedInput, InputError

STRETCHES, VALUES = (
    64,
    1024,
)  # stretches of stored values that are looked at before a full pass, values in each
TENX_FILE = re.compile(r"(matrix\.mtx|(barcodes|features|genes)\.tsv)(\.gz)?")
EXPRESSION = "Gene Expression"  # 10x's word for the features that are genes


@dataclass(frozen=True)
class Source:
    """One file of the cohort: what its rows and columns are, and how to read its counts."""

    name: str  # of the file without suffix, or of the folder; in a sheet its path there
    listed: bool  # by a sample sheet
    obs: pd.DataFrame  # wanted columns, one row per cell; the index holds the barcodes
    symbols: pd.Series  # symbol of each gene (may be missing); the index holds the gene ids
    columns: np.ndarray  # (genes,) column of the matrix
    place: str  # where in the file the counts are
    also: list[str]  # other places that hold whole numbers
    blocks: Callable[[int], Iterator[csr_array]]  # consecutive rows, with about that many values at a time


def open_cohort(
    files: list[str], *, counts: str, symbols: str | None, wanted: dict[str, str]
) -> list[Source]:
    """Read labels and genes of every file; the first file names the format.

    wanted: obs column -> the setting that names it. A column of the sheet holds for all cells of its row and
    wins over a column of that name in the file. 10x files bring their own symbols; `symbols` is for h5ad.
    Raises InputError for a missing or damaged file, a missing column, and when no place holds counts.
    """
    first = Path(files[0])
    if TENX_FILE.fullmatch(first.name):
        rows = {first.parent: (first.parent.resolve().name, None)}
    else:
        rows = _sheet(first) if first.suffix == ".tsv" else {first: (first.stem, None)}
    sources = []
    for path, (name, row) in rows.items():
        reader = _folder if path.is_dir() else partial(_hdf5_file, counts=counts, symbols=symbols)
        sources.append(reader(path, name=name, row=row, wanted=wanted))
    return sources


def _sheet(sheet: Path) -> dict[Path, tuple[str, dict]]:
    """File or folder -> (name, the row's columns) of a TSV whose paths are relative to itself."""
    try:
        table = read_tsv(sheet)
    except pd.errors.EmptyDataError:
        table = pd.DataFrame()
    if "path" not in table or table.empty:
        raise InputError(
            f"{sheet}: {len(table)} rows, columns {_listed(table)}; needs a column 'path', a row a file"
        )
    if table["path"].duplicated().any():
        twice = table["path"][table["path"].duplicated()].iloc[0]
        raise InputError(f"{sheet}: {twice!r} is listed twice; remove one of its rows")
    return {
        sheet.parent / row["path"]: (re.sub(r"\.(h5ad|h5)$", "", row["path"]), row)
        for row in table.to_dict("records")
    }


def _obs(path, barcodes, available, read, row, wanted) -> pd.DataFrame:
    """The wanted columns from the sheet's row or from the file, indexed by barcode."""
    columns = {}
    for column, setting in wanted.items():
        if column not in {**(row or {}), **dict.fromkeys(available)}:
            has = _listed(dict.fromkeys([*available, *(row or {})])) or "none"
            raise InputError(
                f"{setting}: {path} has no column {column!r} for its cells (it has: {has}); set {setting}"
            )
        columns[column] = row[column] if column in (row or {}) else read(column)
    return pd.DataFrame(columns, index=pd.Index(barcodes, dtype=object).astype(str))


def _listed(names) -> str:
    return ", ".join(map(str, names))


def _hdf5_file(path, *, counts, symbols, name, row, wanted) -> Source:
    """An h5ad or a 10x h5 file, told apart by what is in it."""
    with hdf5(path) as file:
        if "obs" in file:
            return _h5ad(file, path, counts, symbols, name=name, row=row, wanted=wanted)
        return _tenx_h5(file, path, name=name, row=row, wanted=wanted)


def _h5ad(file, path, counts, symbols, *, name, row, wanted) -> Source:
    if not isinstance(file["obs"], h5py.Group):
        raise InputError(
            f"{path}: written by anndata before 0.7; read it and write it again with a current anndata"
        )
    place, also = find_counts(file, path, counts)
    obs = _obs(path, *read_labels(file["obs"]), row, wanted)
    genes, available, read = read_labels(file["raw/var"] if place == "raw.X" else file["var"])
    if symbols is not None and symbols not in available:
        has = _listed(available) or "none"
        raise InputError(
            f"load.symbols: {path} has no column {symbols!r} for its genes (it has: {has}); "
            "set load.symbols, to null when gene ids are symbols"
        )
    names = pd.Series(np.asarray(read(symbols) if symbols else genes, dtype=object), index=genes)
    element = find_places(file)[place]
    shape = element.shape if isinstance(element, h5py.Dataset) else element.attrs["shape"].tolist()
    if list(shape) != [len(obs), len(names)]:
        raise CorruptedInput(
            f"{path}: {place} is {shape} for {len(obs)} cells and {len(names)} genes; get the file again"
        )
    blocks = partial(hdf5_blocks, path, element.name, len(obs), len(names))
    return Source(name, row is not None, obs, names, np.arange(len(names)), place, also, blocks)


def read_labels(group: h5py.Group) -> tuple[pd.Index, list[str], Callable]:
    """Index, column names and a reader of one column of an obs or var group."""
    if group.attrs.get("encoding-version") != "0.2.0":  # anndata 0.7 kept categories apart from their column
        frame = read_elem(group)
        return frame.index.astype(str), list(frame), frame.__getitem__
    index = pd.Index(read_elem(group[group.attrs["_index"]])).astype(str)
    return index, list(group.attrs["column-order"]), lambda column: read_elem(group[column])


def find_places(file: h5py.File) -> dict[str, h5py.Group | h5py.Dataset]:
    """Matrices of cells x genes of an h5ad in order of preference, by the names that load.counts takes."""
    layers = sorted(file.get("layers", ()), key=lambda layer: ("count" not in layer.lower(), layer))
    found = {"X": file.get("X"), "raw.X": file.get("raw/X")}
    found |= {f"layers/{layer}": file["layers"][layer] for layer in layers}
    return {
        name: element
        for name, element in found.items()
        if element is not None and element.attrs.get("encoding-type") != "null"
    }


def find_counts(file: h5py.File, path: Path, counts: str) -> tuple[str, list[str]]:
    """The place of the counts in an h5ad, and other places that hold whole numbers too.

    `auto` takes the first of X, raw.X, layers with "count" in their name, other layers whose sampled values
    are non-negative whole numbers, not all zero. Raises InputError when there is none.
    """
    places = find_places(file)
    if counts not in ("auto", *places):
        raise InputError(
            f"load.counts: {path} has no {counts} (it has: {_listed(places)}); set load.counts to one"
        )
    faults = {name: _fault(_sampled(element)) for name, element in places.items()}
    whole = [name for name, fault in faults.items() if not fault]
    chosen = whole[0] if counts == "auto" and whole else counts
    if chosen not in whole:
        found = "; ".join(f"{name}: {fault or 'whole numbers'}" for name, fault in faults.items())
        raise InputError(
            f"load.counts: {counts}: {path} has no raw counts there ({found}); set load.counts to their place"
        )
    return chosen, [name for name in whole if name != chosen]


def _sampled(element: h5py.Group | h5py.Dataset) -> np.ndarray:
    """Stretches spread evenly over the stored values of a sparse matrix, or rows of a dense one."""
    values = element if isinstance(element, h5py.Dataset) else element["data"]
    length = VALUES if values.ndim == 1 else 1
    starts = np.unique(np.linspace(0, max(len(values) - length, 0), STRETCHES, dtype=np.int64))
    return np.concatenate([values[start : start + length].ravel() for start in starts])


def _fault(values: np.ndarray) -> str:
    """Why values are no counts; empty when they may be."""
    odd = values[~((values >= 0) & (values == np.rint(values)) & np.isfinite(values))]
    if len(odd):
        fractions = (odd > 0) & np.isfinite(odd)
        kind = "fractions, normalised?" if fractions.all() else "negative or not finite, scaled?"
        return f"{len(odd) / len(values):.0%} {kind} such as {odd[0]:.4g}"
    return "" if values.any() else "only zeros"


def _tenx_h5(file, path, *, name, row, wanted) -> Source:
    """Cell Ranger v3's group `matrix` or v2's group per genome: genes x cells by column, so CSR of cells."""
    groups = [key for key, group in file.items() if isinstance(group, h5py.Group) and "barcodes" in group]
    if len(groups) != 1:
        raise InputError(
            f"{path}: neither h5ad nor 10x h5 of one genome (has {_listed(file)}); correct cohort.path"
        )
    group = file[groups[0]]
    features = group.get("features", group)
    ids, names = (
        features[v3 if v3 in features else v2].asstr()[:]
        for v3, v2 in (("id", "genes"), ("name", "gene_names"))
    )
    kinds = (
        features["feature_type"].asstr()[:] if "feature_type" in features else np.full(len(ids), EXPRESSION)
    )
    obs = _obs(path, group["barcodes"].asstr()[:], [], None, row, wanted)
    columns = np.flatnonzero(np.equal(kinds, EXPRESSION))
    genes = pd.Series(names[columns], index=ids[columns], dtype=object)
    blocks = partial(hdf5_blocks, path, group.name, len(obs), len(ids))
    return Source(name, row is not None, obs, genes, columns, groups[0], [], blocks)


def _folder(path: Path, *, name, row, wanted) -> Source:
    """Cell Ranger v2 (genes.tsv) or v3 (features.tsv) with barcodes.tsv and matrix.mtx, each gzip or not."""
    found = {file.name.removesuffix(".gz"): file for file in sorted(path.iterdir(), reverse=True)}
    features = found.get("features.tsv", found.get("genes.tsv"))
    missing = [file for file in ("barcodes.tsv", "matrix.mtx") if file not in found]
    if missing or not features:
        missing = missing or ["features.tsv or genes.tsv"]
        raise InputError(
            f"{path}: a 10x folder without {_listed(missing)}; correct cohort.path or the sample sheet"
        )
    table = _headerless(features)
    obs = _obs(path, _headerless(found["barcodes.tsv"])[0], [], None, row, wanted)
    matrix = found["matrix.mtx"]
    shape = matrix_market_shape(matrix)
    if shape != (len(table), len(obs)):
        raise InputError(
            f"{matrix}: {shape[0]} genes x {shape[1]} cells, but {features.name} has {len(table)} lines and "
            f"{found['barcodes.tsv'].name} {len(obs)}; put files of one run together"
        )
    columns = np.flatnonzero(table[2] == EXPRESSION if 2 in table else np.full(len(table), True))
    symbols = table[1 if 1 in table else 0].to_numpy(dtype=object)[columns]
    genes = pd.Series(symbols, index=table[0].to_numpy(dtype=object)[columns])
    blocks = partial(in_row_order, partial(matrix_market, matrix), len(obs), len(table))
    return Source(name, row is not None, obs, genes, columns, matrix.name, [], blocks)


def _headerless(path: Path) -> pd.DataFrame:
    """A TSV without header as text; columns 0, 1, ..."""
    return pd.read_csv(path, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)
