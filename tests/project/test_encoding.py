"""Text is read and written as UTF-8 whatever the locale: each call says so. pandas' own default is UTF-8."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = sorted(
    path for part in ("scripts", "ops", "gates", "bench", "workflow") for path in (ROOT / part).rglob("*.py")
)
CHECKS = {"checks.smk", "variants.smk"}  # become workflow/checks.py
RULES = [path for path in sorted((ROOT / "rules").glob("*.smk")) if path.name not in CHECKS]
OPENERS = {"os", "h5py", "ad", "self", "urllib"}  # their open is another one


def opens_text(call: ast.Call) -> bool:
    """Whether a call reads or writes a file as text: open, also of gzip and Path, read_text, write_text."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("read_text", "write_text"):
        return True
    owner = call.func.value.id if isinstance(getattr(call.func, "value", None), ast.Name) else ""
    if name != "open" or owner in OPENERS:
        return False
    modes = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
    binary = [
        arg
        for arg in modes
        if isinstance(arg, ast.Constant) and re.fullmatch("[rwxab+]*b[rwxab+]*", str(arg.value))
    ]
    return not binary


def calls_without_encoding(text: str) -> list[int]:
    """Line numbers of calls on text files that name no encoding."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and opens_text(node)]
    return [call.lineno for call in calls if not any(word.arg == "encoding" for word in call.keywords)]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_has_its_encoding(path):
    assert calls_without_encoding(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_text_has_its_encoding_in_rules(path):
    """Rules are no Python; a call and its encoding are on one line there."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [line for line in lines if re.search(r"\bopen\(|\.(read|write)_text\(", line)]
    assert [line for line in found if "encoding=" not in line] == []


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("path.read_text()", [1]),
        ("path.write_text(text)", [1]),
        ("open(path)", [1]),
        ("open(path, 'a' if more else 'w')", [1]),
        ("gzip.open(path, 'rt')", [1]),
        ("path.open('w')", [1]),
        ("path.read_text(encoding='utf-8')", []),
        ("open(path, 'rb')", []),
        ("open(path, mode='wb')", []),
        ("os.open(path, os.O_RDONLY)", []),
    ],
)
def test_calls_are_found(line, lines):
    assert calls_without_encoding(line) == lines
