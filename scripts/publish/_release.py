"""Write, switch and remove releases: folders `releases/<id>/`, and a link `v1` to one of them.

A release is built in a hidden folder, flushed to disk and renamed; then the link is replaced in one atomic
step. After a kill at any moment the link leads to the old or to the new release, and both are complete.
Hidden folders of a killed process are removed by the next one.
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


def check_release(folder: Path) -> str:
    """The problems that verify.py prints about a release; "" if it is complete and correct."""
    command = [sys.executable, str(VERIFY), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stderr or f"exit code {done.returncode}") if done.returncode else ""


def make_staging(publish: Path) -> Path:
    """A new empty hidden folder for a release; those of killed processes are removed."""
    (publish / RELEASES).mkdir(parents=True, exist_ok=True)
    for stale in [*publish.glob(f"{HIDDEN}release-*"), *publish.glob(f"{HIDDEN}link-*")]:
        stale.unlink() if stale.is_symlink() else shutil.rmtree(stale)
    folder = publish / f"{HIDDEN}release-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    return folder


def flush(folder: Path) -> None:
    """Flush everything below a folder to disk: contents of the files, then names in the folders."""
    for here, _, files in os.walk(folder, topdown=False):
        for path in [*(Path(here, file) for file in files), Path(here)]:
            _flush_one(path)


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_release(folder: Path, final: Path) -> None:
    """Rename a folder to its final name, unless it exists: then it has the same content and stays."""
    if not final.exists():
        flush(folder)
        os.rename(folder, final)
        _flush_one(final.parent)


def switch_release(publish: Path, release: str) -> None:
    """Replace the link by one to this release, in one atomic step.

    Raises InputError if v1 exists and is not a link.
    """
    link = publish / LINK
    if link.exists() and not link.is_symlink():
        raise InputError(f"{link}: is not a link to a release; move it away")
    new = publish / f"{HIDDEN}link-{uuid.uuid4().hex[:8]}"
    new.symlink_to(Path(RELEASES, release))
    os.replace(new, link)
    _flush_one(publish)


def read_current(publish: Path) -> str | None:
    """The release that the link leads to; None without a link."""
    link = publish / LINK
    return Path(os.readlink(link)).name if link.is_symlink() else None


def list_by_time(publish: Path) -> list[str]:
    """Ids of all releases, the latest first."""
    folders = [path for path in (publish / RELEASES).iterdir() if not path.name.startswith(".")]
    times = {
        path.name: json.loads((path / "run.json").read_text(encoding="utf-8"))["published_at"]
        for path in folders
    }
    return sorted(times, key=lambda name: (times[name], name), reverse=True)


def prune(publish: Path, keep: int) -> list[str]:
    """Remove all but the current release and the `keep` latest others; returns the removed ids."""
    others = [release for release in list_by_time(publish) if release != read_current(publish)]
    for release in others[keep:]:
        hidden = publish / f"{HIDDEN}release-{release}"
        os.rename(publish / RELEASES / release, hidden)  # so that releases/ never has half of a release
        shutil.rmtree(hidden)
    return others[keep:]
