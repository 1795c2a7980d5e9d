"""Gene sets of one cell type that say the same, as one group with a representative.

Of the sets with `fdr` below the setting and one sign, of all collections, those are a group whose leading
edges overlap by group_overlap or more on average (overlap coefficient: genes in both / genes in the smaller
one; average linkage). Groups are numbered from 1 by their most significant set, their representative; 0: not
significant. Alternatives: enrichment maps (Merico et al. 2010, PLoS ONE 5:e13984) take the connected
components of the same coefficient, which chain; fgsea's collapsePathways (Korotkevich et al., bioRxiv 060012)
tests one set given another.
"""

import numpy as np
import pandas as pd


def most_significant_first(terms: pd.DataFrame) -> pd.DataFrame:
    """Order by p-value, where all bounds are equal (no permutation was as extreme), then by |NES|."""
    pvalue = terms["pvalue"].mask(terms["pvalue_is_bound"], 0)
    ordered = terms.assign(pvalue_=pvalue, strength=-terms["nes"].abs())
    return terms.loc[ordered.sort_values(["pvalue_", "strength", "term"]).index].reset_index(drop=True)


def group(terms: pd.DataFrame, *, fdr: float, group_overlap: float) -> pd.DataFrame:
    """Terms of one cell type with `group` and `representative`, see above; the order of rows stays."""
    ordered = pd.Index(most_significant_first(terms.rename_axis("row").reset_index())["row"])
    groups = pd.Series(0, index=terms.index)
    significant = terms.loc[ordered, "fdr"] < fdr
    for raised in (True, False):
        alike = ordered[significant & ((terms.loc[ordered, "es"] >= 0) == raised)]
        edges = terms.loc[alike, "leading_edge"].str.split(";").tolist()
        groups.loc[alike] = groups.max() + clusters(edges, group_overlap)
    # numbered again in the order of significance, both signs together
    found = groups.loc[ordered].loc[lambda number: number > 0]
    first = found.drop_duplicates()
    numbers = pd.Series(range(1, len(first) + 1), index=first)
    return terms.assign(
        group=groups.map(numbers).fillna(0).astype(int), representative=terms.index.isin(first.index)
    )


def clusters(sets: list[list[str]], overlap: float) -> np.ndarray:
    """Number, from 1, of the cluster of each set: average linkage, cut where the overlap falls below.

    Deterministic for an order of sets; without a set an empty array.
    """
    if len(sets) < 2:
        return np.ones(len(sets), dtype=int)
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    genes = {gene: place for place, gene in enumerate(dict.fromkeys(gene for one in sets for gene in one))}
    member = np.zeros((len(sets), len(genes)), dtype=np.float32)  # sums below 2^24 are exact
    for row, one in enumerate(sets):
        member[row, [genes[gene] for gene in one]] = 1
    shared, size = (member @ member.T).astype(float), member.sum(axis=1, dtype=float)
    distance = 1 - shared / np.minimum.outer(size, size)
    tree = linkage(squareform(distance, checks=False), method="average")
    return fcluster(tree, 1 - overlap + 1e-9, criterion="distance")
