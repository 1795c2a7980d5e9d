"""A bundle for a reviewer who runs nothing: what the workflow is, what it would do, and what one run did.

    python gates/tour.py [--results FOLDER] [--out tour] [--configfile C] [--profile P]

Runs no job and changes no result. The bundle's index.md says which file answers which question; bundle.json
lists path, bytes and sha256 of each, so that a copy can be checked: `python gates/tour.py --check FOLDER`.
An earlier bundle is replaced; a folder that is none is left alone, exit 2. Exit 1 when a part is missing.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from _root import ROOT
from drift import Asker, add_question, drift
from incident import cost
from summary import by_rule, printed, read_summary

LISTING = "bundle.json"
QUESTIONS = {
    "rules.txt": "Which rules are there, and what does each do?",
    "rulegraph.mmd": "Which rule feeds which (Mermaid, as code hosts draw it)?",
    "plan.json": "Which jobs would a run from nothing have, with inputs, outputs and digest of the params?",
    "profiles.json": "Where do the profiles differ, and do all plan the same jobs?",
    "config": "What was asked for, and what does each key mean?",
    "profiles": "How is it run on a laptop, in CI, on SLURM?",
    "workflow/CONTRACT.md": "What may others rely on?",
    "workflow/VERSION": "Which version of the workflow is this?",
    "run/summary.txt": "The run: which outputs are there, per rule, and are they up to date?",
    "run/drift.json": "The run: has anything changed since?",
    "run/cost.txt": "The run: where did the time go, per rule?",
    "run/records.json": "The run: how did each job end, in which attempt, how long, with how much memory?",
    "run/failures.jsonl": "The run: which failures did it have? Empty is none.",
    "published/verify.txt": "Is the release whole?",
    "published/manifest.json": "What is in the release?",
    "published/provenance.json": "What is the release made of?",
    "published/attrition.tsv": "How many cells were lost, where and why?",
}


def run(*command: str) -> str:
    """What a command prints; what it says about a failure too."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + (done.stderr if done.returncode else "")


def workflow_part(folder: Path, asker: Asker) -> None:
    """What the workflow is and would do."""
    (folder / "rules.txt").write_text(asker.run("--list-rules").stdout, encoding="utf-8")
    (folder / "rulegraph.mmd").write_text(asker.run("--rulegraph", "mermaid-js").stdout, encoding="utf-8")
    program, options = str(ROOT / "gates/profiles.py"), asker.options[2:]
    (folder / "plan.json").write_text(
        run(sys.executable, program, "plan", asker.options[1], "--", *options), encoding="utf-8"
    )
    (folder / "profiles.json").write_text(
        run(sys.executable, program, "audit", "--", *options), encoding="utf-8"
    )
    for part in ("config", "profiles"):
        shutil.copytree(part, folder / part)
    for name in ("CONTRACT.md", "VERSION"):
        copy(ROOT / "workflow" / name, folder / "workflow")


def copy(path: Path, folder: Path) -> None:
    """Copy a file into a folder, if it is there."""
    if path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)


def run_part(folder: Path, asker: Asker, results: Path) -> None:
    """What one run did: state, drift, cost, records and failures."""
    folder.mkdir()
    (folder / "summary.txt").write_text(
        printed(by_rule(read_summary(asker.run("--summary").stdout))) + "\n", encoding="utf-8"
    )
    (folder / "drift.json").write_text(json.dumps(drift(asker), indent=1) + "\n", encoding="utf-8")
    (folder / "cost.txt").write_text(cost(results)[1], encoding="utf-8")
    paths = sorted((results / "benchmarks").rglob("*.perf.json"))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    (folder / "records.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    copy(results / "run/failures.jsonl", folder)


def published_part(folder: Path, release: Path) -> None:
    """What was published, in short, and whether it is whole."""
    folder.mkdir()
    (folder / "verify.txt").write_text(
        run(sys.executable, str(ROOT / "scripts/publish/verify.py"), str(release)), encoding="utf-8"
    )
    for name in ("manifest.json", "provenance.json", "attrition.tsv"):
        copy(release / name, folder)


def index(folder: Path) -> list[str]:
    """Write index.md; returns the parts that are missing or empty."""
    lines, missing = ["# A tour without running anything", ""], []
    for name, question in QUESTIONS.items():
        path = folder / name
        empty = not path.exists() or (path.is_file() and not path.stat().st_size)
        if empty and name != "run/failures.jsonl":
            missing.append(name)
        lines.append(f"- [{name}]({name}): {question}" + (" (missing)" if name in missing else ""))
    (folder / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return missing


def listing(folder: Path) -> list[dict]:
    """Path, bytes and sha256 of every file of the bundle but the list itself."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / LISTING)
    return [
        {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size}
        | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in paths
    ]


def make(folder: Path, asker: Asker, results: Path) -> list[str]:
    """Fill a new folder with the bundle; returns the parts that are missing."""
    folder.mkdir(parents=True)
    workflow_part(folder, asker)
    run_part(folder / "run", asker, results)
    published_part(folder / "published", results / "publish/v1")
    missing = index(folder)
    (folder / LISTING).write_text(json.dumps(listing(folder), indent=1) + "\n", encoding="utf-8")
    return missing


def main() -> None:
    """Make the bundle, or check one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_question(parser)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--out", type=Path, default=Path("tour"))
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="is this copy of a bundle whole?")
    options = parser.parse_args()
    if options.check:
        if not (options.check / LISTING).is_file():
            sys.exit(f"error: {options.check} is not a bundle: it has no {LISTING}")
        if listing(options.check) != json.loads((options.check / LISTING).read_text(encoding="utf-8")):
            sys.exit(f"error: {options.check} is not as {LISTING} says")
        return
    if options.out.exists():
        if not (options.out / LISTING).is_file():
            print(f"error: {options.out} is not a bundle; move it away or set --out", file=sys.stderr)
            sys.exit(2)
        shutil.rmtree(options.out)
    asker = Asker(options.profile, options.configfile, options.target)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out.parent, prefix=".tour-") as aside:
        missing = make(Path(aside) / "tour", asker, options.results)
        (Path(aside) / "tour").rename(options.out)
    if missing:
        sys.exit(f"error: {options.out} lacks {', '.join(missing)}; run `make run` first")
    print(f"tour: start at {options.out}/index.md")


if __name__ == "__main__":
    main()
