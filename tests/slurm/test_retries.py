"""What SLURM ends is tried again with more of what was short; what repeats itself is not run again."""

import json
import subprocess
import time

import pytest


def until(condition, seconds):
    """Wait for a condition; fails the test when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(1)


@pytest.fixture(scope="module")
def ended(cluster, faults, slurm_run):
    """The run of faulty jobs, with one of them cancelled by hand, after its end; the demo ran meanwhile."""
    run, process = faults
    begun = run.folder / "results/cancelled.attempts"
    until(lambda: begun.exists() or process.poll() is not None, 900)
    assert process.poll() is None, run.printed()
    subprocess.run(["scancel", run.submitted().query("rule == 'cancelled'").index[0]], check=True)
    assert process.wait(900) == 1, run.printed()  # one of the four cannot succeed
    return run


def attempts(run, fault):
    return (run.folder / f"results/{fault}.attempts").read_text().split()


def test_a_cancelled_job_is_tried_again_with_the_next_request(cluster, ended):
    jobs = cluster.attempts(ended.folder, "cancelled")
    assert [state.split()[0] for state in jobs["State"]] == ["CANCELLED", "COMPLETED"]
    assert list(jobs["mem_mb"]) == [600, 1200]
    assert (ended.folder / "results/cancelled.txt").read_text() == "attempt 2"


def test_a_job_out_of_time_gets_more_time(cluster, ended):
    jobs = cluster.attempts(ended.folder, "slow")
    *failed, last = jobs["State"]
    assert failed
    assert set(failed) == {"TIMEOUT"}
    assert last == "COMPLETED"
    assert list(jobs["minutes"]) == [2, 4, 6][: len(jobs)]
    assert (ended.folder / "results/slow.txt").exists()


def test_a_job_out_of_memory_gets_more_memory(cluster, ended):
    jobs = cluster.attempts(ended.folder, "hungry")
    assert len(jobs) == 2
    # cgroups leave their word in the state of a step, SLURM's accounting leaves it in the log of the job
    printed = (ended.folder / f".snakemake/slurm_logs/rule_hungry/{jobs.index[0]}.log").read_text()
    assert "OUT_OF_MEMORY" in jobs["steps"].iloc[0] or "exceeded memory limit" in printed
    assert jobs["State"].iloc[1] == "COMPLETED"
    assert list(jobs["mem_mb"]) == [700, 1400]
    assert (ended.folder / "results/hungry.txt").read_text() == f"{700 * 2**20} bytes"


def test_a_mistake_is_submitted_again_but_not_run_again(cluster, ended):
    """Snakemake counts retries, not reasons; the job ends before its work and names the first failure."""
    jobs = cluster.attempts(ended.folder, "mistaken")
    assert list(jobs["State"]) == ["FAILED"] * 3
    assert attempts(ended, "mistaken") == ["1"]
    print(f"seconds of the three attempts: {list(jobs['seconds'])}")
    log = (ended.folder / "results/logs/mistaken.log").read_text()
    assert log.startswith("not tried again, the outcome would be the same: InputError: planted")
    lines = (ended.folder / "results/run/failures.jsonl").read_text().splitlines()
    (failure,) = [told for told in map(json.loads, lines) if told["task_name"] == "mistaken"]
    assert failure["category"] == "configuration"
    assert not (ended.folder / "results/mistaken.txt").exists()


def test_no_retry_happens_inside_an_allocation(cluster, ended):
    """The Snakemake inside a SLURM job does not repeat it: each attempt begins once, in a job of its own."""
    for fault in ("hungry", "slow", "cancelled"):
        begun = attempts(ended, fault)
        assert len(begun) == len(set(begun)) <= len(cluster.attempts(ended.folder, fault))


def test_nothing_half_written_is_left(ended):
    assert not list((ended.folder / "results").rglob(".tmp-*"))
