"""The glue around every step's main: log, threads, atomic outputs, records of cost and failure.

It can change no number. `with job(snakemake) as out:` hands out temporary siblings of the declared
outputs and renames them into place together when the block succeeds. When it fails, the failure is
classified: a transient one starts the script again after a delay, a deterministic one is not repeated
by a further attempt of Snakemake either, since its outcome would be the same.
"""

import contextlib
import json
import os
import signal
import sys
import time
import traceback
import uuid
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import SimpleNamespace

from _failures import DETERMINISTIC, NO_RETRY, POLICIES, InputError, classify
from _performance import beside_benchmark, record

__all__ = ["InputError", "job"]
RETRY = "SCOHORT_RETRY"  # how often this process has started the script again


@contextlib.contextmanager
def job(snakemake):
    """Run a step's main: yields the outputs as temporary paths under their declared names.

    snakemake: the script object; uses its input, output, log, threads, rule, wildcards and resources.
    Yields a namespace with one temporary path (str), or list of them, per named output.
    An InputError ends the job with its message as the only line; any other exception with its traceback.
    """
    log = Path(snakemake.log[0])
    failures = beside_benchmark(log, ".failures.jsonl")
    retry = int(os.environ.get(RETRY, 0))
    with _output_to(log, append=retry > 0), _terminable(), _limited_to(snakemake.threads):
        _refuse_repetition(failures, attempt=snakemake.resources.get("attempt", 1), retry=retry)
        try:
            with record(snakemake, log), _outputs(snakemake.output) as out:
                yield out
        except Exception as error:
            diagnosis = classify(error)
            shown = f"error: {error}" if isinstance(error, InputError) else traceback.format_exc()
            print(shown, file=sys.stderr, flush=True)
            _note(failures, snakemake, retry, diagnosis, shown)
            _start_again_if_transient(diagnosis, retry)
            raise SystemExit(1) from error


def _refuse_repetition(failures, *, attempt, retry):
    """End at once when an earlier attempt of this job failed in a way that repeats itself.

    failures: the record of this job's failures; the first attempt starts it anew.
    """
    if attempt == 1 and retry == 0:
        failures.unlink(missing_ok=True)
    elif failures.exists():
        first = json.loads(failures.read_text().splitlines()[-1])
        if first["category"] in DETERMINISTIC:
            print(f"not tried again, the outcome would be the same: {first['evidence']}", file=sys.stderr)
            raise SystemExit(1)


def _note(failures, snakemake, retry, diagnosis, shown):
    """Append one failure to the job's record; an OSError is printed, noting must not hide the failure."""
    facts = {
        "task_name": snakemake.rule,
        "wildcards": dict(snakemake.wildcards.items()),
        "attempt": snakemake.resources.get("attempt", 1),
        "retry": retry,
        "category": diagnosis.category,
        "kind": diagnosis.kind,
        "evidence": diagnosis.evidence,
        "message": shown,
        "timestamp": datetime.now(UTC).isoformat(),
    }
    try:
        failures.parent.mkdir(parents=True, exist_ok=True)
        with open(failures, "a") as handle:
            handle.write(json.dumps(facts) + "\n")
    except OSError as error:
        print(f"failure not recorded: {error}", file=sys.stderr)


def _start_again_if_transient(diagnosis, retry):
    """Wait and replace this process by a fresh run of the same script, as often as the policy allows."""
    policy = POLICIES.get(diagnosis.category, NO_RETRY)
    if retry < policy.max_retries:
        delay = policy.delay(retry + 1, Random(os.getpid()))
        print(f"{diagnosis.category}: retry {retry + 1} in {delay:.1f} s", file=sys.stderr, flush=True)
        time.sleep(delay)
        os.environ[RETRY] = str(retry + 1)
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
            temporary.unlink(missing_ok=True)


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
    with open(log, "a" if append else "w", buffering=1) as handle:
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])


@contextlib.contextmanager
def _terminable():
    """Turn SIGTERM (scancel, a stopped run) into an exception, so that temporary files are removed."""

    def stop(signum, frame):
        raise SystemExit(128 + signum)

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
