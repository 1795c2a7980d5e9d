"""What a run is made of: commit, digests of code and lock, the config behind the published files."""

import copy
import functools
import hashlib
import itertools
import json
import os
import subprocess
from pathlib import Path

CODE = ("workflow", "rules", "scripts")  # the folders that decide what is computed
ENDINGS = (".py", ".smk", ".yaml", ".j2", ".css", ".js", "Snakefile", "VERSION")

# Sections and keys that change no published file: what is published must not change with them.
UNPUBLISHED = ("pathvars", "retries", "sweep", "stability")
UNPUBLISHED_KEYS = {"publish": ("keep",), "differential": ("cell_types_per_job",)}


def profile_of(words: list[str]) -> str:
    """The profile that Snakemake was started with; empty without one. words: of its command."""
    words = " ".join(words).replace("--profile=", "--profile ").split()
    named = dict(itertools.pairwise(words)).get("--profile")
    return named or os.environ.get("SNAKEMAKE_PROFILE", "")


def published_config(config: dict) -> dict:
    """The config without what changes no published file, in one order: an overlay puts its keys in front."""
    kept = copy.deepcopy({section: config[section] for section in config if section not in UNPUBLISHED})
    for section, keys in UNPUBLISHED_KEYS.items():
        for key in keys:
            del kept[section][key]
    return json.loads(json.dumps(kept, sort_keys=True))


def git(folder: Path, *arguments: str) -> str | None:
    """What git prints about a folder; None when it fails, outside of a repository, or without git.

    It takes no lock: a run must not disturb what its user does in the same checkout.
    """
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    except FileNotFoundError:
        return None
    return None if done.returncode else done.stdout.strip()


def name_commit(folder: Path, *paths: str) -> str:
    """The commit of a folder, `+dirty` when files differ from it; `unknown` outside of a repository.

    paths: what may differ, as git names it; everything without them.
    """
    head = git(folder, "rev-parse", "HEAD")
    if head is None:
        return "unknown"
    return f"{head}+dirty" if git(folder, "status", "--porcelain", "--", *paths) else head


@functools.cache
def commit_of(project: Path | None) -> str | None:
    """The commit that is checked out; None unless the project is a repository of its own."""
    top = git(project, "rev-parse", "--show-toplevel") if project else None
    return git(project, "rev-parse", "HEAD") if top and Path(top).resolve() == project else None


def is_dirty(project: Path | None) -> bool | None:
    """Whether the code differs from the commit; None without a commit."""
    return bool(git(project, "status", "--porcelain", "--", *CODE)) if commit_of(project) else None


def code_sha256(project: Path | None) -> str | None:
    """Digest of paths and contents of the code; None when the workflow is not a local folder."""
    if not project:
        return None
    paths = sorted(
        path for part in CODE for path in (project / part).rglob("*") if path.name.endswith(ENDINGS)
    )
    texts = [
        f"{path.relative_to(project).as_posix()}\0{path.read_text(encoding='utf-8')}\0" for path in paths
    ]
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def lock_sha256(project: Path | None) -> str | None:
    """Digest of requirements.lock; None where a copy of the workflow came without it."""
    path = project / "requirements.lock" if project else None
    return hashlib.sha256(path.read_bytes()).hexdigest() if path and path.is_file() else None
