"""Profiles are policy: complete, explained, and without influence on what is planned."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import profiles

ROOT = Path(__file__).parent.parent.parent


def run(*arguments, **environment):
    """Run gates/profiles.py as an operator would."""
    return subprocess.run(
        [sys.executable, "gates/profiles.py", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def settings(name):
    return yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    """The audit where there is no SLURM: nothing on the path but what starts Snakemake."""
    folder = tmp_path_factory.mktemp("bin")
    for program in ("bash", "sh", "which"):
        (folder / program).symlink_to(shutil.which(program))
    done = run("audit", PATH=str(folder))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_all_profiles_plan_the_same_jobs(audit):
    plans = audit["plans"]
    assert set(plans) == {"local", "slurm", "ci", "staging"}
    assert len({plan["digest"] for plan in plans.values()}) == 1
    assert audit["problems"] == []


def test_the_plan_compares_every_rule_but_those_that_are_not_asked_for(audit):
    assert audit["plans"]["local"]["rules_not_planned"] == ["cells_only", "donors_only", "embedding_only"]
    assert audit["plans"]["local"]["jobs"] >= 20


def test_shared_differing_and_single_keys_are_told_apart(audit):
    assert set(audit["shared"]) >= {"rerun-incomplete", "show-failed-logs", "printshellcmds"}
    assert audit["differing"]["retries"] == {"local": 1, "slurm": 2, "ci": 0}
    assert audit["single"]["slurm"]["executor"] == "slurm"
    assert audit["single"]["slurm"]["default-resources"] == settings("slurm")["default-resources"]
    assert set(audit["single"]["local"]) == set(audit["single"]["ci"]) == {"cores"}


def test_a_setting_of_the_analysis_in_a_profile_is_found_twice(tmp_path):
    """Once by its key, and once, which no list of keys could miss, by the jobs that it changes."""
    folder = tmp_path / "profiles"
    shutil.copytree(ROOT / "profiles", folder)
    leaky = folder / "ci/config.yaml"
    leaky.write_text(leaky.read_text() + "config: {random_state: 7} # planted\n")
    done = run("audit", "--profiles", folder)
    assert done.returncode == 1
    key, plan = json.loads(done.stdout)["problems"]
    assert key.startswith("ci: config is not a policy")
    assert plan.startswith("ci: plans other jobs than local")
    assert plan in done.stderr


@pytest.mark.parametrize(
    ("name", "change", "line", "problem"),
    [
        ("slurm", {"configfile": "config/kang.yaml"}, "", "slurm: configfile is not a policy"),
        ("local", {"until": ["load"]}, "", "local: until is not a policy"),
        ("ci", {"keep-incomplete": True}, "", "ci: keep-incomplete is not a policy"),
        ("slurm", {"default-resources": {"min_cells": 3}}, "", "slurm: default-resources.min_cells is not"),
        ("slurm", {"retries": None}, "", "slurm: retries is missing"),
        ("staging", {"directory": "elsewhere"}, "", "staging: directory is not a policy"),
        ("ci", {}, "retries: 0", "ci: line 1 is not explained"),
    ],
)
def test_a_profile_at_fault_is_named(name, change, line, problem):
    changed = {key: value for key, value in (settings(name) | change).items() if value is not None}
    (found,) = profiles.check_profile(name, changed, line)
    assert found.startswith(problem)


def test_a_job_less_or_another_digest_is_a_difference():
    job = {"rule": "qc", "wildcards": {"shard": "00"}, "params": "a"}
    plans = {"local": {"jobs": [job]}, "ci": {"jobs": [job | {"params": "b"}]}, "slurm": {"jobs": []}}
    less, more = profiles.differences(plans)
    assert less == "ci: plans other jobs than local: 2 differ, such as qc 00"
    assert more == "slurm: plans other jobs than local: 1 differ, such as qc 00"
    assert list(profiles.differences({"local": plans["local"], "ci": plans["local"]})) == []


def test_a_profile_that_is_not_there_stops_the_run():
    done = run("plan", "profiles/nowhere")
    assert done.returncode != 0
    assert "nowhere" in done.stderr + done.stdout


def test_slurm_is_given_limits_a_log_folder_with_an_end_and_no_retries_of_its_own():
    slurm = settings("slurm")
    assert slurm["executor"] == "slurm"
    assert slurm["jobs"] <= 200
    assert slurm["max-jobs-per-timespan"]
    assert slurm["slurm-no-requeue"]
    assert slurm["slurm-delete-logfiles-older-than"] > 0
    assert slurm["slurm-status-command"] == "squeue"  # sacct's "CANCELLED by" would hang the run
    assert slurm["default-resources"]["mem_mb"] >= 400
    assert not [rules for rules in (ROOT / "rules").glob("*.smk") if "retries:" in rules.read_text()]


def test_every_request_leaves_room_beside_the_two_snakemakes_of_a_slurm_job():
    """They take 380 MB of what the job was given (docs/operations.md) before the step begins."""
    models = yaml.safe_load((ROOT / "workflow/resources.yaml").read_text())
    assert [step for step, model in models.items() if model["mem_mb"] < 500] == []


def test_staging_shares_neither_inputs_nor_local_copies():
    staging = settings("staging")
    assert staging["default-storage-provider"] == "fs"
    assert staging["local-storage-prefix"] != staging["remote-job-local-storage-prefix"]
    assert not {"input-output", "storage-local-copies"} & set(staging["shared-fs-usage"])


def test_every_documented_run_names_its_profile():
    """A flag that lasts belongs into a profile, so nobody is shown a bare run."""
    for name in ("README.md", "Makefile", "docs/operations.md", "config/README.md"):
        for line in (ROOT / name).read_text().splitlines():
            if line.strip().startswith(("snakemake ", "$(BIN)/snakemake ")) and "--lint" not in line:
                assert "--profile profiles/" in line, f"{name}: {line}"


@pytest.mark.parametrize("record", ["log", "benchmark"])
def test_logs_and_records_are_never_staged(record):
    """A job that is killed could not bring them back."""
    for path in (ROOT / "rules").glob("*.smk"):
        text = path.read_text()
        assert text.count(f"    {record}:\n") == text.count(f"    {record}:\n        local("), path


def test_no_rule_or_script_names_the_scratch_folder():
    """Scratch is never a contract."""
    for path in [*(ROOT / "rules").glob("*.smk"), *(ROOT / "scripts").glob("*.py")]:
        assert ".snakemake/scratch" not in path.read_text(), path
