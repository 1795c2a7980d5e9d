"""Tables of the tested cell types: stacked into one file by the rule that tests them, read back per type."""

from typing import NamedTuple

import pandas as pd


class CellType(NamedTuple):
    """The genes of one cell type that rule differential tested, possibly none."""

    cell_type: str
    label: str
    genes: pd.DataFrame


def stack(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of cell types below each other, the id as column cell_type in front; dtypes stay.

    Tables without rows add nothing, not even types of columns.
    """
    named = [table.assign(cell_type=cell_type) for cell_type, table in tables.items()]
    stacked = pd.concat([table for table in named if len(table)] or named[:1], ignore_index=True)
    return stacked[["cell_type", *stacked.columns.drop("cell_type")]].astype({"cell_type": "str"})


def read_tested(cell_types: str, tables: list[str], columns: list[str] | None = None) -> list[CellType]:
    """What the cell types that pseudobulk/cell_types.tsv has tested have in the tables, in its order.

    columns: those of the genes to read; all without.
    """
    types = pd.read_csv(cell_types, sep="\t", dtype=str, keep_default_na=False)
    types = types[types["tested"] == "True"]
    wanted = ["cell_type", *columns] if columns else None
    parts = [pd.read_parquet(table, columns=wanted) for table in tables]
    genes = pd.concat(parts) if parts else pd.DataFrame(columns=["cell_type"])
    own = genes.groupby("cell_type").indices
    genes = genes.drop(columns="cell_type")
    return [
        CellType(row.id, row.label, genes.iloc[own.get(row.id, [])].reset_index(drop=True))
        for row in types.itertuples()
    ]
