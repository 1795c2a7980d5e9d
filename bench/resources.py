"""Fit what each step asks for from finished benchmark runs: `make bench-resources`.

For each rule the lowest line a + b x (MB of inputs) that no job of the runs is above (linear programme: least
total slack, a and b not negative), for its peak memory and for its wall time; then times a headroom, since
other cohorts and machines differ. Rules without a job in the runs keep their line. Writes
`workflow/resources.yaml`.
"""

import argparse
from datetime import date
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.optimize import linprog

from _root import ROOT
from generate import WORK
from growth import SIZES
from run import finished

RESOURCES = ROOT / "workflow/resources.yaml"
HEADROOM_MB, HEADROOM_MINUTES = 1.4, 4.0
SNAKEMAKE_MB = 400  # of a SLURM job: it starts Snakemake twice (docs/operations.md)
LEAST_MB = 500  # also for a job of hardly any memory
LEAST_MINUTES = 15  # a cold file system can take minutes over the imports alone
HEAD = """\
# What a job of each step asks for: mem_mb + mem_mb_per_input_mb x (MB of its inputs), and minutes likewise.
# Requests grow with the attempt. Fitted by bench/resources.py on {day}, commit {commit}, {cpu}:
# runs of {cells} cells; the lowest line above all jobs, times {mb} for memory and {minutes} for
# time, and {own} MB for Snakemake. The minutes of differential are asked for each cell type of a job.
# Set by hand, as no benchmark has them: {kept}.
"""


def line_above(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Intercept and slope, neither negative, of the line above all points (x, y) with the least slack."""
    best = linprog(
        [len(x), x.sum()], A_ub=-np.column_stack([np.ones(len(x)), x]), b_ub=-y, bounds=[(0, None)] * 2
    )
    if best.status != 0:
        raise ValueError(f"no line above {len(x)} points: {best.message}")
    return float(best.x[0]), float(best.x[1])


def fit(jobs: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Model of each rule.

    jobs: one row per job with rule, input_mb, peak_mb and wall_s, of runs of several sizes.
    """
    models = {}
    for rule, group in jobs.groupby("rule"):
        size = group["input_mb"].to_numpy()
        base, slope = line_above(size, group["peak_mb"].to_numpy())
        base = max(base, group["peak_mb"].min())  # a smaller input than any measured needs no less
        start, pace = line_above(size, group["wall_s"].to_numpy() / 60)
        models[rule] = {
            "mem_mb": max(LEAST_MB, ceil((base * HEADROOM_MB + SNAKEMAKE_MB) / 10) * 10),
            "mem_mb_per_input_mb": rounded_up(slope * HEADROOM_MB),
            "minutes": max(LEAST_MINUTES, ceil(start * HEADROOM_MINUTES)),
            "minutes_per_input_mb": rounded_up(pace * HEADROOM_MINUTES),
        }
    return models


def rounded_up(value: float) -> float:
    """Two significant digits, never less than the value."""
    if value < 1e-6:
        return 0
    unit = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(f"{np.ceil(value / unit - 1e-9) * unit:.2g}")


def text(models: dict[str, dict], known: dict[str, dict], head: dict) -> str:
    """The file: every step of `known`, in its order, with its new model where there is one."""
    kept = [step for step in known if step not in models]
    lines = [
        HEAD.format(
            **head, mb=HEADROOM_MB, own=SNAKEMAKE_MB, minutes=HEADROOM_MINUTES, kept=", ".join(kept) or "none"
        )
    ]
    for step, model in known.items():
        values = ", ".join(f"{name}: {value:g}" for name, value in (models.get(step, model)).items())
        lines.append(f"{step}: {{{values}}}\n")
    return "".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=WORK)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    runs = [finished(options.folder / str(cells)) for cells in options.sizes]
    last = runs[-1][0]
    head = {
        "day": date.today(),
        "commit": last["commit"],
        "cpu": f"{last['cores']} cores of {last['cpu']}",
        "cells": ", ".join(f"{line['cells']:,}" for line, _ in runs),
    }
    known = yaml.safe_load(RESOURCES.read_text(encoding="utf-8"))
    RESOURCES.write_text(text(fit(pd.concat([jobs for _, jobs in runs])), known, head), encoding="utf-8")
