"""Every leaf of the schema is used: changing it changes what some job is given."""

import copy
import io
import os
import tempfile
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, ResourceSettings

from workflow.defaults import complete_config

ROOT = Path(__file__).parent.parent.parent
DEFAULTS = complete_config(ROOT, [])
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.yaml").read_text())
WILDCARDS = SimpleNamespace(shard="00", contrast="age", part="00", alpha="10", resolution="0.5")
SEX = {"target": "sex", "level": "male", "reference": "female", "baselines": []}
BMI = {"name": "bmi", "column": "bmi", "type": "numeric"}
WITH_CHECKPOINT = (
    "answers",
    "differential_tables",
    "differential_status",
    "published_sources",
    "published_places",
)
WITH_CHECKPOINT += ("warning_tables", "reported_sources", "reported_places", "published_paths")
COHORT = Path(tempfile.mkdtemp()) / "cohort.h5ad"  # a cohort is looked at before its rules are made
COHORT.touch()
OTHER = {  # a valid other value, where adding one to a number will not do
    ("cohort", "path"): {"cohort": {"path": str(COHORT)}, "gene_sets": []},
    ("cohort", "url"): {"cohort": {"url": "https://x.org/a.h5ad", "size": 1}, "gene_sets": []},
    ("cohort", "sha256"): {"cohort": {"sha256": "0" * 64}},
    ("cohort", "size"): {"cohort": {"size": 7}},
    ("simulate", "age_range"): {"simulate": {"age_range": [20, 30]}},
    ("load", "counts"): {"load": {"counts": "raw.X"}},
    ("load", "genome"): {"load": {"genome": "GRCh38"}},
    ("load", "modality"): {"load": {"modality": "rna"}},
    ("load", "sample_table"): {"load": {"sample_table": "CITATION.cff"}},
    ("load", "cell_table"): {"load": {"cell_table": "CITATION.cff"}},
    ("load", "missing"): {"load": {"missing": ["none"]}},
    ("load", "covariates"): {"load": {"covariates": [*DEFAULTS["load"]["covariates"], BMI]}},
    ("load", "exclude"): {"load": {"exclude": [{"column": "sex", "values": ["x"]}]}},
    ("load", "shard_by"): {"load": {"shard_by": "pool"}},
    ("doublets", "by"): {"doublets": {"by": "pool"}, "load": {"shard_by": "pool"}},
    ("load", "empty_droplets"): {"load": {"empty_droplets": "knee"}},
    ("load", "species"): {"load": {"species": "mouse"}},
    ("qc", "patterns"): {"qc": {"patterns": {"human": {"mt": "mt-.+"}}}},
    ("cells", "strata"): {"cells": {"strata": []}},
    ("preprocess", "exclude"): {"preprocess": {"exclude": {"human": {"hb": "HB[AB]"}}}},
    ("differential", "gene_filter"): {"differential": {"gene_filter": "share"}},
    ("samples", "sex"): {"samples": {"sex": "gender"}},
    ("samples", "sex_levels"): {"samples": {"sex_levels": {"female": ["w"]}}},
    ("samples", "sex_genes"): {"samples": {"sex_genes": {"human": {"female": "XIST|TSIX"}}}},
    ("ridge", "target"): {"ridge": {"target": None}},
    ("ridge", "level"): {"ridge": SEX},
    ("ridge", "reference"): {"ridge": SEX},
    ("cluster", "resolution"): {"cluster": {"resolution": [2.0]}},
    ("ridge", "alpha"): {"ridge": {"alpha": [7]}},
    ("ridge", "baselines"): {"ridge": {"baselines": [{"name": "cells", "columns": ["log_cells"]}]}},
    ("ridge", "baseline_alpha"): {"ridge": {"baseline_alpha": [7]}},
    ("contrasts", None): {"contrasts": [DEFAULTS["contrasts"][0] | {"unit": 5}]},
    ("gene_sets", None): {"gene_sets": []},
    ("pathvars", "results"): {"pathvars": {"results": "elsewhere"}},
    ("sweep", None): {"sweep": [{"name": "loose", "set": {"qc": {"max_pct_mt": 30}}}]},
    ("stability", "top"): {"stability": {"top": [20]}},
    ("warnings", "accept"): {"warnings": {"accept": ["genes_not_shared"]}},
    ("warnings", "error"): {"warnings": {"error": ["genes_not_shared"]}},
    ("random_state", None): {"random_state": 1},
}  # fmt: skip


def leaves():
    for section, content in SCHEMA["properties"].items():
        if section == "retries":  # comes by the environment and reaches no param, see below
            continue
        for key in content.get("properties", [None]):
            yield section, key


def changed(section, key):
    """An overlay that gives one leaf another valid value."""
    if (section, key) in OTHER:
        return OTHER[section, key]
    value = DEFAULTS[section][key]
    if value is None:
        return {section: {key: 50}}
    if isinstance(value, bool):
        return {section: {key: not value}}
    if isinstance(value, str):
        return {section: {key: "none" if value == "pool" else value + "x"}}
    return {section: {key: value * 0.5 if 0 < value <= 1 else value + 1}}


def merge(base, overlay):
    merged = copy.deepcopy(base)
    for key, value in overlay.items():
        merged[key] = merge(merged[key], value) if isinstance(merged.get(key), dict) else value
    return merged


def given(config):
    """What the rules hand to their jobs: params and patterns of inputs and outputs.

    Without rule provenance, whose params are the whole config: every key would pass by that alone.
    """
    with redirect_stderr(io.StringIO()), SnakemakeApi() as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config=config),
            snakefile=ROOT / "workflow/Snakefile",
        )._workflow
        facts = {}
        for rule in (rule for rule in workflow.rules if rule.name != "provenance"):
            values = [rule.params, rule.input, rule.output]
            facts[rule.name] = repr([[evaluated(value) for value in part] for part in values])
    return facts


def evaluated(value):
    """The value of a function of wildcards, where it needs no checkpoint; any other value as it is."""
    if not callable(value):
        return str(value)
    return value.__name__ if value.__name__ in WITH_CHECKPOINT else value(WILDCARDS)


@pytest.fixture(scope="module", autouse=True)
def environment():
    """What the workflow, read in this process, sets for its jobs is taken back after these tests."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(scope="module")
def before():
    return given(DEFAULTS)


@pytest.mark.parametrize(("section", "key"), list(leaves()), ids=lambda part: str(part))
def test_another_value_reaches_a_job(before, section, key, monkeypatch):
    monkeypatch.chdir(ROOT)
    after = given(merge(DEFAULTS, changed(section, key)))
    assert after != before


def test_a_retry_policy_reaches_no_param(before, monkeypatch):
    monkeypatch.chdir(ROOT)
    given(merge(DEFAULTS, {"retries": {"transient_io": {"max_retries": 9}}}))
    assert '"max_retries": 9' in os.environ["SCOHORT_RETRIES"]
    assert given(merge(DEFAULTS, {"retries": {"transient_io": {"max_retries": 9}}})) == before


def test_the_lists_of_warnings_reach_the_jobs_by_the_environment_and_one_rule_by_params(before, monkeypatch):
    monkeypatch.chdir(ROOT)
    after = given(merge(DEFAULTS, {"warnings": {"error": ["genes_not_shared"]}}))
    assert '"error": ["genes_not_shared"]' in os.environ["SCOHORT_WARNINGS"]
    assert [name for name in after if after[name] != before[name]] == ["warning_table"]


def test_the_same_value_reaches_no_other_job(before, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert given(DEFAULTS) == before
