"""Figures of one cell type and contrast, drawn from the table of genes and the status of `differential`."""

import textwrap

import numpy as np
import pandas as pd

COLOURS = {"up": "#b2182b", "down": "#2166ac", "rest": "#bdbdbd", "joint": "#762a83"}
LABELLED = 10  # genes named in a volcano plot
BINS = 20  # of the p-value histogram


def untested(status: dict):
    """A figure that says why there is nothing to draw."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    text = textwrap.fill(f"not tested: {status['status']}. {status['message']}", 60)
    figure.text(0.5, 0.5, text, ha="center", va="center")
    figure.suptitle(title(status), fontsize=10)
    return figure


def title(status: dict) -> str:
    """The cell type and the contrast, on two lines."""
    return f"{textwrap.shorten(status['label'], 60)}\n{status['contrast']}: {status['design']}"


def spread(heights: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Ascending heights moved apart to at least `gap`, as little as needed, between low and high."""
    placed = np.clip(heights, low, high)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], high - gap * (len(placed) - 1 - i))
    return placed


def volcano(genes: pd.DataFrame, status: dict):
    """Effect against -log10 p of every tested gene, the most significant ones named in the margins."""
    from matplotlib.figure import Figure

    if genes.empty:
        return untested(status)
    joint = status["test"] == "LRT"
    drawn = genes.dropna(subset=["pvalue"])
    x = drawn["log2Range" if joint else "log2FoldChange"].to_numpy()
    y = -np.log10(drawn["pvalue"].clip(lower=1e-300).to_numpy())
    significant = (drawn["padj"] < status["fdr"]).to_numpy()
    directed = np.where(x > 0, "up", "down")
    kind = np.where(significant, "joint" if joint else directed, "rest")
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in ("rest", "joint") if joint else ("rest", "up", "down"):
        some = kind == name
        texts = {"rest": f"not at FDR {status['fdr']:g}:", "joint": f"at FDR {status['fdr']:g}:"}
        text = f"{texts.get(name, name)} {some.sum():,}"
        axes.scatter(x[some], y[some], s=8, c=COLOURS[name], linewidths=0, label=text)
    reach, top = np.abs(x).max() * 1.05, y.max() * 1.08
    left = -0.05 if joint else -1.45
    axes.set(xlim=(left * reach, 1.45 * reach), ylim=(-0.02 * top, top))
    for side in (-1, 1):
        best = np.flatnonzero(np.sign(x[:LABELLED]) == side)[::-1]  # by p-value, so y ascends
        for i, height in zip(best, spread(y[best], 0.055 * top, 0, 0.97 * top), strict=True):
            end = side * 1.08 * reach
            axes.plot([x[i], end], [y[i], height], color="0.6", lw=0.5, zorder=0)
            name = textwrap.shorten(drawn["symbol"].iloc[i], 16, placeholder="…")
            axes.text(end, height, f" {name} ", ha="left" if side > 0 else "right", va="center", fontsize=7)
    axes.axvline(0, color="0.8", lw=0.8, zorder=0)
    comma = "," if status["unit"] is None else ""
    what = "largest log2 difference between samples" if joint else "log2 fold change"
    axes.set(xlabel=f"{what}{comma} {status['effect']}", ylabel="-log10 p-value")
    axes.set_title(f"{len(drawn):,} genes, {status['samples_used']} samples", fontsize=9)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False, markerscale=1.5)
    figure.suptitle(title(status), fontsize=10)
    return figure


def pvalue_histogram(genes: pd.DataFrame, status: dict):
    """P-values in 20 bins; without any effect all bins would reach the line."""
    from matplotlib.figure import Figure

    if genes.empty:
        return untested(status)
    pvalues = genes["pvalue"].dropna()
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.hist(pvalues, bins=BINS, range=(0, 1), color="#6baed6", edgecolor="white")
    axes.axhline(len(pvalues) / BINS, color="0.2", ls="--", label="expected without any effect")
    axes.set(xlabel="p-value", ylabel="genes", xlim=(0, 1))
    axes.set_title(f"{len(pvalues):,} genes, {len(genes) - len(pvalues):,} without p-value", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    figure.suptitle(title(status), fontsize=10)
    return figure


def dispersion_plot(genes: pd.DataFrame, status: dict):
    """Dispersion against mean: of each gene alone, final, and the trend that they are shrunk to."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    if genes.empty:
        return untested(status)
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    drawn = genes[genes["baseMean"] > 0].sort_values("baseMean")
    mean = drawn["baseMean"]
    floor = 1e-6  # genes without overdispersion are at 1e-8
    alone, final = drawn["dispersion_gene"].clip(lower=floor), drawn["dispersion"].clip(lower=floor)
    axes.scatter(mean, alone, s=6, c="0.6", linewidths=0, label="gene alone")
    axes.scatter(mean, final, s=6, c="#6baed6", linewidths=0, label="final")
    axes.plot(mean, drawn["dispersion_trend"], c="#b2182b", lw=1.5, label=f"trend ({status['trend']})")
    axes.set(xscale="log", yscale="log", xlabel="mean of normalised counts", ylabel="dispersion")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    at_floor = int((drawn["dispersion_gene"] <= floor).sum())
    axes.set_title(f"{len(drawn):,} genes, {at_floor:,} alone without overdispersion (at 1e-6)", fontsize=9)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False, markerscale=2)
    figure.suptitle(title(status), fontsize=10)
    return figure
