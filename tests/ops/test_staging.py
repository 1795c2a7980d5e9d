"""What staging and slow file systems need before any job: a named scratch folder, patience for outputs."""

from pathlib import Path

import pytest

from checkout import Checkout

ROOT = Path(__file__).parent.parent.parent

LATE = """
rule late:
    output:
        "late.txt",
    shell:
        "(sleep 4; echo late > {output}) > /dev/null 2>&1 &"
"""


@pytest.fixture
def checkout(tmp_path):
    return Checkout.create(tmp_path / "scohort")


def test_a_variable_that_is_not_set_stops_the_run_before_any_job(checkout, monkeypatch):
    monkeypatch.delenv("SCRATCH", raising=False)
    done = checkout.attempt(
        "--profile", "profiles/slurm", "--workflow-profile", "profiles/staging", "--dry-run"
    )
    assert done.returncode != 0
    assert (
        "remote-job-local-storage-prefix: $SCRATCH in $SCRATCH/scohort/$SLURM_JOB_ID is not set"
        in done.stdout
    )
    assert "Traceback" not in done.stdout
    assert not (checkout.folder / "$SCRATCH").exists()


def test_a_folder_for_copies_below_a_file_is_refused(checkout, tmp_path):
    (tmp_path / "file").write_text("")
    staging = checkout.folder / "profiles/staging/config.yaml"
    staging.write_text(staging.read_text().replace(".snakemake/scratch", str(tmp_path / "file/scratch")))
    done = checkout.attempt(
        "--profile", "profiles/local", "--workflow-profile", "profiles/staging", "--dry-run"
    )
    assert done.returncode != 0
    assert f"Failed to create local storage prefix {tmp_path}/file/scratch" in done.stdout


@pytest.mark.parametrize(("patience", "succeeds"), [("20", True), ("0", False)])
def test_a_late_output_is_waited_for_as_long_as_the_profile_says(checkout, patience, succeeds):
    """A process that the job leaves behind writes it: after the end of the job, as NFS may show it."""
    (checkout.folder / "late.smk").write_text(LATE)
    command = ("--snakefile", "late.smk", "--profile", "profiles/local", "--latency-wait", patience)
    done = checkout.attempt(*command, "--retries", "0")
    assert (done.returncode == 0) == succeeds, done.stdout
    assert ("MissingOutputException" in done.stdout) != succeeds
