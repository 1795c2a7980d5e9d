"""Test each gene set for more raised, or more lowered, genes than the tested genes would give.

One-sided hypergeometric test by gseapy, background = the tested genes of this cell type (not the genome), the
significantly raised and lowered genes apart. `odds_ratio` is gseapy's, with 0.5 added to each of the four
counts, missing where the overlap is 0 (p = 1). `fdr` is Benjamini-Hochberg over all sets of a collection and
direction that have a tested gene, also those without overlap, which gseapy leaves out of its own adjustment.
Each GMT file is a collection of its own. Raised or lowered: with the tested term, per its unit.
"""

import numpy as np
import pandas as pd
from _gene_sets import Collection, describe, rank_symbols, read_collections
from _job import job
from matplotlib.figure import Figure

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
DRAWN = 10  # sets per direction in the figure; the table has all


def gene_lists(ranked: pd.DataFrame, *, fdr: float, min_log2fc: float) -> dict[str, list[str]]:
    """Symbols of the genes with padj below fdr and a log2 fold change of at least min_log2fc up or down.

    ranked: tested genes, one per symbol, from raised to lowered. A gene without padj (filtered by mean count)
    is in no list but in the background. The strongest gene comes first in both lists.
    """
    significant = ranked[ranked["padj"] < fdr]
    change = significant["log2FoldChange"]
    up = significant["symbol"][(change > 0) & (change >= min_log2fc)]
    down = significant["symbol"][(change < 0) & (change <= -min_log2fc)]
    return {"up": up.tolist(), "down": down.tolist()[::-1]}


def enrich(listed: list[str], sets: dict[str, list[str]], background: list[str]) -> pd.DataFrame:
    """Test each set against one list.

    listed: symbols of the list, part of background; sets: set -> its symbols in the background, at least one.
    Returns TERMS without collection and direction, a row per set, smallest p-value first.
    """
    import gseapy
    from scipy.stats import false_discovery_control

    rows = []
    for term, symbols in sets.items():
        members = set(symbols)
        shared = [symbol for symbol in listed if symbol in members]
        rows.append({"term": term, "overlap": len(shared), "size": len(symbols), "genes": ";".join(shared)})
    terms = pd.DataFrame(rows).assign(background=len(background), list_size=len(listed))
    # By number, because gseapy turns a list of symbols like C1orf43 to upper case but not the sets.
    ids = {symbol: f"G{number}" for number, symbol in enumerate(background)}
    tested = pd.DataFrame(columns=["Term", "P-value", "Odds Ratio"])
    if terms["overlap"].any():
        tested = gseapy.enrich(
            [ids[symbol] for symbol in listed],
            {term: [ids[symbol] for symbol in symbols] for term, symbols in sets.items()},
            background=list(ids.values()),
            outdir=None,
            no_plot=True,
        ).results
    tested = tested.set_index("Term")
    terms["odds_ratio"] = terms["term"].map(tested["Odds Ratio"]).astype(float)
    terms["pvalue"] = terms["term"].map(tested["P-value"]).astype(float).fillna(1.0)
    terms["fdr"] = false_discovery_control(terms["pvalue"])
    return terms.sort_values(["pvalue", "overlap", "term"], ascending=[True, False, True], ignore_index=True)


def overrepresentation(
    genes: pd.DataFrame, collections: list[Collection], *, fdr: float, min_log2fc: float, min_genes: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test every collection against the raised and the lowered genes.

    genes: a table of rule differential, possibly empty. Returns the terms, and a status row per collection
    and direction.
    """
    ranked = rank_symbols(genes)
    background = ranked["symbol"].tolist()
    known = set(background)
    lists = gene_lists(ranked, fdr=fdr, min_log2fc=min_log2fc)
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
    return pd.concat(tables, ignore_index=True), pd.DataFrame(status)[STATUS]


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


def figure(terms: pd.DataFrame, status: pd.DataFrame) -> Figure:
    """The sets with the smallest p-values per direction, dots by their overlap; or why there is none."""
    fig = Figure(figsize=(9, 6.4), layout="constrained")
    panels = fig.subplots(2, 1, sharex=True)
    for axes, direction, colour in zip(panels, ("up", "down"), ("firebrick", "steelblue"), strict=True):
        drawn = terms[(terms["direction"] == direction) & (terms["overlap"] > 0)]
        drawn = drawn.sort_values("pvalue", kind="stable").head(DRAWN).iloc[::-1]
        axes.set_title(f"sets of {'raised' if direction == 'up' else 'lowered'} genes", fontsize=9)
        axes.tick_params(labelsize=8)
        if drawn.empty:
            rows = status[status["direction"] == direction]
            reasons = [
                f"{row.collection}: {row.reason or 'no set shares a gene'}" for row in rows.itertuples()
            ]
            axes.text(
                0.5, 0.5, "\n".join(reasons), ha="center", va="center", fontsize=8, transform=axes.transAxes
            )
            axes.set_yticks([])
            continue
        significance = -np.log10(drawn["pvalue"].clip(lower=np.finfo(float).tiny))
        height = np.arange(len(drawn))
        area = 20 + 180 * drawn["overlap"] / drawn["overlap"].max()
        axes.hlines(height, 0, significance, color=colour, linewidth=0.8, alpha=0.4)
        axes.scatter(significance, height, s=area, color=colour)
        axes.set_yticks(height, [short(term) for term in drawn["term"]])
        axes.set_ylim(-0.7, len(drawn) - 0.3)
        for x, y, row in zip(significance, height, drawn.itertuples(), strict=True):
            label = f"{row.overlap} of {row.size}, FDR {row.fdr:.2g}"
            axes.annotate(label, (x, y), (9, 0), textcoords="offset points", va="center", fontsize=7)
    panels[0].set_xlim(0, 1.25 * max(panels[0].dataLim.x1, panels[1].dataLim.x1, 1))
    panels[1].set_xlabel("$-$log10 p (hypergeometric, background: tested genes)", fontsize=8)
    return fig


def short(term: str) -> str:
    """A set name that fits beside an axis: words for underscores, at most 45 characters."""
    words = term.replace("_", " ")
    return words if len(words) <= 45 else words[:42].rstrip() + "..."


if __name__ == "__main__":
    with job(snakemake) as out:  # noqa: F821
        terms, status = overrepresentation(
            pd.read_parquet(snakemake.input.genes),  # noqa: F821
            read_collections(snakemake.input.gene_sets),  # noqa: F821
            **snakemake.params,  # noqa: F821
        )
        terms.to_parquet(out.terms, index=False)
        status.to_csv(out.status, sep="\t", index=False)
        figure(terms, status).savefig(out.figure, dpi=120, metadata={"Software": None})
        for row in status.itertuples():
            print(
                f"overrepresentation: {row.collection} {row.direction}: {row.list_size:,} of "
                f"{row.genes_ranked:,} genes, {row.sets_tested:,} of {row.sets:,} sets tested; "
                f"{row.status}{': ' * bool(row.reason)}{row.reason}"
            )
        for term in terms.sort_values("pvalue", kind="stable").head(3).itertuples():
            print(
                f"overrepresentation: {term.direction} {term.term}, {term.overlap} genes, FDR {term.fdr:.2g}"
            )
