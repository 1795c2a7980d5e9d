"""Print as JSON what has changed since the results were made: code, params, input. Exit 1 if there is drift.

    python ops/drift.py [--target TARGET] [--configfile C] [--profile P]

TARGET, CONFIG and PROFILE can be environment variables instead. No job runs. The exit status of Snakemake
does not depend on changes, so its output is read: the reasons of a dry-run with every trigger and, if there
are jobs to run, `--list-changes` for code and input, because a reason has only the first cause. A rule has
the digest of its script and helper modules among its params (`digest()` in rules/common.smk): if only that
digest differs, the code has changed. Exit 2 if Snakemake cannot plan.
"""

import argparse
import json
import os
import re
import subprocess
import sys

JOB = re.compile(r"^(?:local)?(?:rule|checkpoint) \w+:\n((?: {4}.*\n)+)", flags=re.MULTILINE)
GLUE = re.compile(r"before: '?[0-9a-f]{12}'? now: '?[0-9a-f]{12}'? *(?:;|$)")
TRIGGERS = ("mtime", "params", "input", "software-env", "code")  # all, whatever a profile says
UNKNOWN = re.compile(r"^(\d+) jobs have (?:missing|outdated) provenance", flags=re.MULTILINE)


class Asker:
    """Snakemake, asked in the working directory with a profile, overlays and a target."""

    def __init__(self, profile: str, configfiles: list[str], target: str):
        self.options = ["--profile", profile]
        self.options += ["--configfile", *configfiles] if configfiles else []
        self.target = ["--", target] if target else []

    def run(self, *question: str) -> subprocess.CompletedProcess:
        """The finished process of a question."""
        command = [sys.executable, "-m", "snakemake", *self.options, *question, *self.target]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def ask(self, *question: str) -> str:
        """What Snakemake prints; its status too when it is not 0."""
        done = self.run(*question)
        ended = f"\n(ended with status {done.returncode})\n" if done.returncode else ""
        return done.stdout + ("" if not ended else done.stderr) + ended

    def plan(self) -> str:
        """The dry-run with its reasons, whichever way Snakemake prints them."""
        done = self.run("--dry-run")
        return done.stdout + done.stderr


def planned(dryrun: str) -> dict[str, int]:
    """Jobs per rule of a dry-run, without the totals."""
    if "Job stats:" not in dryrun:
        return {}
    rows = [row.split() for row in dryrun.split("Job stats:")[1].split("\n\n")[0].splitlines()[3:]]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[0] != "total"}


def reasons(dryrun: str) -> list[tuple[str, list[str]]]:
    """(reason, outputs) of each planned job that has outputs."""
    jobs = []
    for block in JOB.findall(dryrun):
        fields = dict(re.findall(r"^ {4}(output|reason): (.*)$", block, flags=re.MULTILINE))
        if "output" in fields:
            jobs.append((fields.get("reason", ""), fields["output"].split(", ")))
    return jobs


def changes(asker: Asker, dryrun: str) -> dict[str, list[str]]:
    """Outputs made with other code, params or input. Of Snakemake only what it prints counts, not its status.

    Params are read from the reasons of the dry-run: `--list-changes params` of Snakemake 9.27 names an output
    of every job, whether its params have changed or not; and so are edited inputs, for `--list-changes input`
    compares the names of the files only.
    """
    by_kind = {kind: set() for kind in ("code", "params", "input")}
    for kind in ("code", "input"):
        done = asker.run("--list-changes", kind)
        if done.returncode == 0:  # else Snakemake says why it cannot plan
            lines = done.stdout.splitlines()
            by_kind[kind] |= {
                line for line in lines if line and not line.startswith(("Config file", "Using"))
            }
    for reason, outputs in reasons(dryrun):
        _, changed, params = reason.partition("Params have changed since last execution: ")
        if changed:
            by_kind["code" if GLUE.search(params) else "params"].update(outputs)
        if "Updated input files" in reason:
            by_kind["input"].update(outputs)
    return {kind: sorted(outputs) for kind, outputs in by_kind.items()}


def drift(asker: Asker) -> dict:
    """Changes, missing outputs, jobs without provenance, and the jobs of a run by rule.

    SystemExit with 2 and Snakemake's message if it cannot plan.
    """
    done = asker.run("--dry-run", "--rerun-triggers", *TRIGGERS)
    dryrun = done.stdout + done.stderr
    if done.returncode:
        print(dryrun.strip(), file=sys.stderr)
        sys.exit(2)
    # a change may hide behind another reason to run a job, but not where no job is to be run
    none = "Nothing to be done" in dryrun
    by_kind = {"code": [], "params": [], "input": []} if none else changes(asker, dryrun)
    missing = [outputs for reason, outputs in reasons(dryrun) if "Missing output files" in reason]
    return by_kind | {
        "missing": sorted(output for outputs in missing for output in outputs),
        "unknown": sum(int(jobs) for jobs in UNKNOWN.findall(dryrun)),
        "reruns": planned(dryrun),
    }


def add_question(parser: argparse.ArgumentParser) -> None:
    """The options that say what Snakemake is asked about."""
    parser.add_argument("--target", default=os.environ.get("TARGET", ""))
    parser.add_argument("--configfile", nargs="*", default=os.environ.get("CONFIG", "").split())
    parser.add_argument("--profile", default=os.environ.get("PROFILE") or "profiles/local")


def in_words(by_kind: dict) -> str:
    """The drift in one line."""
    parts = [
        f"{kind} of {len(by_kind[kind])} outputs" for kind in ("code", "params", "input") if by_kind[kind]
    ]
    if by_kind["missing"]:
        parts.append(f"{len(by_kind['missing'])} outputs are missing")
    if by_kind["unknown"]:
        parts.append(f"{by_kind['unknown']} jobs left no provenance, their changes are unknown")
    jobs = ", ".join(f"{rule} {number}" for rule, number in by_kind["reruns"].items()) or "nothing"
    return f"{'; '.join(parts) or 'jobs are left to run'}; a run would do: {jobs}"


def main() -> None:
    """Print the drift and exit with 1 if there is any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_question(parser)
    options = parser.parse_args()
    by_kind = drift(Asker(options.profile, options.configfile, options.target))
    print(json.dumps(by_kind, indent=1))
    if any(by_kind.values()):
        print(f"drift: {in_words(by_kind)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
