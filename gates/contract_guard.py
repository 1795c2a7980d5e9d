"""Hold changes of the contract to its own rules: `make contract-guard BASE=main`.

Compares workflow/schemas/publish.yaml and workflow/VERSION of the working tree with those of the last commit
that it shares with BASE. Prints every change with its class, exit 1 when the version does not say so:

breaking   something that a reader relies on is gone or different  the next major number
addition   a file, column, key or value is new                     the next minor number, or major
wording    descriptions and bounds                                 another version

The major number is that of the contract (`contract: v1` is 1.x.y), and no version goes back. Where a file
comes from (`source`) is not part of the contract.
"""

import argparse
import re
import sys
from pathlib import Path

import yaml

from _root import ROOT
from workflow.provenance import git

CONTRACT, VERSION = "workflow/schemas/publish.yaml", "workflow/VERSION"
BREAKING, ADDITION, WORDING = "breaking", "addition", "wording"
PARTS = {BREAKING: 0, ADDITION: 1, WORDING: 2}  # of the version: what has to change, or one before it
# Promises may be new but neither go nor change, limits may go but not come; other facts are wording.
PROMISES = {"key", "types", "further"}
LIMITS = {"when", "volatile", "optional"}


def full_columns(spec: dict, contract: dict) -> dict[str, dict]:
    """The columns of a kind of file, those described once for all filled in."""
    return {name: column or contract["columns"][name] for name, column in spec.get("columns", {}).items()}


def compare_entries(where: str, old: dict, new: dict, ignored: set[str]) -> list[tuple[str, str]]:
    """Changes of the single facts of a file or column."""
    changes = []
    for fact in sorted((old.keys() | new.keys()) - ignored):
        before, after = old.get(fact), new.get(fact)
        if before == after:
            continue
        if fact in PROMISES:
            kind = ADDITION if before is None else BREAKING
        elif fact in LIMITS:
            kind = ADDITION if after is None else BREAKING
        elif fact in ("path", "unit", "labels"):
            kind = BREAKING
        elif fact == "type":
            kind = ADDITION if before == f"{after}?" else BREAKING  # never missing any more
        elif fact == "values":
            kind = BREAKING if set(before or []) - set(after or []) else ADDITION
        else:
            kind = WORDING
        changes.append((kind, f"{where}: {fact} was {before!r}, is {after!r}"))
    return changes


def compare_names(where: str, old: list, new: list) -> list[tuple[str, str]]:
    """Names that are gone or new."""
    gone = [(BREAKING, f"{where} {name}: is gone") for name in old if name not in new]
    return gone + [(ADDITION, f"{where} {name}: is new") for name in new if name not in old]


def compare(old: dict, new: dict) -> list[tuple[str, str]]:
    """Class and description of every change between two contracts."""
    changes = compare_names("file", list(old["files"]), list(new["files"]))
    for kind in [kind for kind in old["files"] if kind in new["files"]]:
        was, now = old["files"][kind], new["files"][kind]
        changes += compare_entries(f"file {kind}", was, now, {"columns", "keys", "source"})
        changes += compare_names(f"file {kind}: key", was.get("keys", []), now.get("keys", []))
        before, after = full_columns(was, old), full_columns(now, new)
        changes += compare_names(f"file {kind}: column", list(before), list(after))
        for name in [name for name in before if name in after]:
            changes += compare_entries(f"file {kind}: column {name}", before[name], after[name], set())
    if old["contract"] != new["contract"]:
        changes.append((BREAKING, f"contract was {old['contract']}, is {new['contract']}"))
    return changes


def parse(version: str) -> tuple[int, ...]:
    """The three numbers of a version; SystemExit when it has not three."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version.strip()):
        sys.exit(f"error: {VERSION}: {version.strip()!r} is not a version; write it like 1.0.0")
    return tuple(int(part) for part in version.strip().split("."))


def check_version(changes: list[tuple[str, str]], old: tuple[int, ...], new: tuple[int, ...]) -> list[str]:
    """Why a version does not say what has changed; nothing if it does."""
    if new < old:
        return [f"{VERSION} goes back from {show(old)} to {show(new)}"]
    if not changes:
        return []
    worst = min((kind for kind, _ in changes), key=PARTS.get)
    part = PARTS[worst]
    if new[: part + 1] > old[: part + 1]:
        return []
    wanted = (*old[:part], old[part] + 1, *[0] * (2 - part))
    return [f"{worst} changes need {VERSION} {show(wanted)} or later, it is {show(new)}"]


def show(version: tuple[int, ...]) -> str:
    """A version as text."""
    return ".".join(map(str, version))


def guard(root: Path, base: str) -> tuple[list[str], list[str]]:
    """What has changed since the base revision, and what is wrong about that, as lines."""
    shared = git(root, "merge-base", base, "HEAD")
    if shared is None:
        sys.exit(f"error: {base} is not a revision that this repository shares; give the base as BASE=...")
    contract = yaml.safe_load((root / CONTRACT).read_text(encoding="utf-8"))
    version = parse((root / VERSION).read_text(encoding="utf-8"))
    wrong = []
    if contract["contract"] != f"v{version[0]}":
        wrong.append(f"{VERSION} is {show(version)}, its major number is not that of {contract['contract']}")
    before = git(root, "show", f"{shared}:{CONTRACT}")
    if before is None:
        return [f"{shared[:12]} has no contract: nothing to compare"], wrong
    changes = compare(yaml.safe_load(before), contract)
    old_version = git(root, "show", f"{shared}:{VERSION}") or sys.exit(f"error: {base} has no {VERSION}")
    lines = [f"{kind}: {text}" for kind, text in sorted(changes, key=lambda change: PARTS[change[0]])]
    return lines or ["the contract has not changed"], wrong + check_version(
        changes, parse(old_version), version
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("base", metavar="BASE", help="a branch, tag or commit")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    given = parser.parse_args()
    lines, wrong = guard(given.root, given.base)
    print("\n".join(lines))
    if wrong:
        sys.exit("\n".join(f"error: {line}" for line in wrong))
