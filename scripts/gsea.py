"""Rank one cell type's genes by their Wald statistic and test each gene set along the ranking.

Preranked gene set enrichment (Subramanian et al. 2005, PNAS 102:15545) as gseapy computes it, weight 1: the
enrichment score is the largest deviation of a running sum, NES divides it by the mean score of permuted sets
of its sign, `pvalue` is the share of those that are as extreme, `fdr` compares NES with all permuted NES of
the collection. Permutations cannot show a zero: where gseapy says 0 the table holds the smallest value they
can show, and `pvalue_is_bound` or `fdr_is_bound` says so (Phipson & Smyth 2010, SAGMB 9:39).
Each GMT file is a collection of its own. Positive scores: raised with the tested term.
"""

import math
import textwrap

import numpy as np
import pandas as pd
from _gene_sets import Collection, describe, rank_symbols, read_collections
from _job import job
from matplotlib.figure import Figure

TERMS = {
    "collection": "str",
    "term": "str",
    "es": "float64",
    "nes": "float64",
    "pvalue": "float64",
    "fdr": "float64",
    "size": "int64",
    "matched": "int64",
    "leading_edge": "str",
    "pvalue_is_bound": "bool",
    "fdr_is_bound": "bool",
}
CURVES = {
    "collection": "str",
    "term": "str",
    "rank": "int64",
    "stat": "float64",
    "running_sum": "float64",
    "hit": "bool",
}
STATUS = [
    "collection",
    "sha256",
    "status",
    "reason",
    "sets",
    "sets_tested",
    "genes_ranked",
    "genes_without_pvalue",
    "tied_share",
    "duplicated_symbols",
    "overlap",
]


def sets_in_ranking(
    sets: dict[str, list[str]], ranked: pd.DataFrame, *, min_size: int, max_size: int
) -> dict:
    """Ranked symbols of each set that has min_size to max_size of them and is not the whole ranking."""
    known = set(ranked["symbol"])
    matched = {term: [gene for gene in genes if gene in known] for term, genes in sets.items()}
    return {
        term: genes
        for term, genes in matched.items()
        if min_size <= len(genes) <= max_size and len(genes) < len(known)
    }


def prerank(
    ranked: pd.DataFrame,
    matched: dict[str, list[str]],
    *,
    permutation_num: int,
    random_state: int,
    threads: int,
) -> tuple[pd.DataFrame, dict]:
    """Score each set along the ranking.

    ranked: symbol and stat, sorted. matched: set -> its ranked symbols.
    Returns the terms (without collection and size), most significant first, and per term (running sum over
    the ranking, positions of its genes). Deterministic for a random_state, whatever the threads.
    """
    # What gseapy.prerank calls: the wrapper drops the permuted scores, whose number bounds the p-value,
    # re-sorts ties and may turn symbols to upper case. Terms go by number, because gseapy would take
    # what stands before a "__" in their names for a library with its own FDR.
    from gseapy.gse import prerank_rs

    names = list(matched)
    scored = prerank_rs(
        ranked["symbol"].tolist(),
        ranked["stat"].tolist(),
        {str(number): matched[name] for number, name in enumerate(names)},
        1.0,
        1,
        len(ranked),
        permutation_num,
        threads,
        random_state,
    ).summaries
    raised = np.array([np.count_nonzero(np.array(score.esnull) >= 0) for score in scored])
    terms = pd.DataFrame(
        {
            "term": [names[int(score.term)] for score in scored],
            "es": [score.es for score in scored],
            "nes": [score.nes for score in scored],
            "pvalue": [score.pval for score in scored],
            "fdr": [score.fdr for score in scored],
            "matched": [len(score.hits) for score in scored],
            "leading_edge": [leading_edge(score, ranked["symbol"]) for score in scored],
        }
    )
    up = terms["es"].to_numpy() >= 0
    pvalue_bound, fdr_bound = smallest_values(terms["nes"].to_numpy(), up, raised, permutation_num - raised)
    terms["pvalue_is_bound"] = terms["pvalue"] == 0
    terms["fdr_is_bound"] = terms["fdr"] == 0
    terms["pvalue"] = terms["pvalue"].mask(terms["pvalue_is_bound"], pvalue_bound)
    terms["fdr"] = terms["fdr"].mask(terms["fdr_is_bound"], fdr_bound)
    running = {names[int(score.term)]: (score.run_es, score.hits) for score in scored}
    return most_significant_first(terms), running


def most_significant_first(terms: pd.DataFrame) -> pd.DataFrame:
    """Order by p-value, where all bounds are equal (no permutation was as extreme), then by |NES|."""
    pvalue = terms["pvalue"].mask(terms["pvalue_is_bound"], 0)
    ordered = terms.assign(pvalue_=pvalue, strength=-terms["nes"].abs())
    return terms.loc[ordered.sort_values(["pvalue_", "strength", "term"]).index].reset_index(drop=True)


def leading_edge(score, symbols: pd.Series) -> str:
    """Symbols of a set up to the peak of its running sum, the most extreme first, joined by ";"."""
    if score.es >= 0:
        peak = int(np.argmax(score.run_es))
        positions = [hit for hit in score.hits if hit <= peak]
    else:
        peak = int(np.argmin(score.run_es))
        positions = [hit for hit in score.hits if hit >= peak][::-1]
    return ";".join(symbols.iloc[positions])


def smallest_values(nes, up, raised, lowered) -> tuple[np.ndarray, np.ndarray]:
    """Smallest p-value and FDR that the permutations can show for each set, were one more of them as extreme.

    nes, up (score not negative), raised and lowered (permutations with a score of that sign): (sets,) arrays.
    """
    pvalue = 1 / (np.where(up, raised, lowered) + 1)
    null = 1 / (np.where(up, raised.sum(), lowered.sum()) + 1)
    as_extreme = np.array(
        [np.sum((up == sign) & (np.abs(nes) >= abs(x))) for x, sign in zip(nes, up, strict=True)]
    )
    observed = as_extreme / np.where(up, up.sum(), (~up).sum())
    return pvalue, np.minimum(null / observed, 1)


def gsea(
    genes: pd.DataFrame,
    collections: list[Collection],
    *,
    min_size: int,
    max_size: int,
    permutation_num: int,
    figure_terms: int,
    random_state: int,
    threads: int,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Test every collection along one ranking.

    genes: a table of rule differential, possibly empty.
    Returns the terms, a status row per collection, and the running sums of the figure_terms most significant.
    """
    ranked = rank_symbols(genes)
    tables, running, status = [pd.DataFrame(columns=list(TERMS)).astype(TERMS)], {}, []
    for collection in collections:
        row = describe(collection, genes, ranked)
        matched = sets_in_ranking(collection.sets, ranked, min_size=min_size, max_size=max_size)
        row["sets_tested"] = len(matched)
        row["status"], row["reason"] = verdict(row, min_size, max_size)
        status.append(row)
        if not matched:
            continue
        terms, sums = prerank(
            ranked, matched, permutation_num=permutation_num, random_state=random_state, threads=threads
        )
        sizes = {term: len(symbols) for term, symbols in collection.sets.items()}
        terms = terms.assign(collection=collection.name, size=terms["term"].map(sizes))
        tables.append(terms[list(TERMS)].astype(TERMS))
        running |= {(collection.name, term): sums[term] for term in terms["term"][:figure_terms]}
    terms = pd.concat(tables, ignore_index=True)
    drawn = most_significant_first(terms)[["collection", "term"]].head(figure_terms)
    curves = [curve(key, ranked, *running[key]) for key in drawn.itertuples(index=False, name=None)]
    curves = pd.concat([pd.DataFrame(columns=list(CURVES)).astype(CURVES), *curves], ignore_index=True)
    return terms, pd.DataFrame(status)[STATUS], curves


def verdict(row: dict, min_size: int, max_size: int) -> tuple[str, str]:
    """Status of a collection, and the reason where no set was tested."""
    if row["genes_ranked"] == 0:
        return "not_tested", "no gene of this cell type was tested for differential expression"
    if row["overlap"] == 0:
        return (
            "no_overlap",
            "no gene of the collection was tested; gene_sets and load.symbols must name genes alike",
        )
    if row["sets_tested"] == 0:
        return (
            "too_few_sets",
            f"no set has {min_size} to {max_size} tested genes (gsea.min_size, gsea.max_size)",
        )
    return "tested", ""


def curve(key: tuple[str, str], ranked: pd.DataFrame, running_sum: list, hits: list) -> pd.DataFrame:
    """One set's running sum along the ranking, a row per gene."""
    table = pd.DataFrame(
        {"rank": np.arange(1, len(ranked) + 1), "stat": ranked["stat"], "running_sum": running_sum}
    )
    table["hit"] = table.index.isin(hits)
    return table.assign(collection=key[0], term=key[1])[list(CURVES)].astype(CURVES)


def figure(curves: pd.DataFrame, terms: pd.DataFrame, status: pd.DataFrame) -> Figure:
    """Running sum of each set in curves over the ranking, its genes as ticks; or why there is none."""
    drawn = list(curves.groupby(["collection", "term"], sort=False))
    if not drawn:
        return message("\n".join(f"{row.collection}: {row.reason}" for row in status.itertuples()))
    columns = min(2, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    fig = Figure(figsize=(4.8 * columns, 3.1 * rows + 0.3), layout="constrained")
    panels = fig.subfigures(rows, columns, squeeze=False).flat
    scores = terms.set_index(["collection", "term"])
    for panel, (key, table) in zip(panels, drawn, strict=False):
        top, ticks = panel.subplots(2, 1, sharex=True, height_ratios=[6, 1])
        score = scores.loc[key]
        colour = "firebrick" if score["es"] >= 0 else "steelblue"
        top.plot(table["rank"], table["running_sum"], color=colour, linewidth=1.5)
        top.axhline(0, color="0.6", linewidth=0.8)
        pvalue = f"p {'<' if score['pvalue_is_bound'] else '='} {score['pvalue']:.2g}"
        fdr = f"FDR {'<' if score['fdr_is_bound'] else '='} {score['fdr']:.2g}"
        top.set_title(f"{short(key[1])}\nNES {score['nes']:.2f}, {pvalue}, {fdr}", fontsize=9)
        top.set_ylabel("running sum", fontsize=8)
        ticks.vlines(table["rank"][table["hit"]], 0, 1, color=colour, linewidth=0.6)
        zero = (table["stat"] > 0).sum()
        for axes in (top, ticks):
            axes.axvline(zero + 0.5, color="0.6", linewidth=0.8, linestyle=":")
            axes.tick_params(labelsize=8)
        ticks.set(yticks=[], ylim=(0, 1), xlim=(0, len(table) + 1))
        ticks.set_xlabel("genes, from raised to lowered (dots: statistic changes sign)", fontsize=8)
    return fig


def short(term: str) -> str:
    """A set name that fits over a panel: words for underscores, at most two lines."""
    return textwrap.fill(term.replace("_", " "), 48, max_lines=2, placeholder=" ...")


def message(text: str) -> Figure:
    """A figure that says in words why there is nothing to draw."""
    fig = Figure(figsize=(4.8, 3.4), layout="constrained")
    fig.text(
        0.5, 0.5, textwrap.fill(text, 50, replace_whitespace=False), ha="center", va="center", fontsize=9
    )
    return fig


if __name__ == "__main__":
    with job(snakemake) as out:  # noqa: F821
        terms, status, curves = gsea(
            pd.read_parquet(snakemake.input.genes),  # noqa: F821
            read_collections(snakemake.input.gene_sets),  # noqa: F821
            threads=snakemake.threads,  # noqa: F821
            **snakemake.params,  # noqa: F821
        )
        terms.to_parquet(out.terms, index=False)
        status.to_csv(out.status, sep="\t", index=False)
        figure(curves, terms, status).savefig(out.figure, dpi=120, metadata={"Software": None})
        for row in status.itertuples():
            print(
                f"gsea: {row.collection}: {row.sets_tested:,} of {row.sets:,} sets tested "
                f"along {row.genes_ranked:,} genes; {row.status}{': ' * bool(row.reason)}{row.reason}"
            )
        for term in terms.head(3).itertuples():
            print(f"gsea: {term.term} NES {term.nes:.2f}, FDR {term.fdr:.2g}")
