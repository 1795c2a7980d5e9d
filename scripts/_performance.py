"""The performance record of a job: a JSON beside its benchmark, on success and on failure."""

import contextlib
import json
import os
import resource
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

INTERVAL_S = 0.25  # between samples of the process tree


@contextlib.contextmanager
def record(snakemake, log):
    """Write `<benchmarks>/<job>.perf.json` when the block ends, however it ends.

    The folder of benchmarks is the sibling of the folder of logs. Recording never fails a job: an
    OSError while writing is printed to the log.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    born = psutil.Process().create_time()  # start-up and imports happen before this block
    peak = _PeakMemory()
    status = "failed"
    try:
        with peak:
            yield
        status = "ok"
    finally:
        wall = time.perf_counter() - clock
        use = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        sizes = [_size(Path(path)) for path in snakemake.input]
        facts = {
            "task_name": snakemake.rule,
            "wildcards": dict(snakemake.wildcards.items()),
            "start_time": started.isoformat(),
            "end_time": datetime.now(UTC).isoformat(),
            "wall_time_s": round(wall, 3),
            "startup_s": round(started.timestamp() - born, 3),
            "cpu_time_s": round(sum(u.ru_utime + u.ru_stime for u in use), 3),
            "peak_rss_mb": round(max(peak.bytes, _high_water()) / 2**20, 1),
            "input_mb": round(sum(sizes) / 2**20, 3),
            "throughput_mbs": round(sum(sizes) / 2**20 / wall, 3) if wall else None,
            "read_mb": round(_io("read_chars") / 2**20, 3),
            "written_mb": round(_io("write_chars") / 2**20, 3),
            "threads": snakemake.threads,
            "mem_mb_requested": snakemake.resources.get("mem_mb"),
            "attempt": snakemake.resources.get("attempt", 1),
            "status": status,
            "host": socket.gethostname(),
        }
        try:
            path = beside_benchmark(log, ".perf.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(facts, indent=1) + "\n")
        except OSError as error:
            print(f"no performance record: {error}", file=sys.stderr)


def beside_benchmark(log, suffix):
    """Path of a job's record: `results/logs/qc/00.log` -> `results/benchmarks/qc/00` + suffix."""
    parts = list(log.parts)
    parts[len(parts) - 1 - parts[::-1].index("logs")] = "benchmarks"
    return Path(*parts[:-1], log.name.removesuffix(".log") + suffix)


def _size(path):
    """Bytes of a file; 0 when it is gone."""
    return path.stat().st_size if path.is_file() else 0


def _high_water():
    """Largest resident memory in bytes of this process; 0 where the system does not tell.

    Not `ru_maxrss`: that survives exec, so a job would report the memory of Snakemake, which forked it.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _io(counter):
    """Bytes that this process read or wrote through system calls; 0 where the system does not tell."""
    counters = psutil.Process().io_counters() if hasattr(psutil.Process, "io_counters") else None
    return getattr(counters, counter, 0)


class _PeakMemory:
    """Largest resident memory of this process and all its descendants together, sampled by a thread."""

    def __init__(self):
        self.bytes = 0
        self._done = threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _sample(self):
        root = psutil.Process(os.getpid())
        while not self._done.wait(INTERVAL_S):
            total = 0
            for process in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
            self.bytes = max(self.bytes, total)
