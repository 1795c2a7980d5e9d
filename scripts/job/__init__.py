"""The glue around every main: log, threads, atomic outputs, records, failures, progress.

It sees paths and never data. Other parts import from here, not from the modules behind it.
"""

from job._context import job
from job._ending import gather, summary
from job._failures import CorruptedInput, InputError, classify, read_failures
from job._findings import listen
from job._performance import INTERVAL_S, beside_benchmark, read_record
from job._progress import Progress, stage, told

__all__ = [
    "INTERVAL_S",
    "CorruptedInput",
    "InputError",
    "Progress",
    "beside_benchmark",
    "classify",
    "gather",
    "job",
    "listen",
    "read_failures",
    "read_record",
    "stage",
    "summary",
    "told",
]
