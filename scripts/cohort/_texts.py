"""Texts separated by tabs that people write: sample sheets and tables beside the data.

As Excel and editors save them: a byte order mark, any line ends, blanks around values, empty rows, fields in
quotes. A quote that is not closed would swallow the rows after it, so it is refused.
"""

import csv
import io
from pathlib import Path

from job import InputError


def read_rows(path: Path, setting: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows, values without blanks around them, rows as long as the header.

    setting: names the path. InputError when it is not such a text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{setting}: {path} cannot be read ({error.strerror}); correct it") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{setting}: {path} is not text in UTF-8; save it as text in UTF-8, separated by tabs"
        ) from error
    lines = csv.reader(io.StringIO(text, newline=None), delimiter="\t", strict=True)
    try:
        stripped = [_strip(line) for line in lines]
    except csv.Error as error:
        raise InputError(
            f"{setting}: {path} has a quote that is not closed, or text beside one, up to line "
            f'{lines.line_num}; remove it, or write "" for a quote within quotes'
        ) from error
    header, *rows = [line for line in stripped if any(line)] or [[]]
    named = [name for name in header if name]
    for name in named:
        if named.count(name) > 1:
            raise InputError(f"{setting}: {path} has two columns {name!r}; remove one")
    for number, row in enumerate(rows, start=1):
        if len(row) > len(header) and any(row[len(header) :]):
            raise InputError(
                f"{setting}: {path}: row {number} has {len(row)} fields for {len(header)} columns; correct it"
            )
    return header, [row[: len(header)] + [""] * (len(header) - len(row)) for row in rows]


def _strip(line: list[str]) -> list[str]:
    """Values without blanks around them. csv.Error for one with a line break: two quotes were left open."""
    if any("\n" in field for field in line):
        raise csv.Error("line break")
    return [field.strip() for field in line]
