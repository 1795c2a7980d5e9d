"""Every command of the review checklist is executed in a finished run, and turns red when it has to."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
REVIEW = (ROOT / "workflow/REVIEW.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", REVIEW, flags=re.M | re.S))
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", REVIEW, flags=re.S) for line in block.splitlines()
]


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def run(folder, command):
    path = f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def reviewed(tiny_run, tmp_path_factory):
    """A finished run in a repository, on a branch of its own, its release made after the last commit.

    The release before it, of the same numbers and another provenance, is kept as the page says.
    """
    checkout = tiny_run.clone(tmp_path_factory.mktemp("review") / "scohort")
    (command,) = re.findall(r"`(cp [^`]+)`", REVIEW)
    assert run(checkout.folder, command).returncode == 0
    (checkout.folder / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    program = [
        sys.executable,
        checkout.folder / "gates/describe_config.py",
    ]  # the tiny config has other values
    readme = subprocess.run(program, capture_output=True, check=True).stdout
    (checkout.folder / "config/README.md").write_bytes(readme)
    git(checkout.folder, "init", "-q", "-b", "main")
    git(checkout.folder, "add", "-A")
    git(checkout.folder, "commit", "-qm", "x")
    git(checkout.folder, "checkout", "-qb", "change")
    checkout.snakemake("--profile", "profiles/local")
    return checkout.folder


def test_the_checklist_covers_contract_declarations_policy_and_proofs():
    assert list(SECTIONS) == ["1. Contract", "2. Declared", "3. Policy", "4. Executed", "Escalate"]
    for name, text in SECTIONS.items():
        if name != "Escalate":
            assert "- [ ]" in text
            assert "```sh" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_passes_in_a_finished_run(reviewed, command):
    done = run(reviewed, command)
    assert done.returncode == 0, done.stdout[-3000:]


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


MUTANTS = {
    "make contract-guard BASE=main": ("workflow/schemas/publish.yaml", "keys: [published_at,", "keys: ["),
    "python gates/describe_contract.py | diff": ("workflow/CONTRACT.md", "# The contract", "# A contract"),
    "python gates/describe_config.py | diff": ("config/README.md", "#", "##"),
    "snakemake --lint": ("rules/cells.smk", '    log:\n        local("<logs>/qc/{shard}.log"),\n', ""),
    'test "$(grep -l': (
        "rules/cells.smk",
        '"<results>/qc/{shard}.parquet"',
        '"<results>/publish/{shard}.parquet"',
    ),
    "make profiles-audit": ("profiles/ci/config.yaml", "retries: 0", "config: [qc=1]\nretries: 0"),
    "! grep -rnE": ("profiles/ci/config.yaml", "retries: 0", "keep-incomplete: true\nretries: 0"),
    "snakemake --profile profiles/ci --dry-run": ("config/config.yaml", "max_pct_mt: 20", "max_pct_mt: 19"),
    'test -z "$(snakemake --profile profiles/ci --list-changes code)"': (
        "scripts/cells/qc.py",
        '"""',
        '"""Edited. ',
    ),
    'test -z "$(snakemake --profile profiles/ci --list-changes input)"': (
        "config/demo.yaml",
        "shards: 2",
        "shards: 3",
    ),
    "make verify ARGS": ("results/publish/release.json", '"release": "', '"release": "0'),
    "make compare": ("results/before/samples.tsv", "True", "False"),
    "make verify": ("results/publish/v1/samples.tsv", "True", "False"),
}


@pytest.mark.parametrize("start", MUTANTS)
def test_the_command_fails_where_it_should(reviewed, start):
    path, old, new = MUTANTS[start]
    command = next(command for command in COMMANDS if command.startswith(start))
    before = (reviewed / path).read_bytes()
    try:
        change(reviewed / path, old, new)
        done = run(reviewed, command)
    finally:
        (reviewed / path).write_bytes(before)
    assert done.returncode != 0, done.stdout[-3000:]
