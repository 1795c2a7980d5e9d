"""Tables beside the data: what is known of samples or donors, and labels of cells, joined by name.

A table of samples or donors (`load.sample_table`) has a row per sample or donor, named in the column that
`load.sample` or `load.donor` names, or in a column `sample` or `donor`. A table of cells (`load.cell_table`)
has a row per cell, named in a column `cell` or `barcode`, and a column `file` where barcodes repeat between
the files of a cohort. Their other columns count like columns of the file, and win over them.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cohort._source import Note, join_names
from cohort._texts import read_rows
from cohort._values import format_label
from job import InputError

CELL = ("cell", "barcode", "barcodes", "cell_id", "CELL", "Barcode")  # names of the column that names cells
FILE = "file"  # the column of a table of cells that names the file, as a sample sheet does
SHOWN = 5  # names in a message


@dataclass(frozen=True)
class Table:
    """A table beside the data."""

    setting: str
    path: Path
    key: str  # the column that names rows
    rows: pd.DataFrame  # text

    @property
    def columns(self) -> list[str]:
        """What it tells of a cell, sample or donor."""
        return [column for column in self.rows if column not in (self.key, FILE)]


def read_cell_table(path: str | None) -> Table | None:
    """The table of cells. InputError when no column names them."""
    if not path:
        return None
    return _read_table(path, "load.cell_table", CELL)


def read_sample_table(path: str | None, sample: str | None, donor: str | None) -> Table | None:
    """The table of samples or donors.

    sample, donor: the columns that name them. InputError without such a column.
    """
    if not path:
        return None
    keys = [column for column in (sample, donor, "sample", "donor") if column]
    return _read_table(path, "load.sample_table", tuple(dict.fromkeys(keys)))


def _read_table(path: str, setting: str, keys: tuple[str, ...]) -> Table:
    header, fields = read_rows(Path(path), setting)
    rows = pd.DataFrame(fields, columns=header, dtype=object).drop(columns="", errors="ignore")
    key = next((column for column in keys if column in rows), None)
    if key is None:
        raise InputError(
            f"{setting}: {path} has no column that names its rows (it has: {join_names(rows)}); "
            f"name one {keys[0]!r}"
        )
    by = [key, FILE] if FILE in rows and setting == "load.cell_table" else [key]
    twice = rows[rows.duplicated(by)]
    if len(twice):
        raise InputError(f"{setting}: {path} has several rows for {twice[key].iloc[0]!r}; keep one of them")
    return Table(setting, Path(path), key, rows)


def add_cell_columns(obs: pd.DataFrame, file: pd.Series, table: Table) -> tuple[pd.DataFrame, int, list[str]]:
    """Obs with the columns of a table of cells, how many cells it lacks, and its rows that match no cell.

    obs: one row per cell, the index holds barcodes; file: the name of each cell's file, in the same order.
    """
    by_file = FILE in table.rows
    cells = pd.MultiIndex.from_arrays([file, obs.index]) if by_file else pd.Index(obs.index)
    rows = table.rows.set_index([FILE, table.key] if by_file else table.key)
    if not by_file and cells[cells.isin(rows.index)].has_duplicates:
        raise InputError(
            f"load.cell_table: barcodes repeat between files of the cohort; add a column {FILE!r} to "
            f"{table.path} that names the file of each, such as {file.iloc[0]!r}"
        )
    places = rows.index.get_indexer(cells)
    return *_join_rows(obs, rows, places, table), _find_unmatched(rows, places)


def add_sample_columns(
    obs: pd.DataFrame, names: pd.Series, table: Table
) -> tuple[pd.DataFrame, int, list[str]]:
    """The same for a table of samples or donors.

    names: of each cell's sample or donor, as the table names them.
    """
    rows = table.rows.set_index(table.key)
    places = rows.index.get_indexer(pd.Index(names.astype(object)))
    return *_join_rows(obs, rows, places, table), _find_unmatched(rows, places)


def _join_rows(obs: pd.DataFrame, rows: pd.DataFrame, places, table: Table) -> tuple[pd.DataFrame, int]:
    if (places < 0).all():
        has = join_names(map(repr, rows.index[:SHOWN]))
        raise InputError(
            f"{table.setting}: no row of {table.path} matches a cell of the cohort (its rows: {has}); "
            f"correct column {table.key!r}"
        )
    joined = obs.copy()
    for column in table.columns:
        values = rows[column].to_numpy(dtype=object)[places]
        joined[column] = pd.Series(values, index=obs.index).where(places >= 0, None)
    return joined, int((places < 0).sum())


def _find_unmatched(rows: pd.DataFrame, places) -> list[str]:
    missing = rows.index.delete(places[places >= 0])
    return [str(name) for name in missing]


@dataclass(frozen=True)
class Known:
    """What the config and its tables say of cells, besides the files."""

    missing: tuple[str, ...]  # words that mean missing, of the config
    excluded: tuple[str, ...]  # columns of load.exclude
    person: tuple[str, ...]  # columns of covariates
    cells: Table | None
    samples: Table | None

    @property
    def columns(self) -> frozenset[str]:
        """Columns that the tables have."""
        tables = [table for table in (self.cells, self.samples) if table]
        return frozenset(column for table in tables for column in table.columns)

    def join(
        self, obs: pd.DataFrame, file: pd.Series, roles: dict[str, str | None]
    ) -> tuple[pd.DataFrame, list[Note]]:
        """Obs with the columns of the tables, and what to warn of: code, message, count, setting."""
        notes = []
        if self.cells:
            obs, lacking, unmatched = add_cell_columns(obs, file, self.cells)
            notes += _note_unmatched(self.cells, lacking, unmatched)
        if self.samples:
            role = "donor" if self.samples.key in (roles["donor"], "donor") else "sample"
            column = roles[role]
            names = pd.Series(obs[column].to_numpy(dtype=object) if column else file.to_numpy(dtype=object))
            names = names.map(lambda name: None if pd.isna(name) else format_label(name))
            obs, lacking, unmatched = add_sample_columns(obs, names, self.samples)
            notes += _note_unmatched(self.samples, lacking, unmatched)
        return obs, notes


def _note_unmatched(table: Table, lacking: int, unmatched: list[str]) -> list[Note]:
    """Warnings of rows that match nothing, on either side."""
    notes = []
    if unmatched:
        shown = join_names(unmatched[:SHOWN])
        what = f"{len(unmatched)} of {len(table.rows)} rows of {table.path.name} match no cell: {shown}"
        notes.append(Note("table_rows_unmatched", what, len(unmatched), table.setting))
    if lacking:
        what = f"{lacking:,} cells have no row in {table.path.name}, so its columns are missing there"
        notes.append(Note("cells_without_table_row", what, lacking, table.setting))
    return notes
