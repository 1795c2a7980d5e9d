"""Measuring a command and keeping the results."""

import re
import sys

import pandas as pd
import pytest

import _measure as measure
from _jobs import format_table

HOLD = "x = bytearray({size}); import time; time.sleep(1.5)"


def test_wall_cpu_and_memory_of_the_whole_tree(tmp_path):
    hold = HOLD.format(size=200_000_000)
    code = f"import subprocess, sys; x = bytearray(10**8); subprocess.run([sys.executable, '-c', {hold!r}])"
    cost = measure.measured([sys.executable, "-c", code], tmp_path, tmp_path / "log")
    assert 300e6 / 2**20 < cost.peak_tree_mb < 450
    assert 1.5 < cost.wall_s < 30
    assert cost.cpu_s > 0


def test_cpu_counts_what_burns_not_what_sleeps(tmp_path):
    burn = "import time\nwhile time.process_time() < 1: pass"
    cost = measure.measured([sys.executable, "-c", burn], tmp_path, tmp_path / "log")
    sleep = measure.measured([sys.executable, "-c", "import time; time.sleep(1)"], tmp_path, tmp_path / "log")
    assert 1 <= cost.cpu_s < 1.5
    assert sleep.cpu_s < 0.5


def test_a_failure_ends_with_the_log_and_without_its_import_times(tmp_path):
    code = "import sys; print('import time:', '1 | 1 | x'); sys.exit('no such cohort')"
    with pytest.raises(SystemExit, match=r"no such cohort\nerror: .* ended with 1; see ") as ended:
        measure.measured([sys.executable, "-c", code], tmp_path, tmp_path / "log")
    assert "import time: 1" not in str(ended.value)


def test_the_environment_is_added_to_ours(tmp_path):
    code = "import os; print(os.environ['ADDED'], bool(os.environ['PATH']))"
    measure.measured([sys.executable, "-c", code], tmp_path, tmp_path / "log", {"ADDED": "yes"})
    assert (tmp_path / "log").read_text() == "yes True\n"


def test_lines_are_added_under_one_header(tmp_path):
    results = tmp_path / "results.tsv"
    for cells in (25_000, 100_000):
        measure.append(measure.row(tool="scohort", cells=cells, wall_s=1.5), results)
    table = pd.read_csv(results, sep="\t", dtype=str, keep_default_na=False)
    assert list(table) == measure.COLUMNS
    assert table["cells"].tolist() == ["25000", "100000"]
    assert table["dominating_rule"].tolist() == ["", ""]
    assert (table["cores"].astype(int) > 0).all()
    assert table["commit"].map(lambda name: bool(re.fullmatch(r"unknown|[0-9a-f]{7,}(\+dirty)?", name))).all()


def test_a_table_with_other_columns_is_not_mixed(tmp_path):
    (tmp_path / "results.tsv").write_text("date\twall\n")
    with pytest.raises(ValueError, match="move it away"):
        measure.append(measure.row(), tmp_path / "results.tsv")
    assert (tmp_path / "results.tsv").read_text() == "date\twall\n"


def test_a_table_as_text():
    table = pd.DataFrame({"rule": ["qc", "dimred"], "wall_s": [1234.5, 2.345], "share": [0.5, float("nan")]})
    assert format_table(table) == "rule    wall_s  share\nqc       1,234    50%\ndimred    2.35"
