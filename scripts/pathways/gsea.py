"""Rank the genes of each cell type by their Wald statistic and test each gene set along the rankings.

Preranked gene set enrichment (Subramanian et al. 2005, PNAS 102:15545) as gseapy computes it, weight 1: the
enrichment score is the largest deviation of a running sum, NES divides it by the mean score of permuted sets
of its sign, `pvalue` is the share of those that are as extreme, `fdr` compares NES with all permuted NES of
the collection. Permutations cannot show a zero: where gseapy says 0 the table holds the smallest value they
can show, and `pvalue_is_bound` or `fdr_is_bound` says so (Phipson & Smyth 2010, SAGMB 9:39).
Each GMT file is a collection of its own, and `fdr` holds within a cell type and collection; `fdr_all` is
Benjamini & Hochberg's over all sets, collections and cell types of the contrast, no smaller than what
1 / permutation_num allows. `group` collects sets that say the same (_groups.py). Positive scores: raised with
the tested term. A contrast that tests several coefficients at once gives its genes no sign, so there is no
ranking from raised to lowered: status `no_sign`.
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
from pathways._groups import group, most_significant_first

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
) -> tuple[pd.DataFrame, dict[str, list[float]]]:
    """Score each set along the ranking.

    ranked: symbol and stat, sorted. matched: set -> its ranked symbols.
    Returns the terms (without collection and size), most significant first, and per term its running sum
    over the ranking. Deterministic for a random_state, whatever the threads: gseapy seeds each permutation.
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
    running = {names[int(score.term)]: score.run_es for score in scored}
    return most_significant_first(terms), running


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
    fdr: float,
    group_overlap: float,
    random_state: int,
    threads: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test every collection along the ranking of one cell type.

    genes: a table of rule differential, possibly empty. Returns the terms and a status row per collection.
    """
    signed = is_signed(genes)
    ranked = rank_symbols(genes if signed else genes.iloc[:0])
    tables, status = [pd.DataFrame(columns=list(TERMS)).astype(TERMS)], []
    for collection in collections:
        row = describe(collection, genes, ranked)
        matched = sets_in_ranking(collection.sets, ranked, min_size=min_size, max_size=max_size)
        row["sets_tested"] = len(matched)
        row["status"], row["reason"] = verdict(row, signed, min_size, max_size)
        status.append(row)
        if not matched:
            continue
        terms, _ = prerank(
            ranked, matched, permutation_num=permutation_num, random_state=random_state, threads=threads
        )
        sizes = {term: len(symbols) for term, symbols in collection.sets.items()}
        terms = terms.assign(collection=collection.name, size=terms["term"].map(sizes))
        tables.append(terms.reindex(columns=list(TERMS), fill_value=0).astype(TERMS))
    terms = group(pd.concat(tables, ignore_index=True), fdr=fdr, group_overlap=group_overlap)
    return terms.astype(TERMS), pd.DataFrame(status, columns=STATUS)


def verdict(row: dict, signed: bool, min_size: int, max_size: int) -> tuple[str, str]:
    """Status of a collection, and the reason where no set was tested."""
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


def choose(terms: pd.DataFrame, figure_terms: int) -> pd.DataFrame:
    """The rows of the sets to draw, in the order of drawing.

    Drawn are the figure_terms sets that represent a group in a cell type or, after these, others; first those
    with the smallest fdr_all in any cell type (ties: the largest |NES|, then the name). They are ordered by
    their mean NES, from raised to lowered.
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
    drawn = terms.assign(place=place)[place >= 0]
    return drawn.sort_values("place", kind="stable").drop(columns="place")


def figure(drawn: pd.DataFrame, terms: pd.DataFrame, status: pd.DataFrame, *, fdr: float):
    """Dots of the chosen sets in each cell type: NES as colour, FDR as size; or why there are none."""
    if drawn.empty:
        return message([f"{row.label}, {row.collection}: {row.reason}" for row in status.itertuples()])
    several = len(set(terms["collection"])) > 1
    names = drawn["collection"] + ": " + drawn["term"] if several else drawn["term"]
    limit = max(1.0, drawn["nes"].abs().max())
    sets = terms[["collection", "term"]].drop_duplicates()
    title = f"{names.nunique()} of {len(sets):,} gene sets: one of each group, smallest FDR first"
    dots = drawn.assign(panel="", row=names, colour=drawn["nes"])
    columns = list(dict.fromkeys(status["label"]))
    colours, limits = "NES (red: raised)", (-limit, limit)
    return dotplot(dots, columns=columns, panels={"": title}, colours=colours, limits=limits, fdr=fdr)


def summary(terms: pd.DataFrame, status: pd.DataFrame, fdr: float) -> str:
    """One line: significant sets in cell types, and the strongest of them."""
    found = terms[terms["fdr"] < fdr]
    tested = status.loc[status["sets_tested"] > 0, "label"].nunique()
    line = f"gsea: {len(found):,} findings at FDR {fdr:g} (sets x cell types) in {tested} cell types"
    if len(found):
        best = found.loc[found["nes"].abs().idxmax()]
        line += f"; strongest {best['term']} in {best['label']}, NES {best['nes']:.2f}"
    return line


if __name__ == "__main__":
    with job(snakemake) as out:
        settings = dict(snakemake.params.items())
        figure_terms = settings.pop("figure_terms")
        collections = read_collections(snakemake.input.gene_sets)
        tested = read_tested(snakemake.input.cell_types, snakemake.input.genes, GENES)
        terms, status = over_cell_types(
            tested,
            lambda genes: gsea(genes, collections, threads=snakemake.threads, **settings),
        )
        terms.to_parquet(out.terms, index=False)
        write_tsv(status, out.status)
        save_figure(figure(choose(terms, figure_terms), terms, status, fdr=settings["fdr"]), out.figure)
        for row in status.itertuples():
            print(
                f"gsea: {row.label}, {row.collection}: {row.sets_tested:,} of {row.sets:,} sets tested "
                f"along {row.genes_ranked:,} genes; {row.status}{': ' * bool(row.reason)}{row.reason}"
            )
        print(summary(terms, status, settings["fdr"]))
