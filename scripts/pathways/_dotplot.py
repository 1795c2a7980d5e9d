"""Draw gene sets x cell types as dots, from the tables of gsea and overrepresentation."""

import textwrap

import numpy as np
import pandas as pd

KEYS = [0.25, 0.05, 0.01, 0.001]  # FDR in the legend; smaller values are drawn like the last
FDR_LIMITS = (1e-3, 1.0)


def dotplot(
    dots: pd.DataFrame,
    *,
    columns: list[str],
    panels: dict[str, str],
    colours: str,
    limits: tuple[float, float],
    fdr: float,
):
    """Figure with one panel per key of panels, side by side, with the same rows.

    dots: panel, row, label (a column), colour (a number within limits) and fdr; rows are in the order of
    their first dot. columns: labels of the cell types, also of those without a dot. panels: panel -> title.
    colours: label of the colour bar; blue below zero and red above if the limits include zero. A black ring
    marks FDR below `fdr`.
    """
    from matplotlib.figure import Figure

    rows = list(dict.fromkeys(dots["row"]))
    width = 4.4 + len(panels) * (0.5 + 0.42 * len(columns))
    figure = Figure(figsize=(width, 2.9 + 0.33 * len(rows)), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (panel, title) in zip(grid, panels.items(), strict=True):
        selected = dots[dots["panel"] == panel]
        points = axes.scatter(
            [columns.index(label) for label in selected["label"]],
            [rows.index(row) for row in selected["row"]],
            s=dot_area(selected["fdr"]),
            c=selected["colour"],
            cmap="RdBu_r" if limits[0] < 0 < limits[1] else "YlOrRd",
            vmin=limits[0],
            vmax=limits[1],
            edgecolors=np.where(selected["fdr"] < fdr, "black", "0.8"),
            linewidths=0.8,
        )
        axes.set(xlim=(-0.6, len(columns) - 0.4), ylim=(len(rows) - 0.4, -0.6))
        names = [wrap_name(label, 28) for label in columns]
        axes.set_xticks(range(len(columns)), names, rotation=50, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), [wrap_name(row, 44) for row in rows])
        axes.tick_params(labelsize=8)
        axes.grid(color="0.93", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_title(title, fontsize=9)
    bar = figure.colorbar(points, ax=grid[-1], shrink=min(1, 2.5 / (0.5 + 0.33 * len(rows))))
    bar.set_label(colours, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    sizes = [grid[0].scatter([], [], s=dot_area(pd.Series([key]))[0], color="0.6") for key in KEYS]
    ring = grid[0].scatter([], [], s=60, facecolors="none", edgecolors="black")
    texts = [f"{key:g}" for key in KEYS[:-1]] + [f"≤ {KEYS[-1]:g}", f"FDR < {fdr:g}"]
    figure.legend(
        [*sizes, ring], texts, title="FDR", ncols=5, loc="outside lower right", fontsize=8, frameon=False
    )
    return figure


def dot_area(fdr: pd.Series) -> np.ndarray:
    """Area of a dot in square points: 8 at FDR 1, 38 more for each factor of ten below, down to 0.001."""
    return 8 - 38 * np.log10(fdr.clip(*FDR_LIMITS).to_numpy())


def wrap_name(name: str, width: int) -> str:
    """A name as an axis label: spaces for underscores, at most two lines."""
    return textwrap.fill(name.replace("_", " "), width, max_lines=2, placeholder=" …")


def draw_message(lines: list[str]):
    """Figure with the reasons why there is nothing to draw, at most twelve."""
    from matplotlib.figure import Figure

    lines = list(dict.fromkeys(lines)) or ["no cell type is tested: see pseudobulk/cell_types.tsv"]
    first = lines[:12] + ([f"and {len(lines) - 12} more: see status.tsv"] if len(lines) > 12 else [])
    text = "\n".join(textwrap.fill(line, 90) for line in first)
    figure = Figure(figsize=(8, 1 + 0.25 * (1 + text.count("\n"))), layout="constrained")
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=9)
    return figure
