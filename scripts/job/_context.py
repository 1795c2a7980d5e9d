"""The glue around every step's main: log, threads, atomic outputs, records of cost and failure.

It can change no number. `with job(snakemake) as out:` hands out temporary siblings of the declared
outputs and renames them into place together when the block succeeds. When it fails, the failure is
classified: a transient one starts the script again after a delay, a deterministic one is not repeated
by a further attempt of Snakemake either, since its outcome would be the same. How often and how long is
config section `retries`, which comes by the environment: as a param it would rerun jobs that are done.
"""

import contextlib
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
    retries_of,
)
from job._performance import beside_benchmark, oom_kills, read_record, record
from job._warnings import collect_warnings, step_of, write_warnings

__all__ = ["CorruptedInput", "InputError", "job"]
RETRIES = "SCOHORT_RETRIES"  # config section `retries`, as JSON
RETRIED = "SCOHORT_RETRIED"  # what this process did before it started the script again: counts, first start


@contextlib.contextmanager
def job(snakemake):
    """Run a step's main: yields the outputs as temporary paths under their declared names.

    snakemake: the script object; uses its input, output, log, threads, rule, wildcards and resources.
    Yields a namespace with one temporary path (str), or list of them, per named output.
    Output `warnings`, which a step that calls `warn` declares, is written here.
    An InputError ends the job with its message as the only line; any other exception with its traceback.
    """
    log = Path(snakemake.log[0])
    failures = beside_benchmark(log, ".failures.jsonl")
    retried = json.loads(os.environ.pop(RETRIED, '{"first": 0, "counts": {}}'))
    retried["first"] = retried["first"] or time.time()
    again = bool(retried["counts"])
    with _output_to(log, append=again), _stoppable(), _limited_to(snakemake.threads):
        if not again:
            _look_back(failures, snakemake, read_record(beside_benchmark(log, ".perf.json")))
        before = oom_kills()
        with record(snakemake, log, born=retried.get("restarted")) as facts:
            try:
                with _outputs(snakemake.output) as out, collect_warnings() as rows:
                    yield out
                    _write_warnings(out, snakemake, rows)
            except (Exception, KeyboardInterrupt, Stopped) as error:
                diagnosis = classify(error, oom_kills=oom_kills() - before)
                facts.update(category=diagnosis.category, kind=diagnosis.kind)
                failed = error
            else:
                return
        shown = f"error: {message_of(failed)}" if isinstance(failed, InputError) else _traceback(failed)
        _tell(shown)
        _note(failures, snakemake, diagnosis, shown, retry=sum(retried["counts"].values()))
        if not isinstance(failed, Stopped | KeyboardInterrupt):
            _start_again_if_policy_allows(diagnosis.category, retried)
        raise SystemExit(128 + failed.args[0] if isinstance(failed, Stopped) else 1) from failed


def _write_warnings(out, snakemake, rows):
    """Write what the job warned of into its output `warnings`; a rule without one must not warn."""
    if hasattr(out, "warnings"):
        write_warnings(out.warnings, step_of(snakemake.log[0]), rows)
    elif rows:
        raise RuntimeError(f"{rows[0]['code']}: rule {snakemake.rule} needs an output named warnings")


def _traceback(error):
    return "".join(traceback.format_exception(error))


def _tell(line):
    """Print to the log; where its disk is full the line stays buffered and ends up on the terminal."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _look_back(failures, snakemake, left):
    """Read what an earlier attempt of this job left; end at once when it failed in a way that repeats itself.

    failures: the record of this job's failures; the first attempt starts it anew. left: the performance
    record of the attempt before, or None; one that still says `running` was killed without a word.
    """
    attempt = snakemake.resources.get("attempt", 1)
    if attempt == 1:
        failures.unlink(missing_ok=True)
        return
    if left and left["status"] == "running":
        kills = oom_kills() - left["oom_kills_before"] if left["host"] == socket.gethostname() else 0
        killed = classify(exit_code=-signal.SIGKILL, oom_kills=kills)
        shown = f"ended without a word after {left['wall_time_s']} s, with {left['peak_rss_mb']} MB"
        killed = replace(killed, evidence=f"{killed.evidence}: {shown}")
        _note(failures, snakemake, killed, shown, attempt=left["attempt"])
    noted = read_failures(failures)
    if noted and noted[-1]["category"] in DETERMINISTIC:
        _tell(f"not tried again, the outcome would be the same: {noted[-1]['evidence']}")
        raise SystemExit(1)


def _note(failures, snakemake, diagnosis, shown, *, attempt=None, retry=0):
    """Append one failure to the job's record; an OSError is printed, noting must not hide the failure."""
    facts = {
        "task_name": snakemake.rule,
        "wildcards": dict(snakemake.wildcards.items()),
        "attempt": attempt or snakemake.resources.get("attempt", 1),
        "retry": retry,
        "category": diagnosis.category,
        "kind": diagnosis.kind,
        "evidence": diagnosis.evidence,
        "message": shown,
        "timestamp": datetime.now(UTC).isoformat(),
    }
    try:
        failures.parent.mkdir(parents=True, exist_ok=True)
        with open(failures, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(facts) + "\n")
    except OSError as error:
        _tell(f"failure not recorded: {error}")


def _start_again_if_policy_allows(category, retried):
    """Wait and replace this process by a fresh run of the same script, as often as config `retries` says."""
    counts, elapsed = retried["counts"], time.time() - retried["first"]
    delay = retries_of(os.environ.get(RETRIES)).delay(category, counts, elapsed, Random(os.getpid()))
    if delay is not None:
        counts[category] = counts.get(category, 0) + 1
        _tell(f"{category}: retry {counts[category]} in {delay:.1f} s")
        time.sleep(delay)
        os.environ[RETRIED] = json.dumps(retried | {"restarted": time.time()})
        os.execv(sys.executable, [sys.executable, *sys.argv])


@contextlib.contextmanager
def _outputs(declared):
    """Temporary paths for the declared outputs, renamed together at the end, removed after a failure."""
    names = {name: _temporary(paths) for name, paths in declared.items()}
    pairs = [pair for name in names for pair in _pairs(declared[name], names[name])]
    try:
        yield SimpleNamespace(**names)
        _rename_together(pairs)
    finally:
        for temporary, _ in pairs:
            with contextlib.suppress(FileNotFoundError):
                os.truncate(temporary, 0)  # frees a full disk for the log: HDF5 keeps a broken file open
                temporary.unlink()


def _temporary(paths):
    """A hidden sibling of each path, after removing those that a killed attempt left; keeps the suffix."""
    if not isinstance(paths, str):
        return [_temporary(path) for path in paths]
    path = Path(paths)
    for stale in path.parent.glob(f".tmp-????????-{path.name}"):
        stale.unlink()
    return str(path.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{path.name}"))


def _pairs(finals, temporaries):
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
def _output_to(log, *, append):
    """Send what Python and native code print to the log file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
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
            _flush()  # at once, as HDF5 may crash at the exit of a process that met a full disk


def _flush():
    """Write what is buffered; what a full disk does not take stays for the next flush."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()


@contextlib.contextmanager
def _stoppable():
    """Turn SIGTERM (scancel, a time limit, a stopped run) into an exception, so that the end is orderly."""

    def stop(signum, frame):
        raise Stopped(signum)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _limited_to(threads):
    """Give BLAS, OpenMP and numba the threads of the rule, whether they are imported yet or not."""
    from threadpoolctl import threadpool_limits

    for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    if "numba" in sys.modules:
        import numba

        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    with threadpool_limits(limits=threads):
        yield
