"""Another workflow uses this one as a module, for two cohorts in one run, as docs/module.md shows it."""

import re
import subprocess
import sys
from pathlib import Path

import anndata as ad
import pandas as pd
import pytest
import yaml
from snakemake.utils import update_config

from checkout import Checkout
from cohort import simulate
from workflow.defaults import DEMO, complete_config

# anndata 0.13 asks pandas for an option that pandas 4 will drop
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")

ROOT = Path(__file__).parent.parent.parent
CONFIG = complete_config(ROOT, [])
SIZE = {"donors": 12, "cells_per_donor": 60, "genes": 500, "small_donors": 0, "age_genes": 10}
SMALL = {
    "gene_sets": [],
    "differential": {"cell_types_per_job": 1},
    "filter": {"min_cells_per_sample": 5, "min_cells_per_type": 150, "min_cells_in_type": 2},
    "doublets": {"n_prin_comps": 10},
    "pseudobulk": {"min_cells": 3, "min_samples": 10},
}
AGE = CONFIG["contrasts"][0]
COHORTS = {
    "young": {"cohort": {"path": "data/young.h5ad"}, "load": {"shards": 1}, "contrasts": [AGE]},
    "old": {
        "cohort": {"path": "data/old.h5ad"},
        "load": {"shards": 2},
        "filter": SMALL["filter"] | {"min_cells_per_type": 60},
        "pseudobulk": {"min_cells": 2, "min_samples": 8},
        "contrasts": [AGE | {"name": "years", "unit": 1}],
    },
}
ANSWERS = ["results/young/synthesis/age/genes.tsv", "results/old/synthesis/years/genes.tsv"]
MADE = [ANSWERS[0], "results/old/pseudobulk/cell_types.tsv"]  # the other cohort to the checkpoint only


def documented_snakefile():
    """The Snakefile of the documentation, with the test's answers."""
    (text,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/module.md").read_text(), flags=re.S)
    assert 'SCOHORT = "scohort"' in text
    return re.sub(r"(rule everything:\n +input:\n).*", rf"\1        {ANSWERS},\n", text, flags=re.S)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A foreign project with two cohorts in one run: one to its answers, one to the checkpoint."""
    folder = tmp_path_factory.mktemp("module")
    Checkout.create(folder / "scohort")  # a copy, without git
    (folder / "data").mkdir()
    (folder / "config").mkdir()
    for seed, (name, overlay) in enumerate(COHORTS.items()):
        settings = CONFIG["simulate"] | SIZE | {"pathway_genes": 12}
        simulate.simulate(random_state=seed, **settings)[0].write_h5ad(folder / f"data/{name}.h5ad")
        config = yaml.safe_load((ROOT / DEMO).read_text())
        for part in (SMALL, overlay):
            update_config(config, part)
        (folder / f"config/{name}.yaml").write_text(yaml.safe_dump(config))
    (folder / "Snakefile").write_text(documented_snakefile())
    run(folder, "--", *MADE)
    return folder


def run(folder, *options):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *options]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def test_each_cohort_has_its_own_results_from_its_own_file_and_config(ours):
    for name, shards in (("young", 1), ("old", 2)):
        results = ours / "results" / name
        assert len(list(results.glob("load/shards/*.h5ad"))) == shards
        cohort = ad.read_h5ad(ours / f"data/{name}.h5ad", backed="r")
        assert len(pd.read_parquet(results / "cells/cells.parquet")) == cohort.n_obs
        assert not (results / "simulate").exists()
    assert {path.name for path in (ours / "results").iterdir()} == {"young", "old"}


def planned(folder, *targets):
    """Jobs per rule that are left to run."""
    found = re.findall(r"^((?:young|old)_\w+) +(\d+)$", run(folder, "--dry-run", *targets), flags=re.M)
    return {rule: int(jobs) for rule, jobs in found}


def types_tested(folder, name):
    types = pd.read_csv(folder / f"results/{name}/pseudobulk/cell_types.tsv", sep="\t")
    return set(types.loc[types["tested"], "id"])


def test_the_checkpoint_of_each_cohort_decides_for_itself(ours):
    parts = sorted((ours / "results/young/differential/age").glob("[0-9][0-9].parquet"))
    made = {cell_type for part in parts for cell_type in pd.read_parquet(part)["cell_type"]}
    assert made == types_tested(ours, "young")
    others = len(types_tested(ours, "old"))
    assert others > len(made) > 0
    left = planned(ours)
    assert left["old_differential"] == others
    assert "young_differential" not in left


def test_a_second_run_has_nothing_to_do_and_a_setting_reruns_its_cohort_only(ours):
    assert "Nothing to be done" in run(ours, "--dry-run", "--", *MADE)
    overlay = ours / "config/old.yaml"
    content = yaml.safe_load(overlay.read_text())
    overlay.write_text(yaml.safe_dump(content | {"qc": {"max_pct_mt": 15}}))
    left = planned(ours, "--", *MADE)
    assert left["old_qc"] == 2
    assert not [rule for rule in left if rule.startswith("young_")]
