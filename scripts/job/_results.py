"""The main result of each job: one line in its record, on the terminal when it ends, and in run/results.txt.

`conclude` states it within the job. Snakemake sends its loggers an event for every job that starts or ends,
so the main process prints the lines, also on a cluster: `qc 00: 98,214 cells, 2,931 dropped (...)`.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from job._performance import beside_benchmark, read_record
from job._warnings import clean, step_of

_records: list[dict] = []  # of the job that runs; a list, so that jobs may nest in tests


@contextlib.contextmanager
def collect_result(record: dict) -> Iterator[None]:
    """Add what `conclude` states in this block to the record, as `result`."""
    _records.append(record)
    try:
        yield
    finally:
        _records.pop()


def conclude(result: str) -> None:
    """State the main result of the job, in one line without the name of the step.

    Raises RuntimeError outside of a job, and where the job has concluded already.
    """
    if not _records or "result" in _records[-1]:
        raise RuntimeError(f"{result!r}: a job concludes once, and only a job does")
    _records[-1]["result"] = clean(result)
    print(f"result: {clean(result)}", flush=True)


class ResultPrinter(logging.Handler):
    """Handler of Snakemake's logger; the first job that ends overwrites `file`.

    jobs: wildcards and log of running jobs by id. written: number of lines in the file.
    """

    def __init__(self, file: Path):
        super().__init__()
        self.file, self.jobs, self.written = file, {}, 0

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a job that starts; print the result of a job that ends."""
        from snakemake_interface_logger_plugins.common import LogEvent  # slow, and not needed within a job

        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO and record.log:
            self.jobs[record.jobid] = list(record.wildcards.values()), record.log[0]
        elif event == LogEvent.JOB_FINISHED and record.job_id in self.jobs:
            self.write(describe_result(*self.jobs.pop(record.job_id)))

    def write(self, line: str) -> None:
        """Print a line and append it to the file; a full disk must not stop the run."""
        from snakemake.logging import logger

        logger.info(line)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "a" if self.written else "w", encoding="utf-8") as handle:
                handle.write(f"{line}\n")
            self.written += 1
        except OSError as error:
            logger.warning(f"{self.file} not written: {error}")


def describe_result(wildcards: list[str], log: str) -> str:
    """Step, wildcards and result of the job with this log; without a result in its record it is `done`."""
    record = read_record(beside_benchmark(Path(log), ".perf.json")) or {}
    return f"{' '.join([step_of(log), *wildcards])}: {record.get('result', 'done')}"


def print_results(folder: Path) -> ResultPrinter:
    """Print the results of jobs from now on. folder: the results of the run."""
    from snakemake.logging import logger

    for handler in [handler for handler in logger.handlers if isinstance(handler, ResultPrinter)]:
        logger.removeHandler(handler)  # of a workflow that this process has read before
    printer = ResultPrinter(folder / "run/results.txt")
    logger.addHandler(printer)
    return printer
