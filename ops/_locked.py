"""The packages of this environment against those of requirements.lock."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements.lock"


def pins() -> dict[str, str]:
    """Version of each locked package."""
    return dict(re.findall(r"^([a-zA-Z0-9_.-]+)==([^ ;\\]+)", LOCK.read_text(encoding="utf-8"), re.M))


def drifted() -> dict[str, str]:
    """Packages of another version than the lock's: name -> what is there, and what is locked."""
    found = {}
    for package, pinned in pins().items():
        try:
            has = version(package)
        except PackageNotFoundError:
            continue  # the lock is for every platform: one that this one does not need may be missing
        if has != pinned:
            found[package] = f"{has}, locked {pinned}"
    return found


def missing(packages: list[str]) -> list[str]:
    """Those of the packages that are not there."""

    def there(package):
        try:
            return bool(version(package))
        except PackageNotFoundError:
            return False

    return [package for package in packages if not there(package)]
