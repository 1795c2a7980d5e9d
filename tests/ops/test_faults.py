"""Jobs are killed, disks fill up, Snakemake is stopped and started twice: outputs equal an undisturbed run's.

The faults are drawn with one seed and listed in docs/develop/failures.md. When a job is killed is drawn in
seconds of its processor time, so that a busy machine does not move every kill into the start-up.
"""

import collections
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import psutil

ROOT = Path(__file__).parent.parent.parent
SEED = 20261121
KILLS_PER_JOB = 3
WANTED = 50
FOLDERS = {"ridge_summary": "ridge"}  # the other rules write into the one of their name
OWN = (
    "logs",
    "benchmarks",
    "run",
    "report",
    "publish",
)  # of results: differ, as costs do; a release is verified
COMMAND = [sys.executable, "-m", "snakemake", "--profile", "profiles/ci"]


def digests(folder):
    """sha256 of every file under a final name, by its path within results."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        parts = path.relative_to(folder / "results").parts
        if parts[0] in OWN or path.name.startswith("."):
            continue
        try:
            if path.is_file():
                found["/".join(parts)] = hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError:  # Snakemake removes what it is about to make again
            continue
    return found


class Runs:
    """Snakemake runs in one folder, and whatever disturbs them."""

    def __init__(self, folder, reference):
        self.folder, self.reference, self.random = folder, reference, Random(SEED)
        self.killed, self.done = collections.Counter(), []
        self.due = {}

    def start(self, *options):
        """A run in a session of its own, so that all of it can be stopped."""
        with open(self.folder / "printed.log", "a") as log:
            return subprocess.Popen(
                [*COMMAND, *options], cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )

    def jobs(self, run):
        """(process, rule) of the scripts that the run has going."""
        try:
            children = psutil.Process(run.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        for child in children:
            try:
                scripts = [word for word in child.cmdline() if ".snakemake/scripts/" in word]
                if scripts and Path(child.exe()).name.startswith("python"):
                    yield child, Path(scripts[0]).name.split(".")[-2]
            except psutil.Error:
                continue

    def ripe(self, job, rule):
        """Whether this job's time has come: some seconds of work, or its first temporary output."""
        if job.pid not in self.due:
            # every other kill waits for the moment when outputs are being written
            late = self.killed[rule] % 2 == 1
            self.due[job.pid] = None if late else self.random.uniform(0, 0.6)
        if self.due[job.pid] is None:
            return any((self.folder / "results" / FOLDERS.get(rule, rule)).rglob(".tmp-*"))
        times = job.cpu_times()
        return times.user + times.system >= self.due[job.pid]

    def disturb(self, run, until):
        """Kill jobs until so many have been killed, or the run is over; compare after each."""
        while run.poll() is None and sum(self.killed.values()) < until:
            for job, rule in self.jobs(run):
                try:
                    if self.killed[rule] < KILLS_PER_JOB and self.ripe(job, rule):
                        job.kill()
                        self.killed[rule] += 1
                        self.done.append(f"kill {rule}")
                        self.compare()
                except psutil.Error:
                    continue
            time.sleep(0.01)

    def stop(self, run, blow):
        """Stop Snakemake and everything that it started."""
        os.killpg(run.pid, blow)
        try:
            run.wait(60)
        except subprocess.TimeoutExpired:  # Snakemake's handler of SIGTERM can wait for a lock that it holds
            os.killpg(run.pid, signal.SIGKILL)
            run.wait(60)
        self.done.append(f"stop {signal.Signals(blow).name}")
        deadline = time.time() + 60
        while time.time() < deadline and any(_in_session(run.pid)):
            time.sleep(0.1)
        self.compare()

    def compare(self):
        """No partial file carries a final name."""
        now = digests(self.folder)
        assert {path: digest for path, digest in now.items() if self.reference.get(path) != digest} == {}


def _in_session(session):
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (ProcessLookupError, psutil.Error):
            continue


def test_whatever_is_killed_or_stopped_the_outputs_are_those_of_an_undisturbed_run(
    tiny_run, new_tiny, tmp_path
):
    reference = digests(tiny_run.folder)
    runs = Runs(new_tiny(tmp_path / "scohort").folder, reference)
    run = runs.start("--retries", "7")
    runs.disturb(run, until=12)
    runs.stop(run, signal.SIGKILL)
    unlock(runs.folder)
    first = runs.start("--retries", "7")
    until_locked(runs.folder, first)
    second = runs.start("--retries", "7")
    runs.disturb(first, until=30)
    assert second.wait(300) != 0
    runs.done.append("second run at once")
    assert "LockException" in (runs.folder / "printed.log").read_text()
    runs.stop(first, signal.SIGTERM)
    unlock(runs.folder)
    last = runs.start("--retries", "7")
    runs.disturb(last, until=10_000)
    assert last.wait() == 0, (runs.folder / "printed.log").read_text()[-4000:]
    assert digests(runs.folder) == reference
    assert not list((runs.folder / "results").rglob(".tmp-*"))
    scripts = {path.stem for path in (ROOT / "scripts").glob("[a-z]*.py")}
    scripts -= {"fetch", "stability"}  # no part of the demo: a download, and what `make sweep` adds
    scripts -= {
        "provenance",
        "filter",
        "cells",
        "contrasts",
    }  # a second each: some are over before they are met
    assert scripts <= set(runs.killed), f"never killed: {scripts - set(runs.killed)}"
    verify = [sys.executable, "scripts/publish/verify.py", "results/publish/v1"]
    subprocess.run(verify, cwd=runs.folder, check=True, capture_output=True)
    assert len(runs.done) >= WANTED, collections.Counter(runs.done)
    lines = (runs.folder / "results/run/failures.jsonl").read_text().splitlines()
    noted = collections.Counter(json.loads(line)["category"] for line in lines)
    assert set(noted) == {"executor"}


def unlock(folder):
    """What the runbook says after Snakemake itself was killed."""
    subprocess.run([*COMMAND, "--unlock"], cwd=folder, check=True, capture_output=True)


def until_locked(folder, run):
    deadline = time.time() + 120
    while not any((folder / ".snakemake/locks").glob("*")):
        assert run.poll() is None
        assert time.time() < deadline
        time.sleep(0.05)


FULL = """
set -u
mount -t tmpfs -o size={first}k none results
for size in {sizes}; do
    mount -o remount,size=${{size}}k results
    {command} results/load/cohort.json > "printed.$size" 2>&1
    echo "$size $?" >> outcomes
    mkdir -p "kept.$size" && cp -a results "kept.$size/"
done
"""


def test_a_full_disk_fails_clearly_and_leaves_no_partial_file(tiny_run, new_tiny, tmp_path):
    """The results are on a disk of some hundred kilobytes, which grows until they fit."""
    reference = digests(tiny_run.folder)
    copy = new_tiny(tmp_path / "scohort")
    (copy.folder / "results").mkdir()
    need = sum((tiny_run.folder / "results" / path).stat().st_size for path in reference
               if path.startswith(("simulate/", "load/"))) // 1024  # fmt: skip
    simulated = sum(
        (tiny_run.folder / "results" / path).stat().st_size
        for path in reference
        if path.startswith("simulate/")
    )
    sizes = [16, simulated // 2048, simulated // 1024 + (need - simulated // 1024) // 2, 50_000]
    script = FULL.format(first=sizes[0], sizes=" ".join(map(str, sizes)), command=" ".join(COMMAND))
    space = ["unshare", "--map-root-user", "--mount", "bash", "-c", script]
    subprocess.run(space, cwd=copy.folder, check=True, capture_output=True)
    outcomes = [int(line.split()[1]) for line in (copy.folder / "outcomes").read_text().splitlines()]
    printed = [(copy.folder / f"printed.{size}").read_text() for size in sizes]
    assert outcomes[-1] == 0, printed[-1][-3000:]
    for size, outcome, told in zip(sizes[:-1], outcomes[:-1], printed[:-1], strict=True):
        assert outcome != 0
        assert "No space left on device" in told
        left = digests(copy.folder / f"kept.{size}")
        assert {path: digest for path, digest in left.items() if reference[path] != digest} == {}
    made = digests(copy.folder / f"kept.{sizes[-1]}")
    assert made == {path: reference[path] for path in made}
    assert "load/cohort.json" in made
