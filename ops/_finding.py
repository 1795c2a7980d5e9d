"""What a check of the doctor looks at, and what it finds."""

from pathlib import Path
from typing import NamedTuple


class Finding(NamedTuple):
    """The result of one check; level is ok, warning or FAULT, remedy is empty if ok."""

    check: str
    level: str
    found: str
    remedy: str = ""


class Options(NamedTuple):
    """The run to check."""

    folder: Path  # working directory of the run
    config: dict
    configfiles: list[str]
    profile: dict
    profile_path: str
    scratch: str
