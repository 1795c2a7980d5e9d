"""Data of the page about genes and gene sets, by cell type and over all cell types."""

import numpy as np
import pandas as pd

from files import read_types
from report._tables import columns_of, numbers

BINS = 20  # of the p-value histogram


def index_of_genes(tables: dict[str, pd.DataFrame]) -> tuple[dict[str, int], dict[str, list]]:
    """Index of every tested gene, and ids and symbols in that order. tables: contrast -> differential."""
    genes = pd.concat([table[["gene_id", "symbol"]] for table in tables.values()])
    genes = genes.drop_duplicates("gene_id").sort_values("gene_id")
    place = {gene: i for i, gene in enumerate(genes["gene_id"])}
    return place, {"id": genes["gene_id"].tolist(), "symbol": genes["symbol"].tolist()}


def rank_genes(table: pd.DataFrame) -> pd.DataFrame:
    """Genes of one cell type by p-value, ties by id; genes without p-value last."""
    return table.sort_values(["pvalue", "gene_id"], na_position="last", kind="stable")


def effects(table: pd.DataFrame, place: dict[str, int], *, joint: bool) -> dict:
    """All tested genes of one cell type, by p-value.

    joint: several coefficients are tested together; then `lfc` is log2Range and has no standard error.
    """
    table = rank_genes(table)
    effect = "log2Range" if joint else "log2FoldChange"
    pvalues = table["pvalue"].dropna()
    return {
        "gene": [place[gene] for gene in table["gene_id"]],
        "lfc": numbers(table[effect]),
        "se": None if joint else numbers(table["lfcSE"]),
        "p": numbers(table["pvalue"]),
        "q": numbers(table["padj"]),
        "mean": numbers(table["baseMean"]),
        "histogram": np.histogram(pvalues, BINS, (0, 1))[0].tolist(),
    }


def donor_values(
    sums: str, tables: dict[str, pd.DataFrame], used: dict[str, pd.DataFrame], *, genes: int
) -> dict[str, dict[str, dict]]:
    """Counts of the first genes of each cell type and contrast in the samples of the test.

    sums: sums.h5ad; tables: contrast -> differential; used: contrast -> cell_type, sample, used,
    size_factor. Returns contrast -> cell type -> samples, factors, genes (ids), counts (genes, samples).
    """
    types = list(dict.fromkeys(name for table in tables.values() for name in table["cell_type"]))
    values = {contrast: {} for contrast in tables}
    for cell_type, (counts, obs, var) in zip(types, read_types(sums, types), strict=True):
        position = pd.Index(var["gene_id"])
        for contrast, table in tables.items():
            first = rank_genes(table[table["cell_type"] == cell_type]).head(genes)
            part = used[contrast]
            part = part[(part["cell_type"] == cell_type) & part["used"] & part["size_factor"].notna()]
            rows = pd.Index(obs["sample"].astype(str)).get_indexer(part["sample"].astype(str))
            if first.empty or part.empty or (rows < 0).any():
                continue
            selected = counts[rows][:, position.get_indexer(first["gene_id"])].toarray()
            values[contrast][cell_type] = {
                "samples": part["sample"].astype(str).tolist(),
                "factors": numbers(part["size_factor"]),
                "genes": first["gene_id"].tolist(),
                "counts": selected.T.astype(int).tolist(),
            }
    return values


def pathways(table: pd.DataFrame, *, terms: int, fdr: float) -> tuple[dict, int]:
    """Gene sets of one cell type by FDR, and the number of all sets.

    The first `terms` sets, and all with FDR below fdr up to 10 * terms.
    """
    order = table.assign(strength=-table["nes"].abs()).sort_values(["fdr", "strength", "term"], kind="stable")
    first = order.head(int(np.clip((order["fdr"] < fdr).sum(), terms, 10 * terms)))
    names = ["collection", "term", "nes", "pvalue", "fdr", "size", "matched", "leading_edge"]
    return columns_of(first[[name for name in names if name in first]]), len(table)


def strongest(table: pd.DataFrame, fdr: float) -> dict[str, dict | None]:
    """The set with the smallest FDR of each sign in one cell type: term, nes, fdr; None if not below fdr."""
    significant = table[table["fdr"] < fdr]
    if "representative" in significant:
        significant = significant[significant["representative"].fillna(True).astype(bool)]
    best = {}
    for name, sign in (("up", 1), ("down", -1)):
        same_sign = np.sign(significant["nes"]) == sign
        sets = significant[same_sign].assign(strength=lambda table: -table["nes"].abs())
        sets = sets.sort_values(["fdr", "strength", "term"], kind="stable")
        best[name] = sets.iloc[0][["term", "nes", "fdr"]].to_dict() if len(sets) else None
    return best


def heatmap(effects: pd.DataFrame, genes: pd.DataFrame, *, number: int, joint: bool) -> dict | None:
    """Effects (genes, cell types) of the first genes of the synthesis; None if a gene was not tested.

    effects: synthesis_effects; genes: synthesis_genes, in its order; joint: -log10 p instead of effects.
    """
    first = genes[genes["pattern"] != "none"].head(number)
    if first.empty:
        return None
    duplicated = set(first.loc[first["symbol"].duplicated(), "symbol"])
    label = "label" if "label" in effects else "cell_type"
    rows = effects[effects["gene_id"].isin(first["gene_id"])]
    values = -np.log10(rows["pvalue"].clip(lower=1e-300)) if joint else rows["log2FoldChange"]
    grid = rows.assign(value=values).pivot(index="gene_id", columns=label, values="value")
    grid = grid.reindex(first["gene_id"])
    significant = rows.pivot(index="gene_id", columns=label, values="padj_all").reindex(grid.index)
    return {
        "genes": [
            f"{symbol} ({gene_id})" if symbol in duplicated else symbol
            for symbol, gene_id in zip(first["symbol"], first["gene_id"], strict=True)
        ],
        "types": grid.columns.tolist(),
        "values": [numbers(row) for row in grid.to_numpy()],
        "padj": [numbers(row) for row in significant.to_numpy()],
        "joint": joint,
    }
