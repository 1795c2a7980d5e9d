"""What the report says about genes and gene sets, cell type by cell type, and over all cell types."""

import numpy as np
import pandas as pd

from files import read_types
from report._tables import columns_of, numbers

BINS = 20  # of the p-value histogram


def index_of_genes(tables: dict[str, pd.DataFrame]) -> tuple[dict[str, int], dict[str, list]]:
    """Place of every tested gene, and ids with symbols in that order. tables: contrast -> differential."""
    genes = pd.concat([table[["gene_id", "symbol"]] for table in tables.values()])
    genes = genes.drop_duplicates("gene_id").sort_values("gene_id")
    place = {gene: i for i, gene in enumerate(genes["gene_id"])}
    return place, {"id": genes["gene_id"].tolist(), "symbol": genes["symbol"].tolist()}


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Genes of one cell type by p-value, those without one last, ties by id."""
    return table.sort_values(["pvalue", "gene_id"], na_position="last", kind="stable")


def effects(table: pd.DataFrame, place: dict[str, int], *, joint: bool) -> dict:
    """All tested genes of one cell type for the page, by p-value.

    joint: several coefficients are tested together; then `lfc` is log2Range, without a standard error.
    """
    table = ranked(table)
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
    """Counts of the first genes of each cell type and contrast in the samples that took part.

    sums: sums.h5ad; tables: contrast -> differential; used: contrast -> cell_type, sample, used,
    size_factor. Returns contrast -> cell type -> samples, factors, genes (ids), counts (genes, samples).
    """
    types = list(dict.fromkeys(name for table in tables.values() for name in table["cell_type"]))
    found = {contrast: {} for contrast in tables}
    for cell_type, (counts, obs, var) in zip(types, read_types(sums, types), strict=True):
        position = pd.Index(var["gene_id"])
        for contrast, table in tables.items():
            mine = ranked(table[table["cell_type"] == cell_type]).head(genes)
            part = used[contrast]
            part = part[(part["cell_type"] == cell_type) & part["used"] & part["size_factor"].notna()]
            rows = pd.Index(obs["sample"].astype(str)).get_indexer(part["sample"].astype(str))
            if mine.empty or part.empty or (rows < 0).any():
                continue
            values = counts[rows][:, position.get_indexer(mine["gene_id"])].toarray()
            found[contrast][cell_type] = {
                "samples": part["sample"].astype(str).tolist(),
                "factors": numbers(part["size_factor"]),
                "genes": mine["gene_id"].tolist(),
                "counts": values.T.astype(int).tolist(),
            }
    return found


def pathways(table: pd.DataFrame, *, terms: int, fdr: float) -> tuple[dict, int]:
    """Gene sets of one cell type for the page, by FDR, and how many there are.

    The `terms` first ones, and all with FDR below fdr up to ten times as many.
    """
    order = table.assign(strength=-table["nes"].abs()).sort_values(["fdr", "strength", "term"], kind="stable")
    shown = order.head(int(np.clip((order["fdr"] < fdr).sum(), terms, 10 * terms)))
    names = ["collection", "term", "nes", "pvalue", "fdr", "size", "matched", "leading_edge"]
    return columns_of(shown[[name for name in names if name in shown]]), len(table)


def strongest(table: pd.DataFrame, fdr: float) -> dict[str, dict | None]:
    """The most certain set of each sign in one cell type, FDR below fdr: term, nes, fdr; None without one."""
    found = table[table["fdr"] < fdr]
    if "representative" in found:
        found = found[found["representative"].fillna(True).astype(bool)]
    best = {}
    for name, sign in (("up", 1), ("down", -1)):
        mine = found[np.sign(found["nes"]) == sign].assign(strength=lambda t: -t["nes"].abs())
        mine = mine.sort_values(["fdr", "strength", "term"], kind="stable")
        best[name] = mine.iloc[0][["term", "nes", "fdr"]].to_dict() if len(mine) else None
    return best


def heatmap(effects: pd.DataFrame, genes: pd.DataFrame, *, number: int, joint: bool) -> dict | None:
    """Effects (genes, cell types) of the first genes of the synthesis; what was not tested is missing.

    effects: synthesis_effects; genes: synthesis_genes, in its order; joint: -log10 p instead of effects.
    """
    chosen = genes[genes["pattern"] != "none"].head(number)
    if chosen.empty:
        return None
    twice = set(chosen.loc[chosen["symbol"].duplicated(), "symbol"])
    label = "label" if "label" in effects else "cell_type"
    mine = effects[effects["gene_id"].isin(chosen["gene_id"])]
    values = -np.log10(mine["pvalue"].clip(lower=1e-300)) if joint else mine["log2FoldChange"]
    grid = mine.assign(value=values).pivot(index="gene_id", columns=label, values="value")
    grid = grid.reindex(chosen["gene_id"])
    significant = mine.pivot(index="gene_id", columns=label, values="padj_all").reindex(grid.index)
    return {
        "genes": [
            f"{symbol} ({gene_id})" if symbol in twice else symbol
            for symbol, gene_id in zip(chosen["symbol"], chosen["gene_id"], strict=True)
        ],
        "types": grid.columns.tolist(),
        "values": [numbers(row) for row in grid.to_numpy()],
        "padj": [numbers(row) for row in significant.to_numpy()],
        "joint": joint,
    }
