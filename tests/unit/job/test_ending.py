"""The failures of a run come from records of jobs, from killed jobs and from Snakemake's log."""

import json

from job import _ending

PRINTED = """
[Sat Nov 21 06:25:32 2026]
Error in rule qc:
    message: SLURM-job '77' failed, SLURM status is: 'OUT_OF_MEMORY'. Reason: Unknown.
    jobid: 6
    input: results/load/shards/01.h5ad
    output: results/qc/01.parquet, results/qc/01.limits.tsv
    log: results/logs/qc/01.log (check log file(s) for error details)
    external_jobid: 77

Error in rule ridge:
    jobid: 9
    log: results/logs/ridge/b/alpha_10.log (check log file(s) for error details)
    (one of the commands exited with non-zero exit code)
"""
NOTED = {
    "task_name": "load", "wildcards": {}, "attempt": 1, "retry": 0, "category": "transient_io",
    "kind": "ESTALE", "evidence": "OSError: stale", "message": "error",
    "timestamp": "2026-11-21T06:10:00+00:00",
}  # fmt: skip
KILLED = {
    "task_name": "cells", "wildcards": {"shard": "00"}, "attempt": 2, "status": "running", "slurm_job": "77",
    "peak_rss_mb": 900.0, "start_time": "2026-11-21T06:11:00+00:00", "end_time": "2026-11-21T06:12:00+00:00",
}  # fmt: skip
SINCE = "2026-11-21T06:00:00"


def put(results, name, content):
    path = results / "benchmarks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_recorded_failures_come_with_all_attempts(tmp_path):
    again = NOTED | {"attempt": 2, "timestamp": "2026-11-21T06:20:00+00:00"}
    put(tmp_path, "load.failures.jsonl", json.dumps(NOTED) + "\n" + json.dumps(again) + "\n")
    assert _ending.gather_failures(tmp_path, SINCE, "") == [NOTED, again]
    lines = (tmp_path / "run/failures.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [NOTED, again]
    lines = (tmp_path / "run/failures.txt").read_text().splitlines()
    assert lines == [
        "2 failures of category transient_io:",
        "  load, attempt 1: OSError: stale",
        "  load, attempt 2: OSError: stale",
    ]


def test_a_line_that_a_full_disk_cut_off_is_left_out(tmp_path):
    put(tmp_path, "load.failures.jsonl", json.dumps(NOTED) + "\n" + json.dumps(NOTED)[:40])
    put(tmp_path, ".tmp-12345678-load.perf.json.part", "{")
    assert _ending.gather_failures(tmp_path, SINCE, "") == [NOTED]


def test_failures_that_cannot_be_written_are_printed(tmp_path, capsys):
    (tmp_path / "run").write_text("a file where the folder should be")
    put(tmp_path, "load.failures.jsonl", json.dumps(NOTED) + "\n")
    assert _ending.gather_failures(tmp_path, SINCE, "") == [NOTED]
    assert "failures not written" in capsys.readouterr().err


def test_failures_of_an_earlier_run_do_not_count(tmp_path):
    put(
        tmp_path, "load.failures.jsonl", json.dumps(NOTED | {"timestamp": "2026-11-20T06:10:00+00:00"}) + "\n"
    )
    put(tmp_path, "old.perf.json", json.dumps(KILLED | {"start_time": "2026-11-20T06:10:00+00:00"}))
    assert _ending.gather_failures(tmp_path, SINCE, "") == []
    assert (tmp_path / "run/failures.jsonl").read_text() == ""


def test_a_job_that_was_killed_is_classed_by_the_state_of_slurm(tmp_path):
    put(tmp_path, "cells.perf.json", json.dumps(KILLED))
    found = _ending.gather_failures(tmp_path, SINCE, PRINTED)[0]
    assert (found["task_name"], found["attempt"]) == ("cells", 2)
    assert (found["category"], found["kind"]) == ("executor", "oom")
    assert "scheduler state OUT_OF_MEMORY" in found["evidence"]
    assert "with 900.0 MB" in found["evidence"]


def test_a_job_that_was_killed_here_is_classed_by_its_log_or_as_killed(tmp_path):
    put(tmp_path, "cells.perf.json", json.dumps(KILLED))
    assert _ending.gather_failures(tmp_path, SINCE, "")[0]["kind"] == "killed"
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/cells.log").write_text("OSError: [Errno 28] No space left on device\n")
    (found,) = _ending.gather_failures(tmp_path, SINCE, "")
    assert (found["category"], found["kind"]) == ("configuration", "disk_full")


def test_jobs_that_ended_before_their_script_are_known_from_snakemake(tmp_path):
    found = {record["task_name"]: record for record in _ending.gather_failures(tmp_path, SINCE, PRINTED)}
    assert (found["qc"]["category"], found["qc"]["kind"]) == ("executor", "oom")
    assert found["ridge"]["category"] == "unknown"
    assert found["ridge"]["evidence"].endswith("see results/logs/ridge/b/alpha_10.log")


def test_a_recorded_failure_is_not_listed_twice(tmp_path):
    noted = NOTED | {"task_name": "ridge", "wildcards": {"cell_type": "b", "alpha": "10"}}
    put(tmp_path, "ridge/b/alpha_10.failures.jsonl", json.dumps(noted) + "\n")
    found = _ending.gather_failures(tmp_path, SINCE, PRINTED)
    assert [record["task_name"] for record in found] == ["ridge", "qc"]


KILLED_EARLY = """CalledProcessError in file "rules/cells.smk", line 26:
Command 'set -euo pipefail;  python /tmp/x.load.py' died with <Signals.SIGKILL: 9>.
[Sat Nov 21 06:09:00 2026]
Error in rule load:
    message: None
    jobid: 3
    log: results/logs/load.log (check log file(s) for error details)
"""


def test_a_job_killed_on_a_full_disk_has_that_category(tmp_path, monkeypatch):
    """HDF5 can crash there, with neither log nor record."""
    monkeypatch.setattr(_ending, "FULL_BYTES", 2**62)
    put(tmp_path, "cells.perf.json", json.dumps(KILLED))
    (failure,) = _ending.gather_failures(tmp_path, SINCE, "")
    assert failure["category"] == "configuration"
    assert "No space left on device" in failure["evidence"]


def test_every_attempt_counts_also_one_that_was_killed_before_it_began(tmp_path):
    second = NOTED | {"attempt": 2, "timestamp": "2099-11-21T06:10:00+00:00"}
    put(tmp_path, "load.failures.jsonl", json.dumps(second) + "\n")
    first, *others = _ending.gather_failures(tmp_path, SINCE, KILLED_EARLY + KILLED_EARLY)
    assert (first["attempt"], first["category"], first["kind"]) == (1, "executor", "killed")
    assert first["evidence"].startswith("exit code -9 (SIGKILL)")
    assert others == [second]


def test_an_attempt_that_stopped_at_once_is_not_a_failure(tmp_path):
    first = NOTED | {"category": "configuration"}
    put(tmp_path, "load.failures.jsonl", json.dumps(first) + "\n")
    assert _ending.gather_failures(tmp_path, SINCE, KILLED_EARLY + KILLED_EARLY) == [first]
