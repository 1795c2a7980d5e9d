"""MuData files (h5mu): an AnnData group per modality in `mod`, labels of all cells in `obs`.

`obsmap/<modality>` holds, for each cell of the whole, its place in the modality counted from 1, or 0 where
the modality lacks it. Format: https://mudata.readthedocs.io/en/latest/io/mudata.html
"""

from collections.abc import Callable

import h5py
import numpy as np
import pandas as pd

from cohort._anndata import open_anndata, read_labels
from cohort._entries import Entry
from cohort._features import GENES
from cohort._source import Source, Wanted, join_names
from job import CorruptedInput, InputError

RNA = "rna"  # the name that muon gives the modality of genes


def open_mudata(file: h5py.File, entry: Entry, wanted: Wanted, *, rounded: bool) -> Source:
    """Labels and genes of the modality of genes, and where its counts are.

    A column that the modality lacks is taken from the labels of all cells. InputError when it is open which
    modality has the genes.
    """
    name = choose_modality(file, entry, wanted.modality)
    store = file["mod"][name]
    return open_anndata(store, entry, wanted, rounded=rounded, cells=read_cells(file, name, entry))


def choose_modality(file: h5py.File, entry: Entry, modality: str | None) -> str:
    """The modality as set, the only one with features of kind Gene Expression, or `rna` where none says."""
    names = [name for name in file["mod"] if "var" in file["mod"][name]]
    if modality is not None and modality not in names:
        raise InputError(
            f"load.modality: {entry.path} has no modality {modality!r} (it has: {join_names(names) or 'none'}"
            "); set load.modality to one"
        )
    if modality is not None:
        return modality
    kinds = {name: count_kinds(file["mod"][name]["var"]) for name in names}
    genes = [name for name in names if any(kind in kinds[name] for kind in GENES.values())]
    if len(genes) == 1:
        return genes[0]
    if RNA in names and not genes and not kinds[RNA]:
        return RNA
    shown = "; ".join(f"{name}: {describe_kinds(kinds[name])}" for name in names)
    raise InputError(
        f"load.modality: {entry.path} does not say which of its modalities has the genes ({shown or 'none'})"
        "; set load.modality to it"
    )


def count_kinds(var: h5py.Group) -> dict[str, int]:
    """Kind of feature -> features, of the first column of var that names kinds; empty without one."""
    _, columns, read = read_labels(var)
    column = next((name for name in GENES if name in columns), None)
    return {} if column is None else pd.Series(np.asarray(read(column), dtype=str)).value_counts().to_dict()


def describe_kinds(kinds: dict[str, int]) -> str:
    """Kinds of features with their numbers."""
    return join_names(f"{number:,} {kind}" for kind, number in kinds.items()) or "kind of features not named"


def read_cells(file: h5py.File, modality: str, entry: Entry) -> tuple[pd.Index, list[str], Callable]:
    """Index, columns and a reader of one column for the modality's cells, its own columns first."""
    index, names, read = read_labels(file["mod"][modality]["obs"])
    if "obs" not in file or modality not in file.get("obsmap", ()):
        return index, names, read
    _, shared, read_shared = read_labels(file["obs"])
    place = np.asarray(file["obsmap"][modality][:]).ravel().astype(np.int64)
    here = np.flatnonzero(place > 0)
    if sorted(place[here]) != list(range(1, len(index) + 1)):
        raise CorruptedInput(f"{entry.path}: obsmap/{modality} does not list its cells; get the file again")
    rows = here[np.argsort(place[here])]

    def read_any(column: str):
        return read(column) if column in names else pd.Series(read_shared(column)).iloc[rows].to_numpy(object)

    return index, [*names, *(column for column in shared if column not in names)], read_any
