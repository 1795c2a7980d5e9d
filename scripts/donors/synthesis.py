"""Join the tests of one contrast over all cell types: which genes change in many, which in one.

The false discovery rate is controlled twice: within each cell type (padj, from differential) and over all
tests of the contrast together (padj_all, Benjamini & Hochberg 1995, J R Stat Soc B 57:289). A gene's pattern
follows from padj_all, with `fdr` and `specific_pvalue` from the config:

shared    significant in at least two cell types, never with both signs
opposite  significant in at least two cell types, with both signs
specific  significant in one cell type; p > specific_pvalue in each of the others that tested it, at least one
single    significant in one cell type, undecided or untested in the others
none      significant in no cell type

A contrast that tests several coefficients at once gives a gene a p-value but no fold change: `up` and `down`
are 0, nothing is `opposite`, and the heatmap shows -log10 p.

Also draws what each test found and how sound it is, a panel per cell type: volcano, p-values, dispersions.
"""

import textwrap

import numpy as np
import pandas as pd

from donors._differential_figures import dispersions, pvalues, volcano
from files import read_tested, read_tsv, save_figure, write_tsv
from job import conclude, job

PATTERNS = ["shared", "opposite", "specific", "single", "none"]


COLUMNS = ["gene_id", "symbol", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj"]


def join(tables: dict[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """Stack the differential tables and correct over all their tests.

    tables: (id, label) of the cell type -> a table of rule differential.
    Returns one row per gene and cell type behind cell_type and label, with padj_all added; a missing p-value
    (an outlier by Cook's distance) stays missing and counts as no test.
    """
    from scipy.stats import false_discovery_control

    parts = [
        table[COLUMNS].assign(cell_type=cell_type, label=label)
        for (cell_type, label), table in tables.items()
        if len(table)
    ]
    columns = ["cell_type", "label", *COLUMNS, "padj_all"]
    if not parts:
        return pd.DataFrame(columns=columns)
    effects = pd.concat(parts, ignore_index=True)
    effects["padj_all"] = np.nan
    done = effects["pvalue"].notna()
    effects.loc[done, "padj_all"] = false_discovery_control(effects.loc[done, "pvalue"])
    return effects[columns]


def summarise(effects: pd.DataFrame, *, fdr: float, specific_pvalue: float) -> pd.DataFrame:
    """One row per gene: where it was tested, where it is significant, and its pattern (see above).

    Returns gene_id, symbol, tested, significant, up and down (numbers of cell types), pattern, cell_types
    (labels of the significant ones, ";"-joined, most significant first) and max_abs_stat, sorted by the
    number of significant types and max_abs_stat.
    """
    significant = effects["padj_all"] < fdr
    rows = effects.assign(
        significant=significant,
        up=significant & (effects["log2FoldChange"] > 0),
        down=significant & (effects["log2FoldChange"] < 0),
        undecided=~significant & (effects["pvalue"] <= specific_pvalue),
        tested=effects["pvalue"].notna(),
        abs_stat=effects["stat"].abs(),
    ).sort_values(["pvalue", "label"])
    genes = rows.groupby("gene_id", sort=True).agg(
        symbol=("symbol", "first"),
        tested=("tested", "sum"),
        significant=("significant", "sum"),
        up=("up", "sum"),
        down=("down", "sum"),
        undecided=("undecided", "sum"),
        max_abs_stat=("abs_stat", "max"),
    )
    hits = rows[rows["significant"]].groupby("gene_id")["label"].agg(";".join)
    genes["cell_types"] = genes.index.map(hits).fillna("") if len(hits) else ""
    found = genes["significant"]
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
    columns = ["symbol", "tested", "significant", "up", "down", "pattern", "cell_types", "max_abs_stat"]
    genes = genes.reset_index().sort_values(
        ["significant", "max_abs_stat", "gene_id"], ascending=[False, False, True], kind="stable"
    )
    return genes[["gene_id", *columns]].reset_index(drop=True)


def draw(effects: pd.DataFrame, genes: pd.DataFrame, *, fdr: float, heatmap_genes: int, effect: str):
    """Heatmap of effects: the first significant genes of the summary x all cell types.

    A dot marks padj_all below fdr; grey is not tested. Without any fold change the colour is -log10 p.
    Returns a Figure.
    """
    from matplotlib.figure import Figure

    top = genes[genes["pattern"] != "none"].head(heatmap_genes)
    if top.empty:
        figure = Figure(figsize=(6, 2), layout="constrained")
        figure.text(0.5, 0.5, "no gene is significant over all tests", ha="center", va="center")
        return figure
    shown = effects[effects["gene_id"].isin(top["gene_id"])]
    signed = bool(shown["log2FoldChange"].notna().any())
    shown = shown.assign(
        colour=shown["log2FoldChange"] if signed else -np.log10(shown["pvalue"].clip(lower=1e-300)),
        hit=shown["padj_all"] < fdr,
    )
    labels = list(dict.fromkeys(effects["label"]))
    grids = shown.pivot(index="gene_id", columns="label", values=["colour", "hit"])
    grid, hit = (
        grids[name].reindex(index=top["gene_id"], columns=labels).to_numpy(float)
        for name in ("colour", "hit")
    )
    limit = np.nanquantile(np.abs(grid), 0.98) or 1.0
    figure = Figure(figsize=(3.6 + 0.5 * len(labels), 2.6 + 0.2 * len(top)), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("0.85")
    colours = {"cmap": "PuOr_r", "vmin": -limit} if signed else {"cmap": "Purples", "vmin": 0}
    image = axes.imshow(grid, vmax=limit, aspect="auto", interpolation="nearest", **colours)
    names = [textwrap.fill(label, 28, max_lines=2, placeholder=" …") for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=50, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(top)), top["symbol"].where(top["symbol"] != "", top["gene_id"]), fontsize=8)
    y, x = np.nonzero(hit == 1)
    axes.plot(x, y, "o", color="black", markeredgecolor="white", markeredgewidth=0.7, markersize=4.5)
    bar = figure.colorbar(image, shrink=min(1, 8 / len(top)), extend="both" if signed else "max")
    bar.set_label(f"log2 fold change {effect}" if signed else "-log10 p", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    found = (genes["pattern"] != "none").sum()
    axes.set_title(
        f"{len(top)} of {found:,} significant genes\ndot: FDR < {fdr:g} over all tests; grey: not tested",
        fontsize=9,
    )
    return figure


def read_status(paths: list[str]) -> dict[str, dict[str, str]]:
    """Status of each cell type's test, as text."""
    tables = list(map(read_tsv, paths))
    return {row["cell_type"]: row for table in tables for row in table.to_dict("records")}


if __name__ == "__main__":
    with job(snakemake) as out:
        tested = read_tested(snakemake.input.cell_types, snakemake.input.genes)
        effects = join({(each.cell_type, each.label): each.genes for each in tested})
        settings = dict(snakemake.params.items())
        heatmap_genes, status = settings.pop("heatmap_genes"), read_status(snakemake.input.status)
        effect = next((row["effect"] for row in status.values() if row["effect"]), "")
        genes = summarise(effects, **settings)
        effects.to_parquet(out.effects, index=False)
        write_tsv(genes, out.genes)
        heatmap = draw(effects, genes, fdr=settings["fdr"], heatmap_genes=heatmap_genes, effect=effect)
        tests = [(each.genes, status[each.cell_type]) for each in tested]
        figures = {out.heatmap: heatmap, out.volcano: volcano(tests)}
        figures |= {out.pvalues: pvalues(tests), out.dispersions: dispersions(tests)}
        for path, figure in figures.items():
            save_figure(figure, path)
        counts = genes["pattern"].value_counts().reindex(PATTERNS, fill_value=0)
        conclude(
            f"{len(effects):,} tests of {len(genes):,} genes; "
            + ", ".join(f"{n:,} {p}" for p, n in counts.items())
        )
