"""Collect what is known about a run that failed or is slow, without changing anything: an incident bundle.

    python ops/incident.py --target TARGET --symptom "what was seen" [--configfile C] [--profile P]

TARGET, SYMPTOM, CONFIG and PROFILE may come by the environment instead, where no shell reads them.
The bundle is a new folder incidents/<time>/ (git ignores it). Snakemake is only asked: dry-run, summary,
changes. `--ended` is what rules/ending.smk calls after a failed run: the same without those questions, for
which Snakemake would have to plan again; the note names the command that adds them.
"""

import argparse
import json
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from _locked import find_drifted
from _root import ROOT
from drift import Asker, add_question, changes, planned
from job import read_failures
from workflow.provenance import name_commit

LINES = 200  # of the end of each log
MANY = 50  # tiny jobs that are an incident; a small demo has fewer
SHOWN = 40  # files, rules or failures named in the note
QUESTIONS = {
    "symptom.txt": "What was seen, when, on which target?",
    "dryrun.txt": "What would run now for that target, and why?",
    "summary.txt": "Which outputs are there, from which rule, and which are out of date?",
    "changes.json": "Which outputs were made with other code, params or input?",
    "logs": "What did the jobs of the affected rules print?",
    "benchmarks.json": "What did they cost, in which attempt, and how did they end?",
    "failures.jsonl": "Which failures did the last run have, of which category?",
    "cost.txt": "Where did the time go?",
    "environment.json": "Is the environment the locked one, and which commit is this?",
    "snakemake.log": "What did Snakemake itself log?",
    "note.md": "The ladder: symptom, dry-run, what changed, evidence, class, repair or escalate.",
}


def records(results: Path) -> list[dict]:
    """Every performance record, with the path of its log."""
    entries = []
    for path in sorted((results / "benchmarks").rglob("*.perf.json")):
        log = results / "logs" / path.relative_to(results / "benchmarks")
        log = log.with_name(path.name.replace(".perf.json", ".log"))
        entries.append(json.loads(path.read_text(encoding="utf-8")) | {"log": str(log)})
    return entries


def classify(facts: dict) -> list[tuple[str, str, str]]:
    """(class, evidence, next step) of what the evidence points to, the most certain first."""
    classes = []
    by_category = {}
    for failure in facts["failures"]:
        by_category.setdefault(failure["category"], []).append(failure)
    deterministic = [
        f for c in ("configuration", "corrupted_input", "analysis_crash") for f in by_category.get(c, ())
    ]
    same = {(f["task_name"], str(f["wildcards"]), f["evidence"]) for f in facts["failures"]}
    repeated = len(facts["failures"]) - len(same)
    if deterministic:
        first = deterministic[0]
        classes.append(
            ("semantics", f"{first['task_name']} failed with {first['category']}: {first['evidence']}",
             "repair the setting, the file or the code; more attempts, memory or patience will not help")
        )  # fmt: skip
    if repeated or any(f["attempt"] > 1 for f in deterministic):
        classes.append(
            ("masked failure", f"{repeated} failures came again with the same evidence",
             "a retry hides a cause that does not go away: fix the cause, do not raise retries")
        )  # fmt: skip
    if by_category.get("transient_io"):
        first = by_category["transient_io"][0]
        classes.append(
            ("storage", first["evidence"], "ask for the state of the file system or network; rerun once")
        )
    if by_category.get("executor"):
        first = by_category["executor"][0]
        classes.append(
            ("operating context", f"{first['task_name']}: {first['evidence']}",
             "oom: mem_mb in workflow/resources.yaml; timeout: minutes there; node lost: rerun")
        )  # fmt: skip
    if facts["drift"]:
        listed = "; ".join(f"{name} {what}" for name, what in list(facts["drift"].items())[:5])
        classes.append(
            ("environment drift", listed, "run `make env`, then look whether the symptom is still there")
        )
    ran = {}
    for record in facts["records"]:
        ran[record["task_name"]] = ran.get(record["task_name"], 0) + 1
    grown = {rule: (n, ran[rule]) for rule, n in facts["planned"].items() if n > ran.get(rule, n)}
    if grown:
        rule, (now, then) = max(grown.items(), key=lambda item: item[1][0])
        classes.append(
            ("discovery grew", f"{rule}: {now} jobs planned, {then} have run before",
             "compare pseudobulk/cell_types.tsv, the sweeps and load.shards with the last run: is it meant?")
        )  # fmt: skip
    changed = {kind: paths for kind, paths in facts["changes"].items() if paths}
    if changed:
        counts = ", ".join(f"{kind}: {len(paths)} outputs" for kind, paths in changed.items())
        classes.append(
            ("semantics", f"made with other {counts}", "is the change meant? then rerun; else undo it")
        )
    tiny = facts["cost"].get("tiny", [])
    jobs = sum(row["jobs"] for row in tiny)
    if facts["cost"].get("dominant") == "startup" and jobs >= MANY:
        classes.append(
            ("too many tiny jobs", f"{jobs} jobs are shorter than their start-up", facts["cost"]["advice"])
        )
    return classes or [("not classified", "no rule fits the evidence", "escalate with this bundle")]


def note(facts: dict, options: argparse.Namespace) -> str:
    """The pre-filled note: the fixed ladder."""
    plan = ", ".join(f"{rule} {n}" for rule, n in facts["planned"].items()) or "nothing, or not asked"
    reasons = "\n".join(f"- **{c}**: {evidence}\n  - next: {step}" for c, evidence, step in facts["classes"])
    changed = "\n".join(
        f"- {kind}: {', '.join(paths[:SHOWN]) or 'nothing'}" for kind, paths in facts["changes"].items()
    )
    failures = "\n".join(
        f"- {' '.join([f['task_name'], *f['wildcards'].values()])}, attempt {f['attempt']}: "
        f"{f['category']} ({f['evidence']})"
        for f in facts["failures"][:SHOWN]
    )
    asked = "" if facts["asked"] else (
        "\nNot asked here, right after the run: what would run now, and what changed. Add it with\n"
        "`make incident TARGET=all SYMPTOM=\"...\"`.\n"
    )  # fmt: skip
    return f"""# Incident of {facts["time"]}

Everything here was read, nothing was changed. index.json says which file answers which question.
{asked}
## 1. Symptom
{options.symptom or "(not told)"}; target: {options.target or "(default)"}

## 2. The same target, dry-run
{plan} (dryrun.txt, summary.txt)

## 3. What changed
{changed or "(not asked)"}

## 4. Evidence
affected rules: {", ".join(facts["affected"]) or "none"} (logs/, benchmarks.json)
{failures or "no failure recorded in the last run"}
cost: {facts["cost"].get("dominant", "unknown")}: {facts["cost"].get("evidence", "no records")}
commit {facts["commit"]}, environment {"as locked" if not facts["drift"] else "drifted (environment.json)"}

## 5. Class
{reasons}

## 6. Repair or escalate
- [ ] repaired by:
- [ ] the same target, dry-run again, plans what is expected:
- [ ] escalated to, with this folder:
- [ ] a test under tests/ now holds it:
"""


def cost(results: Path) -> tuple[dict, str]:
    """The cost report as JSON and text; empty without records."""
    from cost import format_report, make_report, read_jobs

    try:
        jobs, run = read_jobs(results, Path(".snakemake/log"))
    except FileNotFoundError as error:
        return {}, f"{error}\n"
    facts = make_report(jobs, run, None)
    return facts, format_report(facts) + "\n"


def collect(folder: Path, options: argparse.Namespace) -> dict:
    """Fill the bundle's folder and return its facts."""
    results = Path(options.results)
    asker = Asker(options.profile, options.configfile, options.target)
    dryrun = "" if options.ended else asker.plan()
    failed = results / "run/failures.jsonl"
    failures = read_failures(failed)
    spent, table = cost(results)
    facts = {
        "time": folder.name,
        "asked": not options.ended,
        "planned": planned(dryrun),
        "changes": {} if options.ended else changes(asker, dryrun),
        "failures": failures,
        "records": records(results),
        "cost": spent,
        "drift": find_drifted(),
        "commit": name_commit(ROOT),
    }
    named = [f["task_name"] for f in facts["failures"]] + list(facts["planned"])
    facts["affected"] = sorted({*named} & {record["task_name"] for record in facts["records"]})
    facts["classes"] = classify(facts)
    texts = {
        "symptom.txt": f"{options.symptom}\ntarget: {options.target}\n",
        "failures.jsonl": "".join(f"{json.dumps(failure)}\n" for failure in failures),
        "cost.txt": table,
        "benchmarks.json": json.dumps(
            [record for record in facts["records"] if record["task_name"] in facts["affected"]], indent=1
        ),
        "environment.json": json.dumps(
            {"commit": facts["commit"], "python": sys.version, "drift": facts["drift"]}, indent=1
        ),
        "note.md": note(facts, options),
    }
    if not options.ended:
        texts |= {"dryrun.txt": dryrun, "summary.txt": asker.ask("--summary")}
        texts |= {"changes.json": json.dumps(facts["changes"], indent=1)}
    for name, content in texts.items():
        (folder / name).write_text(content, encoding="utf-8")
    copy_logs(folder, facts)
    there = {name: QUESTIONS[name] for name in QUESTIONS if (folder / name).exists()}
    (folder / "index.json").write_text(json.dumps(there, indent=1) + "\n", encoding="utf-8")
    return facts


def copy_logs(folder: Path, facts: dict) -> None:
    """The end of each log of the affected rules, and Snakemake's newest log."""
    for record in facts["records"]:
        log = Path(record["log"])
        if record["task_name"] in facts["affected"] and log.exists():
            parts = log.parts[log.parts.index("logs") + 1 :]
            target = folder.joinpath("logs", *parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            end = log.read_text(errors="replace", encoding="utf-8").splitlines()[-LINES:]
            target.write_text("\n".join(end) + "\n", encoding="utf-8")
    own = sorted(Path(".snakemake/log").glob("*.snakemake.log"))
    if own:
        shutil.copyfile(own[-1], folder / "snakemake.log")


def main():
    """Make the bundle and print its path and what it points to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_question(parser)
    parser.add_argument("--symptom", default=os.environ.get("SYMPTOM", ""))
    parser.add_argument("--results", default="results")
    parser.add_argument("--ended", action="store_true", help="right after a run: do not ask Snakemake")
    options = parser.parse_args()
    if options.ended:
        options.target, options.symptom = "", "a run failed"
    folder = Path("incidents") / datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S.%fZ")
    try:
        folder.mkdir(parents=True)
        facts = collect(folder, options)
    except OSError as error:
        sys.exit(f"error: no incident bundle: {error}; free some disk, then `make incident`")
    for kind, evidence, step in facts["classes"]:
        print(f"incident: {kind}: {evidence}\n  next: {step}", file=sys.stderr)
    print(f"incident bundle: {folder}/note.md", file=sys.stderr)


if __name__ == "__main__":
    main()
