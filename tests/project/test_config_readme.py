"""config/README.md says what the schema and the defaults say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_page_is_the_one_that_the_schema_makes():
    made = subprocess.run(
        [sys.executable, ROOT / "gates/describe_config.py"], capture_output=True, text=True, check=True
    )
    assert (ROOT / "config/README.md").read_text() == made.stdout, "run make config-readme"
