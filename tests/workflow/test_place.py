"""The project runs wherever it lies."""

import subprocess

import pandas as pd

from checkout import ROOT, Checkout


def test_a_path_with_spaces_quotes_and_other_letters(tmp_path):
    """The environment lies in the project, as `make env` puts it: its path has them too."""
    checkout = Checkout.create(tmp_path / "it's my dätä" / "scohort")
    (checkout.folder / ".venv").symlink_to((ROOT / ".venv").resolve())
    python = checkout.folder / ".venv/bin/python"
    target = "results/filter/samples.tsv"
    done = subprocess.run(
        [
            python,
            "-m",
            "snakemake",
            "--profile",
            "profiles/local",
            "--",
            target,
        ],
        cwd=checkout.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert pd.read_csv(checkout.folder / target, sep="\t")["kept"].any()
