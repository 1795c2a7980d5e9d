"""Knee and inflection of the barcode-rank curve of a capture, which tell cells from droplets without a cell.

Barcodes are ranked by their total counts, the largest first; barcodes of one total share their mean rank.
With x = log10(rank) and y = log10(total), over the totals above LOWER:

- inflection: the total at the smallest slope dy/dx between neighbouring points, where the curve falls most
  steeply from cells to background;
- knee: the total at the smallest signed curvature y'' / (1 + y'^2)^1.5 of a cubic smoothing spline with
  DEGREES degrees of freedom, fitted between the largest slope before the inflection and the inflection: the
  shoulder above the fall.

The EXCLUDED highest ranks, where few barcodes make steep steps, take no part.
Source: barcodeRanks of DropletUtils 1.18 (Lun et al. 2019, Genome Biology 20:63). The spline is that of R's
smooth.spline: Hastie & Tibshirani 1990, Generalized Additive Models, with R's number of knots.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.interpolate import BSpline
from scipy.optimize import brentq, minimize_scalar

from cohort._source import Source
from job import InputError, Progress

LOWER = 100  # counts
EXCLUDED = 50  # barcodes
DEGREES = 20
SPAR = (-1.5, 1.5)  # where smooth.spline looks for its smoothing parameter


class Ranks(NamedTuple):
    """Total counts at the two points of the curve."""

    knee: int
    inflection: int


def find_empty_droplets(
    sources: list[Source],
    genes: pd.DataFrame,
    sample: pd.Series,
    usable: pd.Series,
    *,
    point: str,
    block_values: int,
) -> tuple[np.ndarray, list[dict]]:
    """Which barcodes (bool) have fewer counts than the knee or inflection of their capture, and its numbers.

    A capture is a sample in a file. genes: as from `shared_genes`, those that are counted; sample, usable: of
    each barcode; others are not ranked and not called; point: `knee` or `inflection`. Counts are read once.
    Raises InputError for a capture without a knee.
    """
    totals = count_barcodes(sources, genes, block_values)
    file = np.repeat([source.name for source in sources], [len(source.obs) for source in sources])
    captures = pd.DataFrame({"file": file, "sample": sample.astype(object).to_numpy()})
    empty, numbers = np.zeros(len(totals), dtype=bool), []
    for (file, name), rows in captures[usable.to_numpy()].groupby(["file", "sample"]).groups.items():
        ranks = rank_barcodes(totals[rows])
        if ranks is None:
            raise InputError(
                f"load.empty_droplets: sample {name!r} of {file} has no {point}, as fewer than three "
                f"different totals are above {LOWER} counts; set load.empty_droplets to refuse"
            )
        empty[rows] = totals[rows] < getattr(ranks, point)
        above = {
            f"barcodes_at_{key}": int((totals[rows] >= total).sum()) for key, total in ranks._asdict().items()
        }
        numbers.append({"file": file, "sample": name, "barcodes": len(rows), **ranks._asdict(), **above})
    return empty, numbers


def count_barcodes(sources: list[Source], genes: pd.DataFrame, block_values: int) -> np.ndarray:
    """Counts (int64) of each barcode of all files in these genes."""
    progress, totals = Progress(sum(len(source.obs) for source in sources), "barcodes counted"), []
    for source in sources:
        counted = np.zeros(source.columns.max() + 1)
        counted[source.columns[source.symbols.index.get_indexer(genes["gene_id"])]] = 1
        for block in source.blocks(block_values):
            totals.append((block[:, : len(counted)] @ counted).astype(np.int64))
            progress.add(block.shape[0])
    return np.concatenate(totals)


def rank_barcodes(totals: np.ndarray) -> Ranks | None:
    """Knee and inflection of a capture; None with fewer than three different totals above LOWER.

    totals: (barcodes,) counts of each barcode, in any order.
    """
    values, barcodes = np.unique(totals, return_counts=True)
    values, barcodes = values[::-1], barcodes[::-1]
    ranks = np.cumsum(barcodes) - (barcodes - 1) / 2
    above = values > LOWER
    if above.sum() < 3:
        return None
    x, y = np.log10(ranks[above]), np.log10(values[above])
    slope = np.diff(y) / np.diff(x)
    first = min(len(slope) - 1, int((ranks[above] <= EXCLUDED).sum()))
    right = first + int(np.argmin(slope[first:]))
    left = first + int(np.argmax(slope[first : right + 1]))
    fitted = slice(left, right + 1)
    shoulder = 0
    if right + 1 - left >= 4:
        first_derivative, second_derivative = smooth(x[fitted], y[fitted])
        shoulder = int(np.argmin(second_derivative / (1 + first_derivative**2) ** 1.5))
    return Ranks(knee=int(values[left + shoulder]), inflection=int(values[right]))


def smooth(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivative, at ascending x, of a smoothing spline of y with DEGREES degrees.

    With fewer points than DEGREES the smoothing is chosen by generalised cross-validation, as in R.
    """
    n, width = len(x), x[-1] - x[0]
    unit = (x - x[0]) / width
    inner = unit[np.linspace(0, n - 1, count_knots(n)).astype(int)]
    knots = np.concatenate([np.zeros(3), inner, np.ones(3)])
    design = BSpline.design_matrix(np.clip(unit, 0, 1), knots, 3)
    square = (design.T @ design).toarray()
    penalty = second_derivative_products(knots)
    inside = slice(2, len(square) - 3)
    ratio = np.trace(square[inside, inside]) / np.trace(penalty[inside, inside])

    def degrees(spar):
        return np.trace(np.linalg.solve(square + scale(spar) * penalty, square))

    def scale(spar):
        return ratio * 256 ** (3 * spar - 1)

    def solve(spar):
        return np.linalg.solve(square + scale(spar) * penalty, design.T @ y)

    def cross_validation(spar):
        left_over = ((y - design @ solve(spar)) ** 2).mean()
        return left_over / (1 - degrees(spar) / n) ** 2

    if n < DEGREES:
        spar = minimize_scalar(cross_validation, bounds=SPAR, method="bounded").x
    elif degrees(SPAR[0]) <= DEGREES:  # as many as there are
        spar = SPAR[0]
    else:
        spar = brentq(lambda value: degrees(value) - DEGREES, *SPAR)
    spline = BSpline(knots, solve(spar), 3)
    return spline.derivative(1)(unit) / width, spline.derivative(2)(unit) / width**2


def count_knots(n: int) -> int:
    """Knots of smooth.spline for n points: all below 50, then fewer and fewer of them."""
    if n < 50:
        return n
    points = np.array([50, 200, 800, 3200])
    if n >= points[-1]:
        return int(200 + (n - 3200) ** 0.2)
    return int(2 ** np.interp(n, points, np.log2([50, 100, 140, 200])))


def second_derivative_products(knots: np.ndarray) -> np.ndarray:
    """Integrals of products of second derivatives of the cubic basis functions, (functions, functions)."""
    inner = np.unique(knots)
    half = np.diff(inner) / 2
    nodes = (inner[:-1] + half)[:, None] + half[:, None] * np.array([-1, 1]) / np.sqrt(3)  # exact for squares
    basis = BSpline(knots, np.eye(len(knots) - 4), 3).derivative(2)(nodes.ravel())
    return basis.T @ (np.repeat(half, 2)[:, None] * basis)
