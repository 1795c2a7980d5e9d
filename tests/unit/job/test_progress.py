"""Progress: what a line says, that it counts every item once, and that a short job says nothing."""

import threading

import pytest

from job import _progress


@pytest.mark.parametrize(
    ("done", "total", "seconds", "text"),
    [
        # 412,000 in 10 s are 41,200 a second; 836,980 are left, 20.3 s
        (412_000, 1_248_980, 10.0, "412,000 of 1,248,980 cells, 41,200 a second, 20 s left"),
        (2, 29, 7.0, "2 of 29 cells, 3.5 s each, 94 s left"),  # 27 x 3.5 = 94.5, to even
        (1, 29, 100.0, "1 of 29 cells, 100.0 s each, 47 min left"),  # 2,800 s
        (1, 101, 100.0, "1 of 101 cells, 100.0 s each, 2.8 h left"),  # 10,000 s
    ],
)
def test_a_line_says_how_much_how_fast_and_how_long(done, total, seconds, text):
    assert _progress.format_line(done, total, "cells", seconds) == text


def test_a_short_job_says_nothing(capsys):
    assert list(_progress.track_progress("abc", 3, "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""


def test_items_are_counted_by_their_size_when_they_are_done(capsys, monkeypatch):
    monkeypatch.setattr(_progress, "INTERVAL_S", 0.0)
    seen = []
    for _ in _progress.track_progress([4, 6], 10, "cells", size=lambda item: item):
        seen.append(capsys.readouterr().out.split(",")[0])
    seen.append(capsys.readouterr().out.split(",")[0])
    assert seen == ["", "progress: 4 of 10 cells", "progress: 10 of 10 cells"]


def test_nothing_done_prints_no_line(capsys, monkeypatch):
    monkeypatch.setattr(_progress, "INTERVAL_S", 0.0)
    _progress.Progress(10, "cells").add(0)
    assert capsys.readouterr().out == ""


def test_threads_count_together(capsys, monkeypatch):
    progress = _progress.Progress(4000, "cells")
    threads = [threading.Thread(target=lambda: [progress.add() for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.setattr(_progress, "INTERVAL_S", 0.0)
    progress.add(0)
    assert capsys.readouterr().out.startswith("progress: 4,000 of 4,000 cells")
