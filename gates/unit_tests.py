"""Run each rule alone, on what the last run gave it, and compare what it makes.

    python gates/unit_tests.py [--rules RULE ...] [--configfile C] [--profile P] [--out .tests/unit]

`snakemake --generate-unit-tests` copies, for one job of each rule, inputs and outputs from the finished
results of this folder, which must be up to date; the job runs in a folder that holds config/, these inputs
and nothing else. So a rule that reads a file that it does not declare fails, unless it names it by its full
path or it is in config/. Outputs are compared by gates/comparators.py. For the demo: results above --max-mb
are refused.

Of what Snakemake 9.27 generates this is put right: tests that are there are never renewed (the folder is
removed first); every byte is compared (common.py is replaced); `python` is whichever comes first on PATH, and
paths are relative to the project (pytest is run with both). A rule without a job in the run has no test.
Exit 1 when a rule fails, 2 when tests cannot be made.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from _root import ROOT
from drift import Asker, add_question

COMMON = '''"""Outputs are compared by gates/comparators.py."""
import sys
from pathlib import Path

import pytest
from generated_common import OutputChecker as Generated

sys.path.insert(0, {gates!r})
from comparators import difference


class OutputChecker(Generated):
    """Compares by content; notes what is the same in content but not byte by byte."""

    def compare_files(self, expected_file, generated_file, cmp_cmds):
        if what := difference(expected_file, generated_file):
            pytest.fail(f"{{expected_file}} differs: {{what}}", pytrace=False)
        if expected_file.read_bytes() != generated_file.read_bytes():
            with open(Path(__file__).parent / "by_content.txt", "a", encoding="utf-8") as notes:
                notes.write(f"{{expected_file.relative_to(self.expected_path)}}\\n")
'''


def stop(message: str) -> None:
    """Say why there are no tests, and exit with 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def generate(asker: Asker, out: Path) -> list[str]:
    """Write the tests of the finished results; returns the rules that have one."""
    done = asker.run("--dry-run")
    if done.returncode:
        stop(f"Snakemake cannot plan\n{(done.stdout + done.stderr).strip()}")
    if "Nothing to be done" not in done.stdout + done.stderr:
        stop("the results are not up to date (`make drift` says why); run the workflow first")
    shutil.rmtree(out, ignore_errors=True)
    done = asker.run("--generate-unit-tests", str(out))
    if done.returncode:
        stop(f"Snakemake made no tests\n{(done.stdout + done.stderr).strip()}")
    (out / "common.py").rename(out / "generated_common.py")
    (out / "common.py").write_text(COMMON.format(gates=str(ROOT / "gates")), encoding="utf-8")
    return sorted(path.stem.removeprefix("test_") for path in out.glob("test_*.py"))


def run(out: Path, rules: list[str]) -> int:
    """Run the tests of these rules, two at a time, with the Python that runs this; pytest's status."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    options = ["-n", "2", "--dist", "worksteal", "-p", "no:cacheprovider", "--durations", "5"]
    tests = [str(out / f"test_{rule}.py") for rule in rules]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    return subprocess.run(command, env=os.environ | {"PATH": path}, check=False).returncode


def megabytes(folder: Path) -> float:
    """Size of the files below a folder, in MB, each once."""
    files = {path.stat().st_ino: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return sum(files.values()) / 1e6


def main() -> None:
    """Generate and run the tests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_question(parser)
    parser.add_argument("--rules", nargs="+", help="only these")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--max-mb", type=float, default=500, help="of results, which are copied")
    parser.add_argument("--out", type=Path, default=Path(".tests/unit"))
    options = parser.parse_args()
    if (size := megabytes(options.results)) > options.max_mb:
        stop(f"{options.results} has {size:.0f} MB, more than --max-mb {options.max_mb:g}; use the demo")
    there = generate(Asker(options.profile, options.configfile, options.target), options.out)
    rules = options.rules or there
    if absent := sorted(set(rules) - set(there)):
        stop(f"the run had no job of {', '.join(absent)}")
    status = run(options.out, rules)
    notes = options.out / "by_content.txt"
    by_content = sorted(set(notes.read_text(encoding="utf-8").split())) if notes.exists() else []
    differing = ", ".join(by_content) or "none"
    print(f"unit-tests: {len(rules)} rules; the same in content, not byte by byte: {differing}")
    sys.exit(1 if status else 0)


if __name__ == "__main__":
    main()
