"""Test whether the share of a cell type among a sample's cells changes with a contrast.

For cell type c in sample s with k of the sample's n kept cells, y = logit((k + 0.5) / (n + 1)). Each type
gets a linear model of y with the contrast's design; the residual variances of all types are moderated by an
empirical-Bayes prior, and the t statistic has the prior's degrees of freedom added. Every sample weighs the
same, since donors differ by more than the sampling of cells. Sources: Phipson et al. 2022, Bioinformatics
38:4720 (propeller, which divides k + 0.5 by n + 0.5 x types instead: there a share depends on how many types
are distinguished); Smyth 2004, Stat Appl Genet Mol Biol 3:3, sections 3 and 6.2 (moderation).

With `block: donor` the samples of a donor are correlated, by one correlation for all types (_gls.py); with
`aggregate: donor` their cells are counted together.

A term of several columns is tested by the moderated F, f on f_df and df degrees of freedom (t^2 for one
column); it has no odds ratio, no t and no interval.

The effect is the odds ratio per unit of the contrast. Shares sum to one: when one type grows, others must
shrink, so a change is relative to the sample's other cells and says nothing about absolute numbers.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from donors._contrast import resolve_contrast
from donors._design import Design, build, effect
from donors._gls import common_correlation, fit_models, test_models
from files import SAMPLE_COLUMNS, count_cells, logit_shares, read_obs, save_figure, write_tsv
from job import conclude, job

COLUMNS = [
    "cell_type",
    "samples",
    "cells",
    "mean_share",
    "log_odds",
    "se",
    "t",
    "f",
    "f_df",
    "df",
    "odds_ratio",
    "low",
    "high",
]


def describe_samples(rows: pd.DataFrame, covariates: list[str]) -> pd.DataFrame:
    """One row per sample: its covariates, and log_cells, log_depth and pct_counts_mt over all its cells."""
    samples = rows[["sample", "donor", "pool", *covariates]].drop_duplicates("sample")
    samples = samples.set_index("sample", drop=False).sort_index()
    mt = (rows["pct_counts_mt"] * rows["counts"]).groupby(rows["sample"]).sum()
    totals = rows.groupby("sample")[["cells", "counts"]].sum()
    samples["log_cells"] = np.log(totals["cells"])
    samples["log_depth"] = np.log(totals["counts"])
    samples["pct_counts_mt"] = mt / totals["counts"]
    return samples


def fit(
    y: np.ndarray, matrix: np.ndarray, hypothesis: np.ndarray, block: np.ndarray | None = None
) -> tuple[pd.DataFrame, float]:
    """Effect, standard error, moderated t and F, degrees of freedom and p-value of each column of y.

    Also the correlation within blocks. y: (samples, types). matrix: (samples, coefficients), full rank.
    hypothesis: (coefficients,) or (effects, coefficients), what is 0 if nothing changes; of several effects
    together there is only F. block: (samples,) labels of samples that are correlated.
    """
    hypothesis = np.atleast_2d(hypothesis)
    correlation = 0.0 if block is None else common_correlation(y, matrix, block)
    tests = test_models(fit_models(y, matrix, block=block, correlation=correlation), hypothesis)
    table = {"log_odds": tests.effects, "se": tests.se, "t": tests.t, "f": tests.f, "f_df": len(hypothesis)}
    return pd.DataFrame(table | {"df": tests.df, "pvalue": tests.pvalues}), correlation


def cells_of(design: Design, cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of the rows of the matrix: of samples, or of donors where their samples are summed.

    cells: (samples, types), by sample.
    """
    used = cells.loc[design.samples.index[design.samples["used"]]]
    return used if design.rows is None else used.groupby(design.rows).sum().set_axis(design.matrix.index)


def present(cells: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The columns of types that have a cell in these samples, and the others' labels.

    A type without any would seem to fall as samples have more cells: all that is left of y is 0.5 / (n + 1).
    """
    there = cells.sum() > 0
    return cells.loc[:, there], list(cells.columns[~there])


def compare_shares(
    cells: pd.DataFrame, matrix: pd.DataFrame, hypothesis: np.ndarray, block: np.ndarray | None = None
) -> tuple[pd.DataFrame, float]:
    """One row per cell type: shares, odds ratio per unit with 95 % interval, p-value and FDR over the types.

    Also the correlation within blocks. cells: (samples, types) of the samples in matrix, in its order;
    hypothesis, block: see fit.
    """
    results, correlation = fit(logit_shares(cells).to_numpy(), matrix.to_numpy(), hypothesis, block)
    half = stats.t.ppf(0.975, results["df"]) * results["se"]
    results = results.assign(
        cell_type=cells.columns,
        samples=len(cells),
        cells=cells.sum().to_numpy(),
        mean_share=cells.div(cells.sum(axis=1), axis=0).mean().to_numpy(),
        odds_ratio=np.exp(results["log_odds"]),
        low=np.exp(results["log_odds"] - half),
        high=np.exp(results["log_odds"] + half),
        padj=stats.false_discovery_control(results["pvalue"]),
    )
    results = results[[*COLUMNS, "pvalue", "padj"]]
    return results.sort_values(["pvalue", "cell_type"], ignore_index=True), correlation


def draw_joint(figure: Figure, axes, results: pd.DataFrame, test: str) -> Figure:
    """P-value of each cell type where several effects are tested together; dark where FDR is below 5 %."""
    rows = results.sort_values("pvalue", ascending=False).reset_index(drop=True)
    colors = np.where(rows["padj"] < 0.05, "#0072B2", "0.75")
    axes.barh(rows.index, -np.log10(rows["pvalue"].clip(lower=1e-300)), color=colors)
    axes.set_yticks(range(len(rows)), [f"{r.cell_type} ({r.mean_share:.1%})" for r in rows.itertuples()])
    axes.set_xlabel(f"-log10 p-value of {test}; dark: FDR < 5 %")
    axes.set_title(f"share of cells, {rows['samples'].iloc[0]} samples", fontsize=10)
    return figure


def draw(results: pd.DataFrame, unit: str, message: str) -> Figure:
    """Odds ratio with 95 % interval of each cell type; filled where FDR is below 5 %."""
    figure, axes = plt.subplots(figsize=(7, 1.6 + 0.3 * max(len(results), 3)), layout="constrained")
    if results.empty:
        axes.text(0.5, 0.5, message, ha="center", va="center", wrap=True)
        axes.axis("off")
        return figure
    if results["odds_ratio"].isna().all():
        return draw_joint(figure, axes, results, unit)
    rows = results.sort_values("odds_ratio").reset_index(drop=True)
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


if __name__ == "__main__":
    with job(snakemake) as out:
        rows = read_obs(snakemake.input.sums)
        params = dict(snakemake.params.items())
        cells, samples = count_cells(rows), describe_samples(rows, params["covariates"])
        contrast = resolve_contrast(params["contrast"], samples[[*SAMPLE_COLUMNS, *params["covariates"]]])
        limits = {name: params[name] for name in ("min_samples", "min_residual_df")}
        design = build(contrast, samples, **limits)
        results, correlation = pd.DataFrame(columns=[*COLUMNS, "pvalue", "padj"]), None
        reason, absent = design.reason, []
        if not reason:
            cells, absent = present(cells_of(design, cells))
            reason = "" if cells.shape[1] > 1 else "single_cell_type"
        if not reason:
            block = design.donors.to_numpy() if contrast.block else None
            results, correlation = compare_shares(cells, design.matrix, design.hypothesis, block)
        left_out = f"no cell in the samples used: {', '.join(absent)}" if absent else ""
        message = "; ".join(filter(None, [design.message, left_out]))
        status = {
            "contrast": contrast.name,
            "status": reason or "tested",
            "message": message,
            "samples": len(samples),
            "samples_used": int(design.samples["used"].sum()),
            "cell_types": cells.shape[1],
            "coefficient": design.coefficient,
            "test": ("F" if design.joint else "t") if design.hypothesis is not None else "",
            "residual_df": design.residual_df,
            "vif": design.vif,
            "block_correlation": correlation if contrast.block else None,
        }
        write_tsv(results, out.cell_types)
        write_tsv(pd.DataFrame([status]), out.status)
        figure = draw(results, effect(contrast, design), f"not tested: {reason} {message}")
        save_figure(figure, out.figure)
        conclude(
            f"{len(results)} types, {(results['padj'] < 0.05).sum()} change at FDR 5 % {reason}"
            f"{'; ' * bool(left_out)}{left_out}"
        )
