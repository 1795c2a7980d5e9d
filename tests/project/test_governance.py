"""The table of commands is that of the Makefile, and each program says what it does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
COMMANDS = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
TARGETS = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, flags=re.M)
EXAMPLES = {
    "profiles/profiles.parquet",  # of results/, in docs/files.md
    "scripts/donors/sex_check.py",
    "tests/unit/donors/test_sex_check.py",
}  # of docs/develop/add_a_step.md: the reader makes them
ROWS = re.findall(r"^\| (`[^|]+`) \|", COMMANDS, flags=re.M)
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def test_every_target_has_a_row_and_every_row_a_target():
    named = [name for row in ROWS for name in re.findall(r"`([a-z-]+)`", row)]
    assert sorted(named) == sorted(set(TARGETS) - {"help"})


def test_every_target_says_what_it_does():
    silent = re.findall(r"^([a-z][a-z-]*):(?! *[A-Z]+ *[?:]?=)(?!.*## ).*$", MAKEFILE, flags=re.M)
    assert silent == []


@pytest.mark.parametrize(
    "program", ["ops/drift", "ops/summary", "gates/unit_tests", "gates/tour", "gates/confirm"]
)
def test_a_program_explains_itself(program):
    command = [sys.executable, ROOT / f"{program}.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) > 5


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_a_document_names_exist(path):
    named = re.findall(
        r"`((?:ops|gates|tests|workflow|rules|scripts|profiles|docs)/[\w./-]+)`",
        path.read_text(encoding="utf-8"),
    )
    assert [name for name in named if name not in EXAMPLES and not list(ROOT.glob(name))] == []
