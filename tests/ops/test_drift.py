"""Each kind of change is found and told apart, and a finished run has none."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
SNAKEFILE = """
rule all:
    input: expand("results/{rule}.txt", rule="code text glue params names edited gone lost".split())

rule code:
    output: "results/code.txt"
    script: "step.py"

rule text:
    output: "results/text.txt"
    shell: "echo text > {output}"

rule glue:
    output: "results/glue.txt"
    params: config["glue"]
    shell: "echo glue > {output}"

rule params:
    output: "results/params.txt"
    params: config["glue"], how=config["how"]
    shell: "echo params > {output}"

rule names:
    input: config["names"]
    output: "results/names.txt"
    shell: "echo names > {output}"

rule edited:
    input: "edited.tsv"
    output: "results/edited.txt"
    shell: "echo edited > {output}"

rule gone:
    output: "results/gone.txt"
    shell: "echo gone > {output}"

rule lost:
    output: "results/lost.txt"
    shell: "echo lost > {output}"
"""
CONFIG = {"glue": "0123456789ab", "how": "well", "names": ["one.tsv", "two.tsv"]}
AFTER_ALL = ("all", "provenance", "publish", "report", "warning_table")  # follow any change
NONE = {"code": [], "params": [], "input": [], "missing": [], "unknown": 0, "reruns": {}}


def drift(folder, *options):
    """Status and JSON of ops/drift.py there, and what it says besides."""
    command = [sys.executable, str(ROOT / "ops/drift.py"), *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift")
    (folder / "profile").mkdir()
    (folder / "profile/config.yaml").write_text("cores: 2\nconfigfile: [config.yaml]\n")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "step.py").write_text("open(snakemake.output[0], 'w').write('made')\n")
    for name in ("one", "two", "three", "edited"):
        (folder / f"{name}.tsv").write_text(name)
    command = [sys.executable, "-m", "snakemake", "--profile", "profile", "--quiet", "all"]
    subprocess.run(command, cwd=folder, check=True)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_a_finished_run_has_no_drift(folder):
    assert drift(folder, "--profile", "profile") == (0, NONE, "")


def test_every_kind_of_change_is_told_apart(folder):
    (folder / "step.py").write_text("open(snakemake.output[0], 'w').write('made otherwise')\n")
    (folder / "Snakefile").write_text(SNAKEFILE.replace("echo text", "echo  text"))
    changed = CONFIG | {"glue": "ba9876543210", "how": "otherwise", "names": ["one.tsv", "three.tsv"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(changed))
    (folder / "edited.tsv").write_text("edited again")
    (folder / "results/gone.txt").unlink()
    for record in (folder / ".snakemake/metadata").rglob("*"):
        if record.is_file() and "lost" in record.read_text():
            record.unlink()
    status, found, said = drift(folder, "--profile", "profile")
    assert status == 1
    assert found == {
        "code": ["results/code.txt", "results/glue.txt", "results/text.txt"],
        "params": ["results/params.txt"],  # with the digest of helpers as well
        "input": ["results/edited.txt", "results/names.txt"],
        "missing": ["results/gone.txt"],
        "unknown": 1,
        "reruns": {rule: 1 for rule in ("all", "code", "text", "glue", "params", "names", "edited", "gone")},
    }
    assert "1 jobs left no provenance" in said


def test_what_snakemake_cannot_plan_is_no_drift(folder):
    (folder / "edited.tsv").unlink()
    (folder / "results/edited.txt").unlink()
    status, found, said = drift(folder, "--profile", "profile")
    assert (status, found) == (2, None)
    assert "edited.tsv" in said


OFFERED = {  # name -> module, of what job and files offer
    name: module
    for part in ("job", "files")
    for module, names in re.findall(
        r"^from (\S+) import (.*)$", (ROOT / f"scripts/{part}/__init__.py").read_text(), flags=re.M
    )
    for name in names.split(", ")
}


def imported(name, seen):
    """Modules that a script imports, directly or not, as part/module: found another way than by digest()."""
    text = (ROOT / f"scripts/{name}.py").read_text()
    for module, block, line in re.findall(r"^ *from (\S+) import (?:\(([^)]*)\)|(.*))$", text, flags=re.M):
        names = re.findall(r"\w+", block or line)
        modules = {OFFERED.get(each) for each in names} if module in ("job", "files") else {module}
        for path in {str(each).replace(".", "/") for each in modules} - seen:
            if (ROOT / f"scripts/{path}.py").is_file():
                seen.add(path)
                imported(path, seen)
    return seen


def rules_of_steps():
    """Step of each rule that runs a script."""
    texts = [path.read_text() for path in (ROOT / "rules").glob("*.smk")]
    found = {}
    for text in texts:
        name = None
        for line in text.splitlines():
            if line.startswith(("rule ", "checkpoint ")):
                name = line.split()[1].rstrip(":")
            if "../scripts/" in line and line.strip().startswith('"') and name:
                found[name] = line.strip().strip('"').removeprefix("../scripts/").removesuffix(".py")
    return found


def params_of_plan(folder):
    """(rule, wildcards) -> digest of the params of every job, beyond the checkpoint too."""
    command = [sys.executable, "gates/profiles.py", "plan", "profiles/local"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return {(job["rule"], str(job["wildcards"])): job["params"] for job in json.loads(done.stdout)["jobs"]}


def test_an_edited_helper_counts_for_exactly_the_steps_that_import_it(new_tiny, tmp_path):
    """Steps import this one, and so do other helpers. Only who imports it gets other params."""
    helper = "donors/_design"
    copy = new_tiny(tmp_path / "scohort")
    before = params_of_plan(copy.folder)
    with open(copy.folder / f"scripts/{helper}.py", "a") as file:
        file.write("# edited\n")
    after = params_of_plan(copy.folder)
    changed = {rule for (rule, wildcards), digest in after.items() if before[rule, wildcards] != digest}
    steps = rules_of_steps()
    wanted = {rule for rule, step in steps.items() if helper in imported(step, set())}
    assert len(wanted) >= 2
    assert {rule for rule, _ in after} >= wanted
    assert changed - {"provenance"} == wanted  # the digest of all code is part of provenance


def test_an_edited_helper_is_other_code_and_reruns_its_steps(tiny_run, tmp_path):
    copy = tiny_run.clone(tmp_path / "scohort")
    with open(copy.folder / "scripts/pathways/_gene_sets.py", "a") as file:
        file.write("# edited\n")
    status, found, _ = drift(copy.folder)
    assert status == 1
    rules = {path.replace("/warnings/", "/").split("/")[1] for path in found["code"]}
    assert rules == {
        step.split("/")[1]
        for step in set(rules_of_steps().values())
        if "pathways/_gene_sets" in imported(step, set())
    }
    assert {rule for rule in found["reruns"] if rule not in AFTER_ALL} == rules
    assert found["input"] == found["missing"] == []
