"""Classify the failure of a job, and decide whether it is tried again.

Structured facts come first: the state of the scheduler, the out-of-memory kills of the cgroup, the types and
errno of the exception chain, the exit code or signal. Printed text comes last, without paths and quoted
labels, so that a folder called `preempt_study` has no influence.
"""

import errno
import json
import re
import signal
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from gzip import BadGzipFile
from pathlib import Path
from random import Random


class InputError(ValueError):
    """A problem that the user can fix: the message names the thing, the value and the setting to change."""


class CorruptedInput(InputError):
    """A damaged or truncated file: another copy is needed, not another setting."""


class Stopped(BaseException):
    """The job got a signal to stop; the first argument is the number of the signal."""


class Category(StrEnum):
    """Who has to act: nobody, the scheduler, the user, the source of the input, the developer, anyone."""

    TRANSIENT_IO = "transient_io"
    EXECUTOR = "executor"
    CONFIGURATION = "configuration"
    CORRUPTED_INPUT = "corrupted_input"
    ANALYSIS_CRASH = "analysis_crash"
    UNKNOWN = "unknown"


DETERMINISTIC = {Category.CONFIGURATION, Category.CORRUPTED_INPUT, Category.ANALYSIS_CRASH}


@dataclass(frozen=True)
class Diagnosis:
    """A category, its kind (oom, timeout, disk_full, ...; may be empty) and the fact that decided."""

    category: Category
    kind: str
    evidence: str


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Number and delays of retries within a job for one category; config section `retries`.

    Delay before retry n (from 1), in seconds: min(base_delay * backoff_factor^(n - 1), max_delay) * (1 + u),
    u uniform in 0 to jitter.
    """

    max_retries: int
    base_delay: float
    backoff_factor: float
    jitter: float
    max_delay: float

    def delay(self, retry: int, random: Random) -> float:
        """Seconds to wait before this retry, counted from 1."""
        nominal = min(self.base_delay * self.backoff_factor ** (retry - 1), self.max_delay)
        return nominal * (1 + self.jitter * random.random())


@dataclass(frozen=True)
class Retries:
    """The policies of config section `retries`, and its limits for all categories together."""

    policies: dict[str, RetryPolicy]
    max_total: int  # retries of one attempt, all categories together
    deadline: float  # seconds after the first start of the job; no retry begins later

    def delay(self, category: str, done: dict[str, int], elapsed: float, random: Random) -> float | None:
        """Seconds to wait before the job starts itself again; None if it must not.

        done: retries so far by category. elapsed: seconds since the job's first start.
        """
        policy, retry = self.policies.get(category), done.get(category, 0) + 1
        if policy is None or retry > policy.max_retries or sum(done.values()) >= self.max_total:
            return None
        delay = policy.delay(retry, random)
        return delay if elapsed + delay <= self.deadline else None


def read_retries(text: str | None) -> Retries:
    """Config section `retries` from JSON, as rules/ending.smk passes it; without it there are no retries.

    Raises ValueError for a policy of a deterministic category: the outcome of a retry would be the same.
    """
    section = json.loads(text) if text else {"max_total": 0, "deadline": 0}
    limits = {name: section.pop(name) for name in ("max_total", "deadline")}
    policies = {Category(name): RetryPolicy(**policy) for name, policy in section.items()}
    if DETERMINISTIC & policies.keys():
        raise ValueError(f"retries: {', '.join(DETERMINISTIC & policies.keys())} would end the same again")
    return Retries(policies, **limits)


STATES = {  # of the scheduler, as sacct prints them
    "OUT_OF_MEMORY": "oom",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "NODE_FAIL": "node_lost",
    "BOOT_FAIL": "node_lost",
    "PREEMPTED": "preempted",
    "CANCELLED": "cancelled",
}
TRANSIENT_ERRNO = {
    *(
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.ETIMEDOUT,
        errno.ESTALE,
        errno.ENOLCK,
        errno.EPIPE,
    ),
    *(errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.ENETUNREACH),
    *(errno.ENETDOWN, errno.ENETRESET, errno.EREMOTEIO),
}
FULL_ERRNO = {errno.ENOSPC, errno.EDQUOT}
CORRUPTED_TYPES = BadGzipFile, zlib.error, EOFError, json.JSONDecodeError, UnicodeDecodeError
FILE_TYPES = FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError
NETWORK_TYPES = ConnectionError, TimeoutError, BlockingIOError, InterruptedError
TYPES = [  # the first that matches decides, so that InputError comes before the ValueErrors among the others
    (CorruptedInput, Category.CORRUPTED_INPUT, ""),
    (InputError, Category.CONFIGURATION, ""),
    (CORRUPTED_TYPES, Category.CORRUPTED_INPUT, ""),
    (FILE_TYPES, Category.CONFIGURATION, "file"),
    (ImportError, Category.CONFIGURATION, "environment"),
    (MemoryError, Category.EXECUTOR, "oom"),
    (NETWORK_TYPES, Category.TRANSIENT_IO, "network"),
    (KeyboardInterrupt, Category.EXECUTOR, "interrupted"),
    ((LookupError, AttributeError, TypeError), Category.ANALYSIS_CRASH, ""),
    ((AssertionError, ArithmeticError, NameError), Category.ANALYSIS_CRASH, ""),
]
SIGNALS = {
    signal.SIGKILL: (Category.EXECUTOR, "killed"),
    signal.SIGTERM: (Category.EXECUTOR, "terminated"),
    signal.SIGXCPU: (Category.EXECUTOR, "timeout"),
    signal.SIGINT: (Category.EXECUTOR, "interrupted"),
    **dict.fromkeys(
        (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
        (Category.ANALYSIS_CRASH, "signal"),
    ),
}
TEXTS = {  # (category, kind): patterns in printed text, the most specific first
    (Category.EXECUTOR, "oom"): (
        r"out[ _-]of[ _-]memory|oom[-_ ]?kill|\bOOM\b|unable to allocate|cannot allocate memory|bad_alloc",
        r"\bmemoryerror\b|exceeded (the )?(job )?memory limit",
    ),
    (Category.EXECUTOR, "timeout"): (
        r"due to time limit|exceeded (the )?(wall|run) ?time|state[ =:]+timeout",
    ),
    (Category.EXECUTOR, "node_lost"): (r"\bnode_fail\b|node failure|\blost (the )?node\b|workers? died",),
    (Category.EXECUTOR, "preempted"): (r"\bpreempted\b|due to preemption",),
    (Category.EXECUTOR, "killed"): (
        r"process pool was terminated abruptly|worker process .* was unexpectedly terminated|\bsigkill\b",
    ),
    (Category.EXECUTOR, "cancelled"): (r"\bcancelled by\b|\*\*\* (job|step) .* cancelled",),
    (Category.CONFIGURATION, "disk_full"): (r"no space left on device|disk quota exceeded",),
    (Category.TRANSIENT_IO, "network"): (
        r"connection (refused|reset|aborted|timed out)|read timed out|remote end closed connection",
        r"temporary failure in name resolution|network is unreachable|no route to host|too many requests",
        r"\b(502|503|504)\b.*(gateway|unavailable|server error)|\bhttp (502|503|504)\b",
    ),
    (Category.TRANSIENT_IO, "file_system"): (
        r"stale (nfs )?file handle|input/output error|resource temporarily unavailable|unable to lock file",
        r"transport endpoint is not connected|device or resource busy",
    ),
    (Category.CORRUPTED_INPUT, ""): (
        r"truncated file|not a gzipped file|crc check failed|file signature not found|bad magic",
        r"\bcorrupt(ed)?\b",
        r"compressed file ended|unexpected end of (file|data)|incorrect header check|inflate\(\) failed",
        r"checksum (mismatch|does not match)|parquet magic bytes not found",
    ),
    (Category.ANALYSIS_CRASH, "signal"): (
        r"segmentation fault|\bsig(segv|abrt)\b|bus error \(core|illegal instruction|double free|core dumped",
    ),
    (Category.CONFIGURATION, ""): (
        r"no such file or directory|permission denied|command not found|modulenotfounderror|no module named",
        r"unrecognized arguments|mapping values are not allowed|scannererror|is not of type",
    ),
    (Category.ANALYSIS_CRASH, ""): (
        r"\b(key|attribute|index|type|value|assertion|name|runtime)error\b",
        r"\b(zerodivision|recursion|linalg|notimplemented|overflow)error\b",
    ),
}
PATHS_AND_QUOTES = r"(?<!\w)(\.{0,2}|~)/[\w./+-]+|[\w.+-]+(/[\w.+-]+){2,}|'[^']*'|\"[^\"]*\""


def read_failures(path: Path) -> list[dict]:
    """The failures noted in a file, one JSON a line; a line that a full disk cut off is left out."""
    lines = path.read_text(errors="replace", encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def classify(
    exception: BaseException | None = None,
    *,
    exit_code: int | None = None,
    state: str = "",
    oom_kills: int = 0,
    text: str = "",
) -> Diagnosis:
    """Find the category of a failure.

    exception: with its chain of causes. exit_code: of a process; negative or above 128 for a signal.
    state: of the scheduler, such as OUT_OF_MEMORY or "CANCELLED by 0".
    oom_kills: number of new ones in the cgroup of the job.
    text: printed output; used only if nothing else decides.
    """
    word = state.split()[0].rstrip("+") if state else ""
    if word in STATES:
        return Diagnosis(Category.EXECUTOR, STATES[word], f"scheduler state {state}")
    links = list(_walk_causes(exception))
    if oom_kills and not any(isinstance(link, InputError) for link in links):
        return Diagnosis(Category.EXECUTOR, "oom", f"{oom_kills} out-of-memory kills in the cgroup")
    for link in links:
        if diagnosis := _classify_exception(link):
            return diagnosis
    for code in (exit_code, *(_exit_code_of(link) for link in links)):
        if diagnosis := _classify_exit_code(code, text):
            return diagnosis
    printed = "\n".join([text, *(f"{type(link).__name__}: {message_of(link)}" for link in links)])
    return _classify_text(printed) or Diagnosis(Category.UNKNOWN, "", "nothing known")


def message_of(exception: BaseException) -> str:
    """The message of an exception with its notes, such as the cell type in which it was raised."""
    return "; ".join([str(exception), *getattr(exception, "__notes__", [])])


def _walk_causes(exception: BaseException | None) -> Iterator[BaseException]:
    """The exception and its causes, the outermost first."""
    seen = set()
    while exception is not None and id(exception) not in seen:
        seen.add(id(exception))
        yield exception
        exception = exception.__cause__ or exception.__context__


def _classify_exception(link: BaseException) -> Diagnosis | None:
    """Diagnosis by the type or errno of one exception; None if these do not decide."""
    evidence = f"{type(link).__name__}: {' '.join(message_of(link).split())[:200]}"
    for types, category, kind in TYPES:
        if isinstance(link, types):
            return Diagnosis(category, kind, evidence)
    if isinstance(link, OSError) and link.errno in TRANSIENT_ERRNO:
        return Diagnosis(Category.TRANSIENT_IO, errno.errorcode[link.errno], evidence)
    if isinstance(link, OSError) and link.errno in FULL_ERRNO:
        return Diagnosis(Category.CONFIGURATION, "disk_full", evidence)
    return None


def _exit_code_of(link: BaseException) -> int | None:
    """The exit code in an exception; None without one."""
    if isinstance(link, Stopped):
        return -link.args[0]
    return link.returncode if isinstance(link, subprocess.CalledProcessError) else None


def _classify_exit_code(code: int | None, text: str) -> Diagnosis | None:
    """Diagnosis by the signal in an exit code; None for an exit code without a signal."""
    number = -code if code is not None and code < 0 else (code or 0) - 128
    if number not in SIGNALS:
        return None
    category, kind = SIGNALS[signal.Signals(number)]
    diagnosis = _classify_text(text)
    if diagnosis and diagnosis.category is Category.EXECUTOR:
        return diagnosis
    return Diagnosis(category, kind, f"exit code {code} ({signal.Signals(number).name})")


def _classify_text(text: str) -> Diagnosis | None:
    """Diagnosis by printed text, last line first, without paths and quoted words; None if no line decides."""
    for line in reversed(text.splitlines()):
        plain = re.sub(PATHS_AND_QUOTES, " ", line)
        for (category, kind), patterns in TEXTS.items():
            if re.search("|".join(patterns), plain, flags=re.IGNORECASE):
                return Diagnosis(category, kind, line.strip()[:200])
    return None
