"""The result of a finished job: stated once, kept in its record, printed in the order in which jobs end."""

import json
import logging
from types import SimpleNamespace

import pytest
from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from job import conclude
from job._results import ResultPrinter, collect_result, describe_result, print_results

RESULT = "3,000 cells, 12 dropped (max_pct_mt: 4; min_genes 8)"


def write_record(folder, job, **facts):
    """The log of a job whose record has these facts."""
    path = folder / f"results/benchmarks/{job}.perf.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts))
    return folder / f"results/logs/{job}.log"


def test_a_result_is_one_line_of_the_record(capsys):
    record = {}
    with collect_result(record):
        conclude("T cells\nof 3 donors")
    assert record == {"result": "T cells of 3 donors"}
    assert capsys.readouterr().out == "result: T cells of 3 donors\n"


def test_a_job_concludes_once():
    with pytest.raises(RuntimeError, match="concludes once"):
        conclude("outside of a job")
    with collect_result({}):
        conclude("once")
        with pytest.raises(RuntimeError, match="concludes once"):
            conclude("twice")


@pytest.mark.parametrize(
    ("job", "wildcards", "line"),
    [
        ("qc/00", ["00"], f"qc 00: {RESULT}"),
        ("ridge_summary", [], f"ridge_summary: {RESULT}"),
    ],
)
def test_a_line_has_step_wildcards_and_result(tmp_path, job, wildcards, line):
    assert describe_result(wildcards, str(write_record(tmp_path, job, result=RESULT))) == line


def test_without_a_result_a_job_is_done(tmp_path):
    assert describe_result([], str(write_record(tmp_path, "load", status="ok"))) == "load: done"
    assert describe_result([], str(tmp_path / "results/logs/missing.log")) == "missing: done"


def event(kind, **facts):
    return SimpleNamespace(event=kind, **facts)


def start(number, log, **wildcards):
    return event(LogEvent.JOB_INFO, jobid=number, wildcards=wildcards, log=[str(log)])


def end(number):
    return event(LogEvent.JOB_FINISHED, job_id=number)


def test_results_are_printed_when_jobs_end(tmp_path, caplog):
    file = tmp_path / "run/results.txt"
    file.parent.mkdir()
    file.write_text("load: of the run before\n")
    printer = ResultPrinter(file)
    printer.emit(start(1, tmp_path / "results/logs/qc/00.log", shard="00"))
    printer.emit(start(2, tmp_path / "results/logs/load.log"))
    assert file.read_text() == "load: of the run before\n"  # a dry run starts jobs and ends none
    write_record(tmp_path, "qc/00", result=RESULT)
    with caplog.at_level(logging.INFO, logger=logger.name):
        for number in (2, 1, 1, 7):  # a job ends once; the target has no log and is not known
            printer.emit(end(number))
    lines = ["load: done", f"qc 00: {RESULT}"]
    assert file.read_text().splitlines() == lines
    assert [record.getMessage() for record in caplog.records] == lines


def test_a_file_that_cannot_be_written_does_not_stop_the_run(tmp_path, caplog):
    (tmp_path / "run").write_text("a file where the folder should be")
    with caplog.at_level(logging.INFO, logger=logger.name):
        ResultPrinter(tmp_path / "run/results.txt").write("qc: 3 cells")
    result, warning = [record.getMessage() for record in caplog.records]
    assert result == "qc: 3 cells"
    assert "run/results.txt not written" in warning


def test_a_workflow_read_twice_prints_once(tmp_path):
    before = list(logger.handlers)
    try:
        print_results(tmp_path)
        print_results(tmp_path / "other")
        (printer,) = [handler for handler in logger.handlers if isinstance(handler, ResultPrinter)]
        assert printer.file == tmp_path / "other/run/results.txt"
    finally:
        logger.handlers[:] = before
