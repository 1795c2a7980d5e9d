"""What is wrong in a config stops the run before any job, in one line that names it."""

import pytest
import yaml

AGE = {"name": "age", "design": "~ age + sex", "test": "age", "unit": 10}
WITHOUT_UNIT = {key: value for key, value in AGE.items() if key != "unit"}
REFUSED = [
    ({"qc": {"min_gene": 3}}, "qc: Additional properties are not allowed ('min_gene' was unexpected)"),
    ({"foo": 1}, "config: Additional properties are not allowed ('foo' was unexpected)"),
    ({"qc": {"min_genes": "many"}}, "qc.min_genes: 'many' is not of type"),
    ({"ridge": {"alpha": [0]}}, "ridge.alpha.0: 0 is less than or equal to the minimum of 0"),
    ({"cohort": {"path": "nowhere.h5ad"}, "gene_sets": []}, "cohort.path: nowhere.h5ad does not exist"),
    (
        {"cohort": {"path": "config/config.yaml"}},
        "gene_sets: <results>/simulate/gene_sets.gmt belongs to the demo",
    ),
    ({"cohort": {"url": "https://example.org/a.h5ad"}}, "set cohort.sha256 or cohort.size"),
    ({"gene_sets": ["none.gmt"]}, "gene_sets: none.gmt does not exist"),
    (
        {"contrasts": [AGE | {"design": "~ age + bmi"}]},
        "contrasts.age.design: 'bmi' is no column of a sample",
    ),
    ({"contrasts": [AGE | {"design": "~ age +"}]}, "contrasts.age.design: '~ age +'"),
    ({"contrasts": [AGE | {"test": "pool"}]}, "contrasts.age.test: 'pool' is not in the design"),
    ({"contrasts": [AGE | {"unit": None}]}, "contrasts.0.unit: None is not of type 'number'"),
    ({"contrasts": [WITHOUT_UNIT]}, "contrasts.age.unit: ['age'] is a number"),
    ({"contrasts": [AGE | {"test": "sex"}]}, "contrasts.age.unit: sex is a category; remove unit"),
    ({"contrasts": [AGE | {"subset": {"bmi": [1]}}]}, "contrasts.age.subset: 'bmi' is no column"),
    (
        {"contrasts": [AGE | {"design": "~ bs(age, df=3)", "test": "bs(age, df=3)"}]},
        "contrasts.age.unit: bs(age, df=3) is a curve, tested as a whole; remove unit",
    ),
    ({"contrasts": [AGE, AGE]}, "contrasts: 'age' is there more than once"),
    ({"ridge": {"target": "sex"}}, "ridge.target: 'sex' is no numeric covariate"),
    (
        {"ridge": {"baselines": [{"name": "bmi", "columns": ["bmi"]}]}},
        "ridge.baselines.bmi: 'bmi' is no column that it can use; use composition, log_cells",
    ),
    ({"ridge": {"baselines": [{"name": "age", "columns": ["age"]}]}}, "ridge.baselines.age: 'age' is no"),
    ({"ridge": {"baselines": [{"name": "mean", "columns": ["sex"]}]}}, "the name 'mean' is taken"),
    ({"cells": {"strata": [{"column": "bmi"}]}}, "cells.strata: 'bmi' is no column"),
    ({"doublets": {"by": "pool"}}, "set load.shard_by: pool"),
    (
        {"sweep": [{"name": "x", "set": {"qc": {"min_gene": 3}}}]},
        "sweep.x.set.qc: Additional properties are not allowed ('min_gene' was unexpected)",
    ),
    (
        {"sweep": [{"name": "x", "set": {"qc": {"nmads": n}}} for n in (3, 4)]},
        "sweep: 'x' is there more than once",
    ),
    ({"sweep": [{"name": "x", "set": {"qc": {"min_genes": 50.0}}}]}, "sweep.x.set: changes nothing"),
    ({"sweep": [{"name": "x", "set": {"sweep": []}}]}, "sweep.x.set: sweep is of the sweep"),
    ({"sweep": [{"name": "x", "set": {}}]}, "sweep.0.set: {} should be non-empty"),
    ({"sweep": [{"name": "x", "sets": {}}]}, "sweep.0: Additional properties"),
    ({"load": {"pool": None}}, "pool needs a column of pools; set load.pool"),
]


@pytest.mark.parametrize(("overlay", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_wrong_config_is_refused_in_one_line(checkout, overlay, message):
    (checkout.folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    done = checkout.attempt("--cores", "1", "--configfile", "overlay.yaml")
    assert done.returncode != 0
    lines = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("Config file")]
    assert len(lines) == 1
    assert message in done.stdout
    assert not (checkout.folder / "results").exists()


def test_an_interaction_can_be_tested(checkout):
    contrast = {"name": "slope", "design": "~ age * sex", "test": "age:sex", "unit": 10, "level": "male"}
    overlay = {"contrasts": [contrast | {"reference": "female"}]}
    (checkout.folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    assert checkout.plan("--configfile", "overlay.yaml")["pseudobulk"] == 1


@pytest.mark.parametrize(
    "form",
    [
        ["--profile", "profiles/local"],
        ["--workflow-profile", "local"],
        ["--profile", "local", "--cores", "3"],
        ["--profile", "slurm"],
        ["--profile", "profiles/slurm"],
        ["--profile", "profiles/ci"],
    ],
    ids=" ".join,
)
def test_each_form_of_naming_a_profile_plans_the_run(checkout, form):
    assert "pseudobulk" in checkout.snakemake(*form, "--dry-run")


def test_a_profile_that_does_not_exist_fails(checkout):
    assert checkout.attempt("--profile", "profiles/nowhere", "--dry-run").returncode != 0
