"""The glue around every main: log, threads, atomic outputs, records, failures, warnings, progress.

It sees paths and never data. Other parts import from here, not from the modules of this folder.
"""

from job._codes import BY_STEP, CODES
from job._context import job
from job._ending import gather_failures, summarise_failures
from job._failures import CorruptedInput, InputError, classify, read_failures
from job._performance import INTERVAL_S, beside_benchmark, read_record
from job._progress import Progress, announce, track_progress
from job._results import conclude, print_results
from job._warnings import (
    WARNING_COLUMNS,
    collect_warnings,
    gather_warnings,
    raise_if_error,
    read_warnings,
    summarise_warnings,
    warn,
    write_rows,
    write_run_warnings,
)

__all__ = [
    "BY_STEP",
    "CODES",
    "INTERVAL_S",
    "WARNING_COLUMNS",
    "CorruptedInput",
    "InputError",
    "Progress",
    "announce",
    "beside_benchmark",
    "classify",
    "collect_warnings",
    "conclude",
    "gather_failures",
    "gather_warnings",
    "job",
    "print_results",
    "raise_if_error",
    "read_failures",
    "read_record",
    "read_warnings",
    "summarise_failures",
    "summarise_warnings",
    "track_progress",
    "warn",
    "write_rows",
    "write_run_warnings",
]
