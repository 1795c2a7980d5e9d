"""Work on a node's scratch disk: it is used, it is left clean, and nothing of it shows in the answers."""

import os
import re
import shutil
import time
from threading import Event, Thread

import pytest

STAGED = ("--workflow-profile", "profiles/staging")
AGAIN = (
    "pseudobulk",
    "composition",
    "differential",
    "synthesis",
)  # made again on scratch, checkpoint included


class Watch(Thread):
    """Remembers every file that is seen in a folder, and in which job's part of it."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.seen, self.done = folder, set(), Event()

    def run(self):
        while not self.done.wait(0.2):
            for parent, _, files in os.walk(self.folder):
                self.seen |= {os.path.join(parent, name) for name in files}

    def stop(self):
        self.done.set()
        self.join()
        return self.seen


@pytest.fixture(scope="module")
def staged(cluster, slurm_run, tmp_path_factory):
    """A copy of the finished run whose donor branch is made again on scratch, and what was seen there."""
    folder = tmp_path_factory.mktemp("staged")
    run = slurm_run.clone(folder / "scohort")
    for step in AGAIN:
        shutil.rmtree(run.folder / "results" / step)
    shutil.rmtree(run.folder / "results/logs")
    scratch = folder / "scratch"
    watch = Watch(scratch)
    watch.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRATCH", str(scratch))
        run.on_slurm(*STAGED, "results/synthesis/age/genes.tsv", "results/composition/age/cell_types.tsv")
    return run, scratch, watch.stop()


def test_inputs_and_outputs_are_on_scratch_while_jobs_run(staged):
    run, scratch, seen = staged
    below = {os.path.relpath(path, scratch) for path in seen}
    jobs = run.submitted()
    assert len(jobs) >= 5
    for job, asked in jobs.iterrows():
        mine = {path.split("/fs/")[1] for path in below if path.startswith(f"scohort/{job}/fs/")}
        assert any(path.startswith(f"results/{asked['rule']}/") for path in mine), (asked["rule"], mine)
    (sums,) = jobs.index[jobs["rule"] == "pseudobulk"]
    assert f"scohort/{sums}/fs/results/load/shards/00.h5ad" in below


def test_scratch_is_empty_afterwards(staged):
    _, scratch, _ = staged
    assert [path for path in scratch.rglob("*") if path.is_file()] == []


def test_answers_equal_those_of_the_unstaged_run(staged, slurm_run):
    run, _, _ = staged
    here, there = run.answers(), slurm_run.answers()
    made = [path for path in there if path.split("/")[0] in AGAIN]
    assert len(made) >= 15
    assert [path for path in made if here[path] != there[path]] == []


def test_no_path_of_scratch_is_in_any_result(staged):
    run, scratch, _ = staged
    for path in (run.folder / "results").rglob("*"):
        assert not path.is_file() or str(scratch).encode() not in path.read_bytes(), path


def test_logs_and_records_are_written_where_they_stay(staged):
    run, _, _ = staged
    logs = {str(path.relative_to(run.folder)) for path in (run.folder / "results/logs").rglob("*.log")}
    assert {"results/logs/pseudobulk.log", "results/logs/synthesis/age.log"} <= logs
    times = {path: path.stat().st_mtime for path in (run.folder / "results/benchmarks").rglob("*.perf.json")}
    newest = max(times, key=times.get)
    assert time.time() - times[newest] < 3600
    assert newest.name == "age.perf.json"
    assert (run.folder / "results/run/failures.jsonl").read_text() == ""


def test_the_staged_run_is_finished_for_an_unstaged_one(staged):
    run, _, _ = staged
    printed = run.snakemake(
        "--profile", "profiles/slurm", *run.SMALL, "--dry-run", "results/synthesis/age/genes.tsv"
    )
    assert "Nothing to be done" in printed


def test_a_scratch_that_cannot_be_made_fails_loudly(cluster, slurm_run, tmp_path, monkeypatch):
    """Below a file: not even root can make a folder there. The job fails on the node and says where."""
    run = slurm_run.clone(tmp_path / "scohort")
    (run.folder / "results/filter/samples.tsv").unlink()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCRATCH", str(tmp_path / "file"))
    once = ("--retries", "0")
    command = ("--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "5", *run.SMALL)
    done = run.attempt(*command, *STAGED, *once, "--", "results/filter/samples.tsv")
    assert done.returncode != 0
    assert re.search(rf"Failed to create local storage prefix {tmp_path}/file/scohort/\d+/fs", done.stdout)
    assert not (run.folder / "results/filter/samples.tsv").exists()
