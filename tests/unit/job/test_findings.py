"""The result of a finished job: the line of its log, printed once, in the order in which jobs end."""

import logging
from types import SimpleNamespace

import pytest
from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from job._findings import Findings, find_result, listen

LOG = """qc: no gene symbol matches qc.patterns.mt; pct_counts_mt is 0 in every cell
progress: 2,048 of 3,000 cells, 200 a second, 5 s left
qc: 3,000 cells, 12 dropped (max_pct_mt: 4; min_genes 8)
a warning: of something else
"""


@pytest.mark.parametrize(
    ("rule", "wildcards", "result"),
    [
        ("qc", ["00"], "qc 00: 3,000 cells, 12 dropped (max_pct_mt: 4; min_genes 8)"),
        ("cohort_qc", ["00"], "qc 00: 3,000 cells, 12 dropped (max_pct_mt: 4; min_genes 8)"),  # of a module
        ("load", [], "load: done"),
    ],
)
def test_the_last_line_of_the_step_is_its_result(rule, wildcards, result):
    assert find_result(rule, wildcards, LOG) == result


def job(event, **facts):
    return SimpleNamespace(event=event, **facts)


def start(number, rule, log, **wildcards):
    return job(LogEvent.JOB_INFO, jobid=number, rule_name=rule, wildcards=wildcards, log=[str(log)])


def end(number):
    return job(LogEvent.JOB_FINISHED, job_id=number)


def test_results_are_printed_when_jobs_end(tmp_path, caplog):
    log, file = tmp_path / "00.log", tmp_path / "run/found.txt"
    file.parent.mkdir()
    file.write_text("load: of the run before\n")
    findings = Findings(file)
    findings.emit(start(1, "qc", log, shard="00"))
    findings.emit(start(2, "load", tmp_path / "missing.log"))
    assert file.read_text() == "load: of the run before\n"  # a dry run starts jobs and ends none
    log.write_text(LOG)
    with caplog.at_level(logging.INFO, logger=logger.name):
        for number in (2, 1, 1, 7):  # a job ends once; the target has no log and is not known
            findings.emit(end(number))
    lines = ["load: done", "qc 00: 3,000 cells, 12 dropped (max_pct_mt: 4; min_genes 8)"]
    assert file.read_text().splitlines() == lines
    assert [record.getMessage() for record in caplog.records] == lines


def test_a_file_that_cannot_be_written_does_not_stop_the_run(tmp_path, caplog):
    (tmp_path / "run").write_text("a file where the folder should be")
    with caplog.at_level(logging.INFO, logger=logger.name):
        Findings(tmp_path / "run/found.txt").write("qc: 3 cells")
    result, warning = [record.getMessage() for record in caplog.records]
    assert result == "qc: 3 cells"
    assert "run/found.txt not written" in warning


def test_a_workflow_read_twice_prints_once(tmp_path):
    before = list(logger.handlers)
    try:
        listen(tmp_path)
        listen(tmp_path / "other")
        (only,) = [each for each in logger.handlers if isinstance(each, Findings)]
        assert only.file == tmp_path / "other/run/found.txt"
    finally:
        logger.handlers[:] = before
