"""Loom files, as velocyto and kallisto write them: genes x cells in `matrix`, attributes of rows and columns.

Format: https://linnarssonlab.org/loompy/format/
"""

from functools import partial

import h5py
import pandas as pd

from cohort._blocks import open_hdf5, read_matrix
from cohort._choice import find_problem
from cohort._entries import Entry
from cohort._features import GENES, choose_genes
from cohort._source import Source, Wanted, join_names, select_columns
from job import InputError

CELLS = ("CellID", "obs_names", "cell_names", "barcode")  # column attributes that name cells
IDS = ("Accession", "var_names", "gene_ids", "Gene")  # row attributes that name genes
SYMBOLS = ("Gene", "gene_name", "GeneName", "Accession")


def open_loom(file: h5py.File, entry: Entry, wanted: Wanted) -> Source:
    """Labels and genes of a loom file.

    InputError when cells or genes have no names, or values are not counts.
    """
    cells, genes = file["col_attrs"], file["row_attrs"]
    name = _choose_name(cells, CELLS, entry, "column", "cells")
    columns = [column for column in cells if column != name and cells[column].ndim == 1]
    obs = select_columns(
        entry.path,
        _read_text(cells[name]),
        columns,
        lambda column: _read_text(cells[column]),
        entry.row,
        wanted,
    )
    ids = _read_text(genes[_choose_name(genes, IDS, entry, "row", "genes")])
    named = (
        wanted.symbols
        if wanted.symbols and wanted.symbols in genes
        else _choose_name(genes, SYMBOLS, entry, "row", "genes")
    )
    symbols = pd.Series(_read_text(genes[named]), index=pd.Index(ids), dtype=object)
    kinds = {kind: _read_text(genes[kind]) for kind in GENES if kind in genes}
    chosen, at, left_out = choose_genes(entry.path, symbols, kinds, wanted.genome)
    matrix = file["matrix"]
    if problem := find_problem(matrix[:, : max(1, 65_536 // max(len(ids), 1))].ravel()):
        raise InputError(
            f"{entry.path}: matrix holds no raw counts ({problem}); give a file with whole numbers"
        )
    also = [f"layers/{layer}" for layer in file.get("layers", ())]
    blocks = partial(
        read_matrix, partial(open_hdf5, entry.path), "matrix", "dense_by_gene", len(obs), len(ids)
    )
    return Source(
        entry.name, entry.row is not None, obs, chosen, at, "matrix", blocks, also=also, left_out=left_out
    )


def _choose_name(group, names, entry: Entry, kind: str, what: str) -> str:
    """The first of the names that the attributes have."""
    found = next((name for name in names if name in group), None)
    if found is None:
        raise InputError(
            f"{entry.path}: no {kind} attribute names its {what} (it has: {join_names(group) or 'none'}); "
            f"add one of {join_names(names)}"
        )
    return found


def _read_text(dataset):
    return (
        dataset.asstr()[:]
        if h5py.check_string_dtype(dataset.dtype) or dataset.dtype.kind == "S"
        else dataset[:]
    )
