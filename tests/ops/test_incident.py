"""Each class of incident, seeded in a small workflow, is named by the bundle; asking changes nothing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import _locked
import incident

ROOT = Path(__file__).parent.parent.parent
FORBIDDEN = ("keep-incomplete", "drop-metadata")
SNAKEFILE = """
rule all:
    input: expand("results/step/{n}.txt", n=range(config["n"]))

rule step:
    output: one="results/step/{n}.txt"
    log: "results/logs/step/{n}.log"
    benchmark: "results/benchmarks/step/{n}.tsv"
    params: how=config["how"]
    resources: mem_mb=100, runtime=1, attempt=lambda wildcards, attempt: attempt
    script: "step.py"
"""
SCRIPT = """
import errno
from job import InputError, job

with job(snakemake) as out:
    if snakemake.params.how == "input":
        raise InputError("age: no such column; set load.covariates")
    if snakemake.params.how == "stale":
        raise OSError(errno.ESTALE, "Stale file handle")
    if snakemake.params.how == "unknown":
        raise BaseExceptionGroup("the same each time", [Exception("odd")])
    print("made", snakemake.wildcards.n)
    open(out.one, "w").write("made")
"""


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}


def snakemake(folder, *arguments, **config):
    content = {"n": 2, "how": "well"} | config
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "snakemake", "--profile", "profile", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def end_of_run(folder):
    """What rules/ending.smk does: gather the failures."""
    code = "from pathlib import Path; from job import gather_failures as end; end(Path('results'), '', '')"
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(), check=True)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile/config.yaml").write_text("cores: 2\nretries: 1\nconfigfile: [config.yaml]\n")
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "step.py").write_text(SCRIPT)
    return tmp_path


def bundle(folder, *options, **variables):
    """(note, folder of the bundle) of make incident."""
    command = [sys.executable, str(ROOT / "ops/incident.py"), "--profile", "profile", *options]
    told = {**environment(), **variables}
    done = subprocess.run(command, cwd=folder, env=told, capture_output=True, text=True, check=True)
    path = folder / re.search(r"incident bundle: (.*)/note\.md", done.stderr).group(1)
    return (path / "note.md").read_text(), path


def files(folder):
    """Everything but bundles and Snakemake's own logs and caches, with times."""
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and not {"incidents", ".snakemake"} & set(path.relative_to(folder).parts)
    }


def test_a_bundle_holds_all_evidence_and_changes_nothing(folder):
    assert snakemake(folder).returncode == 0
    before = files(folder)
    note, path = bundle(folder, TARGET="results/step/0.txt", SYMPTOM="it's <odd> $(touch owned)")
    assert files(folder) == before
    index = json.loads((path / "index.json").read_text())
    assert set(index) == set(incident.QUESTIONS) - {"logs"}
    assert "it's <odd> $(touch owned)" in note
    assert "target: results/step/0.txt" in note
    assert [line for line in note.splitlines() if line.startswith("## ")] == [
        "## 1. Symptom",
        "## 2. The same target, dry-run",
        "## 3. What changed",
        "## 4. Evidence",
        "## 5. Class",
        "## 6. Repair or escalate",
    ]
    assert "Nothing to be done" in (path / "dryrun.txt").read_text()
    assert "results/step/0.txt" in (path / "summary.txt").read_text()
    assert json.loads((path / "changes.json").read_text()) == {"code": [], "params": [], "input": []}


def test_an_edited_script_is_what_changed(folder):
    snakemake(folder)
    (folder / "step.py").write_text(SCRIPT + "\n# edited\n")
    note, path = bundle(folder)
    changed = json.loads((path / "changes.json").read_text())
    assert changed["code"] == ["results/step/0.txt", "results/step/1.txt"]
    assert "**semantics**: made with other code: 2 outputs" in note
    assert (path / "logs/step/0.log").read_text() == "made 0\n"


def test_changed_params_are_read_from_the_dry_run(folder):
    snakemake(folder)
    (folder / "config.yaml").write_text("n: 2\nhow: otherwise\n")
    note, path = bundle(folder)
    changed = json.loads((path / "changes.json").read_text())
    assert changed == {"code": [], "params": ["results/step/0.txt", "results/step/1.txt"], "input": []}
    assert "**semantics**: made with other params: 2 outputs" in note


def test_a_config_that_is_refused_changed_no_output(folder):
    snakemake(folder)
    (folder / "config.yaml").write_text("n: [\n")
    note, path = bundle(folder)
    assert json.loads((path / "changes.json").read_text()) == {"code": [], "params": [], "input": []}
    assert "made with other" not in note


def test_snakemake_cannot_list_changed_params(folder):
    """When this fails, Snakemake lists changed params rightly, and ops/incident.py may ask it."""
    snakemake(folder)
    assert "results/step/0.txt" in snakemake(folder, "--list-changes", "params").stdout


def test_discovery_grew(folder):
    snakemake(folder)
    (folder / "config.yaml").write_text("n: 9\nhow: well\n")
    note, _ = bundle(folder)
    assert "step 7" in note
    assert "**discovery grew**: step: 7 jobs planned, 2 have run before" in note


def test_a_deterministic_failure_is_named_once(folder):
    assert snakemake(folder, how="input", n=1).returncode != 0
    end_of_run(folder)
    note, _ = bundle(folder)
    assert "**semantics**: step failed with configuration: InputError: age: no such column" in note
    assert "masked failure" not in note


def test_a_retry_that_masks_a_failure_that_comes_again(folder):
    assert snakemake(folder, how="stale", n=1).returncode != 0
    end_of_run(folder)
    note, _ = bundle(folder)
    assert "**masked failure**: 1 failures came again with the same evidence" in note
    assert "**storage**: OSError: [Errno 116] Stale file handle" in note


def test_the_environment_drifted(monkeypatch):
    monkeypatch.setattr(_locked, "version", lambda name: "0.1" if name == "pandas" else real(name))
    facts = {
        "failures": [],
        "records": [],
        "planned": {},
        "changes": {},
        "cost": {},
        "drift": _locked.find_drifted(),
    }
    [(kind, evidence, step)] = incident.classify(facts)
    assert kind == "environment drift"
    assert evidence.startswith("pandas 0.1, locked 3.1")
    assert "make env" in step


real = _locked.version


def test_too_many_tiny_jobs():
    cost = {"dominant": "startup", "tiny": [{"rule": "step", "jobs": 900}], "advice": "fewer jobs"}
    facts = {"failures": [], "records": [], "planned": {}, "changes": {}, "cost": cost, "drift": {}}
    assert incident.classify(facts) == [
        ("too many tiny jobs", "900 jobs are shorter than their start-up", "fewer jobs")
    ]


def test_what_no_rule_knows_is_escalated():
    facts = {"failures": [], "records": [], "planned": {}, "changes": {}, "cost": {}, "drift": {}}
    [(kind, _, step)] = incident.classify(facts)
    assert (kind, step) == ("not classified", "escalate with this bundle")


def test_a_killed_job_is_a_failure_of_the_run(folder):
    snakemake(folder, n=1)
    path = folder / "results/benchmarks/step/0.perf.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"status": "running"}))
    end_of_run(folder)
    (failure,) = map(json.loads, (folder / "results/run/failures.jsonl").read_text().splitlines())
    assert (failure["category"], failure["kind"], failure["task_name"]) == ("executor", "killed", "step")
    note, _ = bundle(folder)
    assert "**operating context**: step: exit code -9 (SIGKILL)" in note


def test_no_profile_and_no_command_keeps_poison_or_drops_provenance():
    """Partial files that are trusted, and outputs whose origin is forgotten, come from two options."""
    places = [*ROOT.glob("profiles/**/*"), *ROOT.glob("rules/*"), *ROOT.glob("workflow/**/*")]
    places += [
        *ROOT.glob("ops/*.py"),
        *ROOT.glob("gates/*.py"),
        *ROOT.glob("bench/*.py"),
        *ROOT.glob(".ci/*"),
        *ROOT.glob("docs/*.md"),
    ]
    places += [ROOT / "Makefile", ROOT / "README.md"]
    found = [
        (path.name, line)
        for path in places
        if path.is_file() and path.suffix not in (".png", ".pyc")
        for line in path.read_text(encoding="utf-8").splitlines()
        for option in FORBIDDEN
        # the doctor and the documents name them in order to refuse them; a command or profile would set them
        if f"--{option}" in line or re.match(rf"\s*{option}\s*:", line)
    ]
    assert found == []


def test_a_failed_run_makes_its_own_bundle(new_tiny, tmp_path):
    copy = new_tiny(tmp_path / "scohort")
    (copy.folder / "overlay.yaml").write_text("load: {shards: 20}\n")
    done = copy.attempt("--profile", "profiles/local", "--configfile", "overlay.yaml")
    assert done.returncode != 0
    assert (
        "1 failure of category configuration:\n  load, attempt 1: InputError: load.shards: 20" in done.stdout
    )
    assert "incident: semantics: load failed with configuration" in done.stdout
    folder = copy.folder / re.search(r"incident bundle: (.*)/note\.md", done.stdout).group(1)
    assert "Not asked here" in (folder / "note.md").read_text()
    assert "set load.shards lower" in (folder / "logs/load.log").read_text()
    assert (folder / "snakemake.log").exists()
