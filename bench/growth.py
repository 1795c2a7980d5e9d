"""How cost grows with cells, rule by rule, and what a whole OneK1K would cost: `make bench-growth`.

Runs the workflow at several sizes (or takes finished runs with --collect), with donors in proportion. For
each rule, wall without start-up and CPU seconds are fitted as c x cells^k by least squares on logarithms.
Fixed costs flatten such a slope, so the step between the two largest sizes is shown as well, and the steeper
of the two extrapolates. Memory of the largest job is fitted as a + b x cells of that job (all cells, or a
shard's for rules that have one job per shard).
"""

import argparse

import numpy as np
import pandas as pd

import _measure as measure
from _jobs import format_table
from generate import CELLS_PER_SHARD, WORK, add_options, cohort_of
from run import ensure_cohort, finished, run

SIZES = [25_000, 100_000, 400_000]
TARGET = 1_250_000
BRIEF_S = 5.0  # a rule that works less than this at the largest size has no exponent worth naming
LIMIT = 1.15  # a steeper exponent is more than linear with a log factor between these sizes


def per_size(runs: list[tuple[dict, pd.DataFrame]]) -> pd.DataFrame:
    """One row per rule and run: cells, jobs, work_s, cpu_s, startup_s, peak_mb, job_cells, sharded.

    runs: (line of results, jobs) of finished runs of different sizes.
    """
    rows = []
    for line, table in runs:
        for rule, group in table.groupby("rule"):
            sharded = bool(group["wildcards"].str.startswith("shard=").all())
            rows.append(
                {
                    "rule": rule,
                    "cells": line["cells"],
                    "jobs": len(group),
                    **group[["work_s", "cpu_s", "startup_s"]].sum().to_dict(),
                    "peak_mb": group["peak_mb"].max(),
                    "job_cells": line["cells"] / (len(group) if sharded else 1),
                    "sharded": sharded,
                }
            )
    return pd.DataFrame(rows).sort_values(["rule", "cells"], ignore_index=True)


def exponents(cells: np.ndarray, cost: np.ndarray) -> tuple[float, float]:
    """Slope of log(cost) on log(cells) over all sizes, and between the two largest sizes."""
    x, y = np.log(cells), np.log(np.maximum(cost, 1e-3))
    return float(np.polyfit(x, y, 1)[0]), float((y[-1] - y[-2]) / (x[-1] - x[-2]))


def line_through(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Intercept and slope by least squares, or the largest y and 0 where y does not grow."""
    if np.ptp(x) == 0:
        return float(y.max()), 0.0
    slope, intercept = np.polyfit(x, y, 1)
    return (float(intercept), float(slope)) if slope > 0 else (float(y.max()), 0.0)


def growth(sizes: pd.DataFrame, target: int) -> pd.DataFrame:
    """Exponents of each rule and its predicted cost at `target` cells, the most expensive first.

    sizes: as from `per_size`, at least two sizes. wall_s: predicted sum over the rule's jobs with start-up.
    """
    rows = []
    for rule, group in sizes.groupby("rule"):
        cells, last = group["cells"].to_numpy(), group.iloc[-1]
        if len(group) < 2:
            raise ValueError(f"{rule}: ran at {cells.tolist()} cells only; two sizes needed")
        work, steep_work = exponents(cells, group["work_s"].to_numpy())
        cpu, steep_cpu = exponents(cells, group["cpu_s"].to_numpy())
        ratio = target / last["cells"]
        shards = target / CELLS_PER_SHARD
        base, per_cell = line_through(group["job_cells"].to_numpy(), group["peak_mb"].to_numpy())
        startup = last["startup_s"] * (shards / last["jobs"] if last["sharded"] else 1)
        rows.append(
            {
                "rule": rule,
                "work_exponent": work,
                "work_last": steep_work,
                "cpu_exponent": cpu,
                "cpu_last": steep_cpu,
                "steep": max(work, steep_work) > LIMIT and last["work_s"] > BRIEF_S,
                "wall_s": startup + last["work_s"] * ratio ** max(work, steep_work),
                "cpu_s": last["cpu_s"] * ratio ** max(cpu, steep_cpu),
                "mb_base": base,
                "mb_per_1000": 1000 * per_cell,
                "peak_mb": base + per_cell * (CELLS_PER_SHARD if last["sharded"] else target),
            }
        )
    return pd.DataFrame(rows).sort_values("wall_s", ascending=False, ignore_index=True)


def predicted_wall(table: pd.DataFrame, runs: list[tuple[dict, pd.DataFrame]]) -> dict[str, float]:
    """Seconds at the target: predicted job wall, packed as well as in the largest run; and two bounds.

    packed: the sum over rules x (wall / sum of job wall) of the largest run. serial: no two jobs at once.
    cpu: every core busy throughout, nothing but CPU time.
    """
    line, largest = max(runs, key=lambda run: run[0]["cells"])
    packing = line["wall_s"] / largest["wall_s"].sum()
    return {
        "packed": table["wall_s"].sum() * packing,
        "serial": table["wall_s"].sum(),
        "cpu": table["cpu_s"].sum() / line["cores"],
    }


def report(runs: list[tuple[dict, pd.DataFrame]], target: int) -> str:
    """Growth per rule and the prediction, as text."""
    runs = sorted(runs, key=lambda run: run[0]["cells"])
    lines = pd.DataFrame([line for line, _ in runs])
    table = growth(per_size([(line, done) for line, done in runs]), target)
    wall, largest = predicted_wall(table, runs), table.loc[table["peak_mb"].idxmax()]
    runs_shown = lines[
        ["cells", "donors", "shards", "cores", "wall_s", "cpu_s", "peak_job_mb", "peak_tree_mb"]
    ]
    steep = ", ".join(table["rule"][table["steep"]]) or "none"
    minutes = {name: f"{seconds / 60:,.0f}" for name, seconds in wall.items()}
    parts = [
        format_table(runs_shown),
        format_table(table.drop(columns="steep")),
        f"steeper than cells^{LIMIT}: {steep}",
        f"{target:,} cells on {lines['cores'].iloc[-1]} cores: {minutes['packed']} min if jobs overlap as "
        f"in the largest run ({minutes['cpu']} of CPU alone, {minutes['serial']} one by one); "
        f"largest job {largest['peak_mb']:,.0f} MB ({largest['rule']})",
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.set_defaults(folder=WORK)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="instead of --cells")
    parser.add_argument("--target", type=int, default=TARGET)
    parser.add_argument("--cores", type=int, default=measure.available_cores())
    parser.add_argument("--collect", action="store_true", help="take the runs that are there")
    given, runs = parser.parse_args(), []
    work = given.folder
    for cells in sorted(given.sizes):
        given.cells, given.folder = cells, work / str(cells)
        cohort = cohort_of(given)
        if not given.collect:
            ensure_cohort(**cohort)
            measure.append(run(cohort["folder"], given.cores))
        runs.append(finished(cohort["folder"]))
    print(report(runs, given.target))
