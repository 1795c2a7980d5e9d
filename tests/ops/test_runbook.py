"""Every command of the runbook is executed in a finished run, and answers its questions."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RUNBOOK = (ROOT / "workflow/RUNBOOK.md").read_text()
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", RUNBOOK, flags=re.S) for line in block.splitlines()
]
TOLD = {  # what a command must say, besides ending well
    "snakemake --profile profiles/local --dry-run": "Nothing to be done",
    "make cost": "dominant: ",
    "make doctor": "ok      environment",
    "cat results/logs/load.log": "result: ",
    "python -m json.tool results/benchmarks/load.perf.json": '"status": "ok"',
    "snakemake --profile profiles/local --summary": "results/load/cohort.json",
    "make incident": "incident bundle: incidents/",
}


@pytest.fixture(scope="module")
def finished(tiny_run, tmp_path_factory):
    return tiny_run.clone(tmp_path_factory.mktemp("runbook") / "scohort").folder


def test_the_runbook_covers_what_it_must():
    headings = re.findall(r"^## \d\. (.*)$", RUNBOOK, flags=re.M)
    assert headings == [
        "What would run now, and why",
        "What changed",
        "Where logs, benchmarks and failures are",
        "Are the published files complete",
        "Find the class",
        "Allowed and forbidden changes",
        "Repair",
        "Escalate",
    ]
    assert len(COMMANDS) >= 15
    assert all(any(command.startswith(told) for command in COMMANDS) for told in TOLD)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_works_and_changes_no_result(finished, command):
    before = answers(finished)
    path = f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=finished,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    for start, said in TOLD.items():
        if command == start or (start.startswith("make") and command.startswith(start)):
            assert said in done.stdout
    assert answers(finished) == before


def answers(folder):
    """Files of the results but those of the run as a whole, with their times."""
    return {
        path: path.stat().st_mtime_ns
        for path in (folder / "results").rglob("*")
        if path.is_file() and "run" not in path.relative_to(folder / "results").parts
    }
