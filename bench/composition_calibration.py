"""Type I error, false discovery rate and power of composition, beside limma on logit shares.

A table has 13 cell types: two of each of SHARES, and the rest. Log odds of a sample vary by a normal deviate
of the given SD, cells are multinomial, and the number of cells varies by 22 % between donors. With a trend,
the oldest donors have a third of the cells of the youngest. The design is ~ age + sex, the test is age. With
an effect, the first type of each share changes by CHANGES from the youngest to the oldest, and the rest makes
up for it; false discoveries are counted among the second ones. limma is the moderated t of
log((k + 0.5) / (n - k + 0.5)), every sample with the same weight: propeller, except the offset of its logit.

    python bench/composition_calibration.py OUT.tsv [--tables 100] [--figure OUT.png]
    python bench/composition_calibration.py OUT.tsv --collect   # summary of a table that was drawn before
"""

import argparse
import itertools
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

import _root  # noqa: F401
from donors._gls import fit_models, test_models
from donors.composition import compare_shares
from files import logit_shares

SHARES = np.array([0.0001, 0.0002, 0.001, 0.01, 0.1, 0.3])
CHANGES = np.array([3.0, 2.5, 2.0, 1.0, 0.7, -0.7])  # of log odds, from the youngest to the oldest donor
DONORS, CELLS, SDS, TRENDS = (10, 24, 40, 100, 600), (300, 500, 2000), (0.0, 0.3, 0.7), (False, True)
MIN_CELLS = 5  # composition.min_cells
HYPOTHESIS = np.array([0.0, 1.0, 0.0])
TYPES = [f"{share:g} {part}" for part in ("first", "second") for share in SHARES] + ["rest"]


def draw_table(rng, donors: int, cells: int, sd: float, trend: bool, effect: bool):
    """Cells, (donors, types), and model matrix of one table."""
    age, sex = rng.uniform(-1, 1, donors), rng.permutation(np.arange(donors) % 2)
    totals = cells * np.where(trend, np.exp(-np.log(3) / 2 * age), 1.0)
    totals = np.maximum(rng.poisson(totals * rng.gamma(20, 1 / 20, donors)), 30)
    share = np.tile(np.r_[SHARES, SHARES], (donors, 1))
    if effect:
        share[:, : len(SHARES)] *= np.exp(age[:, None] / 2 * CHANGES)
    share = np.c_[share, 1 - share.sum(axis=1)]
    share = share * np.exp(rng.normal(0, sd, share.shape))
    share /= share.sum(axis=1, keepdims=True)
    counts = np.array([rng.multinomial(n, p) for n, p in zip(totals, share, strict=True)])
    return pd.DataFrame(counts, columns=TYPES), pd.DataFrame({"Intercept": 1.0, "age": age, "sex": sex})


def test_by_limma(cells: pd.DataFrame, matrix: pd.DataFrame) -> pd.Series:
    """P-value of each type with a cell."""
    there = cells.loc[:, cells.sum() > 0]
    fits = fit_models(logit_shares(there).to_numpy(), matrix.to_numpy())
    return pd.Series(test_models(fits, HYPOTHESIS[None]).pvalues, there.columns)


def run_setting(donors: int, cells: int, sd: float, trend: bool, tables: int) -> pd.DataFrame:
    """One row per method, effect or not, and type: numbers of tests, of p < 0.05 and of FDR < 5 %."""
    rng = np.random.default_rng([donors, cells, int(10 * sd), trend])
    rows = []
    for effect, _ in itertools.product((False, True), range(tables)):
        counts, matrix = draw_table(rng, donors, cells, sd, trend, effect)
        ours = compare_shares(counts, matrix, HYPOTHESIS, min_cells=MIN_CELLS)[0]
        pvalues = {"binomial": ours.set_index("cell_type")["pvalue"], "limma": test_by_limma(counts, matrix)}
        for method, values in pvalues.items():
            values = values.dropna().astype(float)
            if values.empty:
                continue
            table = pd.DataFrame({"p": values < 0.05, "fdr": stats.false_discovery_control(values) < 0.05})
            found = max(table.drop(index="rest", errors="ignore")["fdr"].sum(), 1)
            table = table.assign(tests=1, method=method, effect=effect, false_share=table["fdr"] / found)
            rows.append(table.rename_axis("type").reset_index())
    table = pd.concat(rows).groupby(["method", "effect", "type"]).sum().reset_index()
    return table.assign(donors=donors, cells=cells, sd=sd, trend=trend, tables=tables)


def summarise(results: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Type I error, share of tables with it tested, false discovery rate and power of each share class."""
    results = results[results["type"] != "rest"].copy()
    results[["share", "part"]] = results["type"].str.split(" ", expand=True)
    results["share"] = results["share"].astype(float)
    keys = [*by, "method", "share"]
    null = results[~results["effect"]].groupby(keys)[["p", "tests"]].sum()
    changed = results[results["effect"] & (results["part"] == "first")].groupby(keys)[["fdr", "tests"]].sum()
    other = results[results["effect"] & (results["part"] == "second")].groupby(keys)[["false_share"]].sum()
    tables = results[results["effect"]].drop_duplicates([*keys, "donors", "cells", "sd", "trend"])
    tables = tables.groupby(keys)["tables"].sum()
    return pd.DataFrame(
        {
            "tests": null["tests"],
            "type_1": null["p"] / null["tests"],
            "fdr": other["false_share"] / tables,
            "power": changed["fdr"] / tables,
            "tested": changed["tests"] / tables,
        }
    ).reset_index()


def draw(results: pd.DataFrame) -> Figure:
    """Type I error against the share of the type; a panel per number of donors, with and without a trend."""
    table, numbers = summarise(results, ["donors", "trend", "sd"]), sorted(results["donors"].unique())
    size = {"figsize": (2 + 2.2 * len(numbers), 5), "layout": "constrained"}
    figure, axes = plt.subplots(2, len(numbers), sharex=True, sharey=True, **size)
    for (trend, donors), axis in zip(itertools.product(TRENDS, numbers), axes.ravel(), strict=True):
        for method, color in (("limma", "#D55E00"), ("binomial", "#0072B2")):
            for sd, style in zip(SDS, (":", "--", "-"), strict=True):
                line = table.query(
                    "method == @method and trend == @trend and donors == @donors and sd == @sd"
                )
                line = line[line["tests"] >= 50]
                label = f"{'composition' if method == 'binomial' else method}, SD {sd:g}"
                axis.plot(
                    100 * line["share"], line["type_1"], style, color=color, marker="o", ms=3, label=label
                )
        axis.axhline(0.05, color="0.6", linewidth=0.8)
        axis.set(xscale="log", title=f"{donors} donors{', trend' if trend else ''}", ylim=(-0.03, 1.03))
    figure.supxlabel("share of the cell type (%)")
    figure.supylabel("share of p-values below 0.05, no effect")
    axes[0, 0].legend(fontsize=7)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="table to write")
    parser.add_argument("--tables", type=int, default=100, help="per setting; a fifth of it with 600 donors")
    parser.add_argument("--figure", type=Path, help="PNG of the type I error")
    parser.add_argument("--collect", action="store_true", help="read the table instead of drawing it")
    options = parser.parse_args()
    if not options.collect:
        parts = []
        for setting in itertools.product(DONORS, CELLS, SDS, TRENDS):
            parts.append(run_setting(*setting, options.tables // (5 if setting[0] == 600 else 1)))
            print(*setting, flush=True)
        pd.concat(parts).to_csv(options.out, sep="\t", index=False)
    results = pd.read_csv(options.out, sep="\t")
    for by in (["trend"], ["trend", "donors"], ["trend", "sd"]):
        print(summarise(results, by).pivot(index=[*by, "share"], columns="method").round(3).to_string())
    if options.figure:
        draw(results).savefig(options.figure, dpi=110, metadata={"Software": None})
