"""Every warning code is documented, used by the step it stands under, and gathered into the release."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from job import BY_STEP, CODES

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "scripts").rglob("*.py"))}
RULES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk"))}
RULE = re.compile(r"^rule (\w+):\n((?:[ \n].*\n?)*)", flags=re.M)
BODIES = {name: body for text in RULES.values() for name, body in RULE.findall(text)}
TABLE = re.compile(r'^ +warnings="(<results>/warnings/[^"]+)",$', flags=re.M)


def codes_of_calls(text):
    """The codes that calls of `warn`, or of `Note`, which is warned of later, name in a module."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("warn", "Note")]
    return {call.args[0].value for call in named if isinstance(call.args[0], ast.Constant)}


USED = set().union(*map(codes_of_calls, SCRIPTS.values()))


def test_the_page_is_the_one_that_the_codes_make():
    command = [sys.executable, ROOT / "gates/describe_warnings.py"]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs/warnings.md").read_text(encoding="utf-8") == made, "run make warnings-page"
    assert [code for code in CODES if f"| `{code}` | {CODES[code]} |" not in made] == []


def test_every_code_is_used_and_every_used_code_is_known():
    assert set(CODES) == USED


@pytest.mark.parametrize("step", BY_STEP)
def test_a_step_with_codes_declares_a_table_of_warnings(step):
    (table,) = TABLE.findall(BODIES[step])
    assert re.match(rf"<results>/warnings/{step}[./]", table)


def test_every_table_of_warnings_is_gathered():
    function = re.search(r"^def warning_tables.*?\n(?=\n\n)", RULES["release.smk"], flags=re.M | re.S)[0]
    tables = [table for body in BODIES.values() for table in TABLE.findall(body)]
    assert tables
    assert [table for table in tables if f'"{table}"' not in function] == []
    assert function.count("<results>/warnings/") == len(tables)
