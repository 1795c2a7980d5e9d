"""Test each gene set for overrepresentation among the significant genes of a cell type.

One-sided hypergeometric test. With N tested genes of the cell type (the background, not the genome), n of
them in the list, K in the set and k in both:

pvalue     P(X >= k), X hypergeometric with N, K and n; 1 if k = 0
odds_ratio (k + 0.5) (N - K - n + k + 0.5) / ((K - k + 0.5) (n - k + 0.5)); missing if k = 0
fdr        Benjamini-Hochberg over all sets with a tested gene of a cell type, collection and direction
fdr_all    Benjamini-Hochberg over all rows of the contrast

Both as in gseapy, except that its FDR leaves out sets with k = 0. Each GMT file is a collection. Raised genes
(up) and lowered genes (down) with the tested term are separate lists. The genes of a contrast that tests
several coefficients at once have no sign and are one list, `any`.
"""

import numpy as np
import pandas as pd

from files import read_tested, save_figure, write_tsv
from job import conclude, job
from pathways._dotplot import dotplot, draw_message
from pathways._gene_sets import (
    GENES,
    Collection,
    describe,
    is_signed,
    rank_symbols,
    read_collections,
    run_per_cell_type,
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


def select_genes(
    ranked: pd.DataFrame, *, signed: bool, fdr: float, min_log2fc: float
) -> dict[str, list[str]]:
    """Symbols of genes with padj below fdr and a log2 fold change of at least min_log2fc, up or down.

    ranked: tested genes, one per symbol, from raised to lowered. A gene without padj (filtered by mean count)
    is not in a list, but in the background. The strongest gene is the first of each list. Genes without a
    sign are one list, to which min_log2fc does not apply.
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

    listed: symbols of the list, a subset of background; sets: set -> its symbols in the background, at least
    one. Returns TERMS without collection and direction, a row per set, smallest p-value first.
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

    genes: a table of rule differential, can be empty. Returns the terms, and a status row per collection
    and direction.
    """
    ranked = rank_symbols(genes)
    background = ranked["symbol"].tolist()
    known = set(background)
    lists = select_genes(ranked, signed=is_signed(genes), fdr=fdr, min_log2fc=min_log2fc)
    tables, status = [pd.DataFrame(columns=list(TERMS)).astype(TERMS)], []
    for collection in collections:
        tested = {
            term: [symbol for symbol in members if symbol in known]
            for term, members in collection.sets.items()
        }
        tested = {term: symbols for term, symbols in tested.items() if symbols}
        for direction, listed in lists.items():
            row = describe(collection, genes, ranked) | {"direction": direction, "list_size": len(listed)}
            row["status"], row["reason"] = judge_list(row, min_genes, fdr)
            row["sets_tested"] = len(tested) if row["status"] == "tested" else 0
            status.append(row)
            if row["status"] == "tested":
                terms = enrich(listed, tested, background).assign(
                    collection=collection.name, direction=direction
                )
                tables.append(terms[list(TERMS)].astype(TERMS))
    return pd.concat(tables, ignore_index=True), pd.DataFrame(status, columns=STATUS)


def judge_list(row: dict, min_genes: int, fdr: float) -> tuple[str, str]:
    """Status of a collection and direction, and the reason if no set was tested."""
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


def choose_sets(terms: pd.DataFrame, figure_terms: int) -> pd.DataFrame:
    """The rows to draw, in the order of the figure: rows with overlap of the most significant sets.

    These are the figure_terms sets with the smallest p-value in any cell type and direction (ties: the
    largest overlap, then the name).
    """
    overlapping = terms[terms["overlap"] > 0]
    sets = overlapping.sort_values(
        ["pvalue", "overlap", "collection", "term"], ascending=[True, False, True, True]
    )
    sets = sets[["collection", "term"]].drop_duplicates().head(figure_terms)
    order = pd.MultiIndex.from_frame(sets)
    place = order.get_indexer(pd.MultiIndex.from_frame(overlapping[["collection", "term"]]))
    selected = overlapping.assign(place=place)[place >= 0]
    return selected.sort_values("place", kind="stable").drop(columns="place")


def draw_terms(selected: pd.DataFrame, terms: pd.DataFrame, status: pd.DataFrame, *, fdr: float):
    """Dots of the selected sets in each cell type: odds ratio as colour, FDR as size; else the reasons."""
    if selected.empty:
        reasons = status.assign(reason=status["reason"].where(status["reason"] != "", "no set shares a gene"))
        return draw_message(
            [f"{row.label}, {row.collection} {row.direction}: {row.reason}" for row in reasons.itertuples()]
        )
    several = len(set(terms["collection"])) > 1
    names = selected["collection"] + ": " + selected["term"] if several else selected["term"]
    odds = np.log2(selected["odds_ratio"]).clip(lower=0)  # one-sided: fewer than expected is not tested
    panels = {key: f"sets of {TITLES[key]}" for key in TITLES if key in set(selected["direction"])}
    dots = selected.assign(panel=selected["direction"], row=names, colour=odds)
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
        terms, status = run_per_cell_type(
            tested, lambda genes: overrepresentation(genes, collections, **settings)
        )
        terms.to_parquet(out.terms, index=False)
        write_tsv(status, out.status)
        save_figure(
            draw_terms(choose_sets(terms, figure_terms), terms, status, fdr=settings["fdr"]), out.figure
        )
        for row in status.itertuples():
            print(
                f"{row.label}, {row.collection} {row.direction}: {row.list_size:,} of "
                f"{row.genes_ranked:,} genes, {row.sets_tested:,} of {row.sets:,} sets tested; "
                f"{row.status}{': ' * bool(row.reason)}{row.reason}"
            )
        lists = status[["label", "direction"]][status["sets_tested"] > 0].drop_duplicates()
        conclude(
            f"{(terms['fdr'] < settings['fdr']).sum():,} sets at FDR {settings['fdr']:g} "
            f"in {len(lists)} lists of genes"
        )
