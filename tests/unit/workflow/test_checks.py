"""Every problem of a config is one line that names the key and what to set, and all are found at once."""

import contextlib
import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from files import RESERVED_COLUMNS, SAMPLE_COLUMNS
from workflow.checks import OF_SAMPLES, TAKEN, find_problems
from workflow.defaults import complete_config

ROOT = Path(__file__).parent.parent.parent.parent
DEFAULTS = complete_config(ROOT, [])
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.yaml").read_text(encoding="utf-8"))
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
        "contrasts.age.design: 'bmi' is not a column of a sample",
    ),
    (
        {"contrasts": [AGE | {"design": "~ age +"}]},
        "contrasts.age.design: '~ age +' is not a formula; use columns",
    ),
    ({"contrasts": [AGE | {"test": "pool"}]}, "contrasts.age.test: 'pool' is not in the design"),
    ({"contrasts": [AGE | {"unit": None}]}, "contrasts.0.unit: None is not of type 'number'"),
    ({"contrasts": [WITHOUT_UNIT]}, "contrasts.age.unit: ['age'] is a number"),
    ({"contrasts": [AGE | {"test": "sex"}]}, "contrasts.age.unit: sex is a category; remove unit"),
    ({"contrasts": [AGE | {"subset": {"bmi": [1]}}]}, "contrasts.age.subset: 'bmi' is not a column"),
    (
        {"contrasts": [AGE | {"design": "~ bs(age, df=3)", "test": "bs(age, df=3)"}]},
        "contrasts.age.unit: bs(age, df=3) is a curve, tested as a whole; remove unit",
    ),
    (
        {"contrasts": [AGE | {"block": "donor", "aggregate": "donor"}]},
        "contrasts.age: block and aggregate are both set; remove one",
    ),
    (
        {"contrasts": [AGE | {"design": "~ age + donor", "block": "donor"}]},
        "contrasts.age.block: donor is in the design '~ age + donor' already",
    ),
    ({"contrasts": [AGE | {"block": "pool"}]}, "contrasts.0.block: 'pool' is not one of ['donor']"),
    ({"contrasts": [AGE, AGE]}, "contrasts: 'age' is there more than once"),
    ({"ridge": {"target": "bmi"}}, "ridge.target: 'bmi' is not a covariate; name one of load.covariates"),
    ({"ridge": {"target": "sex"}}, "ridge.target: 'sex' is a category; set ridge.level and ridge.reference"),
    (
        {"ridge": {"target": "sex", "level": "male", "reference": "male"}},
        "ridge.reference: 'male' is the level itself; name another level",
    ),
    ({"ridge": {"level": "old"}}, "ridge.level, ridge.reference: 'age' is a number; set both to null"),
    (
        {"ridge": {"baselines": [{"name": "bmi", "columns": ["bmi"]}]}},
        "ridge.baselines.bmi: 'bmi' is not a column that it can use; use composition, log_cells",
    ),
    ({"ridge": {"baselines": [{"name": "age", "columns": ["age"]}]}}, "ridge.baselines.age: 'age' is not a"),
    ({"ridge": {"baselines": [{"name": "mean", "columns": ["sex"]}]}}, "the name 'mean' is taken"),
    ({"cells": {"strata": [{"column": "bmi"}]}}, "cells.strata: 'bmi' is not a column"),
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
    ({"sweep": [{"name": "x", "set": {"sweep": []}}]}, "sweep.x.set: a variant cannot set sweep"),
    ({"sweep": [{"name": "x", "set": {}}]}, "sweep.0.set: {} should be non-empty"),
    ({"sweep": [{"name": "x", "sets": {}}]}, "sweep.0: Additional properties"),
    ({"load": {"pool": None}}, "pool needs a column of pools; set load.pool"),
]


def problems_of(overlay):
    """Of the default config with an overlay, seen from the project's folder."""
    config = copy.deepcopy(DEFAULTS)
    update_config(config, copy.deepcopy(overlay))
    with contextlib.chdir(ROOT):
        return find_problems(config, SCHEMA)


def test_the_default_config_has_no_problem():
    assert problems_of({}) == []


@pytest.mark.parametrize(("overlay", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_each_problem_is_one_line(overlay, message):
    problems = problems_of(overlay)
    assert any(message in problem for problem in problems), problems
    assert not [problem for problem in problems if "\n" in problem]


def test_all_problems_are_found_at_once():
    overlay = {
        "cohort": {"path": "nowhere.h5ad"},
        "gene_sets": ["none.gmt"],
        "contrasts": [AGE | {"design": "~ age + bmi"}, WITHOUT_UNIT | {"name": "years"}],
        "ridge": {"target": "bmi"},
        "doublets": {"by": "pool"},
    }
    problems = problems_of(overlay)
    assert len(problems) == 6
    starts = [
        "ridge.target",
        "cohort.path",
        "gene_sets",
        "doublets.by",
        "contrasts.age.design",
        "contrasts.years.unit",
    ]
    assert [problem.split(":")[0] for problem in problems] == starts


def test_all_keys_that_the_schema_refuses_are_found_at_once():
    problems = problems_of({"qc": {"min_gene": 3, "min_genes": "many"}, "foo": 1})
    assert [problem.split(":")[0] for problem in problems] == ["config", "qc", "qc.min_genes"]


def test_a_key_that_the_schema_refuses_hides_no_problem_of_another_section():
    problems = problems_of({"qc": {"min_gene": 3}, "gene_sets": ["none.gmt"], "ridge": {"target": "bmi"}})
    assert [problem.split(":")[0] for problem in problems] == ["qc", "ridge.target", "gene_sets"]


def test_a_section_that_the_schema_refuses_is_not_read_further():
    problems = problems_of({"load": {"covariates": "age"}, "gene_sets": ["none.gmt"]})
    assert [problem.split(":")[0] for problem in problems] == ["load.covariates", "gene_sets"]


def test_a_section_that_is_missing_is_named():
    config = {name: section for name, section in DEFAULTS.items() if name != "load"}
    with contextlib.chdir(ROOT):
        [problem] = find_problems(config, SCHEMA)
    assert problem.startswith("config: 'load' is a required property")


def test_both_formulas_of_a_contrast_are_read():
    problems = problems_of({"contrasts": [AGE | {"design": "~ age +", "test": "exp(age)"}]})
    assert [problem.split(":")[0] for problem in problems] == ["contrasts.age.design", "contrasts.age.test"]


def test_a_variant_is_checked_like_a_config_of_its_own():
    variants = [
        {"name": "bmi", "set": {"ridge": {"target": "bmi"}, "contrasts": [AGE | {"design": "~ age + bmi"}]}},
        {"name": "many", "set": {"load": {"shards": 1000}}},
    ]
    problems = problems_of({"sweep": variants, "gene_sets": ["none.gmt"]})
    assert [problem.split(": ")[0] for problem in problems] == [
        "gene_sets",  # of the run, so not again of each variant
        "sweep.bmi.set.ridge.target",
        "sweep.bmi.set.contrasts.age.design",
        "sweep.many.set.load.shards",
    ]


def test_an_interaction_can_be_tested():
    contrast = {"name": "slope", "design": "~ age * sex", "test": "age:sex", "unit": 10, "level": "male"}
    assert problems_of({"contrasts": [contrast | {"reference": "female"}]}) == []


def test_the_checks_need_no_library_of_numbers():
    """They are read at each start of Snakemake, also in every SLURM job."""
    code = "import sys, workflow.checks; print(*sorted({'numpy', 'pandas', 'formulaic'} & set(sys.modules)))"
    folders = f"{ROOT}:{ROOT / 'scripts'}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={"PYTHONPATH": folders}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_names_of_columns_are_those_of_the_tables():
    assert set(SAMPLE_COLUMNS) == OF_SAMPLES
    assert set(RESERVED_COLUMNS) == TAKEN
