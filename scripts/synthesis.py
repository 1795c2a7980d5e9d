"""Join the tests of one contrast over all cell types: which genes change in many, which in one.

The false discovery rate is controlled twice: within each cell type (padj, from differential) and over all
tests of the contrast together (padj_all, Benjamini & Hochberg 1995, J R Stat Soc B 57:289). A gene's pattern
follows from padj_all, with `fdr` and `specific_pvalue` from the config:

shared    significant in at least two cell types, always with the same sign
opposite  significant in at least two cell types, with both signs
specific  significant in one cell type; p > specific_pvalue in each of the others that tested it, at least one
single    significant in one cell type, undecided or untested in the others
none      significant in no cell type
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _job import job
from matplotlib.figure import Figure
from scipy.stats import false_discovery_control

PATTERNS = ["shared", "opposite", "specific", "single", "none"]


def join(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Stack the differential tables and correct over all their tests.

    tables: label of the cell type -> gene_id, symbol, log2FoldChange, lfcSE, stat, pvalue, padj.
    Returns one row per gene and cell type with cell_type and padj_all added; a missing p-value (an outlier by
    Cook's distance) stays missing and counts as no test.
    """
    columns = ["gene_id", "symbol", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj"]
    parts = [table[columns].assign(cell_type=label) for label, table in tables.items() if len(table)]
    if not parts:
        return pd.DataFrame(columns=["cell_type", *columns, "padj_all"])
    effects = pd.concat(parts, ignore_index=True)
    effects["padj_all"] = np.nan
    done = effects["pvalue"].notna()
    effects.loc[done, "padj_all"] = false_discovery_control(effects.loc[done, "pvalue"])
    return effects[["cell_type", *columns, "padj_all"]]


def summarise(effects: pd.DataFrame, *, fdr: float, specific_pvalue: float) -> pd.DataFrame:
    """One row per gene: where it was tested, where it is significant, and its pattern (see above).

    Returns gene_id, symbol, tested, up, down, pattern, cell_types (";"-joined, most significant first) and
    max_abs_stat, sorted by the number of significant types and max_abs_stat.
    """
    rows = effects.assign(
        significant=effects["padj_all"] < fdr,
        up=(effects["padj_all"] < fdr) & (effects["log2FoldChange"] > 0),
        down=(effects["padj_all"] < fdr) & (effects["log2FoldChange"] < 0),
        undecided=(effects["padj_all"] >= fdr) & (effects["pvalue"] <= specific_pvalue),
        tested=effects["pvalue"].notna(),
        abs_stat=effects["stat"].abs(),
    ).sort_values(["pvalue", "cell_type"])
    by_gene = rows.groupby("gene_id", sort=True)
    genes = by_gene.agg(
        symbol=("symbol", "first"),
        tested=("tested", "sum"),
        up=("up", "sum"),
        down=("down", "sum"),
        undecided=("undecided", "sum"),
        max_abs_stat=("abs_stat", "max"),
    ).reset_index()
    hits = rows[rows["significant"]].groupby("gene_id")["cell_type"].agg(";".join)
    genes["cell_types"] = genes["gene_id"].map(hits).fillna("")
    found = genes["up"] + genes["down"]
    genes["pattern"] = np.select(
        [
            (found > 1) & ((genes["up"] == 0) | (genes["down"] == 0)),
            found > 1,
            (found == 1) & (genes["tested"] > 1) & (genes["undecided"] == 0),
            found == 1,
        ],
        PATTERNS[:4],
        "none",
    )
    genes = genes.assign(found=found).sort_values(
        ["found", "max_abs_stat", "gene_id"], ascending=[False, False, True], kind="stable"
    )
    columns = ["gene_id", "symbol", "tested", "up", "down", "pattern", "cell_types", "max_abs_stat"]
    return genes[columns].reset_index(drop=True)


def draw(effects: pd.DataFrame, genes: pd.DataFrame, *, heatmap_genes: int, unit: str) -> Figure:
    """Heatmap of log2 fold changes: the first significant genes of the summary x cell types.

    A dot marks padj_all below the threshold that made the summary; grey is not tested.
    """
    top = genes[genes["pattern"] != "none"].head(heatmap_genes)
    figure, axes = plt.subplots(figsize=(7, 1.8 + 0.2 * len(top)), layout="constrained")
    if top.empty:
        axes.text(0.5, 0.5, "no gene is significant over all tests", ha="center", va="center")
        axes.axis("off")
        return figure
    grid = effects.pivot(index="gene_id", columns="cell_type", values="log2FoldChange").loc[top["gene_id"]]
    limit = np.nanquantile(np.abs(grid.to_numpy()), 0.98)
    axes.set_facecolor("0.85")
    image = axes.imshow(grid, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(grid.shape[1]), grid.columns, rotation=40, ha="right")
    axes.set_yticks(range(len(top)), top["symbol"], fontsize=8)
    hits = {
        gene: set(types.split(";")) for gene, types in zip(top["gene_id"], top["cell_types"], strict=True)
    }
    marks = [
        (x, y) for y, gene in enumerate(grid.index) for x, label in enumerate(grid) if label in hits[gene]
    ]
    axes.plot(*zip(*marks, strict=True), ".", color="black", markersize=3)
    figure.colorbar(image, label=f"log2 fold change per {unit}", shrink=min(1, 6 / len(top)))
    axes.set_title(
        f"{len(top)} of {(genes['pattern'] != 'none').sum()} significant genes; dot: FDR over all tests",
        fontsize=9,
    )
    return figure


if __name__ == "__main__":
    with job(snakemake) as out:  # noqa: F821
        types = pd.read_csv(snakemake.input.cell_types, sep="\t", dtype=str, keep_default_na=False)  # noqa: F821
        labels = types.loc[types["tested"] == "True", "label"]
        tables = dict(zip(labels, map(pd.read_parquet, snakemake.input.genes), strict=True))  # noqa: F821
        effects = join(tables)
        settings = dict(snakemake.params.items())  # noqa: F821
        contrast, heatmap_genes = settings.pop("contrast"), settings.pop("heatmap_genes")
        genes = summarise(effects, **settings)
        effects.to_parquet(out.effects, index=False)
        genes.to_csv(out.genes, sep="\t", index=False)
        unit = f"{contrast['unit']:g} of {contrast['test']}" if "unit" in contrast else contrast["level"]
        draw(effects, genes, heatmap_genes=heatmap_genes, unit=unit).savefig(
            out.heatmap, dpi=120, metadata={"Software": None}
        )
        counts = genes["pattern"].value_counts().reindex(PATTERNS, fill_value=0)
        print(
            f"synthesis: {len(effects):,} tests of {len(genes):,} genes; "
            + ", ".join(f"{n:,} {p}" for p, n in counts.items())
        )
