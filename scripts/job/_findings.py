"""What each step found, one line when its job ends: on the terminal, and in <results>/run/found.txt.

The line is the last of the job's log that begins with the step's name: `qc: 98,214 cells, 2,931 dropped
(...)`. Snakemake tells its loggers of every job that starts and ends, wherever it runs, so only the process
that plans and submits prints, also on a cluster.
"""

import logging
from pathlib import Path


class Findings(logging.Handler):
    """Listens to Snakemake's own logger; `file` is begun anew by the first job that ends."""

    def __init__(self, file: Path):
        super().__init__()
        self.file, self.jobs, self.told = file, {}, 0

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a job that starts, and tell what one that ends has found."""
        from snakemake_interface_logger_plugins.common import LogEvent  # not needed, and slow, in a job

        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO and record.log:
            self.jobs[record.jobid] = record.rule_name, list(record.wildcards.values()), record.log[0]
        elif event == LogEvent.JOB_FINISHED and record.job_id in self.jobs:
            rule, wildcards, log = self.jobs.pop(record.job_id)
            self.tell(found(rule, wildcards, read(Path(log))))

    def tell(self, line: str) -> None:
        """Print a line and append it to the file; a full disk must not stop the run."""
        from snakemake.logging import logger

        logger.info(line)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "a" if self.told else "w", encoding="utf-8") as handle:
                handle.write(f"{line}\n")
            self.told += 1
        except OSError as error:
            logger.warning(f"not written: {error}")


def read(log: Path) -> str:
    """Text of a log; empty when it is not here, or not yet."""
    try:
        return log.read_text(errors="replace", encoding="utf-8")
    except OSError:
        return ""


def found(rule: str, wildcards: list[str], text: str) -> str:
    """The last line of a log that begins with the rule's step, with the wildcards behind the step's name.

    A module may have given the rule a prefix. Without such a line the job is `done`.
    """
    lines = [line.partition(": ") for line in text.splitlines()]
    own = [(step, said) for step, _, said in lines if step and said and f"_{rule}".endswith(f"_{step}")]
    step, said = own[-1] if own else (rule, "done")
    return f"{' '.join([step, *wildcards])}: {said.strip()}"


def listen(results: Path) -> Findings:
    """Tell what jobs find from now on."""
    from snakemake.logging import logger

    for handler in [each for each in logger.handlers if isinstance(each, Findings)]:
        logger.removeHandler(handler)  # of a workflow that was read before in this process
    findings = Findings(results / "run/found.txt")
    logger.addHandler(findings)
    return findings
