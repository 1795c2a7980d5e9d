"""Data of the page about cells: QC distributions with limits, share kept per sample, maps."""

import base64
import io

import numpy as np
import pandas as pd

from files import DISTINCT_COLOURS, colours

# label, unit, logarithmic axis?
METRICS = {
    "total_counts": ("Counts per cell", "counts", True),
    "n_genes_by_counts": ("Genes per cell", "genes", True),
    "pct_counts_mt": ("Mitochondrial counts", "percent of counts", False),
    "pct_counts_hb": ("Haemoglobin counts", "percent of counts", False),
    "pct_counts_ribo": ("Ribosomal counts", "percent of counts", False),
    "pct_counts_in_top_20_genes": ("Counts in the 20 largest genes", "percent of counts", False),
    "doublet_score": ("Doublet score", "Scrublet score", False),
}
LIMITS = {  # column of the table of limits -> metric
    "min_counts": "total_counts",
    "max_counts": "total_counts",
    "mad_low_counts": "total_counts",
    "mad_high_counts": "total_counts",
    "min_genes": "n_genes_by_counts",
    "max_genes": "n_genes_by_counts",
    "mad_low_genes": "n_genes_by_counts",
    "mad_high_genes": "n_genes_by_counts",
    "max_pct_mt": "pct_counts_mt",
    "mad_high_mt": "pct_counts_mt",
    "max_pct_hb": "pct_counts_hb",
    "max_pct_top_20": "pct_counts_in_top_20_genes",
}
BINS = 60
OUTCOMES = ["kept", "filter", "qc", "doublets"]
SHOWN_LEVELS = 30  # in a legend


def histograms(cells: pd.DataFrame, limits: pd.DataFrame, doublets: pd.DataFrame) -> list[dict]:
    """Cells per bin of each metric, kept and dropped by each step, with the limits.

    cells: cells.parquet; limits: one row per sample; doublets: one row per group. A limit with the same value
    in every sample has low = high.
    """
    outcome = np.where(cells["kept"], "kept", cells["step"].astype(str))
    panels = []
    for metric, (label, unit, log) in METRICS.items():
        values = cells[metric].to_numpy(dtype=float)
        finite = np.isfinite(values)
        if not finite.any():
            continue
        scaled = np.log10(values[finite] + 1) if log else values[finite]
        edges = np.histogram_bin_edges(scaled, BINS)
        counts = {name: np.histogram(scaled[outcome[finite] == name], edges)[0].tolist() for name in OUTCOMES}
        ranges = limit_ranges(metric, limits, doublets)
        panels.append(
            {
                "metric": metric,
                "label": label,
                "unit": unit,
                "log": log,
                "edges": [float(f"{edge:.6g}") for edge in edges],
                "counts": counts,
                "cells": int(finite.sum()),
                "limits": ranges,
            }
        )
    return panels


def limit_ranges(metric: str, limits: pd.DataFrame, doublets: pd.DataFrame) -> list[dict]:
    """Each limit of a metric: name, lowest, median and highest value, and number of samples with it."""
    columns = {name: limits[name] for name, of in LIMITS.items() if of == metric and name in limits}
    if metric == "doublet_score":
        columns = {"threshold": doublets["threshold"]}
    ranges = []
    for name, column in columns.items():
        values = pd.to_numeric(column).dropna()
        if len(values):
            low, middle, high = (float(f"{v:.4g}") for v in np.quantile(values, [0, 0.5, 1]))
            ranges.append({"name": name, "low": low, "median": middle, "high": high, "groups": len(values)})
    return ranges


def kept_by_sample(cells: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Samples with their covariates, usable cells, kept cells and the share kept."""
    usable = cells[cells["step"].astype(str) != "load"]
    counts = usable.groupby(usable["sample"].astype(str), observed=True)["kept"].agg(["size", "sum"])
    table = samples.rename(columns={"cells": "usable", "kept": "sample_kept"})
    table["kept"] = table["sample"].map(counts["sum"]).fillna(0).astype(int)
    table["usable"] = table["sample"].map(counts["size"]).fillna(0).astype(int)
    return table.assign(share=table["kept"] / table["usable"].where(table["usable"] > 0))


def varies(values: pd.Series) -> bool:
    """Whether a column has at least two values."""
    return bool((values != values.iloc[0]).any()) if len(values) else False


def dependence(kept: pd.DataFrame, covariates: dict[str, str]) -> list[dict]:
    """Association of the share of cells kept per sample with each covariate.

    Numbers: Spearman's rank correlation; categories: Kruskal-Wallis. Descriptive, samples as units, without
    correction. Returns covariate, kind, samples, statistic, pvalue, and the median share per level.
    """
    from scipy.stats import kruskal, spearmanr

    results = []
    for name, kind in covariates.items():
        table = kept.dropna(subset=["share"])
        table = table[table[name].notna() & (table[name].astype(str) != "")]
        row = {"covariate": name, "samples": len(table), "statistic": None, "pvalue": None, "levels": []}
        if kind == "categorical":
            groups = table.groupby(table[name].astype(str))["share"]
            row |= {"kind": "categorical", "levels": [(k, len(v), float(v.median())) for k, v in groups]}
            parts = [v.to_numpy() for _, v in groups]
            possible = len(parts) > 1 and varies(table["share"])
            test = kruskal(*parts) if possible else None
        else:
            row["kind"] = "numeric"
            possible = len(table) > 2 and varies(table[name]) and varies(table["share"])
            test = spearmanr(table[name], table["share"]) if possible else None
        if test is not None:
            row |= {"statistic": float(test.statistic), "pvalue": float(test.pvalue)}
        results.append(row)
    return results


def level_colours(n: int) -> list[tuple[int, int, int]]:
    """Colours of the first n levels, those of the figures, red, green and blue from 0 to 255."""
    return [tuple(round(255 * part) for part in level) for level in colours(n).tolist()]


def hex_colours(n: int) -> list[str]:
    """The same colours as #rrggbb."""
    return ["#{:02x}{:02x}{:02x}".format(*level) for level in level_colours(n)]


def paint(points: np.ndarray, codes: np.ndarray, *, pixels: int, seed: int = 0) -> np.ndarray:
    """Codes of the cells drawn as discs in random order, so that no level covers the others.

    points: (cells, 2) in 0 to 1; codes: 1 to 255. Returns (pixels, pixels) uint8, 0 is background.
    """
    radius = int(np.clip(round(np.sqrt(0.12 / max(len(points), 1)) * pixels / 2), 0, 4))
    order = np.random.default_rng(seed).permutation(len(points))
    place = radius + points[order] * (pixels - 1 - 2 * radius)
    x, y = np.round(place[:, 0]).astype(int), np.round(pixels - 1 - place[:, 1]).astype(int)
    topmost = np.zeros(pixels * pixels, dtype=np.int64)
    rank = np.arange(1, len(points) + 1)
    for dx in range(-radius, radius + 1):
        for dy in range(-radius, radius + 1):
            if dx * dx + dy * dy <= radius * radius + 0.5:
                # a disc covers earlier ones completely: each pixel has the highest rank
                np.maximum.at(topmost, (y + dy) * pixels + x + dx, rank)
    image = np.concatenate([[0], codes[order]]).astype(np.uint8)
    return image[topmost].reshape(pixels, pixels)


def png(image: np.ndarray, palette: list[tuple[int, int, int]]) -> str:
    """An indexed PNG as base64; code 0 is transparent, code i has the colour i - 1."""
    from PIL import Image

    picture = Image.fromarray(image, mode=None).convert("P")
    picture.putpalette([0, 0, 0, *(part for level in palette for part in level)])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True, transparency=0)
    return base64.b64encode(buffer.getvalue()).decode()


def viridis() -> list[tuple[int, int, int]]:
    """254 steps from dark to light."""
    from matplotlib import colormaps

    table = colormaps["viridis"](np.linspace(0, 1, 254))[:, :3]
    return [tuple(round(255 * part) for part in row) for row in table]


def layer_of_levels(labels: pd.Series, unit: np.ndarray, pixels: int) -> tuple[dict, str]:
    """Description and PNG of cells coloured by a label, most frequent first; colours may repeat."""
    counts = labels.value_counts().sort_index(kind="stable").sort_values(ascending=False, kind="stable")
    number = labels.map({label: i for i, label in enumerate(counts.index)}).to_numpy()
    used = min(len(counts), DISTINCT_COLOURS)
    centres = pd.DataFrame(unit, columns=["x", "y"]).groupby(number).median()
    hexes = hex_colours(len(counts))
    levels = [
        {
            "label": str(label),
            "cells": int(counts[label]),
            "colour": hexes[i],
            "x": round(float(centres.loc[i, "x"]), 4),
            "y": round(float(centres.loc[i, "y"]), 4),
        }
        for i, label in enumerate(counts.index[:SHOWN_LEVELS])
    ]
    about = {"kind": "levels", "levels": levels, "total": len(counts), "repeated": len(counts) > used}
    image = paint(unit, number % used + 1, pixels=pixels)
    return about, png(image, level_colours(used))


def layer_of_numbers(values: pd.Series, unit: np.ndarray, pixels: int) -> tuple[dict, str] | None:
    """Description and PNG of cells coloured by a number from its 1 % to its 99 % quantile."""
    values = values.to_numpy(dtype=float)
    finite = np.isfinite(values)
    if not finite.any():
        return None
    low, high = np.quantile(values[finite], [0.01, 0.99])
    scaled = np.clip((values[finite] - low) / ((high - low) or 1), 0, 1)
    image = paint(unit[finite], 1 + np.round(253 * scaled).astype(int), pixels=pixels)
    about = {"kind": "numbers", "low": float(low), "high": float(high), "cells": int(finite.sum())}
    return about, png(image, viridis())


def layers(cells: pd.DataFrame, pixels: int, numeric: list[str]) -> tuple[list[dict], list[str]]:
    """Colourings of the map: descriptions and PNGs. cells: UMAP1, UMAP2 and a column per colouring."""
    points = cells[["UMAP1", "UMAP2"]].to_numpy(dtype=float)
    low, span = points.min(axis=0), np.ptp(points, axis=0).max() or 1
    unit = (points - low) / span + (1 - np.ptp(points, axis=0) / span) / 2
    descriptions, images = [], []
    for name in cells.columns.difference(["UMAP1", "UMAP2"], sort=False):
        column = cells[name]
        layer = (
            layer_of_numbers(column, unit, pixels)
            if name in numeric
            else layer_of_levels(column.astype(object).fillna("missing").astype(str), unit, pixels)
        )
        if layer:
            descriptions.append({"name": name, **layer[0]})
            images.append(layer[1])
    return descriptions, images
