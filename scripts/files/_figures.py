"""Figures: how they are saved, and the colours of levels in them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito 2008, told apart with any colour vision; further levels get darker and lighter ones
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#888888"]
DISTINCT_COLOURS = 3 * len(PALETTE)  # then they repeat


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Write a PNG; its bytes do not name the version of matplotlib."""
    figure.savefig(path, dpi=120, metadata={"Software": None})


def colours(n: int) -> np.ndarray:
    """Colours of the first n levels, (n, 3) red, green and blue from 0 to 1."""
    return np.array([colour(i) for i in range(n)]).reshape(n, 3)


def colour(i: int) -> tuple[float, float, float]:
    """Colour of the i-th level: the palette, then darker, then lighter ones, and again."""
    base = np.array([int(PALETTE[i % len(PALETTE)][k : k + 2], 16) / 255 for k in (1, 3, 5)])
    shade = i // len(PALETTE) % 3
    return tuple(float(part) for part in [base, base * 0.55, base * 0.5 + 0.5][shade])
