"""Run the whole workflow on a benchmark cohort and print what each rule cost: `make bench CELLS=100000`.

The cohort is made first where it is missing. The run starts from nothing in `<folder>/scohort`, with the
overlay that `generate.py` wrote. One line per run is added to `bench/results.tsv`.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

import _jobs as jobs
import _measure as measure
from _root import ROOT
from generate import add_options, cohort_of


def ensure_cohort(folder: Path, **settings) -> None:
    """Write the cohort where it is missing, in a process of its own.

    settings: of `generate.generate`. Ends the program when the folder holds a cohort with others.
    """
    if not (folder / "cohort.json").exists():
        command = [sys.executable, Path(__file__).parent / "generate.py", "--folder", folder]
        for name, value in settings.items():
            command += [f"--{name}", value]
        subprocess.run([str(part) for part in command], check=True)
    facts = cohort_facts(folder)
    for name, value in settings.items():
        if facts[name] != value:
            sys.exit(f"error: {folder} has a cohort with {facts[name]} {name}, not {value}; set --folder")


def cohort_facts(folder: Path) -> dict:
    """What `generate.py` noted: cells, donors, genes, shards, seed, values."""
    return json.loads((folder / "cohort.json").read_text(encoding="utf-8"))


def run(folder: Path, cores: int, imports: bool = True) -> dict:
    """Run the workflow from nothing on a cohort's folder and return the run's line of results.

    imports: let every process time its imports. The line is also kept as `<folder>/scohort/run.json`.
    """
    place = folder.resolve() / "scohort"
    if place.exists():
        shutil.rmtree(place)
    place.mkdir()
    configs = [ROOT / "config/config.yaml", folder.resolve() / "config.yaml"]
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "workflow/Snakefile"]
    command += ["--profile", ROOT / "profiles/local", "--retries", 0, "--cores", cores, "--configfile"]
    environment = {"PYTHONPROFILEIMPORTTIME": "1"} if imports else None
    line = measure.row()  # before the run: the machine's load is its own then
    cost = measure.measured(
        [str(part) for part in [*command, *configs]], place, place / "run.log", environment
    )
    done = jobs.sum_run(jobs.collect(place / "results"), cost.wall_s, cost.cpu_s, cores)
    if not imports:
        done["startup_share"] = ""  # imports in main would be missing
    facts = cohort_facts(folder) | vars(cost) | done | {"tool": "scohort", "cores": cores}
    line |= {name: value for name, value in facts.items() if name in line}
    (place / "run.json").write_text(json.dumps(line, indent=1) + "\n", encoding="utf-8")
    return line


def finished(folder: Path) -> tuple[dict, pd.DataFrame]:
    """The line and the jobs of a run that was made before.

    Ends the program when there is none.
    """
    record = folder / "scohort/run.json"
    if not record.exists():
        sys.exit(f"error: {record} does not exist; run it first, without --collect")
    return json.loads(record.read_text(encoding="utf-8")), jobs.collect(folder / "scohort/results")


def report(line: dict, table: pd.DataFrame) -> str:
    """What a run cost, per rule and in all, as text."""
    total = jobs.sum_run(table, line["wall_s"], line["cpu_s"], line["cores"])
    rules = jobs.sum_by_rule(table)
    parts = [
        f"{line['cells']:,} cells, {line['genes']:,} genes, {line['donors']} donors, {line['shards']} shards "
        f"on {line['cores']} cores of {line['cpu']}, {line['memory_gb']} GB, commit {line['commit']}",
        jobs.format_table(rules),
        f"wall {line['wall_s']:,.0f} s; jobs {total['job_wall_s']:,.0f} s in {total['jobs']} jobs; "
        f"no job running {total['no_job_s']:,.0f} s; cores idle {total['idle_share']:.0%}; "
        f"start-up and imports {total['startup_share']:.0%} of the jobs",
        f"memory: largest job {total['peak_job_mb']:,.0f} MB, all processes together "
        f"{line['peak_tree_mb']:,.0f} MB; {total['over']} jobs over their request",
        f"dominated by {total['dominating_rule']} ({total['dominating_share']:.0%} of core time)",
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--cores", type=int, default=measure.available_cores())
    parser.add_argument("--collect", action="store_true", help="only print what the last run there cost")
    options = parser.parse_args()
    cohort = cohort_of(options)
    if not options.collect:
        ensure_cohort(**cohort)
        measure.append(run(cohort["folder"], options.cores))
    line, table = finished(cohort["folder"])
    table.to_csv(cohort["folder"] / "scohort/jobs.tsv", sep="\t", index=False)
    print(report(line, table))
