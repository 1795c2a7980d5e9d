"""What rules/ending.smk does after a run, whether it succeeded or not: all its failures in one file.

Three sources: what the jobs noted themselves (`*.failures.jsonl`), performance records that still say
`running` although the run is over (the job was killed without a word), and errors that Snakemake logged for
jobs of which neither is there (they ended before their script began).
"""

import json
import re
import signal
from pathlib import Path

from _failures import classify

STATE = re.compile(r"SLURM-job '(\d+)' failed[^']*SLURM status is: '(\w+)'")
ERROR = re.compile(r"^Error in rule (\w+):\n((?: {4}.*\n?)+)", flags=re.MULTILINE)
FIELD = re.compile(r"^ {4}(log|wildcards|external_jobid): (.*)$", flags=re.MULTILINE)


def gather(results: Path, since: str, printed: str) -> list[dict]:
    """Every failure of the run, in the order of time; also written to <results>/run/failures.jsonl and .txt.

    since: when the run started, ISO 8601 in UTC. printed: Snakemake's log.
    """
    noted, jobs = [], set()
    for path in sorted((results / "benchmarks").rglob("*.failures.jsonl")):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        noted += [record for record in records if record["timestamp"] >= since]
        jobs |= {_key(record) for record in records if record["timestamp"] >= since}
    states = dict(STATE.findall(printed))
    for path in sorted((results / "benchmarks").rglob("*.perf.json")):
        record = json.loads(path.read_text())
        if record["status"] == "running" and record["start_time"] >= since:
            log = results / "logs" / path.relative_to(results / "benchmarks")
            noted.append(_killed(record, states, log.with_name(path.name.replace(".perf.json", ".log"))))
            jobs.add(_key(record))
    noted += [error for error in _errors(printed, states) if _key(error) not in jobs]
    noted.sort(key=lambda record: record["timestamp"])
    (results / "run").mkdir(parents=True, exist_ok=True)
    (results / "run/failures.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in noted))
    (results / "run/failures.txt").write_text(summary(noted))
    return noted


def _key(record: dict) -> tuple:
    return record["task_name"], tuple(sorted(record["wildcards"].items()))


def _killed(record: dict, states: dict[str, str], log: Path) -> dict:
    """The failure of a job whose record never went beyond `running`."""
    end = log.read_text(errors="replace")[-4000:] if log.exists() else ""
    state = states.get(record.get("slurm_job"), "")
    diagnosis = classify(state=state, text=end)
    if diagnosis.category == "unknown":
        diagnosis = classify(exit_code=-signal.SIGKILL)
    said = f"{diagnosis.evidence}: no word after {record['end_time']}, with {record['peak_rss_mb']} MB"
    return _failure(record["task_name"], record["wildcards"], diagnosis, said) | {
        "attempt": record["attempt"],
        "timestamp": record["end_time"],
    }


def _errors(printed: str, states: dict[str, str]) -> list[dict]:
    """One failure per job that Snakemake reports as failed."""
    found = {}
    for rule, block in ERROR.findall(printed):
        fields = dict(FIELD.findall(block))
        pairs = [pair.split("=", 1) for pair in fields.get("wildcards", "").split(", ") if "=" in pair]
        diagnosis = classify(state=states.get(fields.get("external_jobid", ""), ""), text=block)
        said = f"{diagnosis.evidence}: ended before its script began; see {fields.get('log', 'the log')}"
        failure = _failure(rule, dict(pairs), diagnosis, said)
        found[_key(failure)] = failure
    return list(found.values())


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


def summary(failures: list[dict]) -> str:
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
