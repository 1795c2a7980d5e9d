"""A real SLURM for the tests of this folder, and runs of the workflow on it."""

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from checkout import Checkout

HERE = Path(__file__).parent
# the profile asks every 20 s; here jobs take seconds
SOON = ("--slurm-init-seconds-before-status-checks", "5")
SACCT = "JobID,Comment,State,ReqMem,TimelimitRaw,ReqCPUS,NodeList,ElapsedRaw,WorkDir"


class Cluster:
    """A SLURM that runs, and what its accounting knows."""

    def jobs(self, folder: Path) -> pd.DataFrame:
        """One row per job submitted from a folder, by job id; the states of its steps in one column."""
        asked = [
            "sacct",
            "--parsable2",
            "--allusers",
            "--units=M",
            "--starttime=now-1days",
            f"--format={SACCT}",
        ]
        text = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        rows = pd.read_csv(io.StringIO(text), sep="|", dtype=str, keep_default_na=False)
        is_step = rows["JobID"].str.contains(".", regex=False)
        steps, states = rows.loc[is_step, "JobID"], rows.loc[is_step, "State"]
        jobs = rows[~is_step & (rows["WorkDir"] == str(folder))].set_index("JobID")
        return jobs.assign(
            steps=[" ".join(states[steps.str.startswith(f"{job}.")]) for job in jobs.index],
            mem_mb=jobs["ReqMem"].str.rstrip("M").astype(float),
            minutes=jobs["TimelimitRaw"].astype(int),
            cpus=jobs["ReqCPUS"].astype(int),
            seconds=jobs["ElapsedRaw"].astype(int),
        )

    def attempts(self, folder: Path, rule: str) -> pd.DataFrame:
        """The jobs of one rule of a run, in the order of their submission."""
        jobs = self.jobs(folder)
        mine = jobs[jobs["Comment"].str.match(f"rule_{rule}(_|$)")]
        return mine.loc[sorted(mine.index, key=int)]


class Run(Checkout):
    """A copy of the project with the small demo, and what is looked at after a run of it."""

    SMALL = ("--configfile", "config/small.yaml")

    @classmethod
    def create(cls, folder: Path) -> "Run":
        """Copy the project and the overlay."""
        run = super().create(folder)
        shutil.copy(HERE / "small.yaml", folder / "config/small.yaml")
        return run

    def clone(self, folder: Path) -> "Run":
        """Copy with results, times and provenance."""
        return Run(super().clone(folder).folder)

    def on_slurm(self, *arguments: str) -> None:
        """Run the small demo on SLURM and keep what Snakemake prints."""
        profile = ("--profile", "profiles/slurm", *SOON, *self.SMALL)
        (self.folder / "printed.txt").write_text(self.snakemake(*profile, *arguments))

    def printed(self) -> str:
        """What Snakemake printed."""
        return (self.folder / "printed.txt").read_text()

    def submitted(self) -> pd.DataFrame:
        """What Snakemake says that it submitted: rule, threads and resources by SLURM's job id."""
        facts, rows = {}, {}
        announced = r"^(?:rule|checkpoint) (\w+):\n((?:    .*\n)+)"
        sent = r"^Job (\d+) has been submitted with SLURM jobid (\d+)"
        for found in re.finditer(f"{announced}|{sent}", self.printed(), flags=re.MULTILINE):
            rule, block, jobid, slurm = found.groups()
            if slurm:
                rows[slurm] = facts[jobid]
                continue
            told = dict(re.findall(r"^    (\w+): (.*)$", block, flags=re.MULTILINE))
            resources = dict(pair.split("=", 1) for pair in told["resources"].split(", "))
            facts[told["jobid"]] = {
                "rule": rule,
                "threads": int(told.get("threads", 1)),
                "mem_mb": int(resources["mem_mb"]),
                "runtime": int(resources["runtime"]),
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def records(self) -> list[dict]:
        """The performance records."""
        found = (self.folder / "results/benchmarks").rglob("*.perf.json")
        return [json.loads(path.read_text()) for path in found]

    def answers(self) -> dict[str, bytes]:
        """Every file that answers something, by its path: no logs, no records of cost or failures.

        The report shows costs, and a release holds it; publish/release.json has the digest of the rest.
        """
        results = self.folder / "results"
        files = [path.relative_to(results) for path in results.rglob("*") if path.is_file()]
        files = [path for path in files if path.parts[:2] != ("publish", "releases")]
        beside = {"logs", "benchmarks", "run", "report"}
        return {str(path): (results / path).read_bytes() for path in files if path.parts[0] not in beside}


@pytest.fixture(scope="session")
def cluster():
    """SLURM, started for these tests and stopped after them; if it does not start, they fail and say why."""
    folder = Path(tempfile.mkdtemp(prefix="scohort-slurm-"))
    folder.chmod(0o755)
    try:
        up = subprocess.run([HERE / "cluster.sh", "up", folder], capture_output=True, text=True, check=False)
        if up.returncode:
            pytest.fail((up.stderr.strip() or up.stdout.strip()).splitlines()[-1], pytrace=False)
        print(up.stdout)
        yield Cluster()
    finally:
        subprocess.run([HERE / "cluster.sh", "down", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def faults(cluster, tmp_path_factory):
    """A run of the jobs that go wrong, started beside the other tests: they sleep more than they compute."""
    run = Run.create(tmp_path_factory.mktemp("faults") / "scohort")
    shutil.copy(HERE / "faults.smk", run.folder / "workflow/faults.smk")
    shutil.copy(HERE / "faults.py", run.folder / "scripts/faults.py")
    (run.folder / "results").mkdir()
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/faults.smk"]
    with (run.folder / "printed.txt").open("w") as printed:
        process = subprocess.Popen(
            [*command, "--profile", "profiles/slurm", *SOON],
            cwd=run.folder,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        yield run, process
        if process.poll() is None:  # the tests that wait for its end were not asked for, or failed
            process.send_signal(signal.SIGINT)
            process.wait(120)


@pytest.fixture(scope="session")
def slurm_run(cluster, faults, tmp_path_factory):
    """The small demo on SLURM."""
    run = Run.create(tmp_path_factory.mktemp("slurm") / "scohort")
    run.on_slurm()
    return run


@pytest.fixture(scope="session")
def local_run(tmp_path_factory):
    """The same on this machine, without SLURM."""
    run = Run.create(tmp_path_factory.mktemp("local") / "scohort")
    run.snakemake("--profile", "profiles/local", *run.SMALL)
    return run
