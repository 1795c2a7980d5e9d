"""Run a command and measure it with all its descendants; say on which machine and from which commit."""

import contextlib
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from _root import ROOT
from workflow.provenance import name_commit

RESULTS = Path(__file__).parent / "results.tsv"
DIGITS = 7  # of a commit
INTERVAL_S = 0.25  # between samples of the process tree
COLUMNS = [
    *("date", "commit", "tool", "cells", "genes", "donors", "shards"),
    *("cores", "memory_gb", "cpu", "load_before"),
    *("wall_s", "cpu_s", "peak_tree_mb", "peak_job_mb", "jobs"),
    *("startup_share", "idle_share", "dominating_rule", "dominating_share"),
]


@dataclass(frozen=True)
class Cost:
    """What a command cost: seconds, seconds of all cores, resident MB of the whole tree at its highest."""

    wall_s: float
    cpu_s: float
    peak_tree_mb: float


def measured(command: list[str], folder: Path, log: Path, environment: dict[str, str] | None = None) -> Cost:
    """Run in a folder with output to a log file; stops this program with the log's end if it fails.

    Memory is the sum of resident memory over the process tree, so pages that processes share count twice.
    """
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    peak = 0
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        done = threading.Event()
        waiter = threading.Thread(target=lambda: (process.wait(), done.set()))
        waiter.start()
        try:
            while not done.wait(INTERVAL_S):
                peak = max(peak, tree_memory(process.pid))
        except KeyboardInterrupt:
            process.terminate()
            waiter.join()
            raise
    wall, after = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        end = "\n".join(
            line
            for line in log.read_text(encoding="utf-8").splitlines()
            if not line.startswith("import time:")
        )
        sys.exit(f"{end[-3000:]}\nerror: {' '.join(command[:3])} ended with {process.returncode}; see {log}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(round(wall, 2), round(cpu, 2), round(peak / 2**20, 1))


def tree_memory(pid: int) -> int:
    """Resident bytes of a process and its descendants now; those that just ended count as nothing."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total


def machine() -> dict:
    """Cores that this process may use, memory in GB, processor, and how busy the machine is already."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "cores": available_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "cpu": model,
        "load_before": round(os.getloadavg()[0], 2),
    }


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def commit() -> str:
    """First digits of the commit, `+dirty` if files other than results.tsv differ; `unknown` without git."""
    head, sign, dirty = name_commit(ROOT, ".", ":!bench/results.tsv").partition("+")
    return f"{head[:DIGITS]}{sign}{dirty}"


def row(**facts) -> dict:
    """One line of bench/results.tsv: the facts given, the date, the commit and the machine."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"date": now, "commit": commit(), **machine(), **facts}
    return {column: line.get(column, "") for column in COLUMNS}


def append(line: dict, results: Path = RESULTS) -> None:
    """Add a line to a table of results. Raises ValueError when the table has other columns."""
    header = "\t".join(COLUMNS) + "\n"
    if not results.exists():
        results.write_text(header, encoding="utf-8")
    with open(results, "r+", encoding="utf-8") as file:
        if (found := file.readline()) != header:
            raise ValueError(f"{results}: has columns {found.split()}, not {COLUMNS}; move it away")
        file.seek(0, os.SEEK_END)
        file.write("\t".join(str(line[column]) for column in COLUMNS) + "\n")
