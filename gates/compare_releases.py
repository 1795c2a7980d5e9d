"""Do two releases hold the same numbers? `python gates/compare_releases.py OLD NEW`, file by file.

OLD and NEW are folders of releases: results/publish/v1, one of results/publish/releases, or a copy of one.
Each release is first checked against its own manifest: the same files and sha256. A line per file:

same         the same bytes
other bytes  the same content, written differently (compression, times in HDF5, versions in a PNG)
different    other content, with the first difference
only in OLD, only in NEW
not counted  the file holds no numbers of the analysis

A file holds numbers unless the contract of its release (contract.json) calls it volatile (the page, the run
card), or publish writes it without columns (provenance, the contract), or it is the manifest. A file that
only one of the two contracts excludes is counted.

Exit status: 0 the same numbers; 1 different numbers or files; 2 not comparable: a folder is not a release or
was changed after it was published, or their contracts have different names (v1, v2).
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

from comparators import difference

MANIFEST, CONTRACT = "manifest.json", "contract.json"


class ReleaseError(Exception):
    """A folder cannot be compared; the message says why in one line."""


class Release(NamedTuple):
    """A release that agrees with its manifest."""

    folder: Path
    contract: str  # name of the contract, such as v1
    digests: dict[str, str]  # path -> sha256, all files but the manifest
    not_counted: set[str]  # paths that hold no numbers


def holds_numbers(spec: dict) -> bool:
    """Whether files of a kind hold numbers of the analysis. spec: the kind's entry in the contract."""
    return not spec.get("volatile") and ("source" in spec or "columns" in spec)


def read_release(folder: Path) -> Release:
    """Read manifest and contract of a release, and check the sha256 of every file.

    Raises ReleaseError when the folder is not a release or does not agree with its manifest.
    """
    if not (folder / MANIFEST).is_file():
        raise ReleaseError(f"{folder}: is not a release, it has no {MANIFEST}; name results/publish/v1")
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        digests = {entry["path"]: entry["sha256"] for entry in manifest["files"]}
        contract = manifest["contract"]
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{folder / MANIFEST}: cannot be read as a manifest ({error!r})") from error
    check_files(folder, digests)
    try:
        kinds = json.loads((folder / CONTRACT).read_text(encoding="utf-8"))["files"].values()
        not_counted = {spec["path"] for spec in kinds if not holds_numbers(spec)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(f"{folder / CONTRACT}: cannot be read as a contract ({error!r})") from error
    return Release(folder, contract, digests, not_counted)


def check_files(folder: Path, digests: dict[str, str]) -> None:
    """Compare the files of a release with its manifest. digests: path -> sha256.

    Raises ReleaseError for the first file that is missing, not listed or changed.
    """
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for path in sorted(digests.keys() - present):
        raise ReleaseError(f"{folder / path}: is missing, {MANIFEST} lists it; see make verify")
    for path in sorted(present - digests.keys() - {MANIFEST}):
        raise ReleaseError(f"{folder / path}: is not in {MANIFEST}; see make verify")
    for path, sha256 in digests.items():
        if compute_sha256(folder / path) != sha256:
            raise ReleaseError(f"{folder / path}: was changed, its sha256 is not that of {MANIFEST}")


def compute_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compare_file(old: Release, new: Release, path: str) -> tuple[str, str]:
    """Status of one file, and what differs in one line ("" where nothing does)."""
    if path not in new.digests:
        return "only in OLD", ""
    if path not in old.digests:
        return "only in NEW", ""
    if old.digests[path] == new.digests[path]:
        return "same", ""
    text = difference(old.folder / path, new.folder / path)
    text = shorten(text, 200, placeholder=" ...")  # on one line; attributes may be long arrays
    return ("different", text) if text else ("other bytes", "")


def compare(old: Release, new: Release) -> tuple[list[str], dict[str, int]]:
    """A line per file, in the order of their paths, and the number of files per status.

    Raises ReleaseError when the releases follow different contracts: the same column may mean something else.
    """
    if old.contract != new.contract:
        names = " and ".join(sorted((old.contract, new.contract)))
        raise ReleaseError(f"{old.folder} and {new.folder}: cannot be compared, their contracts are {names}")
    lines, counts = [], {}
    for path in sorted(old.digests.keys() | new.digests.keys()):
        excluded = [path in release.not_counted for release in (old, new) if path in release.digests]
        status, text = ("not counted", "") if all(excluded) else compare_file(old, new, path)
        counts[status] = counts.get(status, 0) + 1
        lines.append(f"{status:12} {path}{': ' if text else ''}{text}")
    return lines, counts


def main(old: Path, new: Path) -> int:
    """Print the comparison of two folders and return the exit status."""
    try:
        lines, counts = compare(read_release(old), read_release(new))
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    is_same = counts.keys() <= {"same", "other bytes", "not counted"}
    summary = ", ".join(f"{number} {status}" for status, number in counts.items())
    print(*lines, f"{'the same numbers' if is_same else 'different'}: {summary}", sep="\n")
    return 0 if is_same else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("old", type=Path, metavar="OLD", help="folder of the release before the change")
    parser.add_argument("new", type=Path, metavar="NEW", help="folder of the release after it")
    arguments = parser.parse_args()
    sys.exit(main(arguments.old, arguments.new))
