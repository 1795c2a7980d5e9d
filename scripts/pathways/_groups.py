"""Group redundant gene sets of one cell type, and choose a representative of each group.

Sets A and B overlap by |A and B| / min(|A|, |B|), A and B being the genes of their leading edges. Significant
sets (`fdr` below the setting) of the same sign, from all collections, are clustered by average linkage and
cut at an overlap of group_overlap. Groups are numbered from 1 by their most significant set, the
representative; 0: not significant. Alternatives: connected components of the same overlap, which form chains
(enrichment maps, Merico et al. 2010, PLoS ONE 5:e13984); tests of one set conditional on another
(collapsePathways of fgsea, Korotkevich et al., bioRxiv 060012).
"""

import numpy as np
import pandas as pd


def sort_by_significance(terms: pd.DataFrame) -> pd.DataFrame:
    """Terms by p-value, all bounds being equal (no permutation was as extreme), then by |NES|."""
    pvalue = terms["pvalue"].mask(terms["pvalue_is_bound"], 0)
    ordered = terms.assign(pvalue_=pvalue, strength=-terms["nes"].abs())
    return terms.loc[ordered.sort_values(["pvalue_", "strength", "term"]).index].reset_index(drop=True)


def group_terms(terms: pd.DataFrame, *, fdr: float, group_overlap: float) -> pd.DataFrame:
    """Terms of one cell type, in the same order, with `group` and `representative`, see above."""
    ordered = pd.Index(sort_by_significance(terms.rename_axis("row").reset_index())["row"])
    groups = pd.Series(0, index=terms.index)
    significant = terms.loc[ordered, "fdr"] < fdr
    for is_raised in (True, False):
        same_sign = ordered[significant & ((terms.loc[ordered, "es"] >= 0) == is_raised)]
        edges = terms.loc[same_sign, "leading_edge"].str.split(";").tolist()
        groups.loc[same_sign] = groups.max() + cluster_sets(edges, group_overlap)
    # number the groups of both signs together, in the order of significance
    first = groups.loc[ordered].loc[lambda number: number > 0].drop_duplicates()
    numbers = pd.Series(range(1, len(first) + 1), index=first)
    return terms.assign(
        group=groups.map(numbers).fillna(0).astype(int), representative=terms.index.isin(first.index)
    )


def cluster_sets(sets: list[list[str]], overlap: float) -> np.ndarray:
    """Cluster number, from 1, of each set by average linkage, cut at an overlap of `overlap`.

    Deterministic for a given order of sets. Without sets an empty array.
    """
    if len(sets) < 2:
        return np.ones(len(sets), dtype=int)
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    names = dict.fromkeys(gene for members in sets for gene in members)
    genes = {gene: column for column, gene in enumerate(names)}
    member = np.zeros((len(sets), len(genes)), dtype=np.float32)  # sums below 2^24 are exact
    for row, members in enumerate(sets):
        member[row, [genes[gene] for gene in members]] = 1
    shared, size = (member @ member.T).astype(float), member.sum(axis=1, dtype=float)
    distance = 1 - shared / np.minimum.outer(size, size)
    tree = linkage(squareform(distance, checks=False), method="average")
    return fcluster(tree, 1 - overlap + 1e-9, criterion="distance")
