"""Data of the page for texts and small tables: losses, headlines, costs, failures."""

from pathlib import Path

import pandas as pd

from job import read_failures, read_record
from report._genes import strongest
from report._tables import records

AFTER = ("report", "publish")  # rules that have not run yet when the page is written


def losses(attrition: pd.DataFrame) -> dict:
    """Cells and samples of the input and kept ones, and each loss, over all strata."""
    whole = attrition[attrition["stratum"] == "all"]
    ends = whole.set_index("step").loc[["input", "kept"], ["cells", "samples"]].astype(int)
    lost = whole[~whole["step"].isin(["input", "kept"])]
    return {
        "cells": int(ends.loc["input", "cells"]),
        "kept": int(ends.loc["kept", "cells"]),
        "samples": int(ends.loc["input", "samples"]),
        "samples_kept": int(ends.loc["kept", "samples"]),
        "lost": records(lost[["step", "reason", "cells", "samples_lost"]]),
    }


def strata(attrition: pd.DataFrame) -> list[dict]:
    """Cells kept in each level of each stratum, and the levels with the lowest and highest percentage."""
    tables = []
    rest = attrition[attrition["stratum"] != "all"]
    for name, part in rest.groupby("stratum", sort=False):
        cells = part.groupby(["level", "step"], sort=False)["cells"].sum().unstack(fill_value=0)
        cells = cells[cells["input"] > 0]
        share = 100 * cells["kept"] / cells["input"]
        known = share.drop("", errors="ignore") if len(share) > 1 else share
        levels = [
            {"level": level or "unknown", "input": int(row["input"]), "kept": int(row["kept"])}
            for level, row in cells.iterrows()
        ]
        steps = {
            step: cells[step].astype(int).tolist()
            for step in ("kept", "load", "filter", "qc", "doublets")
            if step in cells
        }
        tables.append(
            {
                "stratum": name,
                "levels": levels,
                "steps": steps,
                "lowest": (known.idxmin(), float(known.min())),
                "highest": (known.idxmax(), float(known.max())),
            }
        )
    return tables


def headline(status: pd.DataFrame, gsea: pd.DataFrame | None, fdr: float) -> list[dict]:
    """A row per tested cell type of one contrast: its status, and the strongest gene set of each sign.

    status: differential_status; gsea: its terms, or None; fdr: limit for gene sets.
    """
    rows = []
    for row in records(status):
        sets = {"up": None, "down": None}
        if gsea is not None:
            sets = strongest(gsea[gsea["cell_type"] == row["cell_type"]], fdr)
        rows.append(row | {"set_up": sets["up"], "set_down": sets["down"]})
    return rows


def costs(folder: Path) -> list[dict]:
    """Number of jobs, wall and CPU time and peak memory by rule, from the records next to the benchmarks.

    Only finished jobs, without the rules of AFTER: their records are from an earlier run. Jobs of an earlier
    run with other shards or parts count as long as their records exist.
    """
    jobs = filter(None, (read_record(path) for path in sorted(folder.rglob("*.perf.json"))))
    table = pd.DataFrame(
        [job for job in jobs if job["status"] != "running" and job["task_name"] not in AFTER]
    )
    if table.empty:
        return []
    wall = table["wall_time_s"] + table["startup_s"]
    table = table.assign(total_s=wall)
    rules = table.groupby("task_name").agg(
        jobs=("total_s", "size"),
        total_s=("total_s", "sum"),
        longest_s=("total_s", "max"),
        cpu_s=("cpu_time_s", "sum"),
        peak_mb=("peak_rss_mb", "max"),
        requested_mb=("mem_mb_requested", "max"),
        attempts=("attempt", "max"),
    )
    return records(rules.sort_values("total_s", ascending=False).reset_index())


def failures(folder: Path) -> list[dict]:
    """Failed attempts recorded by jobs, the latest first."""
    paths = sorted(folder.rglob("*.failures.jsonl"))
    attempts = [failure for path in paths for failure in read_failures(path)]
    return sorted(attempts, key=lambda failure: failure["timestamp"], reverse=True)
