"""config/README.md and the comments of config/config.yaml say what the schema says."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import describe_config

ROOT = Path(__file__).parent.parent.parent
CONFIG = (ROOT / "config/config.yaml").read_text(encoding="utf-8")
WIDTH = 110  # columns


@pytest.mark.parametrize(
    ("file", "options"), [("config/README.md", []), ("config/config.yaml", ["--comments"])]
)
def test_the_file_is_the_one_that_the_schema_makes(file, options):
    command = [sys.executable, ROOT / "gates/describe_config.py", *options]
    made = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert (ROOT / file).read_text(encoding="utf-8") == made.stdout, "run make config-readme"


def test_the_config_can_be_read_on_a_screen():
    long = [line for line in CONFIG.splitlines() if len(line) > WIDTH and " # " in line]
    assert long == [], "shorten the first sentence"


def test_every_key_has_a_comment():
    """Also one of a section; what is in a list or deeper is described with its key."""
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.yaml").read_text(encoding="utf-8"))
    for section, content in schema["properties"].items():
        for name, leaf in {section: content, **content.get("properties", {})}.items():
            assert describe_config.first_sentence(leaf.get("description", "")), name


def test_a_comment_is_replaced_and_nothing_else():
    schema = {
        "properties": {
            "qc": {
                "description": "Cells. In each shard.",
                "properties": {"patterns": {"description": "Of symbols, as in raw.X."}},
            },
            "random_state": {"description": "One seed."},
        }
    }
    text = (
        "# head\nrandom_state: 1 # old\nqc:\n  patterns: # old\n    mt: 'MT-.+' # own\n  other: '#1' # own\n"
    )
    made = "# head\nrandom_state: 1 # One seed\nqc: # Cells\n  patterns: # Of symbols, as in raw.X\n"
    made += "    mt: 'MT-.+' # own\n  other: '#1' # own\n"
    assert describe_config.with_comments(text, schema) == made
    assert describe_config.with_comments(made, schema) == made
