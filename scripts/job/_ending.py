"""Collect all failures of a run in one file; called by rules/ending.smk after success and failure.

Three sources: the failures that jobs recorded (`*.failures.jsonl`), performance records with the status
`running` although the run is over (the job was killed), and errors in Snakemake's log for attempts with
neither of these (they ended before the main of their script began).
"""

import errno
import json
import os
import re
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from job._failures import DETERMINISTIC, classify, read_failures
from job._performance import read_record

STATE = re.compile(r"SLURM-job '(\d+)' failed[^']*SLURM status is: '(\w+)'")
ERROR = re.compile(
    r"(?:^Command '.*' (?:died with <Signals\.\w+: (\d+)>|returned non-zero exit status (\d+))\.\n)?"
    r"(?:^\[(\w{3} \w{3} +\d+ [\d:]+ \d{4})\]\n)?^Error in rule (\w+):\n((?: {4}.*\n?)+)",
    flags=re.MULTILINE,
)
FIELD = re.compile(r"^ {4}(log|external_jobid): (.*)$", flags=re.MULTILINE)
LOG = re.compile(r"(?:^|/)logs/(.*?)\.log")

FULL_BYTES = 2**20  # a disk with less free space counts as full


def gather_failures(results: Path, since: str, printed: str) -> list[dict]:
    """All failures of the run by time; also written to <results>/run/failures.jsonl and failures.txt.

    since: when the run started, ISO 8601 in UTC. printed: the text of Snakemake's log.
    """
    states, benchmarks = dict(STATE.findall(printed)), results / "benchmarks"
    jobs = _read_recorded(benchmarks, since)
    for path in sorted(benchmarks.rglob("*.perf.json")):
        record, job = read_record(path), _name_job(path, benchmarks, ".perf.json")
        if record and record["status"] == "running" and record["start_time"] >= since:
            jobs.setdefault(job, []).append(_describe_killed(record, states, results, job))
    for job, errors in _parse_errors(printed, states).items():
        jobs[job] = [*jobs.get(job, []), *_select_new(errors, jobs.get(job, []))]
    failures = sorted(
        (failure for job in jobs.values() for failure in job), key=lambda failure: failure["timestamp"]
    )
    try:
        (results / "run").mkdir(parents=True, exist_ok=True)
        (results / "run/failures.jsonl").write_text(
            "".join(f"{json.dumps(record)}\n" for record in failures), encoding="utf-8"
        )
        (results / "run/failures.txt").write_text(summarise_failures(failures), encoding="utf-8")
    except OSError as error:  # the full disk that is among the failures, perhaps
        print(f"failures not written to {results / 'run'}: {error}", file=sys.stderr)
    return failures


def _read_recorded(benchmarks: Path, since: str) -> dict[str, list[dict]]:
    """The failures that each job recorded since the start of the run, by job."""
    return {
        _name_job(path, benchmarks, ".failures.jsonl"): [
            record for record in read_failures(path) if record["timestamp"] >= since
        ]
        for path in sorted(benchmarks.rglob("*.failures.jsonl"))
    }


def _select_new(errors: list[dict], known: list[dict]) -> list[dict]:
    """The logged errors of attempts without a recorded failure.

    An attempt after a deterministic failure stops at once. Snakemake logs it as one more error, which is not
    a failure of its own.
    """
    final = min((record["attempt"] for record in known if record["category"] in DETERMINISTIC), default=99)
    attempts = {record["attempt"] for record in known}
    return [error for error in errors if error["attempt"] not in attempts and error["attempt"] < final]


def _name_job(path: Path, benchmarks: Path, suffix: str) -> str:
    """The name of a job, such as `qc/01`: its path below the benchmarks, and below the logs."""
    return str(path.relative_to(benchmarks)).removesuffix(suffix)


def _describe_killed(record: dict, states: dict[str, str], results: Path, job: str) -> dict:
    """The failure of a job with a record that still has the status `running`."""
    log = results / "logs" / f"{job}.log"
    end = log.read_text(errors="replace", encoding="utf-8")[-4000:] if log.exists() else ""
    state = states.get(record.get("slurm_job"), "")
    diagnosis = classify(state=state, text=end)
    if diagnosis.category == "unknown":
        # HDF5 can crash when it closes a file on a full disk; then the record is not written either
        is_full = shutil.disk_usage(results).free < FULL_BYTES
        no_space = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        diagnosis = classify(no_space) if is_full else classify(exit_code=-signal.SIGKILL)
    evidence = f"{diagnosis.evidence}: last alive at {record['end_time']}, with {record['peak_rss_mb']} MB"
    return _make_failure(record["task_name"], record["wildcards"], diagnosis, evidence) | {
        "attempt": record["attempt"],
        "timestamp": record["end_time"],
    }


def _parse_errors(printed: str, states: dict[str, str]) -> dict[str, list[dict]]:
    """The failures in Snakemake's log by job, one per attempt; the log has no wildcards."""
    errors = {}
    for number, status, stamp, rule, block in ERROR.findall(printed):
        fields = dict(FIELD.findall(block))
        place = LOG.search(fields.get("log", ""))
        code = -int(number) if number else int(status or 0)
        state = states.get(fields.get("external_jobid", ""), "")
        diagnosis = classify(state=state, exit_code=code, text=block)
        log = fields.get("log", "Snakemake's log").split(" (")[0]
        evidence = f"{diagnosis.evidence}: ended before its script started; see {log}"
        failures = errors.setdefault(place.group(1) if place else rule, [])
        failure = _make_failure(rule, {}, diagnosis, evidence) | {"attempt": len(failures) + 1}
        if stamp:
            when = datetime.strptime(stamp, "%a %b %d %H:%M:%S %Y").astimezone(UTC)
            failure["timestamp"] = when.isoformat(timespec="microseconds")
        failures.append(failure)
    return errors


def _make_failure(rule, wildcards, diagnosis, evidence):
    return {
        "task_name": rule,
        "wildcards": wildcards,
        "attempt": 1,
        "retry": 0,
        "category": diagnosis.category,
        "kind": diagnosis.kind,
        "evidence": evidence,
        "message": evidence,
        "timestamp": "9999",  # sorts after all failures with a time
    }


def summarise_failures(failures: list[dict]) -> str:
    """Failures by category, one line each; empty without failures."""
    lines = []
    for category in sorted({failure["category"] for failure in failures}):
        members = [failure for failure in failures if failure["category"] == category]
        plural = "" if len(members) == 1 else "s"
        lines.append(f"{len(members)} failure{plural} of category {category}:")
        for failure in members:
            job = " ".join([failure["task_name"], *failure["wildcards"].values()])
            retry = f", retry {failure['retry']}" if failure["retry"] else ""
            lines.append(f"  {job}, attempt {failure['attempt']}{retry}: {failure['evidence']}")
    return "".join(f"{line}\n" for line in lines)
