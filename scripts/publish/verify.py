"""Verify a release: `python verify.py DIR [--release ID]`; prints one line per problem, exit 1 if any.

DIR is results/publish/v1, a folder of results/publish/releases, or a copy of one on any machine. Needs
pandas, pyarrow and h5py, no network, and of this repository the files verify.py, _contents.py and _facts.py
of scripts/publish. contract.json, in the release, describes its files (workflow/CONTRACT.md is the same for
people). Each step follows only if the one before found no problem:

1. The files are those of the manifest. None is empty or a link. Sizes and digests are correct.
2. Text, images and the columns of tables agree with the contract.
3. The files are those that the config and the cell types need. Facts agree between files: cell types, genes,
   samples, attrition, tested genes, and counts, which are conserved from the input to the sums.

The digests show damage and later changes, not the author of a release: compare the id with one that you
trust.
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
NEEDED = ["contract.json", "provenance.json", "cell_types.tsv"]  # these define the other files


def sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def release_id(files: list[dict], volatile: list[str]) -> str:
    """Id of a release: digest of the files in its manifest, without size and digest of the volatile ones."""
    entries = [
        {key: entry[key] for key in ("path", "schema", "rows")}
        | ({} if entry["path"] in volatile else {key: entry[key] for key in ("bytes", "sha256")})
        for entry in sorted(files, key=lambda entry: entry["path"])
    ]
    return canonical(entries)[:12]


def check_tree(root: Path, listed: set[str]) -> list[str]:
    """Problems of links, missing files, and files and folders that are not listed."""
    problems, present = [], set()
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if name in files:
                present.add(relative)
            if path.is_symlink():
                present.add(relative)
                problems.append(f"{relative}: is a link; a release has files only")
            elif name in folders and not any(path.iterdir()):
                problems.append(f"{relative}: is an empty folder, not in {MANIFEST}")
            elif name in files and not path.is_file():
                problems.append(f"{relative}: is not a regular file")
            elif name in files and path.stat().st_nlink > 1:
                problems.append(f"{relative}: is a hard link, a change elsewhere would change it; copy it")
    problems += [f"{path}: is missing" for path in sorted(listed - present)]
    return problems + [f"{path}: is not in {MANIFEST}" for path in sorted(present - listed)]


def check_bytes(root: Path, files: list[dict]) -> list[str]:
    """Problems of files that are empty or have another size or digest than in the manifest."""
    problems = []
    for entry in files:
        path = root / entry["path"]
        size = path.stat().st_size
        if size == 0:
            problems.append(f"{entry['path']}: is empty")
        elif size != entry["bytes"]:
            problems.append(f"{entry['path']}: has {size} bytes, {entry['bytes']} in {MANIFEST}")
        elif sha256(path) != entry["sha256"]:
            problems.append(f"{entry['path']}: was changed, its sha256 is not that of {MANIFEST}")
    return problems


def verify(folder: Path, release: str | None = None) -> list[str]:
    """Problems of a release, one line each; empty if it is complete and consistent."""
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
    problems = check_tree(root, {*paths, MANIFEST})
    problems += [
        f"{MANIFEST}: lists {path} more than once" for path in sorted(set(paths)) if paths.count(path) > 1
    ]
    if own != claimed or (release and release != own):
        problems.append(f"{MANIFEST}: lists release {own}, not {release or claimed}")
    problems += check_bytes(root, [entry for entry in files if (root / entry["path"]).is_file()])
    problems += [f"{name}: is not in {MANIFEST}" for name in NEEDED if name not in paths]
    if problems:
        return problems
    contract = json.loads((root / "contract.json").read_text(encoding="utf-8"))
    problems, tables = check_contents(root, files, contract)
    return problems or check_facts(root, manifest, contract, tables)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of a release")
    parser.add_argument("--release", help="the id that it must have")
    options = parser.parse_args()
    problems = verify(options.folder, options.release)
    for line in problems:
        print(f"error: {line}", file=sys.stderr)
    if problems:
        sys.exit(1)
    manifest = json.loads((options.folder / MANIFEST).read_text(encoding="utf-8"))
    number = len(manifest["files"])
    print(f"{options.folder}: release {manifest['release']}, {number} files, all as the contract says")
