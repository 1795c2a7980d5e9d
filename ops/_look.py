"""Read the columns of cells and genes of an h5ad without its matrix, and print them."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd

import _root  # noqa: F401
from _guess import Table
from cohort._blocks import hdf5
from cohort._counts import _labels, _places, find_counts
from cohort.load import labels
from job import InputError

SHOWN = 4  # values of a column that are shown
SYMBOLS = ["feature_name", "gene_symbols", "gene_symbol", "symbol", "symbols", "gene_name", "gene_names"]
LOOKED_AT = 1000  # cells whose counts are read to choose limits


class Cohort:
    """Columns, genes, and place and size of the counts of an h5ad; the matrix is not read."""

    def __init__(self, path: Path, counts: str):
        with hdf5(path) as file:
            if not isinstance(file.get("obs"), h5py.Group):
                raise InputError(
                    f"{path}: is not an h5ad of anndata 0.7 or later; a 10x file has no donors: "
                    "list it in a sheet, a .tsv with the columns path, donor_id, ... (docs/faq.md)"
                )
            names, columns, read = _labels(file["obs"])
            self.path, self.cells = path, len(names)
            self.table: Table = {column: labels(pd.Series(read(column))) for column in columns}
            self.place, self.also = find_counts(file, path, counts)
            genes, gene_columns, read = _labels(file["raw/var" if self.place == "raw.X" else "var"])
            self.genes = pd.Index(genes)
            self.symbol_column = next((name for name in SYMBOLS if name in gene_columns), None)
            self.gene_columns = gene_columns
            self.symbols = pd.Series(
                np.asarray(read(self.symbol_column), object) if self.symbol_column else genes
            )
            self.sizes = sample_sizes(_places(file)[self.place], self.cells)


def sample_sizes(matrix: h5py.Group | h5py.Dataset, cells: int) -> pd.DataFrame | None:
    """Genes and counts of some cells spread over the file; None for a matrix that is stored by gene."""
    rows = np.unique(np.linspace(0, cells - 1, LOOKED_AT, dtype=np.int64))
    if isinstance(matrix, h5py.Dataset):
        found = [(np.count_nonzero(matrix[row]), matrix[row].sum()) for row in rows]
    elif matrix.attrs.get("encoding-type") == "csr_matrix":
        ends, data = matrix["indptr"][:], matrix["data"]
        found = [(ends[row + 1] - ends[row], data[ends[row] : ends[row + 1]].sum()) for row in rows]
    else:
        return None
    return pd.DataFrame(found, columns=["min_genes", "min_counts"])


def show(cohort: Cohort) -> None:
    """Print the size of the cohort and its columns with their most frequent values."""
    print(f"{cohort.path}: {cohort.cells:,} cells x {len(cohort.genes):,} genes\n")
    width = max([len("column"), *map(len, cohort.table)])
    print(f"{'column':{width}}  {'values':>9}  {'missing':>9}  most frequent")
    for name, column in cohort.table.items():
        top = column.value_counts().head(SHOWN)
        like = ", ".join(f"{str(label)[:30]} ({number:,})" for label, number in top.items() if number)
        print(f"{name:{width}}  {column.nunique():9,}  {column.isna().sum():9,}  {like}")
    print()
