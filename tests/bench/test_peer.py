"""The plain script does the same analysis, and the comparison divides the right way round."""

import ast
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import compare
import generate
from workflow.defaults import complete_config

ROOT = Path(__file__).parent.parent.parent
CONFIG = complete_config(ROOT, [])


def peer_settings():
    """SETTINGS of the script, without importing what it imports."""
    tree = ast.parse((ROOT / "bench/peer.py").read_text())
    found = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "SETTINGS"
    ]
    return ast.literal_eval(found[0])


def test_its_settings_are_those_of_the_workflow():
    workflow = CONFIG | {
        section: CONFIG[section] | values
        for section, values in generate.overlay(2).items()
        if isinstance(values, dict)
    }
    for section, values in peer_settings().items():
        if isinstance(values, dict):
            assert {key: workflow[section][key] for key in values} == values, section
        else:
            assert workflow[section] == values


def test_what_it_does_not_know_is_switched_off_in_the_workflow():
    assert [CONFIG["qc"][key] for key in ("max_genes", "max_counts", "max_pct_top_20")] == [None] * 3
    assert CONFIG["filter"]["sample_percentile"] == 0
    assert not CONFIG["filter"]["complete_cases"]
    assert CONFIG["preprocess"]["batch"] == CONFIG["dimred"]["harmonize"] == "pool"
    assert CONFIG["doublets"]["by"] == "donor"
    assert [contrast["design"] for contrast in CONFIG["contrasts"]] == ["~ age + sex"]


def test_its_imports_are_there():
    script = ROOT / "bench/peer.py"
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "gmt" in done.stdout


def test_ratios_of_medians():
    lines = pd.DataFrame(
        {
            "tool": ["scohort", "peer", "peer", "scohort", "scohort"],
            "wall_s": [100.0, 240.0, 260.0, 110.0, 90.0],
            "peak_job_mb": [1000.0, 3000.0, 3200.0, 1000.0, 1000.0],
            "peak_tree_mb": [2000.0, 3000.0, 3200.0, 1900.0, 2000.0],
        }
    )
    assert compare.ratios(lines) == pytest.approx(
        {"speed": 2.5, "memory": 3.1, "memory_together": 1.55}, rel=1e-9
    )
