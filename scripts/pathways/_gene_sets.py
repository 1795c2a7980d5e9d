"""Gene sets, tested symbols and cell types, read by one rule in gsea and overrepresentation.

Both rules carry this file's digest as a param, so an edit here reruns both.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from files import CellType
from job import InputError, track_progress

GENES = ["gene_id", "symbol", "log2FoldChange", "stat", "pvalue", "padj"]  # read of a differential table


class Collection(NamedTuple):
    """The gene sets of one GMT file: set name -> distinct symbols, in the order of the file."""

    name: str
    sha256: str
    sets: dict[str, list[str]]


def read_collections(paths: list[str]) -> list[Collection]:
    """Read each GMT file as a collection named by its file stem.

    Raises InputError if two files share a stem or one is no usable GMT file.
    """
    collections = [read_gmt(path) for path in paths]
    names = [collection.name for collection in collections]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"gene_sets: {names.count(name)} files are named {name}; rename all but one")
    return collections


def read_gmt(path: str) -> Collection:
    """Read a GMT file: a line per set with its name, a description and its genes, separated by tabs.

    What follows a comma in a gene is a weight (Enrichr) and dropped, as gseapy does.
    Raises InputError for a file that is no text, without sets, or with a name twice.
    """
    content = Path(path).read_bytes()
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise InputError(f"gene_sets: {path} is no UTF-8 text; set gene_sets to unpacked GMT files") from None
    sets: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        if not name or not rest:
            raise InputError(
                f"gene_sets: {path} line {number} is no gene set (name, description, genes by tabs); "
                "set gene_sets to GMT files"
            )
        if name in sets:
            raise InputError(
                f"gene_sets: {path} has the set {name} twice; rename one or set gene_sets otherwise"
            )
        symbols = (gene.split(",")[0] for gene in rest[1:])
        sets[name] = list(dict.fromkeys(symbol for symbol in symbols if symbol))
    if not sets:
        raise InputError(f"gene_sets: {path} holds no gene set; set gene_sets to GMT files with sets")
    return Collection(Path(path).stem, hashlib.sha256(content).hexdigest(), sets)


def over_cell_types(
    tested: list[CellType], test: Callable[[pd.DataFrame], tuple[pd.DataFrame, pd.DataFrame]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The terms and status that `test` gives for each cell type, stacked behind cell_type and label.

    `fdr_all`, put behind `fdr`, is Benjamini & Hochberg's (1995, J R Stat Soc B 57:289) over all rows: every
    cell type, collection and direction of the contrast. Without a cell type both tables are empty, with
    their columns.
    """
    from scipy.stats import false_discovery_control

    pairs = [(each, test(each.genes)) for each in track_progress(tested, len(tested), "cell types")]
    if not pairs:
        nobody = CellType("", "", pd.DataFrame(columns=GENES, dtype=float))
        pairs = [(nobody, tuple(table.iloc[:0] for table in test(nobody.genes)))]
    terms, status = (
        pd.concat([named(each, tables[place]) for each, tables in pairs], ignore_index=True)
        for place in (0, 1)
    )
    adjusted = false_discovery_control(terms["pvalue"]) if len(terms) else terms["pvalue"]
    terms.insert(terms.columns.get_loc("fdr") + 1, "fdr_all", adjusted)
    return terms, status


def named(tested: CellType, table: pd.DataFrame) -> pd.DataFrame:
    """A table behind the id and the label of its cell type."""
    table = table.copy()
    for place, name in enumerate(("cell_type", "label")):
        table.insert(place, name, pd.Series(getattr(tested, name), index=table.index, dtype="str"))
    return table


def is_signed(genes: pd.DataFrame) -> bool:
    """Whether a gene of this table is raised or lowered.

    A contrast that tests several coefficients at once has a statistic without a sign, and no fold change.
    A table without a row counts as signed.
    """
    return genes.empty or bool((genes["stat"].notna() & genes["log2FoldChange"].notna()).any())


def rank_symbols(genes: pd.DataFrame) -> pd.DataFrame:
    """The tested genes, one per symbol, from the most raised to the most lowered.

    genes: a table of rule differential. Tested are those with a Wald statistic and a p-value; of genes that
    share a symbol the one with the largest |stat| stays (ties: first gene_id); a gene without symbol goes by
    its gene_id. Sorted by stat, ties by gene_id, so that the order is never arbitrary.
    """
    tested = genes.dropna(subset=["stat", "pvalue"])
    symbol = tested["symbol"].astype("str").fillna("")
    tested = tested.assign(
        symbol=symbol.where(symbol != "", tested["gene_id"].astype("str")), size=tested["stat"].abs()
    )
    strongest = tested.sort_values(["size", "gene_id"], ascending=[False, True]).drop_duplicates("symbol")
    ranked = strongest.sort_values(["stat", "gene_id"], ascending=[False, True])
    return ranked.drop(columns="size").reset_index(drop=True)


def describe(collection: Collection, genes: pd.DataFrame, ranked: pd.DataFrame) -> dict:
    """What a status row says about a collection and the genes it met.

    overlap: share of the collection's distinct genes that were tested; tied_share: share of ranked genes that
    have their statistic in common with another; duplicated_symbols: tested genes left out for their symbol.
    """
    members = {gene for symbols in collection.sets.values() for gene in symbols}
    return {
        "collection": collection.name,
        "sha256": collection.sha256,
        "sets": len(collection.sets),
        "genes_ranked": len(ranked),
        "genes_without_pvalue": int(genes[["stat", "pvalue"]].isna().any(axis=1).sum()),
        "tied_share": ranked["stat"].duplicated(keep=False).mean() if len(ranked) else 0.0,
        "duplicated_symbols": len(genes.dropna(subset=["stat", "pvalue"])) - len(ranked),
        "overlap": len(members & set(ranked["symbol"])) / len(members) if members else 0.0,
    }
