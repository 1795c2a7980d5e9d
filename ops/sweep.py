"""Run the variants in config section `sweep` and compare their results with those of the run: `make sweep`.

    ops/sweep.py [--configfile FILE ...] [--dry-run] [OPTION OF SNAKEMAKE ...]

Without a --profile, profiles/local. Every variant is checked before any job starts. Then the run itself is
made or completed, and each variant runs the same workflow into <results>/sweep/<name>/:

1. Snakemake plans the config of the variant on the results of the run (`--summary`). A file is hard-linked
into the folder of the variant if its job would not run again, because its settings and inputs are the same.
All other files are missing there, so their jobs run. 2. No job writes to such a link: each job writes a new
file and renames it. 3. The folder has config.yaml, the overlay of the variant, and reused.json, the list of
links. If one of them no longer matches (another overlay, a new file of the run), the folder is removed and
filled again.

The last job, rule stability, writes <results>/sweep/stability.tsv and .png. Variants run one after another.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from copy import deepcopy
from pathlib import Path

import yaml

from _root import ROOT
from doctor import read_yaml
from summary import read_summary
from workflow.defaults import complete_config

TARGETS = ["--", "cells_only", "embedding_only", "donors_only"]  # of a variant: it is compared, not published


class Workflow:
    """Snakemake, run with the config files and options of the command line."""

    def __init__(self, configfiles: list[str], options: list[str]):
        self.configfiles = configfiles
        named = any(option.partition("=")[0] == "--profile" for option in options)
        self.options = options if named else ["--profile", "profiles/local", *options]
        self.config = complete_config(Path(), [read_yaml(Path(path)) for path in configfiles])
        self.results = Path(self.config.get("pathvars", {}).get("results", "results"))

    def command(self, overlay: str | None, *arguments: str) -> list[str]:
        """The command line of Snakemake with one more config file."""
        files = [*self.configfiles, *([overlay] if overlay else [])]
        given = ["--configfile", *files] if files else []
        return [sys.executable, "-m", "snakemake", *self.options, *given, *arguments]

    def run(self, overlay: str | None, *arguments: str) -> None:
        """Run and show it; ends this program when it fails."""
        done = subprocess.run(self.command(overlay, *arguments), check=False)
        if done.returncode:
            sys.exit(done.returncode)

    def plan(self, variant: dict) -> list[dict[str, str]]:
        """A row per file that the run ({}) or a variant asks for: output_file, rule, status, plan, ...

        Ends this program with Snakemake's own message when it refuses the config.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(variant | {"sweep": []} if variant else {}, file)
            file.flush()
            command = self.command(file.name, "--summary", *(TARGETS if variant else []))
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [
                line for line in done.stderr.splitlines() if not line.startswith(("Config file", "Using"))
            ]
            sys.exit("\n".join(lines))
        return read_summary(done.stdout)


def unchanged(plan: list[dict[str, str]], results: Path) -> list[str]:
    """Paths below results of the files that exist and that the plan does not make again."""
    files = [row for row in plan if row["plan"] == "no update" and row["status"] == "ok"]
    return sorted(str(Path(row["output_file"]).relative_to(results)) for row in files)


def identity(path: Path) -> list[int]:
    """What tells whether a file is the same, also after copying the folder: bytes, time of change in ns."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]


def prepare(workflow: Workflow, name: str, overlay: dict, files: list[str]) -> Path:
    """Fill the folder of a variant with links to the files that the run has; returns its overlay file."""
    folder = workflow.results / "sweep" / name
    overlay_file, record = folder / "config.yaml", folder / "reused.json"
    overlay = deepcopy(overlay) | {"pathvars": {"results": str(folder)}, "sweep": []}
    state = {"set": overlay, "files": {file: identity(workflow.results / file) for file in files}}
    with contextlib.suppress(OSError, ValueError):
        present = {file: identity(folder / file) for file in files}
        if json.loads(record.read_text(encoding="utf-8")) == state and present == state["files"]:
            return overlay_file
    if folder.exists():
        print(f"sweep: {name}: its settings or the run have changed, {folder} is made again", flush=True)
        shutil.rmtree(folder)
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(workflow.results / file, folder / file)
        except OSError as error:
            sys.exit(f"error: {folder / file}: no hard link ({error}); set pathvars.results to another disk")
    folder.mkdir(parents=True, exist_ok=True)
    overlay_file.write_text(yaml.safe_dump(overlay, sort_keys=False), encoding="utf-8")
    if files:  # what an earlier variant of this name recorded about these paths
        cleanup = ["--cleanup-metadata", *(str(folder / file) for file in files)]
        subprocess.run(workflow.command(str(overlay_file), *cleanup), capture_output=True, check=False)
    record.write_text(json.dumps(state, indent=1), encoding="utf-8")
    return overlay_file


def describe(name: str, overlay: dict, plan: list[dict[str, str]], files: list[str]) -> None:
    """Say what a variant changes, reuses and makes again."""
    again = dict.fromkeys(row["rule"] for row in plan if row["plan"] != "no update")
    print(f"sweep: {name}: sets {json.dumps(overlay)}")
    print(f"sweep: {name}: reuses {len(files)} files; runs {', '.join(again)} and what follows", flush=True)
    for section in ("simulate", "cohort"):
        if section in overlay:
            print(f"sweep: {name}: {section} makes another cohort: compared by the names of cells and genes")


def sweep(workflow: Workflow, *, dry_run: bool) -> None:
    """Check and plan every variant, complete the run, run the variants, compare."""
    base = workflow.plan({})
    if not workflow.config["sweep"]:
        sys.exit("error: sweep: no variant; add one to the config: {name: strict, set: {qc: {nmads: 3}}}")
    overlays = {variant["name"]: variant["set"] for variant in workflow.config["sweep"]}
    plans = {name: workflow.plan(overlay) for name, overlay in overlays.items()}
    if dry_run:
        workflow.run(None, "--dry-run", "--quiet")
    elif len(unchanged(base, workflow.results)) < len(base):
        workflow.run(None)
        plans = {name: workflow.plan(overlay) for name, overlay in overlays.items()}
    for name, plan in plans.items():
        files = unchanged(plan, workflow.results)
        describe(name, overlays[name], plan, files)
        if not dry_run:
            workflow.run(str(prepare(workflow, name, overlays[name], files)), *TARGETS)
    if not dry_run:
        workflow.run(None, "--", "stability")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].strip(), allow_abbrev=False)
    parser.add_argument("--configfile", nargs="+", action="extend", default=[])
    parser.add_argument("--dry-run", "-n", action="store_true")
    arguments, options = parser.parse_known_args()
    if not Path("workflow/Snakefile").is_file():
        os.chdir(ROOT)
    sweep(Workflow(arguments.configfile, options), dry_run=arguments.dry_run)
