"""What several tests need: the folder of shared real data."""

import os
from pathlib import Path

# Before numpy is imported: many small linear systems with one BLAS thread per core each wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # numba refuses another number once it has threads

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public data, outside the repository; SCOHORT_DATA names another place. Missing is a failure."""
    folder = Path(os.environ.get("SCOHORT_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.fail(f"{folder} holds no test data; set SCOHORT_DATA to the folder that does")
    return folder
