"""Every gate turns red: for each, what it has to catch is put there, and the catch is counted.

A gate that cannot fail proves nothing. Cheap by intention: a toy workflow where the gate does not ask for
this one, the tiny demo's release otherwise, and no jobs but the toy's. That the gates are green on what is
sound is shown here for the toy, the release and the contract; for lint by CI; for the profiles and the doctor
in their own tests.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SNAKEFILE = """
configfile: "config/config.yaml"

rule all:
    input: "results/made.txt", "results/told.json"

rule make:
    input: "given.tsv"
    output: "results/made.txt"
    params: how=config["how"]
    script: "make.py"

rule tell:
    input: "results/made.txt"
    output: "results/told.json"
    script: "tell.py"
"""
MAKE = "open(snakemake.output[0], 'w').write(open('given.tsv').read() + snakemake.params.how)\n"
TELL = """import json
json.dump({"text": open("results/made.txt").read()}, open(snakemake.output[0], "w"))
"""
GATES = {  # gate: (where, commands as make has them)
    "drift": ("toy", ["ops/drift.py --profile profile"]),
    "convergence": ("toy", ["-m snakemake --profile profile --quiet all", "ops/drift.py --profile profile"]),
    "unit-tests": ("toy", ["gates/unit_tests.py --profile profile"]),
    "verify": ("release", ["scripts/publish/verify.py ."]),
    "contract-guard": ("contract", ["gates/contract_guard.py HEAD --root ."]),
    "profiles-audit": ("project", ["gates/profiles.py audit"]),
    "doctor": ("project", ["ops/doctor.py"]),
    "lint": ("project", ["lint"]),
}
GREEN_HERE = ["convergence", "unit-tests", "verify", "contract-guard"]  # convergence asks drift


def edit(path, old, new):
    """Replace what has to be there."""

    def change(folder):
        file = folder / path
        text = file.read_text()
        assert old in text, f"{path} lacks {old!r}"
        file.write_text(text.replace(old, new, 1))

    return change


def append(path, text):
    def change(folder):
        with open(folder / path, "a") as file:
            file.write(text)

    return change


def flip_a_byte(folder):
    path = folder / "genes.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rerun(change):
    """The change, and the toy's jobs made again: its results are up to date with it."""

    def changed(folder):
        change(folder)
        command = [sys.executable, "-m", "snakemake", "--profile", "profile", "--quiet", "all"]
        subprocess.run(command, cwd=folder, check=True)

    return changed


def both(*changes):
    return lambda folder: [change(folder) for change in changes]


HIDDEN = edit("make.py", "open('given.tsv').read()", "open('given.tsv').read() + open('hidden.tsv').read()")
LOG = '    log:\n        local("<logs>/qc/{shard}.log"),\n'
CLOCK = append("tell.py", "import os; open(snakemake.output[0], 'w').write(json.dumps(os.getpid()))\n")
MUTANTS = [  # gate, what was done, the change, what the gate says
    ("drift", "a script is edited", append("make.py", "# edited\n"), ["code of 1 outputs"]),
    ("drift", "a setting is other", edit("config/config.yaml", "well", "otherwise"), ["params of 1 outputs"]),
    ("drift", "an input is edited", append("given.tsv", "more"), ["input of 1 outputs"]),
    ("convergence", "a job's params are never the same",
     edit("Snakefile", 'config["how"]', "str(__import__('time').time())"), ["params of 1 outputs"]),
    ("unit-tests", "one rule reads an undeclared file, another writes its process id",
     rerun(both(HIDDEN, CLOCK)),
     ["No such file or directory: 'hidden.tsv'", "told.json differs: its values"]),
    ("verify", "a byte is changed", flip_a_byte, ["genes.parquet: was changed"]),
    ("verify", "a file is lost",
     lambda folder: (folder / "attrition.tsv").unlink(), ["attrition.tsv: is missing"]),
    ("verify", "a file is added", append("notes.txt", "hello"), ["notes.txt: is not in manifest.json"]),
    ("contract-guard", "a column goes, the version stays",
     edit("workflow/schemas/publish.yaml", "      samples: {type: integer", "      gone: {type: integer"),
     ["breaking changes need workflow/VERSION"]),
    ("contract-guard", "a meaning is reworded, the version stays",
     edit("workflow/schemas/publish.yaml", "Name of the contrast", "The name of the contrast"),
     ["wording changes need workflow/VERSION"]),
    ("profiles-audit", "a profile sets a seed",
     append("profiles/ci/config.yaml", "config: {random_state: 7} # planted\n"),
     ["ci: config is not a policy", "ci: plans other jobs than local"]),
    ("doctor", "the config has a misspelt key", append("config/config.yaml", "qualitycontrol: {}\n"),
     ["FAULT   config", "qualitycontrol"]),
    ("lint", "an import is not used", append("scripts/cells/qc.py", "import this_is_not_used\n"), ["F401"]),
    ("lint", "a rule has no log", edit("rules/cells.smk", LOG, ""), ["No log directive"]),
    ("lint", "the page's script uses a name that nothing declares",
     append("scripts/report/page/start.js", "not_declared();\n"), ["noUndeclaredVariables"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def grounds(tiny_run, new_tiny, tmp_path_factory):
    """Finished toy, published release, committed contract and project, each sound."""
    toy = tmp_path_factory.mktemp("toy")
    for part in ("profile", "config"):
        (toy / part).mkdir()
    (toy / "profile/config.yaml").write_text("cores: 1\n")
    (toy / "config/config.yaml").write_text("how: well\n")
    for name, text in {"Snakefile": SNAKEFILE, "make.py": MAKE, "tell.py": TELL, "given.tsv": "1\n"}.items():
        (toy / name).write_text(text)
    (toy / "hidden.tsv").write_text("2\n")
    rerun(lambda folder: None)(toy)
    contract = tmp_path_factory.mktemp("contract")
    (contract / "workflow/schemas").mkdir(parents=True)
    for name in ("VERSION", "schemas/publish.yaml"):
        shutil.copy(ROOT / "workflow" / name, contract / "workflow" / name)
    git = ["git", "-C", str(contract), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "base"]):
        subprocess.run([*git, *command], check=True)
    release = (tiny_run.folder / "results/publish/v1").resolve()
    project = new_tiny(tmp_path_factory.mktemp("project") / "scohort").folder
    return {"toy": toy, "contract": contract, "release": release, "project": project}


def ask(gate, folder):
    """Status and words of a gate's commands, up to the first that fails."""
    words = ""
    for command in GATES[gate][1]:
        program = [sys.executable, *command.split()]
        if command.startswith(("ops/", "gates/", "scripts/")):
            program[1] = str(ROOT / program[1])
        done = subprocess.run(
            ["make", command] if gate == "lint" else program,
            cwd=folder,
            env={name: value for name, value in os.environ.items() if name != "MAKEFLAGS"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        words += done.stdout
        if done.returncode:
            return done.returncode, words
    return 0, words


def copy_of(ground, folder):
    """A copy to change."""
    return Path(shutil.copytree(ground, folder, symlinks=True))


@pytest.mark.parametrize("gate", GREEN_HERE)
def test_a_sound_ground_is_green(gate, grounds, tmp_path):
    status, words = ask(gate, copy_of(grounds[GATES[gate][0]], tmp_path / "copy"))
    assert status == 0, words


def test_every_gate_catches_its_mutants(grounds, tmp_path):
    missed = []
    for number, (gate, what, change, said) in enumerate(MUTANTS):
        folder = copy_of(grounds[GATES[gate][0]], tmp_path / str(number))
        change(folder)
        status, words = ask(gate, folder)
        caught = status != 0 and all(text in words for text in said)
        missed += [] if caught else [f"{gate}: {what}: status {status}\n{words[-3000:]}"]
        print(f"{'caught' if caught else 'MISSED'}  {gate}: {what}", flush=True)
    print(f"{len(MUTANTS) - len(missed)} of {len(MUTANTS)} mutants caught by {len(GATES)} gates")
    assert missed == []
    assert {gate for gate, *_ in MUTANTS} == GATES.keys()
