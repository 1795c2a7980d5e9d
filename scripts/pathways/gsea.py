"""Test each gene set along the ranking of the genes of each cell type by their Wald statistic.

Preranked gene set enrichment analysis (Subramanian et al. 2005, PNAS 102:15545) by gseapy, weight 1:

ES      largest deviation from 0 of the running sum over the ranking; above 0: raised with the tested term
NES     ES / mean |ES| of permuted sets with the same sign
pvalue  share of permuted sets with the same sign that are as extreme
fdr     FDR from all permuted NES of the collection, within a cell type and collection
fdr_all FDR of Benjamini & Hochberg over all sets, collections and cell types of the contrast

A p-value or FDR of 0 cannot follow from permutations (Phipson & Smyth 2010, SAGMB 9:39). Where gseapy returns
0, the table has the smallest value that the permutations allow, and `pvalue_is_bound` or `fdr_is_bound` is
true. Each GMT file is a collection. `group` collects redundant sets (_groups.py). A contrast that tests
several coefficients at once has genes without a sign and cannot be ranked: status `no_sign`.
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
    name_genes,
    rank_symbols,
    read_collections,
    run_per_cell_type,
    warn_of_unknown,
)
from pathways._groups import group_terms, sort_by_significance

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
    "group": "int64",
    "representative": "bool",
    "pvalue_is_bound": "bool",
    "fdr_is_bound": "bool",
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


def match_sets(sets: dict[str, list[str]], ranked: pd.DataFrame, *, min_size: int, max_size: int) -> dict:
    """Ranked symbols of each set with min_size to max_size of them; a set of all symbols is dropped."""
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
) -> tuple[pd.DataFrame, dict[str, list[float]]]:
    """Score each set along the ranking.

    ranked: symbol and stat, sorted. matched: set -> its ranked symbols. Returns the terms (without collection
    and size), most significant first, and the running sum of each term over the ranking. Deterministic for a
    random_state and any number of threads: gseapy seeds each permutation.
    """
    # The function behind gseapy.prerank: prerank drops the permuted scores, which are needed for the
    # smallest p-value, sorts ties again and may turn symbols to upper case. Terms have numbers as names,
    # because gseapy reads text before "__" as a library with its own FDR.
    from gseapy.gse import prerank_rs

    names = list(matched)
    scores = prerank_rs(
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
    raised = np.array([np.count_nonzero(np.array(score.esnull) >= 0) for score in scores])
    terms = pd.DataFrame(
        {
            "term": [names[int(score.term)] for score in scores],
            "es": [score.es for score in scores],
            "nes": [score.nes for score in scores],
            "pvalue": [score.pval for score in scores],
            "fdr": [score.fdr for score in scores],
            "matched": [len(score.hits) for score in scores],
            "leading_edge": [leading_edge(score, ranked["symbol"]) for score in scores],
        }
    )
    up = terms["es"].to_numpy() >= 0
    pvalue_bound, fdr_bound = smallest_values(terms["nes"].to_numpy(), up, raised, permutation_num - raised)
    terms["pvalue_is_bound"] = terms["pvalue"] == 0
    terms["fdr_is_bound"] = terms["fdr"] == 0
    terms["pvalue"] = terms["pvalue"].mask(terms["pvalue_is_bound"], pvalue_bound)
    terms["fdr"] = terms["fdr"].mask(terms["fdr_is_bound"], fdr_bound)
    running = {names[int(score.term)]: score.run_es for score in scores}
    return sort_by_significance(terms), running


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
    """Smallest p-value and FDR that the permutations allow for each set: as if one more were as extreme.

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
    fdr: float,
    group_overlap: float,
    random_state: int,
    threads: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test every collection along the ranking of one cell type.

    genes: a table of rule differential, can be empty. Returns the terms, and a status row per collection.
    """
    signed = is_signed(genes)
    ranked = rank_symbols(genes if signed else genes.iloc[:0])
    tables, status = [pd.DataFrame(columns=list(TERMS)).astype(TERMS)], []
    for collection in collections:
        row = describe(collection, genes, ranked)
        matched = match_sets(collection.sets, ranked, min_size=min_size, max_size=max_size)
        row["sets_tested"] = len(matched)
        row["status"], row["reason"] = judge_collection(row, signed, min_size, max_size)
        status.append(row)
        if not matched:
            continue
        terms, _ = prerank(
            ranked, matched, permutation_num=permutation_num, random_state=random_state, threads=threads
        )
        sizes = {term: len(symbols) for term, symbols in collection.sets.items()}
        terms = terms.assign(collection=collection.name, size=terms["term"].map(sizes))
        tables.append(terms.reindex(columns=list(TERMS), fill_value=0).astype(TERMS))
    terms = group_terms(pd.concat(tables, ignore_index=True), fdr=fdr, group_overlap=group_overlap)
    return terms.astype(TERMS), pd.DataFrame(status, columns=STATUS)


def judge_collection(row: dict, signed: bool, min_size: int, max_size: int) -> tuple[str, str]:
    """Status of a collection, and the reason if no set was tested."""
    if not signed:
        return (
            "no_sign",
            "the contrast tests several coefficients at once, so its genes are neither raised nor lowered; "
            "see overrepresentation, or name one coefficient in contrasts",
        )
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


def choose_sets(terms: pd.DataFrame, figure_terms: int) -> pd.DataFrame:
    """The rows of the figure_terms sets to draw, in the order of the figure.

    Sets that represent a group in a cell type come before others, then sets with the smallest fdr_all in any
    cell type (ties: the largest |NES|, then the name). The figure orders them by mean NES, from raised to
    lowered.
    """
    scored = terms.assign(strength=terms["nes"].abs()).groupby(["collection", "term"], as_index=False)
    sets = scored.agg(
        representative=("representative", "any"),
        fdr_all=("fdr_all", "min"),
        strength=("strength", "max"),
        nes=("nes", "mean"),
    )
    sets = sets.sort_values(
        ["representative", "fdr_all", "strength", "collection", "term"],
        ascending=[False, True, False, True, True],
    )
    sets = sets.head(figure_terms).sort_values(
        ["nes", "collection", "term"], ascending=[False, True, True], ignore_index=True
    )
    order = pd.MultiIndex.from_frame(sets[["collection", "term"]])
    place = order.get_indexer(pd.MultiIndex.from_frame(terms[["collection", "term"]]))
    selected = terms.assign(place=place)[place >= 0]
    return selected.sort_values("place", kind="stable").drop(columns="place")


def draw_terms(selected: pd.DataFrame, terms: pd.DataFrame, status: pd.DataFrame, *, fdr: float):
    """Dots of the selected sets in each cell type: NES as colour, FDR as size; or why there are none."""
    if selected.empty:
        return draw_message([f"{row.label}, {row.collection}: {row.reason}" for row in status.itertuples()])
    several = len(set(terms["collection"])) > 1
    names = selected["collection"] + ": " + selected["term"] if several else selected["term"]
    limit = max(1.0, selected["nes"].abs().max())
    sets = terms[["collection", "term"]].drop_duplicates()
    title = f"{names.nunique()} of {len(sets):,} gene sets: one of each group, smallest FDR first"
    dots = selected.assign(panel="", row=names, colour=selected["nes"])
    columns = list(dict.fromkeys(status["label"]))
    colours, limits = "NES (red: raised)", (-limit, limit)
    return dotplot(dots, columns=columns, panels={"": title}, colours=colours, limits=limits, fdr=fdr)


def summarise(terms: pd.DataFrame, status: pd.DataFrame, fdr: float) -> str:
    """One line: number of significant sets over all cell types, and the strongest one."""
    significant = terms[terms["fdr"] < fdr]
    tested = status.loc[status["sets_tested"] > 0, "label"].nunique()
    line = f"{len(significant):,} findings at FDR {fdr:g} (sets x cell types) in {tested} cell types"
    if len(significant):
        best = significant.loc[significant["nes"].abs().idxmax()]
        line += f"; strongest {best['term']} in {best['label']}, NES {best['nes']:.2f}"
    return line


if __name__ == "__main__":
    with job(snakemake) as out:
        settings = dict(snakemake.params.items())
        figure_terms = settings.pop("figure_terms")
        collections = read_collections(snakemake.input.gene_sets)
        warn_of_unknown(collections, name_genes(pd.read_parquet(snakemake.input.cohort)))
        tested = read_tested(snakemake.input.cell_types, snakemake.input.genes, GENES)
        terms, status = run_per_cell_type(
            tested,
            lambda genes: gsea(genes, collections, threads=snakemake.threads, **settings),
        )
        terms.to_parquet(out.terms, index=False)
        write_tsv(status, out.status)
        save_figure(
            draw_terms(choose_sets(terms, figure_terms), terms, status, fdr=settings["fdr"]), out.figure
        )
        for row in status.itertuples():
            print(
                f"{row.label}, {row.collection}: {row.sets_tested:,} of {row.sets:,} sets tested "
                f"along {row.genes_ranked:,} genes; {row.status}{': ' * bool(row.reason)}{row.reason}"
            )
        conclude(summarise(terms, status, settings["fdr"]))
