"""Read gene sets and rank tested symbols: the part that gsea and overrepresentation share."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from files import CellType
from job import InputError, track_progress, warn

LEAST_KNOWN = 0.1  # share of the genes of a collection, below which it is warned of
GENES = ["gene_id", "symbol", "log2FoldChange", "stat", "pvalue", "padj"]  # columns of a differential table


class Collection(NamedTuple):
    """The gene sets of one GMT file; sets: set name -> distinct symbols, in the order of the file."""

    name: str
    sha256: str
    sets: dict[str, list[str]]


def read_collections(paths: list[str]) -> list[Collection]:
    """Read each GMT file as a collection named by its file stem.

    Raises InputError if two files have the same stem, or for a file that is not a valid GMT file.
    """
    collections = [read_gmt(path) for path in paths]
    names = [collection.name for collection in collections]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"gene_sets: {names.count(name)} files are named {name}; rename all but one")
    return collections


def read_gmt(path: str) -> Collection:
    """Read a GMT file: a line per set with its name, a description and its genes, separated by tabs.

    A weight after a comma in a gene (Enrichr) is dropped, as in gseapy.
    Raises InputError for a file that is not text, has no sets, or has two sets with the same name.
    """
    content = Path(path).read_bytes()
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise InputError(
            f"gene_sets: {path} is not UTF-8 text; set gene_sets to GMT files that are not compressed"
        ) from None
    sets: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        if not name or not rest:
            raise InputError(
                f"gene_sets: {path} line {number} is not a gene set (name, description and genes, separated "
                "by tabs); set gene_sets to GMT files"
            )
        if name in sets:
            raise InputError(
                f"gene_sets: {path} has the set {name} twice; rename one of them or use another file"
            )
        symbols = (gene.split(",")[0] for gene in rest[1:])
        sets[name] = list(dict.fromkeys(symbol for symbol in symbols if symbol))
    if not sets:
        raise InputError(f"gene_sets: {path} has no gene sets; set gene_sets to GMT files with sets")
    return Collection(Path(path).stem, hashlib.sha256(content).hexdigest(), sets)


def name_genes(genes: pd.DataFrame) -> set[str]:
    """What gene sets may call the genes of the cohort: the symbol, the id of a gene without one.

    genes: load/genes.parquet.
    """
    symbol = genes["symbol"].astype("str").fillna("")
    return set(symbol.where(symbol != "", genes["gene_id"].astype("str")))


def warn_of_unknown(collections: list[Collection], genes: set[str]) -> None:
    """Warn of each collection of which fewer than LEAST_KNOWN of the genes are genes of the cohort."""
    for collection in collections:
        members = {gene for symbols in collection.sets.values() for gene in symbols}
        known = len(members & genes)
        if known < LEAST_KNOWN * len(members):
            what = (
                f"{collection.name}: {known:,} of {len(members):,} genes are in the cohort; the sets may be "
                "of another species, or name genes in another way than load.symbols"
            )
            warn("gene_sets_unknown", what, count=len(members) - known, setting="gene_sets")


def run_per_cell_type(
    tested: list[CellType], test: Callable[[pd.DataFrame], tuple[pd.DataFrame, pd.DataFrame]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The terms and status of each cell type by `test`, stacked, with the columns cell_type and label first.

    `fdr_all`, a column after `fdr`, is the FDR of Benjamini & Hochberg (1995, J R Stat Soc B 57:289) over all
    rows: every cell type, collection and direction of the contrast. Without a cell type both tables are
    empty, with their columns.
    """
    from scipy.stats import false_discovery_control

    pairs = [
        (cell_type, test(cell_type.genes)) for cell_type in track_progress(tested, len(tested), "cell types")
    ]
    if not pairs:
        empty = CellType("", "", pd.DataFrame(columns=GENES, dtype=float))
        pairs = [(empty, tuple(table.iloc[:0] for table in test(empty.genes)))]
    terms, status = (
        pd.concat([add_names(cell_type, tables[i]) for cell_type, tables in pairs], ignore_index=True)
        for i in (0, 1)
    )
    adjusted = false_discovery_control(terms["pvalue"]) if len(terms) else terms["pvalue"]
    terms.insert(terms.columns.get_loc("fdr") + 1, "fdr_all", adjusted)
    return terms, status


def add_names(cell_type: CellType, table: pd.DataFrame) -> pd.DataFrame:
    """A table with the id and the label of its cell type as first columns."""
    table = table.copy()
    for place, name in enumerate(("cell_type", "label")):
        table.insert(place, name, pd.Series(getattr(cell_type, name), index=table.index, dtype="str"))
    return table


def is_signed(genes: pd.DataFrame) -> bool:
    """Whether the genes of this table have a direction, raised or lowered.

    A contrast that tests several coefficients at once has a statistic without a sign, and no fold change.
    An empty table counts as signed.
    """
    return genes.empty or bool((genes["stat"].notna() & genes["log2FoldChange"].notna()).any())


def rank_symbols(genes: pd.DataFrame) -> pd.DataFrame:
    """The tested genes, one per symbol, from the most raised to the most lowered.

    genes: a table of rule differential. A tested gene has a Wald statistic and a p-value. Of genes with the
    same symbol, the one with the largest |stat| is used (ties: first gene_id). A gene without symbol has its
    gene_id instead. Sorted by stat, ties by gene_id, so that the order is always defined.
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
    """The columns of a status row about a collection and the genes of a cell type.

    overlap: share of the distinct genes of the collection that were tested. tied_share: share of ranked genes
    with the same statistic as another gene. duplicated_symbols: tested genes dropped for a duplicated symbol.
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
