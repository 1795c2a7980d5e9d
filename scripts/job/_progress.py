"""Log the progress of a long job: how much is done, how fast, the time left; nothing in the first 10 s."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator

INTERVAL_S = 10.0  # between lines, and before the first


class Progress:
    """Counter for use by any thread that prints a line at intervals."""

    def __init__(self, total: float, what: str):
        self._total, self._what, self._done = total, what, 0
        self._start = self._last_line = time.monotonic()
        self._lock = threading.Lock()

    def add(self, number: float = 1) -> None:
        """Count `number` more as done."""
        with self._lock:
            self._done += number
            now = time.monotonic()
            if self._done and now - self._last_line >= INTERVAL_S:
                self._last_line = now
                announce(format_line(self._done, self._total, self._what, now - self._start))


def track_progress[Item](
    items: Iterable[Item], total: float, what: str, size: Callable[[Item], float] = lambda item: 1
) -> Iterator[Item]:
    """Yield the items and count each one (by its `size`) when the next one is requested."""
    progress = Progress(total, what)
    for item in items:
        yield item
        progress.add(size(item))


def announce(text: str) -> None:
    """Print what the job does now, for work without a count."""
    print(f"progress: {text}", flush=True)


def format_line(done: float, total: float, what: str, seconds: float) -> str:
    """`412,000 of 1,248,980 cells, 35,100 a second, 24 s left`; below one per second: `3.5 s each`."""
    rate = done / seconds
    pace = f"{rate:,.0f} a second" if rate >= 1 else f"{1 / rate:,.1f} s each"
    return f"{done:,.0f} of {total:,.0f} {what}, {pace}, {format_duration((total - done) / rate)} left"


def format_duration(seconds: float) -> str:
    """`24 s`, `3 min` or `1.2 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
