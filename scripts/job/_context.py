"""The glue around every step's main: log, threads, atomic outputs, records of cost and failure.

It cannot change a number. `with job(snakemake) as out:` yields temporary paths next to the declared outputs
and renames them to their final names together when the block succeeds. When the block fails, the failure is
classified: after a transient failure the script starts again after a delay; after a deterministic failure
further attempts of Snakemake stop at once, because their outcome would be the same. Config section `retries`
sets the delays. It comes as an environment variable, because as a param it would rerun finished jobs.
"""

import contextlib
import io
import json
import os
import signal
import socket
import sys
import time
import traceback
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import SimpleNamespace

from job._failures import (
    DETERMINISTIC,
    CorruptedInput,
    InputError,
    Stopped,
    classify,
    message_of,
    read_failures,
    read_retries,
)
from job._performance import beside_benchmark, oom_kills, read_record, record
from job._results import collect_result
from job._warnings import collect_warnings, step_of, write_warnings

__all__ = ["CorruptedInput", "InputError", "job"]
RETRIES = "SCOHORT_RETRIES"  # config section `retries`, as JSON
RETRIED = "SCOHORT_RETRIED"  # retries of this process before it started the script again: counts, first start


@contextlib.contextmanager
def job(snakemake):
    """Run a step's main and yield temporary paths for its outputs.

    snakemake: the script object; uses its input, output, log, threads, rule, wildcards and resources.
    Yields a namespace with one temporary path (str), or list of them, per named output.
    Output `warnings`, which a step that calls `warn` declares, is written here.
    An InputError ends the job with its message as the only line; any other exception with its traceback.
    """
    log = Path(snakemake.log[0])
    failures = beside_benchmark(log, ".failures.jsonl")
    retried = json.loads(os.environ.pop(RETRIED, '{"first": 0, "counts": {}}'))
    retried["first"] = retried["first"] or time.time()
    is_retry = bool(retried["counts"])
    with _redirect_output(log, append=is_retry), _catch_sigterm(), _limit_threads(snakemake.threads):
        if not is_retry:
            _check_earlier_attempt(failures, snakemake, read_record(beside_benchmark(log, ".perf.json")))
        before = oom_kills()
        with record(snakemake, log, born=retried.get("restarted")) as facts:
            try:
                with (
                    _open_outputs(snakemake.output) as out,
                    collect_warnings() as rows,
                    collect_result(facts),
                ):
                    yield out
                    _write_warnings(out, snakemake, rows)
            except (Exception, KeyboardInterrupt, Stopped) as error:
                diagnosis = classify(error, oom_kills=oom_kills() - before)
                facts.update(category=diagnosis.category, kind=diagnosis.kind)
                exception = error
            else:
                return
        message = _format_error(exception)
        _print_to_log(message)
        _record_failure(failures, snakemake, diagnosis, message, retry=sum(retried["counts"].values()))
        if not isinstance(exception, Stopped | KeyboardInterrupt):
            _start_again_if_policy_allows(diagnosis.category, retried)
        raise SystemExit(128 + exception.args[0] if isinstance(exception, Stopped) else 1) from exception


def _write_warnings(out, snakemake, rows):
    """Write what the job warned of into its output `warnings`; a rule without one must not warn."""
    if hasattr(out, "warnings"):
        write_warnings(out.warnings, step_of(snakemake.log[0]), rows)
    elif rows:
        raise RuntimeError(f"{rows[0]['code']}: rule {snakemake.rule} needs an output named warnings")


def _format_error(error):
    """The message of an InputError as one line; the traceback of any other exception."""
    if isinstance(error, InputError):
        return f"error: {message_of(error)}"
    return "".join(traceback.format_exception(error))


def _print_to_log(line):
    """Print to the log; if its disk is full, the line stays in the buffer and is printed to the terminal."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _check_earlier_attempt(failures, snakemake, earlier):
    """Record the failure of an earlier attempt; exit at once if this attempt would fail in the same way.

    failures: the file with this job's failures; the first attempt removes it. earlier: the performance
    record of the attempt before, or None; if its status is still `running`, that attempt was killed.
    """
    attempt = snakemake.resources.get("attempt", 1)
    if attempt == 1:
        failures.unlink(missing_ok=True)
        return
    if earlier and earlier["status"] == "running":
        is_same_host = earlier["host"] == socket.gethostname()
        kills = oom_kills() - earlier["oom_kills_before"] if is_same_host else 0
        diagnosis = classify(exit_code=-signal.SIGKILL, oom_kills=kills)
        message = (
            f"killed without a message after {earlier['wall_time_s']} s, with {earlier['peak_rss_mb']} MB"
        )
        diagnosis = replace(diagnosis, evidence=f"{diagnosis.evidence}: {message}")
        _record_failure(failures, snakemake, diagnosis, message, attempt=earlier["attempt"])
    records = read_failures(failures)
    if records and records[-1]["category"] in DETERMINISTIC:
        _print_to_log(f"not tried again, the outcome would be the same: {records[-1]['evidence']}")
        raise SystemExit(1)


def _record_failure(failures, snakemake, diagnosis, message, *, attempt=None, retry=0):
    """Append one failure to the job's file; an OSError is only printed, so that the failure stays visible."""
    facts = {
        "task_name": snakemake.rule,
        "wildcards": dict(snakemake.wildcards.items()),
        "attempt": attempt or snakemake.resources.get("attempt", 1),
        "retry": retry,
        "category": diagnosis.category,
        "kind": diagnosis.kind,
        "evidence": diagnosis.evidence,
        "message": message,
        "timestamp": datetime.now(UTC).isoformat(),
    }
    try:
        failures.parent.mkdir(parents=True, exist_ok=True)
        with open(failures, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(facts) + "\n")
    except OSError as error:
        _print_to_log(f"failure not recorded: {error}")


def _start_again_if_policy_allows(category, retried):
    """Wait and replace this process by a new run of the same script, if config `retries` allows one more."""
    counts, elapsed = retried["counts"], time.time() - retried["first"]
    delay = read_retries(os.environ.get(RETRIES)).delay(category, counts, elapsed, Random(os.getpid()))
    if delay is not None:
        counts[category] = counts.get(category, 0) + 1
        _print_to_log(f"{category}: retry {counts[category]} in {delay:.1f} s")
        time.sleep(delay)
        os.environ[RETRIED] = json.dumps(retried | {"restarted": time.time()})
        os.execv(sys.executable, [sys.executable, *sys.argv])


@contextlib.contextmanager
def _open_outputs(declared):
    """Yield temporary paths for the declared outputs; rename them at the end, remove them after a failure."""
    names = {name: _name_temporary(paths) for name, paths in declared.items()}
    pairs = [pair for name in names for pair in _pair_paths(declared[name], names[name])]
    try:
        yield SimpleNamespace(**names)
        _rename_together(pairs)
    finally:
        for temporary, _ in pairs:
            with contextlib.suppress(FileNotFoundError):
                os.truncate(temporary, 0)  # frees a full disk for the log: HDF5 keeps a broken file open
                temporary.unlink()


def _name_temporary(paths):
    """A hidden path with the same suffix next to each path; those that a killed attempt left are removed."""
    if not isinstance(paths, str):
        return [_name_temporary(path) for path in paths]
    path = Path(paths)
    for stale in path.parent.glob(f".tmp-????????-{path.name}"):
        stale.unlink()
    return str(path.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{path.name}"))


def _pair_paths(finals, temporaries):
    """(temporary, final) paths of one named output."""
    if isinstance(temporaries, str):
        finals, temporaries = [finals], [temporaries]
    return [(Path(t), Path(f)) for t, f in zip(temporaries, finals, strict=True)]


def _rename_together(pairs):
    """Flush every temporary file to disk, then rename all; raises RuntimeError if one was not written."""
    missing = [str(final) for temporary, final in pairs if not temporary.exists()]
    if missing:
        raise RuntimeError(f"declared outputs were not written: {', '.join(missing)}")
    for temporary, _ in pairs:
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
    for temporary, final in pairs:
        os.replace(temporary, final)


@contextlib.contextmanager
def _redirect_output(log, *, append):
    """Write to the log file what Python and native code print."""
    log.parent.mkdir(parents=True, exist_ok=True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # in one order with what native code and children print
    saved = os.dup(1), os.dup(2)
    with open(log, "a" if append else "w", buffering=1, encoding="utf-8") as handle:
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])
            _flush()  # now, because HDF5 can crash at the exit of a process after a full disk


def _flush():
    """Write the buffers; if the disk is full, they stay as they are until the next flush."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()


@contextlib.contextmanager
def _catch_sigterm():
    """Raise Stopped on SIGTERM (scancel, a time limit, a stopped run), so that outputs are cleaned up."""

    def stop(signum, frame):
        raise Stopped(signum)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _limit_threads(threads):
    """Limit BLAS, OpenMP and numba to the threads of the rule, also if they are imported later."""
    from threadpoolctl import threadpool_limits

    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    if "numba" in sys.modules:
        import numba

        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    with threadpool_limits(limits=threads):
        yield
