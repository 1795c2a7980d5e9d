"""Of a finished run: a summary that adds up, a bundle to read, and rules that make the same again alone."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import summary
import tour

ROOT = Path(__file__).parent.parent.parent


TABLE = """Using profile profiles/local for setting default command line arguments.
Building DAG of jobs...
output_file\tdate\trule\tlog-file(s)\tstatus\tplan
results/load/cells.parquet\tSat Nov 21 08:16:50 2026\tload\tload.log\tok\tno update
results/qc/01.parquet\tSat Nov 21 08:17:00 2026\tqc\tqc.log\tok\tno update
results/qc/00.parquet\tSat Nov 21 08:17:02 2026\tqc\tqc.log\tparams changed\tupdate pending
results/cells/cells.parquet\tSat Nov 21 08:17:14 2026\tcells\tcells.log\tok\tupdate pending
results/layout/umap.png\t-\tlayout\t-\tmissing\tupdate pending
"""


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_a_summary_counts_per_rule_and_says_what_is_pending():
    assert summary.printed(summary.by_rule(summary.read_summary(TABLE))).splitlines() == [
        "rule    outputs  current  newest               pending",
        "load    1        1        2026-11-21 08:16:50",
        "qc      2        1        2026-11-21 08:17:02  params changed: 1",
        "cells   1        0        2026-11-21 08:17:14  after others: 1",
        "layout  1        0        never                missing: 1",
        "4 rules, 5 outputs: 2 up to date, 3 pending",
    ]
    assert summary.read_summary("error: no such profile\n") == []


@pytest.fixture(scope="module")
def finished(tiny_run, tmp_path_factory):
    return tiny_run.clone(tmp_path_factory.mktemp("tour") / "scohort").folder


def state(folder):
    """Every file but the bundle and what Snakemake keeps, with times."""
    left_out = {"tour", ".snakemake", ".tests", "__pycache__"}
    paths = [path for path in folder.rglob("*") if not left_out & set(path.relative_to(folder).parts)]
    return {path: path.lstat().st_mtime_ns for path in paths if path.is_file()}


def test_a_tour_is_complete_true_and_changes_nothing(finished, tmp_path):
    before = state(finished)
    done = run(finished, "gates/tour.py")
    assert done.returncode == 0, done.stdout
    assert state(finished) == before
    bundle = finished / "tour"
    links = re.findall(r"^- \[(.*?)\]", (bundle / "index.md").read_text(), flags=re.M)
    assert links == list(tour.QUESTIONS)
    assert all((bundle / name).exists() for name in links)
    told = (bundle / "run/summary.txt").read_text().splitlines()[-1]
    outputs = int(re.fullmatch(r"\d+ rules, (\d+) outputs: \1 up to date, 0 pending", told)[1])
    assert outputs > 50
    assert not any(json.loads((bundle / "run/drift.json").read_text()).values())
    planned = {job["rule"] for job in json.loads((bundle / "plan.json").read_text())["jobs"]}
    listed = set((bundle / "rules.txt").read_text().split())
    assert {"load", "pseudobulk", "publish"} <= planned
    assert planned <= listed
    assert "pseudobulk" in (bundle / "rulegraph.mmd").read_text()
    assert "all as the contract says" in (bundle / "published/verify.txt").read_text()
    records = json.loads((bundle / "run/records.json").read_text())
    assert {record["status"] for record in records} == {"ok"}
    moved = Path(shutil.move(bundle, tmp_path / "bundle"))
    assert run(finished, "gates/tour.py", "--check", moved).returncode == 0
    (moved / "rules.txt").write_text("edited")
    assert run(finished, "gates/tour.py", "--check", moved).returncode == 1


def test_a_tour_that_fails_leaves_nothing_in_the_way(finished):
    done = run(finished, "gates/tour.py", "--configfile", "nowhere.yaml", "--out", "other")
    assert done.returncode != 0
    assert not (finished / "other").exists()
    assert not list(finished.glob(".tour-*"))


def test_what_is_no_bundle_is_not_checked(tmp_path):
    done = run(tmp_path, ROOT / "gates/tour.py", "--check", tmp_path)
    assert done.returncode == 1
    assert "is not a bundle: it has no bundle.json" in done.stdout


def test_a_folder_that_is_no_bundle_is_left_alone(tmp_path):
    (tmp_path / "tour").mkdir()
    (tmp_path / "tour/mine.txt").write_text("mine")
    done = run(tmp_path, ROOT / "gates/tour.py")
    assert done.returncode == 2
    assert "tour is not a bundle" in done.stdout
    assert (tmp_path / "tour/mine.txt").read_text() == "mine"


def test_rules_make_the_same_again_alone_in_an_empty_folder_on_one_core(finished):
    """Two beyond the checkpoint; `make unit-tests` runs all. What publish makes is digest of a release."""
    done = run(finished, "gates/unit_tests.py", "--rules", "publish", "composition")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "unit-tests: 2 rules; the same in content, not byte by byte: none" in done.stdout
    expected = finished / ".tests/unit/composition/expected/results/composition"
    assert {path.suffix for path in expected.rglob("*") if path.is_file()} >= {".tsv", ".png"}


def test_unit_tests_are_not_made_of_results_too_big_to_copy(finished):
    done = run(finished, "gates/unit_tests.py", "--max-mb", "0.1")
    assert done.returncode == 2
    assert "more than --max-mb 0.1; use the demo" in done.stdout
