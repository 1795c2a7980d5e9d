"""Draw the figures of ridge_summary: scores over alpha, and predicted against observed values."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure


def panels(summary: pd.DataFrame, width: float, height: float) -> tuple[Figure, dict]:
    """Figure with one panel per cell type, up to four in a row; without a prediction it shows the reason."""
    columns = min(4, len(summary))
    rows = -(-len(summary) // columns)
    fig = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid = fig.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(summary) :]:
        axes.set_axis_off()
    for axes, row in zip(grid, summary.itertuples(), strict=False):
        axes.set_title(row.label, fontsize=9)
        if row.status != "predicted":
            text = f"no prediction of {row.target}:\n{row.reason}"
            axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=7, wrap=True)
            axes.set_axis_off()
    return fig, dict(zip(summary["cell_type"], grid, strict=False))


def draw_alphas(summary: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """R2 with its interval over alpha, and R2 of the alphas chosen in the folds, best baseline and null."""
    fig, of_type = panels(summary, 3.3, 2.7)
    for row in summary[summary["status"] == "predicted"].itertuples():
        axes, rows = of_type[row.cell_type], scores[scores["cell_type"] == row.cell_type]
        single = rows[(rows["model"] == "expression") & (rows["alpha"] != "chosen")]
        bars = [single["r2"] - single["r2_low"], single["r2_high"] - single["r2"]]
        style = {"marker": "o", "markersize": 4, "color": "seagreen", "capsize": 2, "label": "one alpha"}
        axes.errorbar(single["alpha"].astype(float), single["r2"], bars, **style)
        axes.axhline(row.r2, color="seagreen", linestyle="--", linewidth=1, label="chosen in each fold")
        baseline = rows.loc[rows["model"] == row.best_baseline, "r2"].item()
        axes.axhline(baseline, color="darkorange", linewidth=1.2, label="best baseline")
        axes.axhspan(row.null_r2_low, row.null_r2_high, color="0.85", zorder=0, label="null, 90 %")
        axes.set(xscale="log", xlabel="alpha", ylabel="R2 out of fold")
        axes.set_title(f"{row.label}\nbest baseline: {row.best_baseline}", fontsize=8)
    add_legend(fig, of_type, summary)
    return fig


def add_legend(fig: Figure, of_type: dict, summary: pd.DataFrame) -> None:
    """One legend below all panels, from the first panel with a prediction."""
    predicted = summary.loc[summary["status"] == "predicted", "cell_type"]
    if len(predicted):
        entries = of_type[predicted.iloc[0]].get_legend_handles_labels()
        fig.legend(*entries, loc="outside lower center", ncols=4, fontsize=8)


def draw_predictions(summary: pd.DataFrame, gaps: pd.DataFrame) -> Figure:
    """Predicted against observed target, mean over repeats, with the line that the corrected gaps use.

    For a target of two levels: the predicted probability in the samples of each level.
    """
    fig, of_type = panels(summary, 3.2, 3.4)
    for row in summary[summary["status"] == "predicted"].itertuples():
        axes, rows = of_type[row.cell_type], gaps[gaps["cell_type"] == row.cell_type]
        if row.kind == "levels":
            draw_levels(axes, row, rows)
            continue
        ends = [rows[["observed", "predicted"]].min().min(), rows[["observed", "predicted"]].max().max()]
        axes.plot(ends, ends, color="0.6", linewidth=0.8, label="predicted = observed")
        line = rows.sort_values("observed")
        axes.plot(line["observed"], line["expected"], color="darkorange", linewidth=1, label="expected")
        axes.scatter(rows["observed"], rows["predicted"], s=12, alpha=0.7, color="steelblue")
        axes.set(xlabel=f"observed {row.target}", ylabel=f"predicted {row.target}", aspect="equal")
        text = f"R2 {row.r2:.2f}, error {row.mae:.3g}\ngain {row.gain_mae:.2g}"
        text += f" [{row.gain_mae_low:.2g}, {row.gain_mae_high:.2g}] over {row.best_baseline}"
        axes.set_title(f"{row.label}, {row.samples} samples\n{text}", fontsize=8)
    add_legend(fig, of_type, summary)
    return fig


def draw_levels(axes, row, rows: pd.DataFrame) -> None:
    """Predicted probability of the level in the samples of each level, side by side, and its mean."""
    for place in (0, 1):
        values = rows.loc[rows["observed"] == place, "predicted"].sort_values().to_numpy()
        axes.scatter(place + np.linspace(-0.2, 0.2, len(values)), values, s=12, alpha=0.7, color="steelblue")
        label = None if place else "mean of the level"
        axes.hlines(values.mean(), place - 0.3, place + 0.3, color="darkorange", label=label)
        axes.text(place, -0.03, f"n = {len(values)}", ha="center", va="top", fontsize=7)
    axes.set(xlim=(-0.5, 1.5), ylim=(-0.12, 1.05), ylabel=f"probability of {row.level}")
    axes.set_xticks([0, 1], [f"{row.target} {name}" for name in (row.reference, row.level)])
    text = f"AUROC {row.auroc:.2f}, R2 {row.r2:.2f}\ngain in AUROC {row.gain_auroc:.2g}"
    text += f" [{row.gain_auroc_low:.2g}, {row.gain_auroc_high:.2g}] over {row.best_baseline}"
    axes.set_title(f"{row.label}, {row.samples} samples\n{text}", fontsize=8)
