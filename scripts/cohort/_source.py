"""One matrix of the cohort: what its rows and columns are, and how to read its counts in blocks of rows."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from job import InputError


@dataclass(frozen=True)
class Source:
    """Labels and genes of a file, its counts not read yet."""

    name: str  # of the file without suffix, or of the folder; in a sheet its path there
    listed: bool  # by a sample sheet
    obs: pd.DataFrame  # wanted columns, one row per cell; the index holds the barcodes
    symbols: pd.Series  # symbol of each gene (may be missing); the index holds the gene ids
    columns: np.ndarray  # (genes,) column of the matrix
    place: str  # where in the file the counts are
    blocks: Callable[[int], Iterator[csr_array]]  # consecutive rows, with about that many values at a time
    also: list[str] = field(default_factory=list)  # other places that hold whole numbers, in words
    left_out: dict[str, int] = field(default_factory=dict)  # kind of feature that is not a gene -> features


@dataclass(frozen=True)
class Wanted:
    """What is read of a file besides its counts."""

    columns: dict[str, str]  # obs column -> the setting that names it; must be there
    optional: tuple[str, ...]  # obs columns that are read where they are there
    elsewhere: frozenset[str]  # of the columns, those that a table beside the data has
    counts: str  # load.counts
    symbols: str | None  # load.symbols
    genome: str | None  # load.genome
    modality: str | None  # load.modality


class Note(NamedTuple):
    """Something to warn of once the cohort is written."""

    code: str
    message: str
    number: int | None = None
    setting: str = ""


def select_columns(
    path: Path,
    barcodes: Iterable[str],
    available: Iterable[str],
    read: Callable | None,
    row: dict[str, str] | None,
    wanted: Wanted,
) -> pd.DataFrame:
    """The wanted columns from the sheet's row or from the file, indexed by barcode.

    A column of the sheet holds for all cells of its row and wins over a column of that name in the file.
    available: columns of the file; read: gives one of them. Raises InputError without a cell and for a
    missing column.
    """
    row, available, names = row or {}, list(available), pd.Index(barcodes, dtype=object).astype(str)
    if names.empty:
        raise InputError(f"{path}: holds no cell; correct cohort.path, or leave it out of the sheet")
    columns = {}
    for column, setting in wanted.columns.items():
        if column in row:
            columns[column] = row[column]
        elif column in available:
            columns[column] = read(column)
        elif column not in wanted.elsewhere:
            has = join_names({**dict.fromkeys(available), **dict.fromkeys(row)}) or "none"
            raise InputError(
                f"{setting}: {path} has no column {column!r} for its cells (it has: {has}); set {setting}, "
                "or bring the column by load.sample_table or load.cell_table"
            )
    for column in wanted.optional:
        if column not in columns and (column in row or column in available):
            columns[column] = row[column] if column in row else read(column)
    return pd.DataFrame(columns, index=names)


def join_names(names: Iterable) -> str:
    """Names for a message."""
    return ", ".join(map(str, names))
