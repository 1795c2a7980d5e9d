"""Figures of one contrast with a panel per cell type, from the tables and the status of `differential`.

Each takes the tests, (table of genes, status) of every tested cell type, and returns a Figure; a type without
a tested gene has its reason in its panel.
"""

import itertools
import math
import textwrap

import numpy as np
import pandas as pd

COLOURS = {"up": "#b2182b", "down": "#2166ac", "rest": "#bdbdbd", "joint": "#762a83"}
LABELLED = 10  # genes named in a volcano plot
BINS = 20  # of the p-value histogram
COLUMNS = 4  # panels side by side

Tests = list[tuple[pd.DataFrame, dict]]


def panels(tests: Tests, draw):
    """A panel per test; draw(axes, genes, status) fills one and returns a line for its title."""
    from matplotlib.figure import Figure

    columns = max(1, min(COLUMNS, math.ceil(math.sqrt(len(tests)))))
    rows = max(1, math.ceil(len(tests) / columns))
    width, height = 5 * columns, 4 * rows + 0.8
    figure = Figure(figsize=(width, height))
    # margins in inches by hand: for 20 panels matplotlib's own layout takes four times as long as drawing
    margins = {
        "left": 0.7 / width,
        "right": 1 - 0.15 / width,
        "bottom": 0.9 / height,
        "top": 1 - 0.8 / height,
    }
    figure.subplots_adjust(**margins, wspace=0.22, hspace=0.34)
    legend = {}
    for axes, test in itertools.zip_longest(figure.subplots(rows, columns, squeeze=False).flat, tests):
        if test is None:
            axes.set_axis_off()
            continue
        genes, status = test
        label = textwrap.shorten(status["label"], 60, placeholder=" …")
        if genes["pvalue"].isna().all():
            axes.set_axis_off()
            why = (
                f"not tested: {status['status']}. {status['message']}"
                if genes.empty
                else "no gene has a p-value"
            )
            text = textwrap.fill(why, 50)
            axes.text(0.5, 0.5, text, ha="center", va="center")
            axes.set_title(label, fontsize=9)
        else:
            axes.set_title(f"{label}\n{draw(axes, genes, status)}", fontsize=9)
            handles, names = axes.get_legend_handles_labels()
            legend |= dict(zip(names, handles, strict=True))
    if not tests:
        figure.text(0.5, 0.5, "no cell type is tested", ha="center", va="center")
        return figure
    figure.suptitle(f"{tests[0][1]['contrast']}: {tests[0][1]['design']}", fontsize=11, y=1 - 0.15 / height)
    if legend:
        look = {"loc": "lower center", "ncols": len(legend), "fontsize": 8, "frameon": False}
        figure.legend(legend.values(), legend.keys(), markerscale=1.5, **look)
    return figure


def spread(heights: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Ascending heights moved apart to at least `gap`, as little as needed, between low and high."""
    placed = np.clip(heights, low, high)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], high - gap * (len(placed) - 1 - i))
    return placed


def volcano(tests: Tests):
    """Effect against -log10 p of every tested gene, the most significant ones named in the margins."""
    return panels(tests, _volcano)


def _volcano(axes, genes, status):
    joint = status["test"] in ("LRT", "F")
    drawn = genes.dropna(subset=["pvalue"])
    x = drawn["log2Range" if joint else "log2FoldChange"].to_numpy()
    y = -np.log10(drawn["pvalue"].clip(lower=1e-300).to_numpy())
    significant = (drawn["padj"] < float(status["fdr"])).to_numpy()
    directed = np.where(x > 0, "up", "down")
    kind = np.where(significant, "joint" if joint else directed, "rest")
    texts = {"rest": f"not at FDR {status['fdr']}", "joint": f"at FDR {status['fdr']}"}
    for name in ("rest", "joint") if joint else ("rest", "up", "down"):
        some = kind == name
        axes.scatter(x[some], y[some], s=8, c=COLOURS[name], linewidths=0, label=texts.get(name, name))
    reach, top = np.abs(x).max() * 1.05, y.max() * 1.08
    left = -0.05 if joint else -1.7
    axes.set(xlim=(left * reach, 1.7 * reach), ylim=(-0.02 * top, top))
    for side in (-1, 1):
        best = np.flatnonzero(np.sign(x[:LABELLED]) == side)[::-1]  # by p-value, so y ascends
        for i, height in zip(best, spread(y[best], 0.055 * top, 0, 0.97 * top), strict=True):
            end = side * 1.08 * reach
            axes.plot([x[i], end], [y[i], height], color="0.6", lw=0.5, zorder=0)
            name = textwrap.shorten(drawn["symbol"].iloc[i], 16, placeholder="…")
            axes.text(end, height, f" {name} ", ha="left" if side > 0 else "right", va="center", fontsize=7)
    axes.axvline(0, color="0.8", lw=0.8, zorder=0)
    comma = "" if status["unit"] else ","
    what = "largest log2 difference between samples" if joint else "log2 fold change"
    axes.set(xlabel=f"{what}{comma} {status['effect']}", ylabel="-log10 p-value")
    counts = {name: int((kind == name).sum()) for name in ("up", "down", "joint")}
    found = f"{counts['joint']:,} at FDR" if joint else f"{counts['up']:,} up, {counts['down']:,} down"
    return f"{len(drawn):,} genes, {status['samples_used']} samples: {found}"


def pvalues(tests: Tests):
    """P-values in 20 bins; without any effect all bins would reach the line."""
    return panels(tests, _pvalues)


def _pvalues(axes, genes, status):
    known = genes["pvalue"].dropna()
    axes.hist(known, bins=BINS, range=(0, 1), color="#6baed6", edgecolor="white")
    axes.axhline(len(known) / BINS, color="0.2", ls="--", label="expected without any effect")
    axes.set(xlabel="p-value", ylabel="genes", xlim=(0, 1))
    return f"{len(known):,} genes, {len(genes) - len(known):,} without p-value"


def dispersions(tests: Tests):
    """Dispersion against mean: of each gene alone, final, and the trend that they are shrunk to."""
    return panels(tests, _dispersions)


def _dispersions(axes, genes, status):
    from matplotlib.ticker import LogLocator

    if genes["dispersion"].isna().all():
        axes.set_axis_off()
        return f"{status['method']} has no dispersions"
    drawn = genes[genes["baseMean"] > 0].sort_values("baseMean")
    mean = drawn["baseMean"]
    floor = 1e-6  # genes without overdispersion are at 1e-8
    alone, final = drawn["dispersion_gene"].clip(lower=floor), drawn["dispersion"].clip(lower=floor)
    axes.scatter(mean, alone, s=6, c="0.6", linewidths=0, label="gene alone")
    axes.scatter(mean, final, s=6, c="#6baed6", linewidths=0, label="final")
    axes.plot(mean, drawn["dispersion_trend"], c="#b2182b", lw=1.5, label="trend")
    axes.set(xscale="log", yscale="log", xlabel="mean of normalised counts", ylabel="dispersion")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    at_floor = int((drawn["dispersion_gene"] <= floor).sum())
    return f"{len(drawn):,} genes, {at_floor:,} without overdispersion (at 1e-6); trend {status['trend']}"
