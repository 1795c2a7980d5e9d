"""The glue around every step's main: log, threads, atomic outputs, performance record.

It can change no number. `with job(snakemake) as out:` hands out temporary siblings of the declared
outputs and renames them into place together when the block succeeds.
"""

import contextlib
import os
import signal
import sys
import traceback
import uuid
from pathlib import Path
from types import SimpleNamespace

from _performance import record


class InputError(ValueError):
    """Something the user can mend: the message names the thing, the value and the setting to change."""


@contextlib.contextmanager
def job(snakemake):
    """Run a step's main: yields the outputs as temporary paths under their declared names.

    snakemake: the script object; uses its output, log, threads, rule, wildcards, input and attempt.
    Yields a namespace with one temporary path (str), or list of them, per named output.
    An InputError ends the job with its message as the only line; any other exception with its traceback.
    """
    log = Path(snakemake.log[0])
    with _output_to(log), _terminable(), _limited_to(snakemake.threads), record(snakemake, log):
        names = {name: _temporary(paths) for name, paths in snakemake.output.items()}
        pairs = [pair for name in names for pair in _pairs(snakemake.output[name], names[name])]
        try:
            yield SimpleNamespace(**names)
            _rename_together(pairs)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from error
        except Exception:
            traceback.print_exc()
            raise SystemExit(1) from None
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
def _output_to(log):
    """Send what Python and native code print to the log file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with open(log, "w", buffering=1) as handle:
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
