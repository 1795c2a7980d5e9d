"""Compare the packages of this environment with requirements.lock."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements.lock"


def read_pins() -> dict[str, str]:
    """Version of each locked package."""
    return dict(re.findall(r"^([a-zA-Z0-9_.-]+)==([^ ;\\]+)", LOCK.read_text(encoding="utf-8"), re.M))


def find_drifted() -> dict[str, str]:
    """Packages with another version than in the lock: name -> installed and locked version."""
    versions = {}
    for package, pinned in read_pins().items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            continue  # the lock is for all platforms, so a package can be missing on this one
        if installed != pinned:
            versions[package] = f"{installed}, locked {pinned}"
    return versions


def find_missing(packages: list[str]) -> list[str]:
    """The packages that are not installed."""

    def is_installed(package):
        try:
            return bool(version(package))
        except PackageNotFoundError:
            return False

    return [package for package in packages if not is_installed(package)]
