"""What a run cost, from records written by hand."""

import json

import pytest

import _jobs as jobs

RECORD = {
    "task_name": "qc",
    "wildcards": {"shard": "00"},
    "start_time": "2026-01-01T00:00:02+00:00",
    "end_time": "2026-01-01T00:00:12+00:00",
    "wall_time_s": 10.0,
    "startup_s": 2.0,
    "cpu_time_s": 9.0,
    "peak_rss_mb": 500.0,
    "input_mb": 100.0,
    "read_mb": 110.0,
    "written_mb": 5.0,
    "threads": 1,
    "mem_mb_requested": 1000,
    "status": "ok",
}
OTHERS = {
    "qc/01": {
        "wildcards": {"shard": "01"},
        "start_time": "2026-01-01T00:00:07+00:00",
        "startup_s": 5.0,
        "wall_time_s": 3.0,
        "peak_rss_mb": 1200.0,
    },
    "dimred": {
        "task_name": "dimred",
        "wildcards": {},
        "start_time": "2026-01-01T00:00:21+00:00",
        "startup_s": 1.0,
        "wall_time_s": 8.0,
        "peak_rss_mb": 700.0,
        "threads": 2,
        "cpu_time_s": 18.0,
    },
}


@pytest.fixture
def results(tmp_path):
    for name, change in {"qc/00": {}, **OTHERS}.items():
        path = tmp_path / f"benchmarks/{name}.perf.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(RECORD | change))
    log = tmp_path / "logs/qc/00.log"
    log.parent.mkdir(parents=True)
    log.write_text(
        "import time: self [us] | cumulative | imported package\n"
        "import time:   1000000 |    1000000 |   inner\n"
        "import time:    500000 |    1500000 | outer\nqc: 5 cells\n"
    )
    return tmp_path


def test_each_job_with_its_start_up_and_imports(results):
    table = jobs.collect(results)
    assert table["rule"].tolist() == ["qc", "qc", "dimred"]
    assert table["start"].tolist() == [0, 2, 20]  # s since the first process began
    assert table["end"].tolist() == [12, 10, 29]
    assert table["startup_s"].tolist() == [3.5, 5, 1]  # 2 s to main, 1.5 s of imports in main
    assert table["work_s"].tolist() == [8.5, 3, 8]
    assert table["wildcards"].tolist() == ["shard=00", "shard=01", ""]


def test_imports_never_exceed_the_job(results):
    (results / "logs/dimred.log").write_text("import time:  99000000 |   99000000 | workers\n" * 3)
    table = jobs.collect(results)
    assert table.loc[2, ["work_s", "startup_s"]].tolist() == [0, 9]


def test_sums_per_rule(results):
    rules = jobs.sum_by_rule(jobs.collect(results)).set_index("rule")
    assert rules.index.tolist() == ["qc", "dimred"]  # 20 and 18 core seconds
    qc = rules.loc["qc"]
    assert (qc["jobs"], qc["wall_s"], qc["longest_s"], qc["cpu_s"]) == (2, 20, 12, 18)
    assert (qc["peak_mb"], qc["mem_mb"], qc["over"]) == (1200, 1000, 1)
    assert (qc["read_mb"], qc["written_mb"]) == (220, 10)
    assert qc["startup_share"] == pytest.approx(8.5 / 20)
    assert rules["share"].sum() == pytest.approx(1)


def test_totals_of_a_run(results):
    total = jobs.sum_run(jobs.collect(results), wall_s=40, cpu_s=50, cores=2)
    assert total["jobs"] == 3
    assert total["job_wall_s"] == 29
    assert total["no_job_s"] == 19  # jobs cover 0-12 and 20-29 of 40
    assert total["idle_share"] == pytest.approx(1 - 50 / 80, abs=1e-3)
    assert total["startup_share"] == pytest.approx(9.5 / 29, abs=1e-3)
    assert total["concurrent_mb"] == 1700  # both qc jobs
    assert total["peak_job_mb"] == 1200
    assert total["over"] == 1


def test_a_folder_without_records_is_said_to_be_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the workflow there first"):
        jobs.collect(tmp_path)
