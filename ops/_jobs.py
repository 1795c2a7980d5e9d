"""What each job of a finished run cost, from its records: the tables behind `run.py` and `growth.py`.

A record `<results>/benchmarks/**/<job>.perf.json` is written by `scripts/job/_performance.py`. Where the run
had PYTHONPROFILEIMPORTTIME=1, a job's log also tells how long the imports within its main took; without it
the record does. ops/cost.py starts from the same table.
"""

import json
import re
from pathlib import Path

import pandas as pd

IMPORT = re.compile(r"^import time:\s+(\d+) \|", flags=re.MULTILINE)  # own microseconds of one module


def collect(results: Path) -> pd.DataFrame:
    """One row per job, in the order of their start.

    Columns: rule, wildcards (text), start and end (s since the first job's process began), wall_s (start-up
    included), block_s (the script's main), work_s (without start-up and imports), startup_s (process start to
    main, and imports in main), cpu_s, peak_mb (process tree), mem_mb (requested), input_mb, read_mb,
    written_mb, threads, status; overhead_cpu_s (of start-up and imports), core_wait_s (ready to run, without
    a core) and minutes (requested), the last two NaN in records that do not tell.
    Raises FileNotFoundError when there is no record.
    """
    rows = []
    for path in sorted((results / "benchmarks").rglob("*.perf.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        log = results / "logs" / path.relative_to(results / "benchmarks")
        imports = read_import_seconds(log.with_name(path.name.replace(".perf.json", ".log")))
        imports = imports or record.get("imports_s", 0.0)
        start = pd.Timestamp(record["start_time"]).timestamp() - record["startup_s"]
        wall = record["startup_s"] + record["wall_time_s"]
        startup = min(record["startup_s"] + imports, wall)  # workers of a job import at the same time
        rows.append(
            {
                "rule": record["task_name"],
                "wildcards": ",".join(f"{name}={value}" for name, value in record["wildcards"].items()),
                "start": start,
                "end": start + wall,
                "wall_s": wall,
                "block_s": record["wall_time_s"],
                "work_s": wall - startup,
                "startup_s": startup,
                "cpu_s": record["cpu_time_s"],
                "peak_mb": record["peak_rss_mb"],
                "mem_mb": record["mem_mb_requested"],
                "overhead_cpu_s": record.get("startup_cpu_s", record["startup_s"])
                + record.get("imports_cpu_s", imports),
                "core_wait_s": record.get("core_wait_s"),
                "minutes": record.get("runtime_min_requested"),
                **{name: record[name] for name in ("input_mb", "read_mb", "written_mb", "threads", "status")},
            }
        )
    if not rows:
        raise FileNotFoundError(f"{results}: no benchmarks/**/*.perf.json; run the workflow there first")
    jobs = pd.DataFrame(rows).astype({"core_wait_s": float, "minutes": float})
    jobs = jobs.sort_values("start", ignore_index=True)
    origin = jobs["start"].min()
    return jobs.assign(start=jobs["start"] - origin, end=jobs["end"] - origin)


def read_import_seconds(log: Path) -> float:
    """Seconds that imports within a job's main took, by its log; 0 when they were not recorded."""
    return (
        sum(map(int, IMPORT.findall(log.read_text(errors="replace", encoding="utf-8")))) / 1e6
        if log.exists()
        else 0.0
    )


def sum_by_rule(jobs: pd.DataFrame) -> pd.DataFrame:
    """One row per rule, the most expensive first: sums over its jobs, memory of its largest job.

    share: of the core seconds (wall x threads) of all jobs; startup_share: of the rule's wall.
    over: jobs that needed more memory than they asked for.
    """
    table = jobs.assign(
        core_s=jobs["wall_s"] * jobs["threads"], over=jobs["peak_mb"] > jobs["mem_mb"].astype(float)
    )
    rules = table.groupby("rule").agg(
        jobs=("wall_s", "size"),
        wall_s=("wall_s", "sum"),
        longest_s=("wall_s", "max"),
        cpu_s=("cpu_s", "sum"),
        startup_s=("startup_s", "sum"),
        core_s=("core_s", "sum"),
        peak_mb=("peak_mb", "max"),
        mem_mb=("mem_mb", "max"),
        over=("over", "sum"),
        read_mb=("read_mb", "sum"),
        written_mb=("written_mb", "sum"),
    )
    rules["startup_share"] = rules["startup_s"] / rules["wall_s"]
    rules["share"] = rules["core_s"] / rules["core_s"].sum()
    rules = rules.sort_values("core_s", ascending=False).reset_index()
    return rules.drop(columns=["startup_s", "core_s"])


def sum_run(jobs: pd.DataFrame, wall_s: float, cpu_s: float, cores: int) -> dict:
    """Figures of a whole run.

    wall_s, cpu_s: of the Snakemake process and all jobs. idle_share: of the cores' time; no_job_s: when no
    job ran, so planning, hand-over and waiting; concurrent_mb: largest sum of the peaks of jobs that overlap,
    an upper bound of what the jobs held together.
    """
    rules = sum_by_rule(jobs)
    return {
        "jobs": len(jobs),
        "wall_s": wall_s,
        "job_wall_s": round(jobs["wall_s"].sum(), 1),
        "cpu_s": cpu_s,
        "idle_share": round(1 - cpu_s / (cores * wall_s), 3),
        "no_job_s": round(wall_s - measure_covered(jobs), 1),
        "startup_share": round(jobs["startup_s"].sum() / jobs["wall_s"].sum(), 3),
        "peak_job_mb": jobs["peak_mb"].max(),
        "concurrent_mb": round(measure_concurrent(jobs), 1),
        "over": int(rules["over"].sum()),
        "dominating_rule": rules["rule"][0],
        "dominating_share": round(rules["share"][0], 3),
    }


def measure_covered(jobs: pd.DataFrame) -> float:
    """Seconds in which at least one job ran."""
    total, until = 0.0, float("-inf")
    for start, end in jobs.sort_values("start")[["start", "end"]].itertuples(index=False):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def measure_concurrent(jobs: pd.DataFrame) -> float:
    """Largest sum of peak_mb over jobs that ran at one time."""
    starts = jobs["start"].to_numpy()
    return max(jobs["peak_mb"][(jobs["start"] <= start) & (jobs["end"] > start)].sum() for start in starts)


def format_table(table: pd.DataFrame) -> str:
    """A table for the terminal: thousands grouped, shares as percent, empty for missing."""

    def shown(column, value):
        if pd.isna(value):
            return ""
        if column.endswith("share"):
            return f"{value:.0%}"
        if isinstance(value, float):
            return f"{value:,.2f}" if abs(value) < 10 else f"{value:,.0f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    records = table.astype(object).to_dict("records")
    cells = [list(table.columns), *([shown(name, value) for name, value in r.items()] for r in records)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(table.columns))]
    return "\n".join(
        "  ".join(
            value.ljust(width) if not column else value.rjust(width)
            for column, (value, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )
