"""A copy of the project in a temporary folder, in which whole runs are made."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RELEASE = ("provenance", "warning_table", "report", "publish")
PARTS = ("workflow", "rules", "scripts", "config", "profiles", "local", "slurm")


class Checkout:
    """A copy of the project, and Snakemake run in it as a user would."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def create(cls, folder: Path) -> "Checkout":
        """Copy what the workflow consists of, links as links."""
        folder.mkdir(parents=True)
        for part in PARTS:
            source = ROOT / part
            if source.is_symlink():
                (folder / part).symlink_to(os.readlink(source))
            else:
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        return cls(folder)

    def clone(self, folder: Path) -> "Checkout":
        """Copy with results, times and provenance, as after moving the folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Checkout(folder)

    def snakemake(self, *arguments: str, check: bool = True) -> str:
        """Run Snakemake here and return what it printed; a failure fails the test unless check is False."""
        done = self.attempt(*arguments)
        if check and done.returncode:
            pytest.fail(f"snakemake {' '.join(arguments)}\n{done.stdout[-6000:]}")
        return done.stdout

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Snakemake here."""
        return self.python("-m", "snakemake", *arguments)

    def python(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run a program of this environment here, output and errors in one text."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def plan(self, *arguments: str) -> dict[str, int]:
        """Jobs per rule that Snakemake would run, without the target rules and the release of any change.

        The release follows every change; {} is a run without any job, also without these.
        """
        printed = self.snakemake("--profile", "profiles/local", "--dry-run", *arguments)
        if "Nothing to be done" in printed:
            return {}
        table = printed.split("Job stats:")[1].split("\n\n")[0].splitlines()[3:]
        counts = {row.split()[0]: int(row.split()[1]) for row in table if row.strip()}
        targets = ("total", "all", "cells_only", "embedding_only", "donors_only")
        planned = {rule: number for rule, number in counts.items() if rule not in targets}
        release = {rule: planned.pop(rule, 0) for rule in RELEASE}
        return planned if planned else {rule: number for rule, number in release.items() if number}
