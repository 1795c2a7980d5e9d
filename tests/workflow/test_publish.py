"""The release of the demo: whole, true, readable by others, the same again; no change goes untold."""

import hashlib
import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml

from workflow.defaults import complete_config

ROOT = Path(__file__).parent.parent.parent
CONTRACT = yaml.safe_load((ROOT / "workflow/schemas/publish.yaml").read_text())
PUBLISH = {"provenance": 1, "report": 1, "publish": 1}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def overlay(checkout, content):
    (checkout.folder / "overlay.yaml").write_text(yaml.safe_dump(content))
    return "--configfile", "overlay.yaml"


def verified(folder, *arguments):
    """What scripts/publish/verify.py says about a release that has to be whole."""
    command = [sys.executable, ROOT / "scripts/publish/verify.py", folder, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def release(demo_run):
    return demo_run.folder / "results/publish/v1"


@pytest.fixture(scope="module")
def manifest(release):
    return json.loads((release / "manifest.json").read_text())


def test_the_release_is_whole_also_as_a_copy_elsewhere(release, tmp_path, manifest):
    assert f"release {manifest['release']}, " in verified(release)
    assert "all as the contract says" in verified(shutil.copytree(release, tmp_path / "bundle"))


def test_the_release_has_every_kind_of_file_of_the_contract(release, manifest):
    """The demo has contrasts, gene sets and a target, so nothing is conditional here."""
    assert {entry["schema"] for entry in manifest["files"]} == set(CONTRACT["files"])
    on_disk = {str(path.relative_to(release)) for path in release.rglob("*") if path.is_file()}
    assert on_disk == {entry["path"] for entry in manifest["files"]} | {"manifest.json"}
    assert manifest["contract"] == release.name


def test_scanpy_opens_the_cohort_and_finds_what_it_needs(release, demo_run, tmp_path):
    """In a process of its own, where a warning is an error but for those of the libraries."""
    code = (
        "import warnings, sys; import scanpy as sc; warnings.simplefilter('error')\n"
        "warnings.filterwarnings('ignore', message='.*infer_string.*')\n"
        "cohort = sc.read_h5ad(sys.argv[1])\n"
        "sc.pp.normalize_total(cohort); sc.pp.log1p(cohort)\n"
        "frame = sc.get.obs_df(cohort, ['cell_type', 'leiden_0.5', 'age', cohort.var_names[0]])\n"
        "print(len(frame), cohort.obsm[cohort.uns['default_embedding']].shape[1])\n"
    )
    command = [sys.executable, "-c", code, release / "cohort.h5ad"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cells = pd.read_parquet(release / "cells.parquet")
    assert done.stdout == f"{cells['kept'].sum()} 2\n"


def test_the_cohort_has_the_counts_of_the_input(release, demo_run):
    given = ad.read_h5ad(demo_run.folder / "results/simulate/cohort.h5ad")
    cohort = ad.read_h5ad(release / "cohort.h5ad")
    kept = given[cohort.obs_names, cohort.var_names]
    assert (kept.X != cohort.X).nnz == 0
    assert list(cohort.obs["donor_id"]) == list(kept.obs["donor_id"].astype(str))
    assert list(cohort.obs["cell_type"]) == list(kept.obs["cell_type"])
    np.testing.assert_array_equal(cohort.obs["age"], kept.obs["age"])
    assert list(cohort.var["feature_name"]) == list(kept.var["feature_name"])


def test_provenance_says_what_the_run_is_made_of(release, demo_run):
    told = json.loads((release / "provenance.json").read_text())
    config = complete_config(demo_run.folder, [])
    unpublished = {"pathvars", "retries", "sweep", "stability"}
    assert told["config"].keys() == config.keys() - unpublished
    assert told["config"]["qc"] == config["qc"]
    assert told["random_state"] == config["random_state"]
    assert told["workflow_version"] == (ROOT / "workflow/VERSION").read_text().strip()
    assert told["packages"]["scanpy"] == metadata.version("scanpy")
    assert (told["commit"], told["dirty"]) == (None, None)  # a copy that is no repository
    cohort = demo_run.folder / "results/simulate/cohort.h5ad"
    expected = {"name": "cohort.h5ad", "bytes": cohort.stat().st_size, "sha256": sha256(cohort)}
    assert told["inputs"]["cohort"] == [expected]
    run = json.loads((release / "run.json").read_text())
    assert (run["profile"], run["executor"]) == ("profiles/local", "local")


def test_no_path_of_this_machine_is_published(release, demo_run):
    for path in [path for path in release.rglob("*") if path.suffix in (".json", ".tsv", ".html")]:
        assert str(demo_run.folder) not in path.read_text()


def test_publishing_again_gives_the_same_release(demo, manifest):
    """Every byte of it, also in another folder, with another number of cores and another profile."""
    before = {path: path.stat().st_mtime_ns for path in (demo.folder / "results/publish").rglob("*")}
    del before[demo.folder / "results/publish/release.json"]
    demo.snakemake(
        "--profile", "profiles/ci", "--cores", "1", "--forcerun", "provenance", "publish", "--", "all"
    )
    release = json.loads((demo.folder / "results/publish/release.json").read_text())["release"]
    assert release == manifest["release"]
    folders = {demo.folder / "results/publish", demo.folder / "results/publish/releases"}
    files = {path: time for path, time in before.items() if path not in folders and not path.is_symlink()}
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert demo.plan() == {}


def test_what_changes_no_published_file_publishes_nothing(demo):
    for content in (
        {"retries": {"max_total": 3}},
        {"stability": {"top": [20]}},
        {"sweep": [{"name": "x", "set": {"qc": {"nmads": 3}}}]},
    ):
        assert demo.plan(*overlay(demo, content)) == {}
    assert demo.plan(*overlay(demo, {"publish": {"keep": 5}})) == {"publish": 1}
    assert demo.plan(*overlay(demo, {"publish": {"counts": False}})) == PUBLISH


def test_provenance_cannot_be_stale(demo):
    """A commit, an edit that is not committed and a comment in a step: each makes another release."""

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(["git", *who, *arguments], cwd=demo.folder, check=True, capture_output=True)
        return done.stdout.decode().strip()

    def told():
        return json.loads((demo.folder / "results/publish/v1/provenance.json").read_text())

    place = demo.folder / "results/publish"
    first = (place / "v1").resolve().name
    (demo.folder / ".gitignore").write_text("results\n.snakemake\n__pycache__\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "x")
    assert demo.plan() == PUBLISH
    demo.snakemake("--profile", "profiles/local")
    assert (told()["commit"], told()["dirty"]) == (git("rev-parse", "HEAD"), False)
    assert demo.plan() == {}
    second = (place / "v1").resolve().name
    assert second != first
    schema = demo.folder / "workflow/schemas/config.yaml"
    schema.write_text(schema.read_text() + "# edited\n")  # of a file that reruns no other step
    assert demo.plan() == PUBLISH
    command = [sys.executable, ROOT / "ops/rollback.py", place]
    subprocess.run(command, check=True)
    assert (place / "v1").resolve().name == first
    verified(place / "v1", "--release", first)
