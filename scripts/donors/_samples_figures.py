"""Figures of rule samples, from its tables."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from files import colour

GREY, MARK = "0.75", "#D55E00"
SIDE = 3.0  # inches of a panel
LEVELS = 6  # in a legend
SEX_COLOURS = {"female": "#CC79A7", "male": "#0072B2", "": "#888888"}


def draw_message(message: str) -> Figure:
    """A sentence in place of a figure."""
    figure, axes = plt.subplots(figsize=(7, 1.6), layout="constrained")
    axes.text(0.5, 0.5, message, ha="center", va="center", wrap=True)
    axes.axis("off")
    return figure


def lay_out(panels: int, width: float = SIDE, height: float = SIDE) -> tuple[Figure, list]:
    """A figure with so many panels in rows of up to four; the rest is empty."""
    columns = min(panels, 4)
    rows = -(-panels // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), layout="constrained", squeeze=False
    )
    for each in axes.ravel()[panels:]:
        each.axis("off")
    return figure, list(axes.ravel()[:panels])


def shorten(label: str, most: int = 34) -> str:
    """A label of at most so many characters."""
    return label if len(label) <= most else f"{label[: most - 1]}…"


def strongest_covariate(associations: pd.DataFrame, names: list[str]) -> pd.Series | None:
    """Row of the covariate with the largest R2 with the first two components; None without one."""
    rows = associations[associations["covariate"].isin(names) & (associations["component"] <= 2)]
    rows = rows.dropna(subset=["r2"])
    return rows.loc[rows["r2"].idxmax()] if len(rows) else None


def colour_points(axes, x: np.ndarray, y: np.ndarray, values: pd.Series, *, is_number: bool) -> None:
    """Points coloured by a covariate; a category with few levels has a legend, a number a bar of colours."""
    if is_number:
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
        drawn = axes.scatter(x, y, c=numbers, s=18, cmap="viridis", plotnonfinite=True)
        plt.colorbar(drawn, ax=axes, shrink=0.7)
        return
    levels = values.astype(object).fillna("missing").astype(str).to_numpy()
    for number, level in enumerate(sorted(set(levels))):
        here = levels == level
        axes.scatter(x[here], y[here], s=18, color=colour(number), label=shorten(level, 16))
    if len(set(levels)) <= LEVELS:
        axes.legend(fontsize=7, frameon=False)


def draw_components(
    tables: dict[str, pd.DataFrame], values: pd.DataFrame, kinds: dict[str, bool], labels: dict[str, str]
) -> Figure:
    """First two components per cell type, by the covariate that goes with them most; outlying ringed.

    tables: components, distances, associations; values: covariates by sample; kinds: whether each is a
    number.
    """
    scores, distances = tables["components"], tables["distances"]
    sets = list(dict.fromkeys(scores.loc[scores["component"] == 2, "cell_type"]))
    if not sets:
        return draw_message("no cell type has enough samples and genes for components")
    figure, panels = lay_out(len(sets), 3.6, 3.2)
    for axes, cell_type in zip(panels, sets, strict=True):
        own = scores[scores["cell_type"] == cell_type]
        wide = own.pivot_table(index="sample", columns="component", values="score", sort=False)
        share = own.drop_duplicates("component").set_index("component")["variance"]
        row = strongest_covariate(
            tables["associations"][tables["associations"]["cell_type"] == cell_type], list(kinds)
        )
        x, y = wide[1].to_numpy(), wide[2].to_numpy()
        title = f"{shorten(labels[cell_type])}, n = {len(wide)}"
        if row is None:
            axes.scatter(x, y, s=18, color=GREY)
        else:
            name = row["covariate"]
            own_values = values[name].reindex(wide.index)
            colour_points(axes, x, y, own_values, is_number=kinds[name])
            title += f"\n{name}, R² {row['r2']:.2f} with component {row['component']}"
        far = distances[(distances["cell_type"] == cell_type) & distances["outlying"]]["sample"]
        for sample in far:
            axes.scatter(*wide.loc[sample, [1, 2]], s=90, facecolors="none", edgecolors=MARK, linewidths=1.5)
            axes.annotate(
                shorten(sample, 14),
                wide.loc[sample, [1, 2]],
                fontsize=7,
                xytext=(4, 4),
                textcoords="offset points",
            )
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(f"component 1 ({share[1]:.0%})", fontsize=8)
        axes.set_ylabel(f"component 2 ({share[2]:.0%})", fontsize=8)
        axes.tick_params(labelsize=7)
    return figure


def draw_associations(associations: pd.DataFrame, labels: dict[str, str]) -> Figure:
    """R2 of each covariate and component, a panel per cell type; a dot where p is at most 0.05."""
    rows = associations.dropna(subset=["component"])
    sets = list(dict.fromkeys(rows["cell_type"]))
    if not sets:
        return draw_message("no cell type has enough samples and genes for components")
    names = list(dict.fromkeys(rows["covariate"]))
    figure, panels = lay_out(len(sets), 3.2, 1.1 + 0.26 * len(names))
    for axes, cell_type in zip(panels, sets, strict=True):
        own = rows[rows["cell_type"] == cell_type]
        grid = own.pivot_table(index="covariate", columns="component", values="r2", dropna=False)
        grid = grid.reindex(index=names)
        drawn = axes.imshow(grid.to_numpy(dtype=float), vmin=0, vmax=1, cmap="cividis", aspect="auto")
        place = {name: i for i, name in enumerate(names)}
        small = own[own["pvalue"] <= 0.05]
        axes.scatter(
            small["component"] - 1, small["covariate"].map(place), s=14, color="white", edgecolors="black"
        )
        axes.set_xticks(range(grid.shape[1]), [str(int(name)) for name in grid.columns], fontsize=8)
        axes.set_yticks(range(len(names)), [shorten(name, 18) for name in names], fontsize=8)
        axes.set_title(shorten(labels[cell_type]), fontsize=9)
    figure.supxlabel("component; dot: p ≤ 0.05", fontsize=9)
    figure.colorbar(drawn, ax=panels, label="R²", shrink=0.7)
    return figure


def draw_variance(variance: pd.DataFrame, labels: dict[str, str]) -> Figure:
    """Mean and quartiles over genes of each covariate's share of variance, and the mean by chance."""
    rows = variance[variance["covariate"] != "residual"]
    if rows.empty:
        return draw_message("no covariate varies, or too few samples for the share of variance")
    names = list(dict.fromkeys(rows.sort_values("place", kind="stable")["covariate"]))
    sets = list(dict.fromkeys(rows["cell_type"]))
    figure, axes = plt.subplots(
        figsize=(8, 1.4 + len(names) * max(0.5, 0.16 * len(sets))), layout="constrained"
    )
    for number, cell_type in enumerate(sets):
        own = rows[rows["cell_type"] == cell_type]
        y = own["covariate"].map(names.index) + 0.8 * ((number + 0.5) / len(sets) - 0.5)
        size = {"linewidths": 1.5, "colors": [colour(number)]}
        axes.hlines(y, own["low"], own["high"], **size)
        axes.scatter(own["mean"], y, s=16, color=colour(number), label=shorten(labels[cell_type]))
        axes.scatter(own["expected"], y, s=30, marker="|", color="0.4")
    axes.scatter([], [], s=30, marker="|", color="0.4", label="mean by chance")
    axes.set_yticks(range(len(names)), [shorten(name, 24) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("share of a gene's variance beyond the covariates above: mean and quartiles over genes")
    figure.legend(fontsize=7, frameon=False, loc="outside right upper")
    return figure


def draw_sex(table: pd.DataFrame) -> Figure:
    """Counts per million of the female against the male genes, by stated sex; contradictions are ringed."""
    rows = table[table["log2_ratio"].notna() & (table["counts"] > 0)]
    if rows.empty:
        return draw_message("the cohort lacks XIST or the genes of the Y chromosome: sex is not checked")
    x, y = (1e6 * rows[name].astype(float) / rows["counts"] for name in ("female_counts", "male_counts"))
    figure, axes = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
    for stated, colour_of in SEX_COLOURS.items():
        for is_decided, marker in ((True, "o"), (False, "x")):
            here = (rows["sex_stated"] == stated) & ((rows["sex_shown"] != "") == is_decided)
            label = f"{stated or 'not'} stated{'' if is_decided else ', undecided'} (n = {here.sum()})"
            if here.any():
                axes.scatter(x[here] + 1, y[here] + 1, s=24, color=colour_of, marker=marker, label=label)
    wrong = rows["sex_check"] == "contradicts"
    axes.scatter(x[wrong] + 1, y[wrong] + 1, s=110, facecolors="none", edgecolors=MARK, linewidths=1.5)
    for name, left, bottom in zip(rows["sample"][wrong], x[wrong], y[wrong], strict=True):
        axes.annotate(
            shorten(name, 18), (left + 1, bottom + 1), fontsize=7, xytext=(6, 4), textcoords="offset points"
        )
    axes.set(xscale="log", yscale="log", xlabel="female genes, counts per million + 1")
    axes.set_ylabel("genes of Y, counts per million + 1")
    axes.legend(fontsize=8, frameon=False)
    return figure


def draw_pairs(pairs: pd.DataFrame) -> Figure:
    """How alike (z) are each sample and its nearest other donor, and samples of one donor; the limit."""
    if pairs.empty:
        return draw_message("too few samples or genes to compare persons")
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    for place, is_same in enumerate((False, True)):
        own = pairs[pairs["same_donor"] == is_same].sort_values("z")
        spread = place + 0.3 * (np.arange(len(own)) % 7 / 6 - 0.5)
        axes.scatter(own["z"], spread, s=16, color=np.where(own["check"] == "", GREY, MARK))
        for row, y in zip(own.itertuples(), spread, strict=True):
            if row.check:
                text = f"{shorten(row.sample, 14)} and {shorten(row.other, 14)}"
                axes.annotate(
                    text, (row.z, y), fontsize=7, xytext=(4, 6), textcoords="offset points", ha="right"
                )
    axes.axvline(pairs["limit"].iloc[0], color="0.3", linestyle="--", linewidth=1)
    axes.set_yticks([0, 1], ["different donors,\nnearest", "one donor"])
    axes.set(ylim=(-0.5, 1.5), xlabel="z of the pair's correlation; dashed: limit")
    return figure
