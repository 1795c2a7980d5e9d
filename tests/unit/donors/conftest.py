"""Settings of rule samples, as the config has them."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def settings():
    """Section samples of config/config.yaml."""
    return yaml.safe_load((ROOT / "config/config.yaml").read_text())["samples"]
