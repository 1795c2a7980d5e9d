"""The laws of the house, read from the syntax trees.

1. A file without `_` is the script of a rule, or a program.
2. job/ sees paths and never data.
3. Only files/ knows how a shared file is laid out.
4. A part imports itself, and names from job and files; nothing else.

Each step also states its result once, by `conclude`.
"""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PARTS = {path.parent.name for path in (ROOT / "scripts").glob("*/__init__.py")}
OFFERING = {"job", "files"}  # parts whose names the others import
SCRIPTS = sorted((ROOT / "scripts").glob("*/*.py"))
PROGRAMS = sorted(path for part in ("ops", "gates", "bench") for path in (ROOT / part).glob("*.py"))
STAND_ALONE = {"publish/_contents.py", "publish/_facts.py"}  # of verify.py, which runs without the rest
READERS = ("_anndata", "_blocks", "_loom", "_mudata", "_tenx")
USERS_FILE = {f"cohort/{name}.py" for name in READERS}  # read the user's cohort, in any layout
GLUE = {"psutil", "threadpoolctl", "numba", "snakemake", "snakemake_interface_logger_plugins"}


def short(path: Path) -> str:
    """A path below the root, the way tests and messages name it."""
    return path.relative_to(ROOT).as_posix().removeprefix("scripts/")


def imports(text: str) -> list[tuple[str, str]]:
    """(module, name) of everything that a program imports anywhere; name "" for a whole module."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module, alias.name) for alias in node.names]
    return found


def is_main_guard(node: ast.stmt) -> bool:
    """Whether a statement is `if __name__ == "__main__":`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def foreign_to_glue(text: str) -> list[str]:
    """Libraries that job/ has no use for, and what only a step may look at: params and seeds."""
    tops = {module.split(".")[0] for module, _ in imports(text)}
    attributes = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
    return sorted(tops - set(sys.stdlib_module_names) - GLUE - {"job"}) + sorted(
        attributes & {"params", "seed"}
    )


def layout_in(text: str) -> list[str]:
    """What reads or writes AnnData on disk: h5py, anndata.io, and anndata's reader of whole files."""
    found = {
        module for module, _ in imports(text) if module.split(".")[0] == "h5py" or module == "anndata.io"
    }
    attributes = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
    return sorted(found | (attributes & {"read_h5ad"}))


def foreign_imports(text: str, part: str) -> list[str]:
    """Modules of other parts, and modules behind what job and files offer."""
    modules = {module for module, _ in imports(text) if module.split(".")[0] in PARTS}
    return sorted(
        module for module in modules if module.split(".")[0] != part and module not in OFFERING - {part}
    )


def private_names(text: str, part: str) -> list[str]:
    """Names with a leading underscore that are imported from another part."""
    return sorted(
        f"{module}.{name}"
        for module, name in imports(text)
        if name.startswith("_") and module.split(".")[0] in PARTS - {part}
    )


def names_outside_main(text: str, name: str) -> list[int]:
    """Line numbers where a global name is used outside of the main guard; an argument is another one."""
    lines, pending = [], [node for node in ast.parse(text).body if not is_main_guard(node)]
    while pending:
        node = pending.pop()
        arguments = getattr(node, "args", None)
        if isinstance(arguments, ast.arguments) and name in {each.arg for each in arguments.args}:
            continue
        lines += [node.lineno] if isinstance(node, ast.Name) and node.id == name else []
        pending += ast.iter_child_nodes(node)
    return sorted(lines)


def conclusions(text: str) -> int:
    """How often the main of a script states its result."""
    mains = [node for node in ast.parse(text).body if is_main_guard(node)]
    calls = [node for main in mains for node in ast.walk(main) if isinstance(node, ast.Call)]
    return sum(ast.unparse(call.func) == "conclude" for call in calls)


def changes_path(text: str) -> list[int]:
    """Line numbers where sys.path is used."""
    nodes = ast.walk(ast.parse(text))
    return [
        node.lineno for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"
    ]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [p for p in [*SCRIPTS, *PROGRAMS] if p.name[0] != "_"], ids=short)
def test_a_file_without_underscore_is_a_script_of_a_rule_or_a_program(path):
    assert any(map(is_main_guard, ast.parse(read(path)).body))
    scripts = {place for rules in (ROOT / "rules").glob("*.smk") for place in script_paths(read(rules))}
    if path in SCRIPTS:
        assert short(path) in scripts | {"publish/verify.py"}


def script_paths(rules: str) -> list[str]:
    """Paths of scripts in the text of rules, from scripts/ on."""
    return re.findall(r'script:\s+"\.\./scripts/([^"]+)"', rules)


def test_a_script_of_a_rule_has_no_underscore():
    scripts = [place for rules in (ROOT / "rules").glob("*.smk") for place in script_paths(read(rules))]
    assert scripts
    assert [place for place in scripts if place.split("/")[-1].startswith("_")] == []


@pytest.mark.parametrize("path", [p for p in SCRIPTS if p.parent.name == "job"], ids=short)
def test_job_sees_paths_and_never_data(path):
    assert foreign_to_glue(read(path)) == []


@pytest.mark.parametrize("path", [p for p in SCRIPTS if p.parent.name != "files"], ids=short)
def test_only_files_knows_how_a_shared_file_is_laid_out(path):
    assert layout_in(read(path)) == [] or short(path) in STAND_ALONE | USERS_FILE


@pytest.mark.parametrize("place", sorted(STAND_ALONE | USERS_FILE))
def test_each_exception_is_one(place):
    assert layout_in(read(ROOT / "scripts" / place))


@pytest.mark.parametrize("path", SCRIPTS, ids=short)
def test_a_part_imports_itself_and_what_job_and_files_offer(path):
    assert foreign_imports(read(path), path.parent.name) == []


@pytest.mark.parametrize("path", [*SCRIPTS, *PROGRAMS], ids=short)
def test_no_private_name_is_imported_from_another_part(path):
    assert private_names(read(path), path.parent.name) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=short)
def test_snakemake_is_named_in_a_main_only(path):
    assert names_outside_main(read(path), "snakemake") == []


@pytest.mark.parametrize("path", [p for p in [*SCRIPTS, *PROGRAMS] if p.name != "_root.py"], ids=short)
def test_no_program_changes_where_modules_are_found(path):
    assert changes_path(read(path)) == []


@pytest.mark.parametrize(
    "path", [p for p in SCRIPTS if "    with job(snakemake) as out:" in read(p)], ids=short
)
def test_each_step_states_its_result_once(path):
    assert conclusions(read(path)) == 1


def test_each_law_would_be_broken_by_its_opposite():
    assert conclusions("if __name__ == '__main__':\n    with job(snakemake):\n        print(1)") == 0
    assert conclusions("if __name__ == '__main__':\n    conclude('1 of 2')") == 1
    assert foreign_to_glue("import numpy as np\nsnakemake.params") == ["numpy", "params"]
    assert foreign_to_glue("import json\nfrom job._progress import announce") == []
    assert layout_in("import anndata as ad\nad.read_h5ad(path)") == ["read_h5ad"]
    assert layout_in("def f():\n    import h5py\n    from anndata.io import write_elem") == [
        "anndata.io",
        "h5py",
    ]
    assert layout_in("import anndata as ad\nad.AnnData(x)") == []
    assert foreign_imports("from donors._design import build", "cells") == ["donors._design"]
    assert foreign_imports("from files._sums import read_obs", "cells") == ["files._sums"]
    assert foreign_imports("from files import read_obs\nfrom cells import qc", "cells") == []
    assert foreign_imports("from files._tsv import read_tsv\nimport job", "files") == []
    assert private_names("from cohort._counts import _obs, find_counts", "ops") == ["cohort._counts._obs"]
    assert names_outside_main("def f():\n    return snakemake.input", "snakemake") == [2]
    assert names_outside_main("def job(snakemake):\n    snakemake.log", "snakemake") == []
    assert names_outside_main("if __name__ == '__main__':\n    snakemake.input", "snakemake") == []
    assert changes_path("import sys\nsys.path.insert(0, 'x')") == [2]
