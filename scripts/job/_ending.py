"""What rules/ending.smk does after a run, whether it succeeded or not: all its failures in one file.

Three sources: what the jobs noted themselves (`*.failures.jsonl`), performance records that still say
`running` although the run is over (the job was killed without a word), and errors that Snakemake logged for
attempts of which neither is there (they ended before their script's main began).
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

FULL_BYTES = 2**20  # a disk with less than that free is full


def gather_failures(results: Path, since: str, printed: str) -> list[dict]:
    """Every failure of the run, in the order of time; also written to <results>/run/failures.jsonl and .txt.

    since: when the run started, ISO 8601 in UTC. printed: Snakemake's log.
    """
    noted, jobs, benchmarks = [], {}, results / "benchmarks"  # jobs: attempts noted of each
    for path in sorted(benchmarks.rglob("*.failures.jsonl")):
        found = [record for record in read_failures(path) if record["timestamp"] >= since]
        noted += found
        jobs[_job(path, benchmarks, ".failures.jsonl")] = found
    states = dict(STATE.findall(printed))
    for path in sorted(benchmarks.rglob("*.perf.json")):
        record, job = read_record(path), _job(path, benchmarks, ".perf.json")
        if record and record["status"] == "running" and record["start_time"] >= since:
            killed = _killed(record, states, results, job)
            noted.append(killed)
            jobs[job] = [*jobs.get(job, []), killed]
    for job, errors in _errors(printed, states).items():
        known = jobs.get(job, [])
        # what would repeat itself is refused, which Snakemake logs as one more error
        final = min(
            (record["attempt"] for record in known if record["category"] in DETERMINISTIC), default=99
        )
        told = {record["attempt"] for record in known}
        noted += [error for error in errors if error["attempt"] not in told and error["attempt"] < final]
    noted.sort(key=lambda record: record["timestamp"])
    try:
        (results / "run").mkdir(parents=True, exist_ok=True)
        (results / "run/failures.jsonl").write_text(
            "".join(f"{json.dumps(record)}\n" for record in noted), encoding="utf-8"
        )
        (results / "run/failures.txt").write_text(summarise_failures(noted), encoding="utf-8")
    except OSError as error:  # the full disk that is among the failures, perhaps
        print(f"failures not written to {results / 'run'}: {error}", file=sys.stderr)
    return noted


def _job(path: Path, benchmarks: Path, suffix: str) -> str:
    """A job by its place among the benchmarks, which is that of its log among the logs: `qc/01`."""
    return str(path.relative_to(benchmarks)).removesuffix(suffix)


def _killed(record: dict, states: dict[str, str], results: Path, job: str) -> dict:
    """The failure of a job whose record never went beyond `running`."""
    log = results / "logs" / f"{job}.log"
    end = log.read_text(errors="replace", encoding="utf-8")[-4000:] if log.exists() else ""
    state = states.get(record.get("slurm_job"), "")
    diagnosis = classify(state=state, text=end)
    if diagnosis.category == "unknown":
        # HDF5 can crash as it closes a file on a full disk, which then takes no record either
        full = shutil.disk_usage(results).free < FULL_BYTES
        no_space = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        diagnosis = classify(no_space) if full else classify(exit_code=-signal.SIGKILL)
    said = f"{diagnosis.evidence}: no word after {record['end_time']}, with {record['peak_rss_mb']} MB"
    return _failure(record["task_name"], record["wildcards"], diagnosis, said) | {
        "attempt": record["attempt"],
        "timestamp": record["end_time"],
    }


def _errors(printed: str, states: dict[str, str]) -> dict[str, list[dict]]:
    """The failures of each job that Snakemake reports, one an attempt; it does not print wildcards."""
    found = {}
    for number, status, stamp, rule, block in ERROR.findall(printed):
        fields = dict(FIELD.findall(block))
        place = LOG.search(fields.get("log", ""))
        code = -int(number) if number else int(status or 0)
        state = states.get(fields.get("external_jobid", ""), "")
        diagnosis = classify(state=state, exit_code=code, text=block)
        log = fields.get("log", "Snakemake's log").split(" (")[0]
        said = f"{diagnosis.evidence}: ended before it could say why; see {log}"
        failures = found.setdefault(place.group(1) if place else rule, [])
        failure = _failure(rule, {}, diagnosis, said) | {"attempt": len(failures) + 1}
        if stamp:
            when = datetime.strptime(stamp, "%a %b %d %H:%M:%S %Y").astimezone(UTC)
            failure["timestamp"] = when.isoformat(timespec="microseconds")
        failures.append(failure)
    return found


def _failure(rule, wildcards, diagnosis, evidence):
    return {
        "task_name": rule,
        "wildcards": wildcards,
        "attempt": 1,
        "retry": 0,
        "category": diagnosis.category,
        "kind": diagnosis.kind,
        "evidence": evidence,
        "message": evidence,
        "timestamp": "9999",  # after all that have a time
    }


def summarise_failures(failures: list[dict]) -> str:
    """Failures by category, one line each; empty when there is none."""
    lines = []
    for category in sorted({failure["category"] for failure in failures}):
        these = [failure for failure in failures if failure["category"] == category]
        lines.append(f"{len(these)} {'failure' if len(these) == 1 else 'failures'} of category {category}:")
        for failure in these:
            job = " ".join([failure["task_name"], *failure["wildcards"].values()])
            retry = f", retry {failure['retry']}" if failure["retry"] else ""
            lines.append(f"  {job}, attempt {failure['attempt']}{retry}: {failure['evidence']}")
    return "".join(f"{line}\n" for line in lines)
