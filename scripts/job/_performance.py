"""Write the performance record of a job, a JSON next to its benchmark, on success and on failure.

While the job runs, its status is `running` and the record is updated every few seconds. After a kill the
status stays `running`; `rules/ending.smk` and the next attempt count that as a failure.
"""

import builtins
import contextlib
import json
import os
import resource
import socket
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import psutil

INTERVAL_S = 0.25  # between samples of the process tree
HEARTBEAT_S = 10.0  # between updates of the record of a running job


@contextlib.contextmanager
def record(snakemake, log, born=None):
    """Update `<benchmarks>/<job>.perf.json` until the block ends, with success or failure.

    Yields a dict; its items (category) are added to the record. The folder of benchmarks is next to the
    folder of logs. born: start of the process in seconds since 1970, if it has replaced another process.
    Recording never fails a job: an OSError is printed to the log.
    """
    start, clock = datetime.now(UTC), time.perf_counter()
    born = born or psutil.Process().create_time()  # start-up and imports happen before this block
    cpu_before, wait_before = _read_cpu(), _read_core_wait()
    path, extra, peak, imports = beside_benchmark(log, ".perf.json"), {}, _PeakMemory(), _Imports()

    def facts(status):
        wall = time.perf_counter() - clock
        return {
            **_describe_job(snakemake),
            "start_time": start.isoformat(),
            "end_time": datetime.now(UTC).isoformat(),
            "startup_s": round(start.timestamp() - born, 3),
            "wall_time_s": round(wall, 3),
            "imports_s": round(min(imports.seconds, wall), 3),
            "cpu_time_s": round(_read_cpu(), 3),
            "startup_cpu_s": round(cpu_before, 3),
            "imports_cpu_s": round(imports.cpu_seconds, 3),
            "core_wait_s": None if wait_before is None else round(_read_core_wait() - wait_before, 3),
            **_describe_traffic(snakemake.input, wall),
            "peak_rss_mb": round(max(peak.bytes, _read_peak_memory()) / 2**20, 1),
            "status": status,
            **extra,
        }

    _write(path, facts("running"))
    beat = _Repeat(HEARTBEAT_S, lambda: _write(path, facts("running")))
    status = "failed"
    try:
        with peak, imports, beat:
            yield extra
        status = "failed" if "category" in extra else "ok"
    finally:
        _write(path, facts(status))


def _describe_job(snakemake):
    """The job, its requested resources and where it runs."""
    return {
        "task_name": snakemake.rule,
        "wildcards": dict(snakemake.wildcards.items()),
        "threads": snakemake.threads,
        "mem_mb_requested": snakemake.resources.get("mem_mb"),
        "runtime_min_requested": snakemake.resources.get("runtime"),
        "attempt": snakemake.resources.get("attempt", 1),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "oom_kills_before": oom_kills(),
    }


def _describe_traffic(inputs, wall):
    """Size of the inputs, and MB that the job has read and written; wall: seconds since its start."""
    size = sum(_size_of(Path(path)) for path in inputs)
    return {
        "input_mb": round(size / 2**20, 3),
        "throughput_mbs": round(size / 2**20 / wall, 3) if wall else None,
        "read_mb": round(_read_io("read_chars") / 2**20, 3),
        "written_mb": round(_read_io("write_chars") / 2**20, 3),
    }


def beside_benchmark(log, suffix):
    """Path of a job's record: `results/logs/qc/00.log` -> `results/benchmarks/qc/00` + suffix."""
    parts = list(log.parts)
    parts[len(parts) - 1 - parts[::-1].index("logs")] = "benchmarks"
    return Path(*parts[:-1], log.name.removesuffix(".log") + suffix)


def read_record(path):
    """The record in a file as a dict; None if the file does not exist or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write(path, facts):
    """Replace the record in one atomic step, so that readers never see half of it."""
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{path.name}.part")  # not read by anything
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".tmp-????????-{path.name}.part"):
            stale.unlink(missing_ok=True)
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the disk may be full, and the log on it
            print(f"performance record not written: {error}", file=sys.stderr)


def _size_of(path):
    """Bytes of a file; 0 if it does not exist."""
    return path.stat().st_size if path.is_file() else 0


def _read_peak_memory():
    """Largest resident memory of this process in bytes; 0 if the system does not provide it.

    Not `ru_maxrss`: that is kept over exec, so a job would report the memory of Snakemake, its parent.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _read_cpu():
    """CPU seconds of this process and its finished children, start-up included."""
    usages = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _read_core_wait():
    """Seconds in which the main thread was ready but had no core; None if the system does not provide it."""
    schedule = Path("/proc/self/schedstat")
    return int(schedule.read_text(encoding="utf-8").split()[1]) / 1e9 if schedule.exists() else None


def _read_io(counter):
    """Bytes that this process read or wrote by system calls; 0 if the system does not provide it."""
    counters = psutil.Process().io_counters() if hasattr(psutil.Process, "io_counters") else None
    return getattr(counters, counter, 0)


def oom_kills():
    """Number of out-of-memory kills in this cgroup; 0 if the system does not provide it."""
    groups = Path("/proc/self/cgroup")
    lines = groups.read_text(encoding="utf-8").splitlines() if groups.exists() else []
    for _, controllers, group in (line.split(":", 2) for line in lines):
        file = {"": "memory.events", "memory": "memory/memory.oom_control"}.get(controllers)
        place = file and Path("/sys/fs/cgroup", *Path(file).parts[:-1], group.strip("/"), Path(file).name)
        if place and place.exists():
            counts = dict(line.split() for line in place.read_text(encoding="utf-8").splitlines())
            return int(counts.get("oom_kill", 0))
    return 0


class _Repeat:
    """Calls a function at intervals, in its own thread, while the block runs."""

    def __init__(self, interval, function):
        self._interval, self._function, self._done = interval, function, threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._repeat, daemon=True)
        self._thread.start()

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _repeat(self):
        while not self._done.wait(self._interval):
            self._function()


class _PeakMemory(_Repeat):
    """Largest resident memory of this process and all its descendants together, in bytes; sampled."""

    def __init__(self):
        super().__init__(INTERVAL_S, self._sample)
        self.bytes, self._root = 0, psutil.Process()

    def _sample(self):
        total = 0
        for process in [self._root, *self._root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        self.bytes = max(self.bytes, total)


class _Imports:
    """Seconds that the main thread spends in import statements while the block runs."""

    def __init__(self):
        self.seconds, self.cpu_seconds, self._depth, self._import = 0.0, 0.0, 0, builtins.__import__

    def __enter__(self):
        self._main = threading.get_ident()
        builtins.__import__ = self._timed

    def __exit__(self, *_):
        builtins.__import__ = self._import

    def _timed(self, *arguments, **keywords):
        if threading.get_ident() != self._main or self._depth:
            return self._import(*arguments, **keywords)
        self._depth, clock, cpu = 1, time.perf_counter(), time.process_time()
        try:
            return self._import(*arguments, **keywords)
        finally:
            self.seconds += time.perf_counter() - clock
            self.cpu_seconds += time.process_time() - cpu
            self._depth = 0
