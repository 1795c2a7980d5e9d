"""Read the columns of cells and genes of an h5ad without its matrix, and print them."""

from pathlib import Path

import numpy as np
import pandas as pd

import _root  # noqa: F401
from _guess import Table
from cohort._anndata import choose_opener, find_layout, find_places, open_anndata, read_labels
from cohort._blocks import sample_rows
from cohort._entries import Entry
from cohort._source import Wanted
from cohort._values import clean_labels
from job import InputError

SHOWN = 4  # values of a column that are shown
SYMBOLS = ["feature_name", "gene_symbols", "gene_symbol", "symbol", "symbols", "gene_name", "gene_names"]
LOOKED_AT = 1000  # cells whose counts are read to choose limits


class Cohort:
    """Columns, genes, and place and size of the counts of an h5ad; the matrix is not read."""

    def __init__(self, path: Path, counts: str):
        with choose_opener(path)() as file:
            if "obs" not in file or hasattr(file["obs"], "shape"):
                raise InputError(
                    f"{path}: is not an h5ad of anndata 0.7 or later; a 10x file has no donors: "
                    "list it in a sheet, a .tsv with the columns path, donor_id, ... (docs/faq.md)"
                )
            names, columns, read = read_labels(file["obs"])
            self.path, self.cells = path, len(names)
            self.table: Table = {column: clean_labels(pd.Series(read(column)), None) for column in columns}
            source = open_anndata(
                file,
                Entry(path.stem, path, None, None),
                Wanted({}, (), frozenset(), counts, None, None, None),
                rounded=False,
            )
            self.place, self.also = source.place, source.also
            genes, gene_columns, read = read_labels(file["raw/var" if self.place == "raw.X" else "var"])
            self.genes = pd.Index(genes)
            self.symbol_column = next((name for name in SYMBOLS if name in gene_columns), None)
            self.gene_columns = gene_columns
            self.symbols = pd.Series(
                np.asarray(read(self.symbol_column), object) if self.symbol_column else genes
            )
            self.sizes = sample_sizes(find_places(file)[self.place], self.cells, len(self.genes))


def sample_sizes(matrix, cells: int, genes: int) -> pd.DataFrame | None:
    """Genes and counts of some cells spread over the file; None for a matrix that is stored by gene."""
    kind, _ = find_layout(matrix, cells, genes)
    if kind == "csc":
        return None
    rows = sample_rows(matrix, kind, cells, genes, LOOKED_AT)
    return pd.DataFrame({"min_genes": (rows > 0).sum(axis=1), "min_counts": rows.sum(axis=1)})


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
