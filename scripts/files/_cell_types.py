"""The list of cell types, and tables of the tested ones: stacked into one file, read back per type.

The list is filter/cell_types.tsv or pseudobulk/cell_types.tsv: id (in paths), label, kept or tested, reason.
"""

from typing import NamedTuple

import pandas as pd

from files._tsv import read_tsv


class CellType(NamedTuple):
    """The genes of one cell type that rule differential tested, possibly none."""

    cell_type: str
    label: str
    genes: pd.DataFrame


def read_cell_types(path: str) -> pd.DataFrame:
    """The list of cell types as text, but kept and tested, where they are there, as bool."""
    types = read_tsv(path)
    return types.assign(**{name: types[name] == "True" for name in ("kept", "tested") if name in types})


def stack_tables(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of cell types below each other, the id as column cell_type in front; dtypes stay.

    Tables without rows add nothing, not even types of columns.
    """
    named = [table.assign(cell_type=cell_type) for cell_type, table in tables.items()]
    stacked = pd.concat([table for table in named if len(table)] or named[:1], ignore_index=True)
    return stacked[["cell_type", *stacked.columns.drop("cell_type")]].astype({"cell_type": "str"})


def read_tested(cell_types: str, tables: list[str], columns: list[str] | None = None) -> list[CellType]:
    """The genes of each tested cell type of pseudobulk/cell_types.tsv, in its order.

    tables: paths of stacked tables, each with a column cell_type. columns: those to read; all without.
    """
    types = read_cell_types(cell_types)
    types = types[types["tested"]]
    wanted = ["cell_type", *columns] if columns else None
    parts = [pd.read_parquet(table, columns=wanted) for table in tables]
    genes = pd.concat(parts) if parts else pd.DataFrame(columns=["cell_type"])
    own = genes.groupby("cell_type").indices
    genes = genes.drop(columns="cell_type")
    return [
        CellType(row.id, row.label, genes.iloc[own.get(row.id, [])].reset_index(drop=True))
        for row in types.itertuples()
    ]
