"""The glue, run for real: a small workflow whose script succeeds or fails in each way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent

SNAKEFILE = """
rule step:
    input: "in.txt"
    output: one="results/one.txt", many=["results/a.txt", "results/b.txt"]
    log: "results/logs/deep/step.log"
    benchmark: "results/benchmarks/deep/step.tsv"
    params: how=config["how"]
    threads: 2
    resources: mem_mb=321, attempt=lambda wildcards, attempt: attempt
    script: "step.py"
"""

SCRIPT = """
import errno, os, pathlib, subprocess, sys, time
from job import CorruptedInput, InputError, job

with job(snakemake) as out:
    print("from python")
    subprocess.run(["echo", "from a child"], check=True)
    for path in (out.one, *out.many):
        open(path, "w").write("whole")
    how = snakemake.params.how
    if how == "input error":
        raise InputError("age: value 'old' of donor 7; set load.covariates")
    if how == "stale once" and not pathlib.Path("tried").exists():
        pathlib.Path("tried").touch()
        raise OSError(errno.ESTALE, "Stale file handle")
    if how == "always stale":
        raise OSError(errno.ESTALE, "Stale file handle")
    if how == "kill once" and snakemake.resources.attempt == 1:
        os.kill(os.getpid(), 9)
    if how == "full" and snakemake.resources.attempt == 1:
        raise OSError(errno.ENOSPC, "No space left on device")
    if how == "corrupted":
        raise CorruptedInput("my.h5ad: damaged; get the file again")
    if how == "imports":
        import decimal, scipy.stats
        time.sleep(0.5)
    if how == "no record":
        os.unlink("results/benchmarks/deep/step.perf.json")
        os.mkdir("results/benchmarks/deep/step.perf.json")
    if how == "crash":
        raise KeyError("no such thing")
    if how == "unwritten":
        os.unlink(out.many[1])
    if how == "wait":
        time.sleep(60)
    if how == "grandchild":
        hold = "x = bytearray(300_000_000); import time; time.sleep(1)"
        code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
        subprocess.run([sys.executable, "-c", code], check=True)
    if how == "threads":
        import numpy, threadpoolctl
        pools = {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
        print("threads", pools, os.environ["NUMBA_NUM_THREADS"])
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "step.py").write_text(SCRIPT)
    (tmp_path / "in.txt").write_text("x" * 2**20)
    return tmp_path


def command(how):
    return [sys.executable, "-m", "snakemake", "--cores", "2", "--show-failed-logs", "--config", f"how={how}"]


POLICY = {"base_delay": 0.1, "backoff_factor": 1, "jitter": 0, "max_delay": 1}
RETRIES = {"max_total": 9, "deadline": 60, "transient_io": POLICY | {"max_retries": 2}}


def run(folder, how, *options):
    variables = {"PYTHONPATH": str(ROOT / "scripts"), "SCOHORT_RETRIES": json.dumps(RETRIES)}
    environment = {**os.environ, **variables}
    arguments = [*command(how), *options]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def record(folder):
    return json.loads((folder / "results/benchmarks/deep/step.perf.json").read_text())


def test_success_renames_everything_and_records(folder):
    assert run(folder, "ok").returncode == 0
    files = sorted(path.name for path in (folder / "results").glob("[!.]*.txt"))
    assert files == ["a.txt", "b.txt", "one.txt"]
    assert not list((folder / "results").glob(".tmp-*"))
    log = (folder / "results/logs/deep/step.log").read_text()
    assert log == "from python\nfrom a child\n"
    facts = record(folder)
    assert (facts["task_name"], facts["status"], facts["threads"], facts["mem_mb_requested"]) == (
        "step",
        "ok",
        2,
        321,
    )
    assert facts["input_mb"] == 1.0
    # a record keeps seconds to the millisecond
    assert 1 / facts["throughput_mbs"] == pytest.approx(facts["wall_time_s"], abs=0.001)
    assert facts["startup_s"] > 0


def test_input_error_is_one_line_and_leaves_nothing(folder):
    outcome = run(folder, "input error")
    assert outcome.returncode != 0
    assert "error: age: value 'old' of donor 7; set load.covariates" in outcome.stderr + outcome.stdout
    assert "Traceback" not in outcome.stderr + outcome.stdout
    assert not list((folder / "results").glob("[!.]*.txt"))
    assert not list((folder / "results").glob(".tmp-*"))
    assert record(folder)["status"] == "failed"
    assert (record(folder)["category"], record(folder)["kind"]) == ("configuration", "")


def test_crash_has_its_traceback_in_the_log(folder):
    assert run(folder, "crash").returncode != 0
    log = (folder / "results/logs/deep/step.log").read_text()
    assert "Traceback" in log
    assert "no such thing" in log
    assert not list((folder / "results").glob("[!.]*.txt"))


def failures(folder):
    lines = (folder / "results/benchmarks/deep/step.failures.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_deterministic_failure_is_not_tried_again(folder):
    outcome = run(folder, "input error", "--retries", "3")
    assert outcome.returncode != 0
    (failure,) = failures(folder)
    assert (failure["category"], failure["attempt"], failure["task_name"]) == ("configuration", 1, "step")
    assert "set load.covariates" in failure["evidence"]
    log = (folder / "results/logs/deep/step.log").read_text()
    assert log.startswith("not tried again")
    assert "set load.covariates" in log


def test_a_transient_failure_is_retried_within_the_job(folder):
    assert run(folder, "stale once").returncode == 0
    (failure,) = failures(folder)
    assert (failure["category"], failure["kind"], failure["retry"]) == ("transient_io", "ESTALE", 0)
    assert (folder / "results/one.txt").read_text() == "whole"
    assert "retry 1 in" in (folder / "results/logs/deep/step.log").read_text()
    assert record(folder)["status"] == "ok"
    assert "category" not in record(folder)


def test_retries_within_the_job_end_with_the_policy(folder):
    assert run(folder, "always stale").returncode != 0
    assert [failure["retry"] for failure in failures(folder)] == [0, 1, 2]
    assert (record(folder)["status"], record(folder)["category"]) == ("failed", "transient_io")


def test_a_damaged_file_is_not_tried_again_and_classed_as_such(folder):
    assert run(folder, "corrupted", "--retries", "2").returncode != 0
    (failure,) = failures(folder)
    assert failure["category"] == "corrupted_input"
    assert failure["message"] == "error: my.h5ad: damaged; get the file again"


def test_a_killed_attempt_is_noted_by_the_next_one(folder):
    assert run(folder, "kill once", "--retries", "1").returncode == 0
    (failure,) = failures(folder)
    assert (failure["category"], failure["kind"], failure["attempt"]) == ("executor", "killed", 1)
    assert "killed without a message" in failure["evidence"]
    assert (record(folder)["status"], record(folder)["attempt"]) == ("ok", 2)


def test_the_record_of_a_killed_job_stays(folder):
    assert run(folder, "kill once").returncode != 0
    facts = record(folder)
    assert (facts["status"], facts["task_name"], facts["attempt"]) == ("running", "step", 1)


def test_a_full_disk_is_no_reason_for_another_attempt(folder):
    assert run(folder, "full", "--retries", "1").returncode != 0
    (failure,) = failures(folder)
    assert (failure["category"], failure["kind"]) == ("configuration", "disk_full")


def test_imports_within_main_are_measured_separately(folder):
    assert run(folder, "imports").returncode == 0
    facts = record(folder)
    assert 0 < facts["imports_s"] < facts["wall_time_s"] - 0.5
    assert 0 < facts["imports_cpu_s"] < facts["cpu_time_s"]
    assert 0 < facts["startup_cpu_s"] < facts["cpu_time_s"]


def test_recording_never_fails_a_job(folder):
    assert run(folder, "no record").returncode == 0
    assert "performance record not written" in (folder / "results/logs/deep/step.log").read_text()
    assert (folder / "results/one.txt").read_text() == "whole"


def test_an_output_that_was_not_written_fails_and_renames_none(folder):
    assert run(folder, "unwritten").returncode != 0
    assert "results/b.txt" in (folder / "results/logs/deep/step.log").read_text()
    assert not list((folder / "results").glob("[!.]*.txt"))


@pytest.mark.parametrize("blow", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_job_leaves_no_final_file_and_the_next_run_cleans_up(folder, blow):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    with subprocess.Popen(command("wait"), cwd=folder, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.time() + 60
        while not (found := list((folder / "results").glob(".tmp-*-b.txt"))) and time.time() < deadline:
            time.sleep(0.1)
        assert found, "the job never wrote its temporary files"
        subprocess.run(["pkill", f"-{int(blow)}", "-f", f"{folder}/.*step.py"], check=True)
        assert process.wait(60) != 0
    assert not list((folder / "results").glob("[!.]*.txt"))
    assert bool(list((folder / "results").glob(".tmp-*"))) == (blow == signal.SIGKILL)
    if blow == signal.SIGTERM:
        (failure,) = failures(folder)
        assert (failure["category"], failure["kind"]) == ("executor", "terminated")
    assert run(folder, "ok").returncode == 0
    assert not list((folder / "results").glob(".tmp-*"))


def test_memory_of_a_grandchild_counts(folder):
    assert run(folder, "grandchild").returncode == 0
    assert record(folder)["peak_rss_mb"] > 286


def test_libraries_get_the_threads_of_the_rule(folder):
    assert run(folder, "threads").returncode == 0
    assert "threads {2} 2" in (folder / "results/logs/deep/step.log").read_text()
