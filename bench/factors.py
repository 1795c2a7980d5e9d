"""Hidden factors on drawn counts: type I error and power with a hidden batch, by number of factors.

python bench/factors.py [--cohorts 20] prints the table of docs/methods.md: limma-voom without factors, with 1
to 3 of them, with factors of the residuals alone (RUVr), and with the batch as if it were known. The batch
changes all of 500 genes by 0.5 (natural log); age changes the first 50 by 0.4 log2 per standard deviation.
"""

import argparse

import numpy as np
import pandas as pd
from scipy import stats

from _root import ROOT  # noqa: F401  so that the parts are found
from donors._factors import find_factors, scale_counts, split_values
from donors._gls import test_models
from donors._size_factors import library_sizes, size_factors
from donors._voom import fit_voom

GENES, CHANGED = 500, 50


def draw(donors: int, seed: int, *, together: float, age: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts (donors, genes), age in standard deviations, and batch, 0 or 1.

    together: correlation of age with what decides the batch; age: log2 per standard deviation.
    """
    rng = np.random.default_rng(seed)
    years = rng.normal(size=donors)
    hidden = together * years + np.sqrt(1 - together**2) * rng.normal(size=donors)
    batch = (hidden > np.median(hidden)).astype(float)
    base = rng.lognormal(4.5, 1, GENES) + 15
    level = rng.normal(0, 0.25, (donors, GENES)) + rng.normal(0, 0.4, (donors, 1))
    level += np.outer(batch, rng.normal(0, 0.5, GENES))
    sign = np.where(np.arange(CHANGED) % 2, -1, 1) * np.log(2)
    level[:, :CHANGED] += np.outer(years * age, sign)
    counts = rng.negative_binomial(20, 20 / (20 + base * np.exp(level)))
    return counts.astype(float), years, batch


def columns_of(counts: np.ndarray, matrix: np.ndarray, batch: np.ndarray) -> dict[str, np.ndarray]:
    """Way -> columns that it adds to the design."""
    parts = split_values(scale_counts(counts, matrix), matrix, matrix[:, :1])
    ways = {f"factors: {number}": find_factors(parts, number) for number in range(4)}
    beside = ways["factors: 1"] - matrix @ np.linalg.lstsq(matrix, ways["factors: 1"])[0]
    return ways | {"RUVr, 1": beside, "batch known": batch[:, None]}


def measure(donors: int, seed: int, **planted) -> pd.DataFrame:
    """A row of each way: p-values below 0.05 of unchanged genes, power and false share at FDR 5 %."""
    counts, years, batch = draw(donors, seed, **planted)
    libraries = library_sizes(counts, size_factors(counts)[0])
    matrix, rows = np.column_stack([np.ones(donors), years]), []
    changed = np.arange(GENES) < CHANGED * (planted["age"] > 0)
    for way, more in columns_of(counts, matrix, batch).items():
        design = np.column_stack([matrix, more])
        fits, _, _ = fit_voom(counts, libraries, design, np.arange(donors))
        pvalues = test_models(fits, np.eye(1, design.shape[1], 1)).pvalues
        significant = stats.false_discovery_control(pvalues) < 0.05
        row = {"way": way, "below_0.05": (pvalues[~changed] < 0.05).mean()}
        row |= {"power": significant[changed].mean() if changed.any() else np.nan}
        rows.append(row | {"false": (significant & ~changed).sum(), "significant": significant.sum()})
    return pd.DataFrame(rows)


def summarise(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Means over cohorts; false is the number of false discoveries in all of them, fdp their share."""
    by_way = pd.concat(tables).groupby("way", sort=False)
    table = by_way[["below_0.05", "power"]].mean().round(3)
    sums = by_way[["false", "significant"]].sum()
    return table.assign(false=sums["false"], fdp=(sums["false"] / sums["significant"].clip(lower=1)).round(2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=20)
    cohorts = parser.parse_args().cohorts
    for donors in (24, 60):
        for together in (0.0, 0.6):
            for age in (0.0, 0.4):
                planted = {"together": together, "age": age}
                print(f"\n{donors} donors, {planted}", flush=True)
                print(summarise([measure(donors, seed, **planted) for seed in range(cohorts)]).to_string())
