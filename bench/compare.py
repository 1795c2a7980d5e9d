"""The workflow and the plain script side by side on one cohort, in turns: `make bench-peer CELLS=100000`.

Each round runs both, the first one changing from round to round. Wall is that of the whole command, all
start-ups included. Memory is that of the workflow's largest job, of all its processes together, and of the
script's process tree. The lines go to `bench/results.tsv`, the ratios of medians to the terminal.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

import _measure as measure
from _jobs import format_table
from generate import add_options, cohort_of
from run import cohort_facts, ensure_cohort, run


def run_peer(folder: Path, cores: int) -> dict:
    """Run the plain script on a cohort's folder and return the line of results; figures go to `peer/`."""
    place = folder.resolve() / "peer"
    place.mkdir(exist_ok=True)
    script = Path(__file__).parent.resolve() / "peer.py"
    files = [folder.resolve() / name for name in ("cohort.h5ad", "gene_sets.gmt")]
    line = measure.row()
    command = [sys.executable, script, *files, place, "--cores", cores]
    threads = {f"{name}_NUM_THREADS": str(cores) for name in ("OMP", "OPENBLAS", "NUMBA")}
    cost = measure.measured([str(part) for part in command], place, place / "run.log", threads)
    facts = cohort_facts(folder) | vars(cost) | {"tool": "peer", "cores": cores, "jobs": 1, "shards": ""}
    return line | facts | {"peak_job_mb": cost.peak_tree_mb}


def ratios(lines: pd.DataFrame) -> dict[str, float]:
    """Medians of the script over those of the workflow; memory against its largest job and all processes."""
    medians = lines.groupby("tool")[["wall_s", "peak_job_mb", "peak_tree_mb"]].median()
    ours, peer = medians.loc["scohort"], medians.loc["peer"]
    return {
        "speed": peer["wall_s"] / ours["wall_s"],
        "memory": peer["peak_job_mb"] / ours["peak_job_mb"],
        "memory_together": peer["peak_job_mb"] / ours["peak_tree_mb"],
    }


def compare(folder: Path, cores: int, rounds: int) -> pd.DataFrame:
    """Run both in turns and return all lines of results; each is kept as soon as it is there."""
    lines = []
    for number in range(rounds):
        turns = [lambda: run(folder, cores, imports=False), lambda: run_peer(folder, cores)]
        for turn in turns if number % 2 == 0 else reversed(turns):
            lines.append(turn())
            measure.append(lines[-1])
    return pd.DataFrame(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--cores", type=int, default=measure.available_cores())
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    cohort = cohort_of(options)
    ensure_cohort(**cohort)
    lines = compare(cohort["folder"], options.cores, options.rounds)
    print(format_table(lines[["tool", "load_before", "wall_s", "cpu_s", "peak_job_mb", "peak_tree_mb"]]))
    ratio = ratios(lines)
    print(
        f"\nscohort is {ratio['speed']:.2f} times as fast as the plain script, which needs "
        f"{ratio['memory']:.2f} times the memory of its largest job and {ratio['memory_together']:.2f} times "
        "that of all its processes together"
    )
