"""Releases on disk: `releases/<id>/` beside the link `v1` that points to one of them.

A release is built in a hidden sibling, flushed to disk and renamed to its place; then the link is replaced,
which is one atomic step. Killed at any moment, the link leads to the old or to the new release, and both are
whole. What a killed process left has a hidden name and is removed by the next one.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

from job import InputError

LINK, RELEASES, HIDDEN = "v1", "releases", ".tmp-"
VERIFY = Path(__file__).with_name("verify.py")


def faults(folder: Path) -> str:
    """What verify.py prints about a release that is not whole; nothing if it is."""
    command = [sys.executable, str(VERIFY), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stderr or f"exit code {done.returncode}") if done.returncode else ""


def staging(publish: Path) -> Path:
    """A new empty hidden folder in which to build, after removing what killed processes left."""
    (publish / RELEASES).mkdir(parents=True, exist_ok=True)
    for stale in [*publish.glob(f"{HIDDEN}release-*"), *publish.glob(f"{HIDDEN}link-*")]:
        stale.unlink() if stale.is_symlink() else shutil.rmtree(stale)
    folder = publish / f"{HIDDEN}release-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    return folder


def flush(folder: Path) -> None:
    """Have everything below a folder on disk: contents of the files, then names in the folders."""
    for here, _, files in os.walk(folder, topdown=False):
        for path in [*(Path(here, file) for file in files), Path(here)]:
            _flush_one(path)


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(built: Path, final: Path) -> None:
    """Give a built release its name, unless one with the same content has it: then that one stays."""
    if not final.exists():
        flush(built)
        os.rename(built, final)
        _flush_one(final.parent)


def point(publish: Path, release: str) -> None:
    """Let the link lead to a release, at once. InputError when something else than a link has its name."""
    link = publish / LINK
    if link.exists() and not link.is_symlink():
        raise InputError(f"{link}: is no link to a release; move it away")
    fresh = publish / f"{HIDDEN}link-{uuid.uuid4().hex[:8]}"
    fresh.symlink_to(Path(RELEASES, release))
    os.replace(fresh, link)
    _flush_one(publish)


def current(publish: Path) -> str | None:
    """The release that the link leads to; None without a link."""
    link = publish / LINK
    return Path(os.readlink(link)).name if link.is_symlink() else None


def by_time(publish: Path) -> list[str]:
    """All releases, the one published last in front."""
    folders = [path for path in (publish / RELEASES).iterdir() if not path.name.startswith(".")]
    times = {
        path.name: json.loads((path / "run.json").read_text(encoding="utf-8"))["published_at"]
        for path in folders
    }
    return sorted(times, key=lambda name: (times[name], name), reverse=True)


def prune(publish: Path, keep: int) -> list[str]:
    """Remove all but the current release and the `keep` others that were published last; returns which."""
    others = [release for release in by_time(publish) if release != current(publish)]
    for release in others[keep:]:
        doomed = publish / f"{HIDDEN}release-{release}"
        os.rename(publish / RELEASES / release, doomed)  # a half-removed release has no name of a release
        shutil.rmtree(doomed)
    return others[keep:]
