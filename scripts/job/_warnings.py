"""Warnings: a fact that changes how a number is read, with a code, as a row of a table that people see.

`warn` notes a row; when the job succeeds, its rows become its declared output `warnings`, renamed into place
with the others. A declared output and not a record beside the benchmark, so that Snakemake knows when a table
is missing, moves it between nodes, and makes page and release again when it changes. Config section
`warnings` comes by the environment, as `retries` does: as a param it would rerun jobs that are done. Their
warnings are judged by rule warning_table, which has the section as params.
"""

import contextlib
import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from job._codes import CODES
from job._failures import InputError

SETTINGS = "SCOHORT_WARNINGS"  # config section `warnings`, as JSON
WARNING_COLUMNS = ["code", "step", "message", "number", "setting"]
LINES = 20  # on the terminal

_collected: list[list[dict]] = []  # of the job that runs; a list of lists, so that jobs may nest in tests


@contextlib.contextmanager
def collect_warnings() -> Iterator[list[dict]]:
    """Collect what is warned of in this block, from any thread: code, message, number, setting."""
    _collected.append([])
    try:
        yield _collected[-1]
    finally:
        _collected.pop()


def warn(code: str, message: str, *, count: int | None = None, setting: str = "") -> None:
    """Note a fact that changes how a number is read; the job goes on.

    code: one of CODES. message: names what it is about (file, covariate, donor, cell type, contrast), since
    tables of all jobs are put together, and holds nothing that depends on shards or threads. count: how many
    cells, genes, ... it is about. setting: the config key that changes it, like `load.symbols`.
    Raises ValueError for another code, RuntimeError outside of a job, and InputError when the config makes
    the code an error.
    """
    if code not in CODES:
        raise ValueError(f"{code!r} is not a warning code; add it to scripts/job/_codes.py")
    if not _collected:
        raise RuntimeError(f"{code}: warned of outside of a job")
    row = {"code": code, "message": clean(message), "number": count, "setting": setting}
    raise_if_error([row], json.loads(os.environ.get(SETTINGS, "{}")).get("error", []))
    if row not in _collected[-1]:
        _collected[-1].append(row)
        print(f"warning: {describe(row)}", flush=True)


def clean(text: str) -> str:
    """One line that prints and needs no quotes in a table: labels come from files and may hold anything."""
    line = " ".join(text.split()).replace('"', "'")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)


def describe(row: dict) -> str:
    """A warning as one line: `code: message (setting)`."""
    return f"{row['code']}: {row['message']}" + (f" ({row['setting']})" if row["setting"] else "")


def raise_if_error(rows: Iterable[dict], error: Iterable[str]) -> None:
    """Raise InputError for the first row with a code of config key `warnings.error`."""
    for row in rows:
        if row["code"] in error:
            raise InputError(
                f"{describe(row)}; warnings.error makes {row['code']} an error; correct it, "
                "or remove the code there"
            )


def step_of(log: str) -> str:
    """The step of a job by its log, whatever a module adds to the rule: `results/logs/qc/00.log` -> `qc`."""
    parts = Path(log).parts
    return parts[len(parts) - parts[::-1].index("logs")].removesuffix(".log")


def write_warnings(path: str | Path, step: str, rows: list[dict]) -> None:
    """Write the table of a job; without rows it has its header only."""
    write_rows(path, WARNING_COLUMNS, [{"step": step, **row} for row in rows])


def write_rows(path: str | Path, columns: list[str], rows: list[dict]) -> None:
    """Write a TSV with these columns; None is empty."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_warnings(path: str | Path) -> list[dict]:
    """The rows of a table of warnings, all text."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def gather_warnings(rows: Iterable[dict], *, accept: list[str]) -> list[dict]:
    """The warnings of several jobs, once each, in the order of CODES, then of messages.

    Jobs of one step may warn of the same fact, such as every shard of a pattern without a gene. accept:
    config key `warnings.accept`; column `accepted` is "True" or "False". A code that is not known comes last.
    """
    distinct = {tuple(row[name] for name in WARNING_COLUMNS) for row in rows}
    order = {code: number for number, code in enumerate(CODES)}
    ordered = sorted(distinct, key=lambda row: (order.get(row[0], len(order)), row))
    return [
        {**dict(zip(WARNING_COLUMNS, row, strict=True)), "accepted": str(row[0] in accept)} for row in ordered
    ]


def summarise_warnings(rows: list[dict], path: str | Path) -> str:
    """Lines for the terminal, those of a code together: at most LINES warnings, then how many more and where.

    rows: as gather_warnings gives them. Accepted ones are counted only. Empty when there is none.
    """
    open_rows = [row for row in rows if row["accepted"] != "True"]
    accepted = len(rows) - len(open_rows)
    codes: dict[str, list[dict]] = {}
    for row in open_rows:
        codes.setdefault(row["code"], []).append(row)
    lines = [f"  {describe(row)}" for code in codes.values() for row in _first(code, len(codes))]
    lines, left = lines[:LINES], len(open_rows) - len(lines[:LINES])
    if not rows:
        return ""
    noun = "warning" if len(open_rows) == 1 else "warnings"
    head = f"{len(open_rows)} {noun}" + (f" ({accepted} accepted not shown)" if accepted else "")
    lines += [f"  and {left} more"] if left else []
    return "".join(f"{line}\n" for line in [f"{head}, all in {path}:", *lines])


def write_run_warnings(results: Path, tables: list[Path], *, accept: list[str]) -> str:
    """Write <results>/run/warnings.tsv, the warnings of every job with its name; returns what to print.

    tables: of the jobs of a run, <results>/warnings/<job>.tsv, whether they ran now or before; those of jobs
    that have not ended are missing. An OSError is printed, as it must not hide how the run ended.
    """
    rows, folder, file = [], results / "warnings", results / "run/warnings.tsv"
    for table in tables:
        name = str(table.relative_to(folder)).removesuffix(".tsv")
        rows += [{**row, "job": name} for row in read_warnings(table)] if table.exists() else []
    known = [{**row, "accepted": str(row["code"] in accept)} for row in rows]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_rows(file, [*WARNING_COLUMNS, "accepted", "job"], known)
    except OSError as error:
        print(f"warnings not written to {file}: {error}", file=sys.stderr)
    return summarise_warnings(gather_warnings(rows, accept=accept), file)


def _first(rows: list[dict], codes: int) -> list[dict]:
    """As many rows of one code as leave room for the other codes."""
    return rows[: max(1, LINES // codes)]
