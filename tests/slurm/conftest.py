"""A real SLURM for the tests of this folder, and runs of the workflow on it."""

import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("whole_runs", HERE.parent / "workflow/conftest.py")
whole_runs = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(whole_runs)
SMALL = ("--configfile", "config/small.yaml")
# the profile asks every 20 s; here jobs take seconds
SOON = ("--slurm-init-seconds-before-status-checks", "5")
SACCT = "JobID,Comment,State,ReqMem,TimelimitRaw,ReqCPUS,NodeList,ElapsedRaw,WorkDir,MaxRSS"


class Cluster:
    """A SLURM that runs; asks sacct what became of jobs."""

    def jobs(self, folder: Path) -> pd.DataFrame:
        """One row per job submitted from a folder, as accounting knows it; steps are joined in column steps."""
        asked = ["sacct", "--parsable2", "--allusers", "--units=M", "--starttime=today", f"--format={SACCT}"]
        text = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        rows = pd.read_csv(io.StringIO(text), sep="|", dtype=str, keep_default_na=False)
        step = rows["JobID"].str.contains(".", regex=False)
        steps = rows[step].assign(of=rows.loc[step, "JobID"].str.split(".").str[0])
        told = steps["JobID"].str.split(".").str[1] + " " + steps["State"]
        jobs = rows[~step & (rows["WorkDir"] == str(folder))].copy()
        jobs["steps"] = [", ".join(told[steps["of"] == job]) for job in jobs["JobID"]]
        jobs["mem_mb"] = jobs["ReqMem"].str.rstrip("M").astype(float)
        jobs["minutes"] = jobs["TimelimitRaw"].astype(int)
        jobs["cpus"] = jobs["ReqCPUS"].astype(int)
        jobs["seconds"] = jobs["ElapsedRaw"].astype(int)
        return jobs.set_index("JobID")

    def attempts(self, folder: Path, rule: str) -> pd.DataFrame:
        """The jobs of one rule of a run, in the order of their submission."""
        jobs = self.jobs(folder)
        mine = jobs[jobs["Comment"].str.match(f"rule_{rule}(_|$)")]
        return mine.loc[sorted(mine.index, key=int)]


def checkout(folder: Path) -> whole_runs.Checkout:
    """A copy of the project with the small demo."""
    run = whole_runs.Checkout.create(folder)
    shutil.copy(HERE / "small.yaml", run.folder / "config/small.yaml")
    return run


def submitted(printed: str) -> pd.DataFrame:
    """What Snakemake says that it submitted: rule, wildcards, threads and resources by SLURM's job id."""
    blocks = re.split(r"\n(?=(?:rule|checkpoint) \w+:\n)", printed)
    facts, rows = {}, {}
    for block in blocks[1:]:
        told = dict(re.findall(r"^    (\w+): (.*)$", block, flags=re.MULTILINE))
        resources = dict(pair.split("=", 1) for pair in told["resources"].split(", "))
        facts[told["jobid"]] = {
            "rule": block.split()[1].rstrip(":"),
            "wildcards": told.get("wildcards", ""),
            "threads": int(told.get("threads", 1)),
            "mem_mb": int(resources["mem_mb"]),
            "runtime": int(resources["runtime"]),
        }
        for jobid, slurm in re.findall(r"Job (\d+) has been submitted with SLURM jobid (\d+)", block):
            rows[slurm] = facts[jobid]
    return pd.DataFrame.from_dict(rows, orient="index")


def records(results: Path) -> pd.DataFrame:
    """The performance records of a run."""
    return pd.DataFrame(json.loads(path.read_text()) for path in (results / "benchmarks").rglob("*.perf.json"))


@pytest.fixture(scope="session")
def cluster():
    """SLURM, started for these tests and stopped after them; a failure to start fails them with its reason."""
    folder = Path(tempfile.mkdtemp(prefix="scohort-slurm-"))
    folder.chmod(0o755)
    try:
        up = subprocess.run([HERE / "cluster.sh", "up", folder], capture_output=True, text=True, check=False)
        if up.returncode:
            pytest.fail((up.stderr.strip() or up.stdout.strip()).splitlines()[-1], pytrace=False)
        sys.stdout.write(up.stdout)
        os.environ.pop("SLURM_CONF", None)
        yield Cluster()
    finally:
        subprocess.run([HERE / "cluster.sh", "down", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def faults(cluster, tmp_path_factory):
    """A run of the jobs that go wrong, started beside the other tests: they sleep more than they compute."""
    run = checkout(tmp_path_factory.mktemp("faults") / "scohort")
    shutil.copy(HERE / "faults.smk", run.folder / "workflow/faults.smk")
    shutil.copy(HERE / "faults.py", run.folder / "scripts/faults.py")
    (run.folder / "results").mkdir()
    log = (run.folder / "printed.txt").open("w")
    arguments = ["--snakefile", "workflow/faults.smk", "--profile", "profiles/slurm", *SOON]
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *arguments], cwd=run.folder, stdout=log, stderr=subprocess.STDOUT
    )
    yield run, process
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="session")
def slurm_run(cluster, faults, tmp_path_factory):
    """The small demo on SLURM: the checkout and what Snakemake printed."""
    run = checkout(tmp_path_factory.mktemp("slurm") / "scohort")
    return run, run.snakemake("--profile", "profiles/slurm", *SOON, *SMALL)


@pytest.fixture(scope="session")
def local_run(tmp_path_factory):
    """The same on this machine, without SLURM."""
    run = checkout(tmp_path_factory.mktemp("local") / "scohort")
    run.snakemake("--profile", "profiles/local", *SMALL)
    return run


def answers(results: Path) -> dict[str, bytes]:
    """Every file of a run that answers something, by its path: no logs, records of cost or of failures."""
    beside = {"logs", "benchmarks", "run"}
    files = [path.relative_to(results) for path in results.rglob("*") if path.is_file()]
    return {str(path): (results / path).read_bytes() for path in files if path.parts[0] not in beside}
