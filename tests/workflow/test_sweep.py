"""A sweep runs what each variant changes and nothing else, leaves the run alone, and compares the answers."""

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
SMALL = {
    "simulate": {"donors": 14, "cells_per_donor": 90, "genes": 600, "small_donors": 0},
    "load": {"shards": 1},
    "filter": {"min_cells_per_type": 200},
    "pseudobulk": {"min_samples": 10},
    "preprocess": {"batch": "none", "n_top_genes": 150, "n_comps": 10},
    "cluster": {"resolution": [0.5]},
    "ridge": {"target": None},
    "gsea": {"min_size": 5, "permutation_num": 200},
}
FINER = {"name": "finer", "set": {"cluster": {"n_iterations": 1}}}
MORE_COUNTS = {"name": "more_counts", "set": {"differential": {"min_count": 20}}}


def sweep(checkout, *variants, configs=(SMALL,)):
    """Run ops/sweep.py there as `make sweep` does; returns the finished process."""
    shutil.copytree(ROOT / "ops", checkout.folder / "ops", dirs_exist_ok=True)
    files = []
    for number, content in enumerate([*configs, {"sweep": list(variants)}]):
        files.append(f"overlay{number}.yaml")
        (checkout.folder / files[-1]).write_text(yaml.safe_dump(content))
    return checkout.python("ops/sweep.py", "--configfile", *files)


def contents(folder, *without):
    """sha256 of every file below a folder but those of some subfolders."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path: str(path.relative_to(folder)) for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path, name in names.items()
        if name.split("/")[0] not in without
    }


def steps(folder):
    """Rules that have run into a results folder."""
    records = (folder / "benchmarks").rglob("*.perf.json")
    return {json.loads(path.read_text())["task_name"] for path in records}


@pytest.fixture(scope="module")
def swept(tmp_path_factory, new_checkout):
    """A small run, and a sweep beside it; `before` is what the run consisted of before the sweep."""
    checkout = new_checkout(tmp_path_factory.mktemp("sweep") / "scohort")
    (checkout.folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    checkout.snakemake("--profile", "profiles/ci", "--configfile", "small.yaml")
    checkout.before = contents(checkout.folder / "results", "run")
    done = sweep(checkout, FINER, MORE_COUNTS)
    assert done.returncode == 0, done.stdout[-6000:]
    checkout.printed = done.stdout
    return checkout


def test_only_what_a_variant_changes_and_what_follows_has_run(swept):
    variants = swept.folder / "results/sweep"
    assert steps(variants / "finer") == {"cluster", "markers"}
    assert steps(variants / "more_counts") == {"differential", "synthesis", "gsea", "overrepresentation"}
    assert "sweep: more_counts: reuses" in swept.printed


@pytest.mark.parametrize("name", ["finer", "more_counts"])
def test_the_rest_is_the_files_of_the_run_themselves(swept, name):
    results = swept.folder / "results"
    folder = results / "sweep" / name
    reused = json.loads((folder / "reused.json").read_text())["files"]
    assert {"load/shards/00.h5ad", "cells/cells.parquet", "pseudobulk/sums.h5ad"} <= reused.keys()
    for file in reused:
        assert (folder / file).samefile(results / file)
    own = (
        contents(folder, "logs", "benchmarks", "run").keys() - reused.keys() - {"config.yaml", "reused.json"}
    )
    assert own
    for file in own:
        assert not (folder / file).samefile(results / file)
        step = file.removeprefix("warnings/").split("/")[0].removesuffix(".tsv")
        assert step in steps(folder)


def test_the_run_is_left_as_it_was(swept):
    after = contents(swept.folder / "results", "run", "sweep")
    new = after.keys() - swept.before.keys()
    assert {name.split("/")[1].split(".")[0] for name in new} == {"stability"}  # its log and benchmark
    assert {name: after[name] for name in swept.before} == swept.before


def test_a_variant_equals_its_run_from_scratch(swept, checkout):
    (checkout.folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    (checkout.folder / "variant.yaml").write_text(yaml.safe_dump(MORE_COUNTS["set"]))
    overlays = ("--configfile", "small.yaml", "variant.yaml")
    checkout.snakemake("--profile", "profiles/ci", *overlays, "--", "donors_only")
    aside = ("logs", "benchmarks", "run")
    expected = contents(checkout.folder / "results", *aside)
    found = contents(swept.folder / "results/sweep/more_counts", *aside)
    assert {"differential", "synthesis", "gsea", "overrepresentation"} <= {
        name.split("/")[0] for name in expected
    }
    assert {name: found[name] for name in expected} == expected


def test_the_table_says_what_changed_and_what_did_not(swept):
    table = pd.read_csv(swept.folder / "results/sweep/stability.tsv", sep="\t", keep_default_na=False)
    assert set(table["variant"]) == {"finer", "more_counts"}
    assert set(table["changes"]) == {"cluster.n_iterations: 1", "differential.min_count: 20"}
    answered = table[table["reason"] == ""].astype({"value": float})
    mean = answered.groupby(["variant", "measure"])["value"].mean()
    of_genes = ["spearman", "overlap_50", "overlap_100"]
    assert mean["finer"][of_genes].tolist() == pytest.approx([1, 1, 1])
    assert 0 < mean["finer"]["ari"] <= 1
    assert mean["more_counts"]["ari"] == mean["more_counts"]["kept"] == mean["finer"]["kept"] == 1
    assert mean["more_counts"]["spearman"] < 1
    genes = answered[(answered["variant"] == "more_counts") & (answered["measure"] == "spearman")]
    assert (genes["other"].astype(int) < genes["base"].astype(int)).all()  # min_count drops genes


def test_another_sweep_makes_a_changed_variant_again_and_leaves_the_other(swept, tmp_path):
    again = swept.clone(tmp_path / "scohort")  # copies instead of links, which are as good
    variants = again.folder / "results/sweep"
    changed = {"name": "finer", "set": {"markers": {"n_genes": 20}}}
    before = {path: path.stat().st_mtime_ns for path in (variants / "more_counts").rglob("*")}
    done = sweep(again, changed, MORE_COUNTS)
    assert done.returncode == 0, done.stdout[-6000:]
    assert steps(variants / "finer") == {"markers"}
    clusters = "cluster/resolution_0.5.parquet"
    assert (variants / "finer" / clusters).samefile(again.folder / "results" / clusters)
    after = {path: path.stat().st_mtime_ns for path in (variants / "more_counts").rglob("*")}
    changed = {str(path.relative_to(variants)) for path in after if after[path] != before.get(path)}
    assert {path for path in changed if "/run" not in path} == set()


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([], "error: sweep: no variant"),
        ([{"name": "by_pool", "set": {"doublets": {"by": "pool"}}}], "set load.shard_by: pool"),
    ],
)
def test_every_variant_is_checked_before_any_job(checkout, variants, message):
    done = sweep(checkout, *variants)
    assert done.returncode != 0
    assert message in done.stdout
    assert "Traceback" not in done.stdout
    assert not (checkout.folder / "results").exists()


def test_a_config_that_is_not_there_is_named_in_a_line(checkout):
    shutil.copytree(ROOT / "ops", checkout.folder / "ops", dirs_exist_ok=True)
    done = checkout.python("ops/sweep.py", "--configfile", "nowhere.yaml")
    assert done.returncode == 1
    message = "nowhere.yaml: No such file or directory; correct --configfile or --profile"
    assert done.stdout == f"error: {message}\n"
