"""The cohort is made once, and never mistaken for another."""

import json

import pytest

import run

SETTINGS = {"cells": 300, "donors": 12, "genes": 1000, "shards": 2, "seed": 1}


def test_a_missing_cohort_is_made_and_a_present_one_kept(tmp_path):
    folder = tmp_path / "small"
    run.ensure_cohort(folder, **SETTINGS)
    made = (folder / "cohort.h5ad").stat().st_mtime_ns
    run.ensure_cohort(folder, **SETTINGS)
    assert (folder / "cohort.h5ad").stat().st_mtime_ns == made
    assert run.cohort_facts(folder)["cells"] == 300


def test_a_cohort_with_other_settings_is_refused(tmp_path):
    (tmp_path / "cohort.json").write_text(json.dumps(SETTINGS | {"donors": 40}))
    with pytest.raises(SystemExit, match="has a cohort with 40 donors, not 12; set --folder"):
        run.ensure_cohort(tmp_path, **SETTINGS)


def test_collecting_needs_a_run(tmp_path):
    with pytest.raises(SystemExit, match="run it first, without --collect"):
        run.finished(tmp_path)
