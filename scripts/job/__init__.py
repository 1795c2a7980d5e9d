"""What every script needs around its main: log, threads, atomic outputs, records, failures, progress.

It sees paths and never data. Other parts import from here, not from the modules of this folder.
"""

from job._context import job
from job._ending import gather_failures, summarise_failures
from job._failures import CorruptedInput, InputError, classify, read_failures
from job._findings import listen
from job._performance import INTERVAL_S, beside_benchmark, read_record
from job._progress import Progress, announce, track_progress

__all__ = [
    "INTERVAL_S",
    "CorruptedInput",
    "InputError",
    "Progress",
    "announce",
    "beside_benchmark",
    "classify",
    "gather_failures",
    "job",
    "listen",
    "read_failures",
    "read_record",
    "summarise_failures",
    "track_progress",
]
