"""The config of a run without Snakemake: defaults, the demo where no cohort is set, overlays in order."""

from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from workflow.checks import find_problems
from workflow.defaults import DEFAULTS, DEMO, complete_config, is_demo, read_settings

ROOT = Path(__file__).parent.parent.parent.parent
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("cohort", "demo"),
    [
        ({"path": None, "url": None}, True),
        ({"path": "", "url": None}, True),
        ({"path": "my.h5ad", "url": None}, False),
        ({"path": None, "url": "https://x.org/a.h5ad"}, False),
        ("my.h5ad", False),  # not a section, which the schema refuses
        (None, False),
    ],
)
def test_the_demo_is_a_run_without_a_cohort(cohort, demo):
    assert is_demo({"cohort": cohort}) is demo


def test_the_neutral_defaults_are_refused_for_the_demo():
    """As when config/demo.yaml is not seen from the folder of the run, or a module is given the defaults."""
    (problem,) = find_problems(read_settings(ROOT / "config/config.yaml"), SCHEMA)
    assert problem == (
        "cohort.path: no cohort is set; set it, or add config/demo.yaml before your config for the demo"
    )
    assert find_problems(complete_config(ROOT, []), SCHEMA) == []


def test_the_users_settings_are_over_those_of_the_demo():
    config = complete_config(ROOT, [{"load": {"shards": 3}}, {"qc": {"min_genes": 60}, "gene_sets": []}])
    demo = read_settings(ROOT / DEMO)
    assert (config["load"]["shards"], config["qc"]["min_genes"], config["gene_sets"]) == (3, 60, [])
    assert config["load"]["donor"] == demo["load"]["donor"]
    assert config["contrasts"] == demo["contrasts"]


def test_a_cohort_has_none_of_the_demos_settings():
    config = complete_config(ROOT, [{"load": {"donor": "donor"}}, {"cohort": {"path": "my.h5ad"}}])
    defaults = read_settings(ROOT / DEFAULTS)
    defaults["load"]["donor"], defaults["cohort"]["path"] = "donor", "my.h5ad"
    assert config == defaults


def test_three_keys_are_a_config():
    """Of a file with symbols in its index and nothing else: pbmc3k of 10x."""
    keys = {"cohort": {"path": "pbmc3k.h5ad"}, "report": {"title": "PBMC"}}
    Draft202012Validator(SCHEMA).validate(complete_config(ROOT, [keys]))
