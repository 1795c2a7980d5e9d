"""A clean room: a fresh clone, in a fresh environment made from the lock, has to run and verify.

    python3 gates/confirm.py [--release ID] [--keep] [TARGET ...]

Clones the commit that is checked out into a temporary folder elsewhere, and runs the Make targets there, by
default `env`, `run` and `verify`. What is not committed does not take part, and is named. Needs python3, git
and make only; it may be called from any folder. Variables that could let something of here into there are
removed, and named when they were set: those of CLEARED and all that begin with one of PREFIXES. Others stay,
so that proxies, package indexes and caches work as they do here. With --release ID, the release must be it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ["env", "run", "verify"]
CLEARED = {"PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "VIRTUAL_ENV"}
CLEARED |= {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}  # of a git hook
CLEARED |= {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}  # of the make that started this
CLEARED |= {"CONFIG", "PROFILE", "SCRATCH", "TARGET", "SYMPTOM", "ARGS", "BIN"}  # of the Makefile
PREFIXES = ("SNAKEMAKE_", "SCOHORT_")


def clean(environment: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """What stays of an environment, and names of what was removed; PATH loses a virtual environment."""
    gone = sorted(name for name in environment if name in CLEARED or name.startswith(PREFIXES))
    kept = {name: value for name, value in environment.items() if name not in gone}
    if active := environment.get("VIRTUAL_ENV"):
        parts = kept.get("PATH", "").split(os.pathsep)
        kept["PATH"] = os.pathsep.join(part for part in parts if not Path(part).is_relative_to(active))
    return kept, gone


def git(*arguments: str) -> str:
    """What git prints about this project; SystemExit when it fails."""
    environment, _ = clean(dict(os.environ))
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def confirm(folder: Path, targets: list[str], release: str | None) -> str | None:
    """Clone into the folder and run the targets there; what went wrong in one line, None if nothing did."""
    environment, gone = clean(dict(os.environ))
    removed = [name for name in gone if os.environ[name]]
    print(f"confirm: removed from the environment: {', '.join(removed) or 'nothing was set'}", flush=True)
    git("clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder))
    git("-C", str(folder), "checkout", "--quiet", "--detach", git("rev-parse", "HEAD"))
    for target in targets:
        start = time.monotonic()
        done = subprocess.run(
            ["make", "--no-print-directory", target], cwd=folder, env=environment, check=False
        )
        if done.returncode:
            return f"make {target} ended with status {done.returncode}"
        print(f"confirm: make {target}: {time.monotonic() - start:.0f} s", flush=True)
    record = folder / "results/publish/release.json"
    actual = json.loads(record.read_text(encoding="utf-8"))["release"] if record.exists() else None
    print(f"confirm: commit {git('rev-parse', 'HEAD')}, release {actual}", flush=True)
    return f"the release is {actual}, not {release}" if release and actual != release else None


def main() -> None:
    """Confirm in a temporary folder; exit 1 if the clone does not run by itself."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", default=TARGETS, metavar="TARGET")
    parser.add_argument("--release", help="the id that the release must have")
    parser.add_argument("--keep", action="store_true", help="keep the folder, also when all is well")
    options = parser.parse_args()
    if changed := git("status", "--porcelain"):
        print(f"confirm: not committed, so not confirmed:\n{changed}", flush=True)
    place = Path(tempfile.mkdtemp(prefix="scohort-confirm-"))
    try:
        problem = confirm(place / "scohort", options.targets, options.release)
    except KeyboardInterrupt:
        problem = "stopped"
    if problem or options.keep:
        print(f"confirm: the folder stays: {place}", flush=True)
    else:
        shutil.rmtree(place)
    if problem:
        sys.exit(f"error: not confirmed: {problem}")
    print("confirm: a fresh clone in a fresh environment runs and verifies")


if __name__ == "__main__":
    main()
