"""The figure of composition: odds ratios of cell type proportions, or p-values of several effects."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure


def draw_joint(figure: Figure, axes, results: pd.DataFrame, test: str) -> Figure:
    """P-value of each tested type where several effects are tested together; dark where FDR is below 5 %."""
    rows = results.dropna(subset="pvalue").sort_values("pvalue", ascending=False).reset_index(drop=True)
    colors = np.where(rows["padj"] < 0.05, "#0072B2", "0.75")
    axes.barh(rows.index, -np.log10(rows["pvalue"].clip(lower=1e-300)), color=colors)
    axes.set_yticks(range(len(rows)), [f"{r.cell_type} ({r.mean_share:.1%})" for r in rows.itertuples()])
    axes.set_xlabel(f"-log10 p-value of {test}; dark: FDR < 5 %")
    axes.set_title(f"share of cells, {rows['samples'].iloc[0]} samples", fontsize=10)
    return figure


def draw(results: pd.DataFrame, unit: str, message: str) -> Figure:
    """Odds ratio with 95 % interval of each tested cell type; filled where FDR is below 5 %."""
    figure, axes = plt.subplots(figsize=(7, 1.6 + 0.3 * max(len(results), 3)), layout="constrained")
    if results["pvalue"].isna().all():
        axes.text(0.5, 0.5, message, ha="center", va="center", wrap=True)
        axes.axis("off")
        return figure
    if results["odds_ratio"].isna().all():
        return draw_joint(figure, axes, results, unit)
    rows = results.dropna(subset="pvalue").sort_values("odds_ratio").reset_index(drop=True)
    for place, row in rows.iterrows():
        color = "#0072B2" if row["odds_ratio"] < 1 else "#D55E00"
        axes.plot([row["low"], row["high"]], [place, place], color=color)
        axes.plot(row["odds_ratio"], place, "o", color=color, mfc=color if row["padj"] < 0.05 else "white")
    axes.axvline(1, color="0.6", linewidth=0.8, zorder=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="x", which="minor", labelsize=8)
    axes.set_yticks(range(len(rows)), [f"{r.cell_type} ({r.mean_share:.1%})" for r in rows.itertuples()])
    axes.set_xlabel(f"odds ratio, {unit}, 95 % interval; filled: FDR < 5 %")
    axes.set_title(f"share of cells, {rows['samples'].iloc[0]} samples", fontsize=10)
    return figure
