"""The clean room is clean: only what is committed, another folder, no variable that could help."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MAKEFILE = """
env: ; @echo "environment: $$(env | cut -d= -f1 | tr '\\n' ' ')"; echo "path: $$PATH"
run: ; @cat step.py && mkdir -p results/publish && echo '{"release": "abc"}' > results/publish/release.json
verify: ; @test -s results/publish/release.json
confirm: ; python3 $(dir $(lastword $(MAKEFILE_LIST)))gates/confirm.py $(ARGS)
"""
HIDING = {
    **{"PYTHONPATH": "/somewhere", "SNAKEMAKE_PROFILE": "slurm", "SCOHORT_DATA": "/data", "GIT_DIR": "x"},
    **{
        "VIRTUAL_ENV": "/other/.venv",
        "CONFIG": "mine.yaml",
        "PATH": f"/other/.venv/bin:{os.environ['PATH']}",
    },
}
STAYING = {"PIP_INDEX_URL": "https://index", "UV_INDEX_URL": "https://index", "HTTPS_PROXY": "http://proxy"}


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path):
    """A committed project whose targets are small, with the real gates/confirm.py."""
    folder = tmp_path / "project"
    (folder / "gates").mkdir(parents=True)
    shutil.copy2(ROOT / "gates/confirm.py", folder / "gates")
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "step.py").write_text("")
    git(tmp_path, "init", "--quiet", "project")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "all")
    return folder


def confirm(folder, *options, program="gates/confirm.py", **environment):
    """Run it there as `make confirm` does."""
    temporary = folder.parent if (folder / "gates").exists() else folder.parent.parent
    environment = os.environ | {"TMPDIR": str(temporary)} | environment
    return subprocess.run(
        [sys.executable, program, *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_nothing_helps_from_outside_and_registries_stay(project):
    done = confirm(project, **HIDING, **STAYING)
    assert done.returncode == 0, done.stdout
    names = re.search(r"^environment: (.*)$", done.stdout, flags=re.M)[1].split()
    assert not set(HIDING) - {"PATH"} & set(names)
    assert set(STAYING) <= set(names)
    removed = re.search(r"removed from the environment: (.*)$", done.stdout, flags=re.M)[1].split(", ")
    assert set(removed) >= set(HIDING) - {"PATH"}
    assert "/other/.venv" not in re.search(r"^path: (.*)$", done.stdout, flags=re.M)[1]
    assert "release abc" in done.stdout
    assert not (project / "results").exists()
    assert not list(project.parent.glob("scohort-confirm-*"))


def test_it_runs_from_any_folder_of_the_project(project):
    below = project / "docs"
    below.mkdir()
    assert confirm(below, program="../gates/confirm.py").returncode == 0
    command = ["make", "-f", "../Makefile", "confirm", "ARGS=env verify run"]
    environment = os.environ | {"TMPDIR": str(project.parent)}
    done = subprocess.run(command, cwd=below, env=environment, capture_output=True, text=True, check=False)
    assert "make verify ended with status 2" in done.stderr  # in the order asked for: nothing is there yet


def test_what_was_not_committed_is_missed(project):
    git(project, "rm", "--quiet", "--cached", "step.py")
    git(project, "commit", "--quiet", "-m", "forget a file")
    done = confirm(project)
    assert done.returncode == 1
    assert "not committed, so not confirmed:\n?? step.py" in done.stdout
    assert "not confirmed: make run ended with status 2" in done.stdout
    (kept,) = project.parent.glob("scohort-confirm-*")
    assert not (kept / "scohort/step.py").exists()


def test_another_release_than_the_one_told_is_refused(project):
    assert confirm(project, "--release", "abc").returncode == 0
    done = confirm(project, "--release", "abd")
    assert done.returncode == 1
    assert "the release is abc, not abd" in done.stdout


def test_a_failing_target_fails_it(project):
    with open(project / "Makefile", "a") as file:
        file.write("\nbroken: ; exit 3\n")
    git(project, "commit", "--quiet", "--all", "-m", "break")
    assert confirm(project, "env", "broken").returncode == 1
