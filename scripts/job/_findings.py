"""Print the result of each job in one line when it ends, and write it to <results>/run/found.txt.

The line is the last one in the log of the job that begins with the name of the step: `qc: 98,214 cells, 2,931
dropped (...)`. Snakemake sends its loggers an event for every job that starts or ends, so the lines are
printed by the main process, also on a cluster.
"""

import logging
from pathlib import Path


class Findings(logging.Handler):
    """Handler of Snakemake's logger; the first job that ends overwrites `file`.

    jobs: running jobs by id. told: number of lines written.
    """

    def __init__(self, file: Path):
        super().__init__()
        self.file, self.jobs, self.told = file, {}, 0

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a job that starts; print the result of a job that ends."""
        from snakemake_interface_logger_plugins.common import LogEvent  # slow, and not needed within a job

        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO and record.log:
            self.jobs[record.jobid] = record.rule_name, list(record.wildcards.values()), record.log[0]
        elif event == LogEvent.JOB_FINISHED and record.job_id in self.jobs:
            rule, wildcards, log = self.jobs.pop(record.job_id)
            self.write(find_result(rule, wildcards, read_log(Path(log))))

    def write(self, line: str) -> None:
        """Print a line and append it to the file; a full disk must not stop the run."""
        from snakemake.logging import logger

        logger.info(line)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "a" if self.told else "w", encoding="utf-8") as handle:
                handle.write(f"{line}\n")
            self.told += 1
        except OSError as error:
            logger.warning(f"{self.file} not written: {error}")


def read_log(log: Path) -> str:
    """Text of a log; empty if it does not exist (yet)."""
    try:
        return log.read_text(errors="replace", encoding="utf-8")
    except OSError:
        return ""


def find_result(rule: str, wildcards: list[str], text: str) -> str:
    """The last line of a log that begins with the step of the rule, with the wildcards after the step.

    A rule of a module may have a prefix. Without such a line the result is `done`.
    """
    lines = [line.partition(": ") for line in text.splitlines()]
    results = [
        (step, result) for step, _, result in lines if step and result and f"_{rule}".endswith(f"_{step}")
    ]
    step, result = results[-1] if results else (rule, "done")
    return f"{' '.join([step, *wildcards])}: {result.strip()}"


def listen(results: Path) -> Findings:
    """Print the results of jobs from now on."""
    from snakemake.logging import logger

    for handler in [handler for handler in logger.handlers if isinstance(handler, Findings)]:
        logger.removeHandler(handler)  # of a workflow that this process has read before
    findings = Findings(results / "run/found.txt")
    logger.addHandler(findings)
    return findings
