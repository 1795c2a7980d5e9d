"""Print how a run spent its time: planning, queueing, start-up, I/O, computing, idle; by rule and in total.

    python ops/cost.py [--results results] [--logs .snakemake/log] [--cores N]

Reads the performance records of the jobs and Snakemake's logs, writes <results>/run/cost.json and prints a
table. Everything is in core seconds. Of a job with t threads that ran w seconds after start-up and imports
and used c seconds of cores for that: computing is min(c, t w); I/O is what is left of w when its computing,
min(c, w), and the time for which the kernel had no core for it are taken off, so reading, writing, the
network and sleep; idle is the rest of t w. Queueing is from Snakemake's hand-over to the start of the
process, start-up includes imports. Where the run's cores are known, planning is the time before the first
job on all of them, idle also what had no job, and the six add up to cores x duration.
"""

import argparse
import json
import math
import re
import sys
from datetime import datetime
from pathlib import Path

import pandas as pd

from _jobs import collect, format_table

LOG_RESOLUTION_S = 1.0  # Snakemake's log has whole seconds, so a shorter queueing cannot be told
CLASSES = ["planning", "queueing", "startup", "io", "computing", "idle"]
MARGIN = 1.3  # of a proposed request over the largest use
CROWDED = 0.5  # of the time of start-up and imports, which compute nearly all of it on a free machine
LEAST_MB, LEAST_MINUTES = 500, 10  # no smaller request is proposed
STAMP = r"\[(\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \d{4})\]\n"
HANDED = re.compile(STAMP + r"(?:local)?(?:rule|checkpoint) (\w+):\n((?: {4}.*\n)+)")
CORES = re.compile(r"^Provided cores: (\d+)", flags=re.MULTILINE)
ADVICE = {
    "planning": "fewer jobs or targets: lower load.shards, shorten a sweep, run one branch (cells_only)",
    "queueing": "more cores or jobs at a time in the profile, or fewer and longer jobs",
    "startup": "fewer and longer jobs: lower load.shards, raise differential.cell_types_per_job, shorten "
    "ridge.alpha or cluster.resolution",
    "io": "a faster disk for results and cohort (docs/operations.md, staging), or fewer jobs at a time",
    "computing": "more cores, or a cheaper setting of the rule that dominates; this is the work itself",
    "idle": "as many cores as the run can use; see which rule runs alone",
}


def read_log(path: Path) -> dict:
    """Content of a log of Snakemake: start (epoch s), cores (None where there are none), handed.

    handed: {(rule, wildcards): epoch s} of the last hand-over of each job.
    """
    printed = path.read_text(errors="replace", encoding="utf-8")
    stamp = re.match(r"\d{4}-\d\d-\d\dT\d{6}", path.name)
    start = datetime.strptime(stamp.group(), "%Y-%m-%dT%H%M%S").timestamp() if stamp else None
    handed = {}
    for when, rule, block in HANDED.findall(printed):
        wildcards = re.search(r"^ {4}wildcards: (.*)$", block, flags=re.MULTILINE)
        key = rule, wildcards.group(1).replace(", ", ",") if wildcards else ""
        handed[key] = datetime.strptime(when, "%a %b %d %H:%M:%S %Y").timestamp()
    cores = CORES.search(printed)
    return {"start": start, "cores": int(cores.group(1)) if cores else None, "handed": handed}


def read_last_run(logs: Path, origin: float) -> dict:
    """Content of the newest log with jobs; without a log, the start of the first job."""
    for path in sorted(logs.glob("*.snakemake.log"), reverse=True):
        run = read_log(path)
        if run["handed"]:
            return run
    return {"start": origin, "cores": None, "handed": {}}


def split_core_seconds(jobs: pd.DataFrame, handed: dict) -> pd.DataFrame:
    """The jobs with their core seconds of queueing, startup, io, computing and idle."""
    jobs = jobs.copy()
    asked = [handed.get(key) for key in zip(jobs["rule"], jobs["wildcards"], strict=True)]
    waited = jobs["began"] - pd.Series(asked, index=jobs.index, dtype=float) - LOG_RESOLUTION_S
    waited = waited.clip(lower=0).fillna(0)
    cpu = (jobs["cpu_s"] - jobs["overhead_cpu_s"]).clip(lower=0)
    room = jobs["threads"] * jobs["work_s"]
    waiting = jobs["core_wait_s"].fillna(0) * (jobs["work_s"] / jobs["block_s"]).fillna(0)  # imports wait too
    alone = jobs["work_s"] - cpu.clip(upper=jobs["work_s"]) - waiting
    jobs["queueing"] = jobs["threads"] * waited
    jobs["startup"] = jobs["threads"] * jobs["startup_s"]
    jobs["computing"] = cpu.clip(upper=room)
    jobs["io"] = alone.clip(lower=0, upper=room - jobs["computing"])
    jobs["idle"] = room - jobs["computing"] - jobs["io"]
    return jobs


def make_report(jobs: pd.DataFrame, run: dict, cores: int | None) -> dict:
    """The whole report as JSON can hold it; jobs: of one run, of `collect` and with `began` (epoch s)."""
    jobs = split_core_seconds(jobs, run["handed"])
    cores = cores or run["cores"]
    end = (jobs["began"] + jobs["wall_s"]).max()
    first = min([*run["handed"].values(), jobs["began"].min()])
    start = min(run["start"] or first, first)
    total = jobs[CLASSES[1:]].sum().to_dict() | {"planning": (first - start) * (cores or 1)}
    if cores:
        total["idle"] += max(0.0, cores * (end - start) - sum(total.values()))
    total = {name: round(float(total[name]), 1) for name in CLASSES}
    rules = sum_by_rule(jobs)
    verdict, evidence = find_dominant(total, jobs, rules, end - start)
    return {
        "jobs": len(jobs),
        "failed": int((jobs["status"] != "ok").sum()),
        "duration_s": round(end - start, 1),
        "cores": cores,
        "core_hours": round(float((jobs["threads"] * jobs["wall_s"]).sum()) / 3600, 3),
        "gb_hours": round(float((jobs["peak_mb"] / 1024 * jobs["wall_s"]).sum()) / 3600, 3),
        "seconds": total,
        "dominant": verdict,
        "evidence": evidence,
        "advice": ADVICE[verdict],
        "startup_on_core": round(float(jobs["overhead_cpu_s"].sum() / max(jobs["startup_s"].sum(), 1e-9)), 2),
        "tiny": find_tiny(rules),
        "requests": judge_requests(jobs),
        "rules": rules.round(2).to_dict("records"),
    }


def sum_by_rule(jobs: pd.DataFrame) -> pd.DataFrame:
    """One row per rule, the most expensive first: jobs, core seconds by class, median work and start-up."""
    groups = jobs.groupby("rule")
    rules = groups[CLASSES[1:]].sum()
    rules.insert(0, "jobs", groups.size())
    rules["work_s"], rules["startup_s"] = groups["work_s"].median(), groups["startup_s"].median()
    rules["peak_mb"] = groups["peak_mb"].max()
    order = rules[["startup", "io", "computing", "idle"]].sum(axis=1).sort_values(ascending=False).index
    return rules.loc[order].reset_index()


def find_dominant(total: dict, jobs: pd.DataFrame, rules: pd.DataFrame, duration: float) -> tuple[str, str]:
    """The largest class and a sentence that proves it.

    Idle cores are the verdict only when they outweigh every other class twice: while one long job runs, the
    other cores are idle, and the cause is that job.
    """
    ranked = sorted(total, key=total.get, reverse=True)
    verdict = ranked[1] if ranked[0] == "idle" and total["idle"] < 2 * total[ranked[1]] else ranked[0]
    share = total[verdict] / max(sum(total.values()), 1e-9)
    cost = f"{share:.0%} of {sum(total.values()):,.0f} core seconds"
    if verdict == "planning":
        return verdict, f"{cost}; the first of {len(jobs):,} jobs was handed over late"
    if verdict == "idle":
        busy = float((jobs["threads"] * jobs["wall_s"]).sum()) / max(duration, 1e-9)
        longest = jobs.loc[jobs["wall_s"].idxmax()]
        name = f"{longest['rule']} {longest['wildcards']}".strip()
        return (
            verdict,
            f"{cost}; {busy:.1f} cores had a job; the longest is {name}, {longest['wall_s']:,.0f} s",
        )
    row = rules.loc[rules[verdict].idxmax()]
    of_rule = row[verdict] / max(total[verdict], 1e-9)
    middle = f"median {row['work_s']:.1f} s of work after {row['startup_s']:.1f} s of start-up"
    return verdict, f"{cost}; {of_rule:.0%} of it in the {row['jobs']:,} jobs of {row['rule']} ({middle})"


def find_tiny(rules: pd.DataFrame) -> list[dict]:
    """Rules with jobs that need less time than their start-up."""
    short = rules[rules["work_s"] < rules["startup_s"]]
    return [
        {
            "rule": row["rule"],
            "jobs": int(row["jobs"]),
            "work_s": round(row["work_s"], 2),
            "startup_s": round(row["startup_s"], 2),
        }
        for row in short.to_dict("records")
    ]


def judge_requests(jobs: pd.DataFrame) -> list[dict]:
    """Rules that asked for far less or more than they used (over 90 % or under 20 % used), with a proposal.

    A failed job counts with what it used. A request at or below the least proposed is never too large.
    """
    rows = []
    used = {"mem_mb": ("peak_mb", 1, LEAST_MB, 100), "minutes": ("wall_s", 60, LEAST_MINUTES, 5)}
    for rule, group in jobs.groupby("rule"):
        for asked, (use, unit, least, step) in used.items():
            share = (group[use] / unit / group[asked].astype(float)).max()
            if math.isnan(share) or (0.2 <= share <= 0.9):
                continue
            if share < 0.2 and group[asked].max() <= least:
                continue
            most = float(group[use].max()) / unit
            proposed = max(least, step * math.ceil(MARGIN * most / step))
            facts = {"rule": rule, "request": "runtime" if asked == "minutes" else asked}
            facts |= {"asked": int(group[asked].max()), "used": round(most, 1), "share": round(share, 3)}
            rows.append(facts | {"proposed": proposed})
    return rows


def format_report(facts: dict) -> str:
    """The report for the terminal: table, verdict, and what deserves attention."""
    rules = pd.DataFrame(facts["rules"])[["rule", "jobs", *CLASSES[1:], "peak_mb"]]
    total = {"rule": "all", "jobs": facts["jobs"], **{name: facts["seconds"][name] for name in CLASSES[1:]}}
    table = pd.concat([rules, pd.DataFrame([total | {"peak_mb": rules["peak_mb"].max()}])], ignore_index=True)
    lines = [
        f"{facts['jobs']:,} jobs ({facts['failed']} failed) in {facts['duration_s']:,.0f} s on "
        f"{facts['cores'] or 'unknown'} cores: {facts['core_hours']} core h, {facts['gb_hours']} GB h",
        f"core seconds, besides {facts['seconds']['planning']:,.0f} of planning:",
        "",
        format_table(table.round(1)),
        "",
        f"dominant: {facts['dominant']}: {facts['evidence']}",
        f"what helps: {facts['advice']}",
    ]
    if facts["startup_on_core"] < CROWDED:
        lines.append(
            f"crowded: start-up and imports had a core for {facts['startup_on_core']:.0%} of their time; "
            "something else keeps the cores or the disk busy"
        )
    for row in facts["tiny"]:
        lines.append(
            f"shorter than their overhead: {row['jobs']} jobs of {row['rule']}, {row['work_s']} s of work "
            f"after {row['startup_s']} s of start-up"
        )
    for row in facts["requests"]:
        lines.append(
            f"{row['rule']}: used {row['used']:,} of {row['asked']:,} {row['request']} ({row['share']:.0%}); "
            f"propose {row['proposed']:,} in workflow/resources.yaml"
        )
    return "\n".join(lines)


def read_jobs(results: Path, logs: Path) -> tuple[pd.DataFrame, dict]:
    """The jobs that started in the last run, and the content of its log.

    Jobs of earlier runs are left out, unless the last run had no job.
    """
    jobs = collect(results)
    records = [
        json.loads(path.read_text(encoding="utf-8")) for path in (results / "benchmarks").rglob("*.perf.json")
    ]
    origin = min(datetime.fromisoformat(r["start_time"]).timestamp() - r["startup_s"] for r in records)
    jobs["began"] = origin + jobs["start"]
    run = read_last_run(logs, origin)
    of_run = jobs[jobs["began"] >= (run["start"] or origin) - 1]
    return (of_run, run) if len(of_run) else (jobs, {"start": origin, "cores": None, "handed": {}})


def main():
    """Write <results>/run/cost.json and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--logs", type=Path, default=Path(".snakemake/log"))
    parser.add_argument("--cores", type=int, help="of the run; Snakemake's log tells, but not on a cluster")
    options = parser.parse_args()
    try:
        jobs, run = read_jobs(options.results, options.logs)
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    facts = make_report(jobs, run, options.cores)
    target = options.results / "run" / "cost.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(format_report(facts))
    print(f"\nwritten to {target}")


if __name__ == "__main__":
    main()
