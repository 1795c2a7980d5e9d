"""Test each gene set for more significant genes of a cell type than its tested genes would give.

One-sided hypergeometric test, background = the tested genes of the cell type (not the genome), the raised and
the lowered genes apart. p and `odds_ratio` are gseapy's, computed by scipy (a test holds them to gseapy), the
odds ratio with 0.5 added to each of the four counts, missing where the overlap is 0 (p = 1).
`fdr` is Benjamini-Hochberg over all sets of a cell type, collection and direction that have a tested gene,
also those without overlap, which gseapy leaves out of its own adjustment; `fdr_all` over all rows of the
contrast. Each GMT file is a collection of its own. Raised (up) or lowered (down): with the tested term, per
its unit; a contrast that tests several coefficients at once has neither, its genes are tested as `any`.
"""

import numpy as np
import pandas as pd

from files import read_tested, save_figure, write_tsv
from job import job
from pathways._dotplot import dotplot, message
from pathways._gene_sets import (
    GENES,
    Collection,
    describe,
    is_signed,
    over_cell_types,
    rank_symbols,
    read_collections,
)

TERMS = {
    "collection": "str",
    "direction": "str",
    "term": "str",
    "overlap": "int64",
    "size": "int64",
    "background": "int64",
    "list_size": "int64",
    "odds_ratio": "float64",
    "pvalue": "float64",
    "fdr": "float64",
    "genes": "str",
}
STATUS = [
    "collection",
    "sha256",
    "direction",
    "status",
    "reason",
    "sets",
    "sets_tested",
    "list_size",
    "genes_ranked",
    "genes_without_pvalue",
    "tied_share",
    "duplicated_symbols",
    "overlap",
]
TITLES = {"up": "raised genes", "down": "lowered genes", "any": "significant genes"}


def gene_lists(ranked: pd.DataFrame, *, signed: bool, fdr: float, min_log2fc: float) -> dict[str, list[str]]:
    """Symbols of the genes with padj below fdr and a log2 fold change of at least min_log2fc up or down.

    ranked: tested genes, one per symbol, from raised to lowered. A gene without padj (filtered by mean count)
    is in no list but in the background. The strongest gene comes first in each list. Genes without a sign
    make one list, of which min_log2fc asks nothing.
    """
    significant = ranked[ranked["padj"] < fdr]
    if not signed:
        return {"any": significant["symbol"].tolist()}
    change = significant["log2FoldChange"]
    up = significant["symbol"][(change > 0) & (change >= min_log2fc)]
    down = significant["symbol"][(change < 0) & (change <= -min_log2fc)]
    return {"up": up.tolist(), "down": down.tolist()[::-1]}


def enrich(listed: list[str], sets: dict[str, list[str]], background: list[str]) -> pd.DataFrame:
    """Test each set against one list.

    listed: symbols of the list, part of background; sets: set -> its symbols in the background, at least one.
    Returns TERMS without collection and direction, a row per set, smallest p-value first.
    """
    from scipy.stats import false_discovery_control, hypergeom

    rows = []
    for term, symbols in sets.items():
        members = set(symbols)
        shared = [symbol for symbol in listed if symbol in members]
        rows.append({"term": term, "overlap": len(shared), "size": len(symbols), "genes": ";".join(shared)})
    terms = pd.DataFrame(rows).assign(background=len(background), list_size=len(listed))
    both, size = terms["overlap"].to_numpy(), terms["size"].to_numpy()
    terms["pvalue"] = hypergeom.sf(both - 1, len(background), size, len(listed))
    neither = len(background) - size - len(listed) + both
    odds = (both + 0.5) * (neither + 0.5) / ((size - both + 0.5) * (len(listed) - both + 0.5))
    terms["odds_ratio"] = np.where(both > 0, odds, np.nan)
    terms["fdr"] = false_discovery_control(terms["pvalue"])
    return terms.sort_values(["pvalue", "overlap", "term"], ascending=[True, False, True], ignore_index=True)


def overrepresentation(
    genes: pd.DataFrame, collections: list[Collection], *, fdr: float, min_log2fc: float, min_genes: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test every collection against the raised and the lowered genes of one cell type.

    genes: a table of rule differential, possibly empty. Returns the terms, and a status row per collection
    and direction.
    """
    ranked = rank_symbols(genes)
    background = ranked["symbol"].tolist()
    known = set(background)
    lists = gene_lists(ranked, signed=is_signed(genes), fdr=fdr, min_log2fc=min_log2fc)
    tables, status = [pd.DataFrame(columns=list(TERMS)).astype(TERMS)], []
    for collection in collections:
        tested = {
            term: [symbol for symbol in members if symbol in known]
            for term, members in collection.sets.items()
        }
        tested = {term: symbols for term, symbols in tested.items() if symbols}
        for direction, listed in lists.items():
            row = describe(collection, genes, ranked) | {"direction": direction, "list_size": len(listed)}
            row["status"], row["reason"] = verdict(row, min_genes, fdr)
            row["sets_tested"] = len(tested) if row["status"] == "tested" else 0
            status.append(row)
            if row["status"] == "tested":
                terms = enrich(listed, tested, background).assign(
                    collection=collection.name, direction=direction
                )
                tables.append(terms[list(TERMS)].astype(TERMS))
    return pd.concat(tables, ignore_index=True), pd.DataFrame(status, columns=STATUS)


def verdict(row: dict, min_genes: int, fdr: float) -> tuple[str, str]:
    """Status of a collection and direction, and the reason where nothing was tested."""
    if row["genes_ranked"] == 0:
        return "not_tested", "no gene of this cell type was tested for differential expression"
    if row["overlap"] == 0:
        return (
            "no_overlap",
            "no gene of the collection was tested; gene_sets and load.symbols must name genes alike",
        )
    if row["list_size"] < min_genes:
        return (
            "too_few_genes",
            f"genes {row['direction']} at FDR {fdr:g}: {row['list_size']}, needed: {min_genes} "
            "(overrepresentation.min_genes)",
        )
    return "tested", ""


def choose(terms: pd.DataFrame, figure_terms: int) -> pd.DataFrame:
    """The rows to draw, in the order of drawing: those that share a gene with their list, of chosen sets.

    Chosen are the figure_terms sets with the smallest p-value in any cell type and direction (ties: the
    largest overlap, then the name), the most significant first.
    """
    found = terms[terms["overlap"] > 0]
    sets = found.sort_values(["pvalue", "overlap", "collection", "term"], ascending=[True, False, True, True])
    sets = sets[["collection", "term"]].drop_duplicates().head(figure_terms)
    order = pd.MultiIndex.from_frame(sets)
    place = order.get_indexer(pd.MultiIndex.from_frame(found[["collection", "term"]]))
    drawn = found.assign(place=place)[place >= 0]
    return drawn.sort_values("place", kind="stable").drop(columns="place")


def figure(drawn: pd.DataFrame, terms: pd.DataFrame, status: pd.DataFrame, *, fdr: float):
    """Dots of the chosen sets in each cell type: odds ratio as colour, FDR as size; or why there are none."""
    if drawn.empty:
        reasons = status.assign(reason=status["reason"].where(status["reason"] != "", "no set shares a gene"))
        return message(
            [f"{row.label}, {row.collection} {row.direction}: {row.reason}" for row in reasons.itertuples()]
        )
    several = len(set(terms["collection"])) > 1
    names = drawn["collection"] + ": " + drawn["term"] if several else drawn["term"]
    odds = np.log2(drawn["odds_ratio"]).clip(lower=0)  # one-sided: fewer genes than expected is no finding
    panels = {key: f"sets of {TITLES[key]}" for key in TITLES if key in set(drawn["direction"])}
    dots = drawn.assign(panel=drawn["direction"], row=names, colour=odds)
    return dotplot(
        dots,
        columns=list(dict.fromkeys(status["label"])),
        panels=panels,
        colours="log2 odds ratio, at least 0",
        limits=(0.0, max(1.0, odds.max())),
        fdr=fdr,
    )


if __name__ == "__main__":
    with job(snakemake) as out:
        settings = dict(snakemake.params.items())
        figure_terms = settings.pop("figure_terms")
        collections = read_collections(snakemake.input.gene_sets)
        tested = read_tested(snakemake.input.cell_types, snakemake.input.genes, GENES)
        terms, status = over_cell_types(
            tested, lambda genes: overrepresentation(genes, collections, **settings)
        )
        terms.to_parquet(out.terms, index=False)
        write_tsv(status, out.status)
        save_figure(figure(choose(terms, figure_terms), terms, status, fdr=settings["fdr"]), out.figure)
        for row in status.itertuples():
            print(
                f"overrepresentation: {row.label}, {row.collection} {row.direction}: {row.list_size:,} of "
                f"{row.genes_ranked:,} genes, {row.sets_tested:,} of {row.sets:,} sets tested; "
                f"{row.status}{': ' * bool(row.reason)}{row.reason}"
            )
        lists = status[["label", "direction"]][status["sets_tested"] > 0].drop_duplicates()
        print(
            f"overrepresentation: {(terms['fdr'] < settings['fdr']).sum():,} sets at FDR {settings['fdr']:g} "
            f"in {len(lists)} lists of genes"
        )
