"""A tiny demo for the tests of operations: a copy of the project with a small config, and a finished run."""

import os
import shutil
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from checkout import Checkout

ROOT = Path(__file__).parent.parent.parent
TINY = {
    "simulate": {"donors": 12, "cells_per_donor": 60, "genes": 500, "small_donors": 0, "age_genes": 10}
    | {"pathway_genes": 12},
    "filter": {"min_cells_per_sample": 5, "min_cells_per_type": 100, "min_cells_in_type": 2},
    "preprocess": {"min_cells_per_batch": 20, "n_top_genes": 100, "n_comps": 10},
    "cluster": {"resolution": [0.5]},
    "pseudobulk": {"min_cells": 3, "min_samples": 10},
    "gsea": {"permutation_num": 20, "min_size": 5},
    "ridge": {"alpha": [1], "folds": 2, "repeats": 1, "inner_folds": 2},
}
OPERATOR = ("Makefile", "requirements.lock", "pyproject.toml", ".python-version", "biome.jsonc")
OPERATOR += ("ops", "gates", "bench")


def tiny_copy(folder):
    """A copy of the project with the tiny demo's config, and what an operator runs."""
    copy = Checkout.create(folder)
    path = folder / "config/demo.yaml"
    config = yaml.safe_load(path.read_text())
    update_config(config, TINY)
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    for part in OPERATOR:
        if (ROOT / part).is_dir():
            left_out = shutil.ignore_patterns("__pycache__", "work")
            shutil.copytree(ROOT / part, folder / part, ignore=left_out, dirs_exist_ok=True)
        else:
            shutil.copy2(ROOT / part, folder / part)
            os.utime(folder / part, (0, 0))  # older than the environment, which `make` then leaves alone
    (folder / ".venv").symlink_to((ROOT / ".venv").resolve())
    return copy


@pytest.fixture(scope="session")
def new_tiny():
    """Makes a tiny copy without results in a folder."""
    return tiny_copy


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A finished run of the tiny demo; tests must not change it."""
    copy = tiny_copy(tmp_path_factory.mktemp("tiny") / "scohort")
    copy.snakemake("--profile", "profiles/local")
    return copy
