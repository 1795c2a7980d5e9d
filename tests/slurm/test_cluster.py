"""Where SLURM cannot be started, that is a failure with a reason, never a skip."""

import subprocess
from pathlib import Path

CLUSTER = Path(__file__).parent / "cluster.sh"


def test_without_the_rights_to_start_it_says_so():
    command = ["setpriv", "--reuid=65534", "--clear-groups", "bash", "-s", "up", "/nowhere"]
    with CLUSTER.open() as script:
        done = subprocess.run(command, stdin=script, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "slurm cannot be started: this needs root"


def test_no_test_of_this_folder_can_be_skipped():
    for path in CLUSTER.parent.glob("*.py"):
        for word in ("pytest" + ".skip", "pytest" + ".importorskip", "mark" + ".skip", "mark" + ".xfail"):
            assert word not in path.read_text(), path
