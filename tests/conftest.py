"""What several tests need: the folder of shared real data."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public data, outside the repository; SCOHORT_DATA names another place. Missing is a failure."""
    folder = Path(os.environ.get("SCOHORT_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.fail(f"{folder} holds no test data; set SCOHORT_DATA to the folder that does")
    return folder
