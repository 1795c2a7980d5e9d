"""Check a release from end to end: `python verify.py DIR [--release ID]`; one line per fault, exit 1 if any.

DIR is results/publish/v1, a folder of results/publish/releases, or a copy of one on any machine. Needs
pandas, pyarrow and h5py, no network, and of this repository the files verify.py, _contents.py and _facts.py
of ops: contract.json, in the release, says what its files hold (workflow/CONTRACT.md is the same for people).
In this order, going on only with what is sound: every file of the manifest is there and no other, none is
empty or a link, every size and digest is recomputed; files are those that config and discovered cell types
call for, their columns as the contract says; then facts across files: cell types, genes, samples, attrition,
tested genes, and counts, which are conserved from the input to the sums.

The digests show damage and later changes, not who made the release: compare its id with one you were given.
"""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

from _contents import check_contents
from _facts import canonical, check_facts

MANIFEST = "manifest.json"
NEEDED = ["contract.json", "provenance.json", "cell_types.tsv"]  # what says which other files there are


def sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def release_id(files: list[dict], volatile: list[str]) -> str:
    """Name of a release: a digest of its manifest's files, without size and digest of the volatile ones."""
    kept = [
        {key: entry[key] for key in ("path", "schema", "rows")}
        | ({} if entry["path"] in volatile else {key: entry[key] for key in ("bytes", "sha256")})
        for entry in sorted(files, key=lambda entry: entry["path"])
    ]
    return canonical(kept)[:12]


def check_tree(root: Path, listed: set[str]) -> list[str]:
    """Links, files that are missing, and files and folders that are not listed."""
    faults, found = [], set()
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if name in files:
                found.add(relative)
            if path.is_symlink():
                found.add(relative)
                faults.append(f"{relative}: is a link; a release holds files only")
            elif name in folders and not any(path.iterdir()):
                faults.append(f"{relative}: is an empty folder, not in {MANIFEST}")
            elif name in files and not path.is_file():
                faults.append(f"{relative}: is no file")
            elif name in files and path.stat().st_nlink > 1:
                faults.append(f"{relative}: is a hard link, a change elsewhere would change it; copy it")
    faults += [f"{path}: is missing" for path in sorted(listed - found)]
    return faults + [f"{path}: is not in {MANIFEST}" for path in sorted(found - listed)]


def check_bytes(root: Path, files: list[dict]) -> list[str]:
    """Files that are empty or whose size or digest is not that of the manifest."""
    faults = []
    for entry in files:
        path = root / entry["path"]
        size = path.stat().st_size
        if size == 0:
            faults.append(f"{entry['path']}: is empty")
        elif size != entry["bytes"]:
            faults.append(f"{entry['path']}: has {size} bytes, {entry['bytes']} in {MANIFEST}")
        elif sha256(path) != entry["sha256"]:
            faults.append(f"{entry['path']}: was changed, its sha256 is not that of {MANIFEST}")
    return faults


def verify(folder: Path, release: str | None = None) -> list[str]:
    """Faults of a release, one line each; none if it is whole and says nothing twice in two ways."""
    root = folder.resolve()
    if not (root / MANIFEST).is_file() or (root / MANIFEST).is_symlink():
        return [f"{folder}: has no {MANIFEST}; name the folder of a release"]
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
        files, volatile = manifest["files"], manifest["volatile"]
        paths = [entry["path"] for entry in files]
        own = release_id(files, volatile)
        claimed, _, _ = (manifest[key] for key in ("release", "contract", "workflow_version"))
    except (ValueError, KeyError, TypeError) as error:
        return [f"{MANIFEST}: cannot be read ({error!r})"]
    faults = check_tree(root, {*paths, MANIFEST})
    faults += [
        f"{MANIFEST}: lists {path} more than once" for path in sorted(set(paths)) if paths.count(path) > 1
    ]
    if own != claimed or (release and release != own):
        faults.append(f"{MANIFEST}: lists release {own}, not {release or claimed}")
    faults += check_bytes(root, [entry for entry in files if (root / entry["path"]).is_file()])
    faults += [f"{name}: is not in {MANIFEST}" for name in NEEDED if name not in paths]
    if faults:
        return faults
    contract = json.loads((root / "contract.json").read_text(encoding="utf-8"))
    faults, tables = check_contents(root, files, contract)
    return faults or check_facts(root, manifest, contract, tables)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of a release")
    parser.add_argument("--release", help="the id that it must have")
    given = parser.parse_args()
    found = verify(given.folder, given.release)
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    if found:
        sys.exit(1)
    said = json.loads((given.folder / MANIFEST).read_text(encoding="utf-8"))
    print(f"{given.folder}: release {said['release']}, {len(said['files'])} files, all as the contract says")
