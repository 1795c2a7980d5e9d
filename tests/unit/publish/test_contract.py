"""The contract is described, made from one list, and changes only as it says itself."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from contract_guard import check_version, compare, parse

ROOT = Path(__file__).parent.parent.parent.parent
CONTRACT = yaml.safe_load((ROOT / "workflow/schemas/publish.yaml").read_text())
TYPES = {"text", "integer", "number", "boolean"}
FACTS = {"type", "means", "unit", "min", "max", "values", "optional"}
KEYS = {"path", "source", "when", "rows", "key", "types", "labels", "further", "columns", "keys", "volatile"}


def test_the_page_is_made_from_the_list():
    program = [sys.executable, ROOT / "gates/describe_contract.py"]
    page = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "workflow/CONTRACT.md").read_text() == page, "run `make contract`"


def test_the_page_names_every_file_and_column():
    page = (ROOT / "workflow/CONTRACT.md").read_text()
    parts = re.split(r"^### ", page.partition("## Files")[2], flags=re.M)[1:]
    told = {part.split("\n")[0]: part for part in parts}
    assert list(told) == list(CONTRACT["files"])
    for kind, spec in CONTRACT["files"].items():
        assert f"`{spec['path']}`" in told[kind]
        assert re.findall(r"^\| `(.+?)` \|", told[kind], flags=re.M) == list(spec.get("columns", {}))
        assert all(key in told[kind] for key in spec.get("keys", []))


def test_every_entry_is_well_formed_and_every_source_is_written_by_a_rule():
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    paths = [spec["path"] for spec in CONTRACT["files"].values()]
    assert len(set(paths)) == len(paths)
    for kind, spec in CONTRACT["files"].items():
        assert spec.keys() <= KEYS, kind
        assert spec.get("when") in (None, "contrasts", "gene_sets", "prediction"), kind
        suffix = Path(spec["path"]).suffix
        assert ("columns" in spec) == (suffix in (".tsv", ".parquet", ".h5ad")), kind
        assert ("keys" in spec) == (suffix == ".json"), kind
        assert suffix in (".tsv", ".parquet", ".h5ad", ".json", ".png", ".html"), kind
        if "source" in spec:
            assert f'"<results>/{spec["source"]}"' in rules, f"{kind}: no rule writes {spec['source']}"
            assert Path(spec["source"]).suffix == suffix, kind


def test_every_column_has_a_type_and_a_meaning():
    described = dict(CONTRACT["columns"])
    for kind, spec in CONTRACT["files"].items():
        for name, column in spec.get("columns", {}).items():
            assert column or name in CONTRACT["columns"], f"{kind}: {name} is not described"
            described[f"{kind}.{name}"] = column or CONTRACT["columns"][name]
        assert set(spec.get("key", [])) <= set(spec.get("columns", {})), kind
    for name, column in described.items():
        assert column.keys() <= FACTS, name
        assert column["type"].removesuffix("?") in TYPES, name
        assert len(column["means"]) > 3, name


def changed(edit):
    contract = copy.deepcopy(CONTRACT)
    edit(contract["files"], contract)
    return contract


def rename(files, contract):
    columns = files["differential"]["columns"]
    columns.pop("padj")
    columns["q"] = contract["columns"]["padj"]


CHANGES = {
    "a file is gone": (lambda files, _: files.pop("attrition"), "breaking", "file attrition: is gone"),
    "a column is gone": (
        lambda files, _: files["differential"]["columns"].pop("padj"),
        "breaking",
        "file differential: column padj: is gone",
    ),
    "a column has another name": (rename, "breaking", "file differential: column padj: is gone"),
    "a JSON key is gone": (
        lambda files, _: files["run"]["keys"].remove("host"),
        "breaking",
        "file run: key host: is gone",
    ),
    "another path": (
        lambda files, _: files["cells"].update(path="c.parquet"),
        "breaking",
        "file cells: path was",
    ),
    "another unit": (
        lambda files, _: files["composition"]["columns"]["log_odds"].update(unit="log2"),
        "breaking",
        "column log_odds: unit was 'natural log', is 'log2'",
    ),
    "another type": (
        lambda _, contract: contract["columns"]["pvalue"].update(type="text"),
        "breaking",
        "file differential: column pvalue: type was 'number?', is 'text'",
    ),
    "values may be missing now": (
        lambda _, contract: contract["columns"]["gene_id"].update(type="text?"),
        "breaking",
        "column gene_id: type was 'text', is 'text?'",
    ),
    "values are never missing now": (
        lambda _, contract: contract["columns"]["pool"].update(type="text"),
        "addition",
        "column pool: type was",
    ),
    "a word is gone": (
        lambda files, _: files["synthesis_genes"]["columns"]["pattern"]["values"].remove("single"),
        "breaking",
        "column pattern: values was",
    ),
    "a word more": (
        lambda files, _: files["synthesis_genes"]["columns"]["pattern"]["values"].append("late"),
        "addition",
        "column pattern: values was",
    ),
    "rows are no longer unique": (
        lambda files, _: files["genes"].pop("key"),
        "breaking",
        "file genes: key was",
    ),
    "labels instead of ids": (
        lambda files, _: files["differential"].update(labels="cell_type"),
        "breaking",
        "file differential: labels was",
    ),
    "only with a condition now": (
        lambda files, _: files["attrition"].update(when="contrasts"),
        "breaking",
        "file attrition: when was None",
    ),
    "differs between runs now": (
        lambda files, _: files["cells"].update(volatile=True),
        "breaking",
        "file cells: volatile was None",
    ),
    "another contract": (
        lambda _, contract: contract.update(contract="v2"),
        "breaking",
        "contract was v1, is v2",
    ),
    "a new file": (
        lambda files, _: files.update(notes={"path": "notes.html", "rows": "notes"}),
        "addition",
        "file notes: is new",
    ),
    "a new column": (
        lambda files, _: files["genes"]["columns"].update(chromosome={"type": "text", "means": "where"}),
        "addition",
        "file genes: column chromosome: is new",
    ),
    "other words": (
        lambda files, _: files["genes"].update(rows="a gene of the cohort"),
        "wording",
        "file genes: rows was",
    ),
    "another bound": (
        lambda _, contract: contract["columns"]["mae"].update(min=-1),
        "wording",
        "column mae: min was 0, is -1",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_has_its_class(name):
    edit, kind, text = CHANGES[name]
    changes = compare(CONTRACT, changed(edit))
    assert any(found == kind and text in line for found, line in changes), changes


def test_where_a_file_comes_from_is_no_part_of_the_contract():
    assert compare(CONTRACT, changed(lambda files, _: files["cells"].update(source="else.parquet"))) == []
    assert compare(CONTRACT, copy.deepcopy(CONTRACT)) == []


@pytest.mark.parametrize(
    ("kind", "old", "new", "fault"),
    [
        ("breaking", "1.2.3", "1.2.3", "breaking changes need workflow/VERSION 2.0.0 or later, it is 1.2.3"),
        ("breaking", "1.2.3", "1.3.0", "breaking changes need workflow/VERSION 2.0.0 or later, it is 1.3.0"),
        ("breaking", "1.2.3", "2.0.0", None),
        ("addition", "1.2.3", "1.2.4", "addition changes need workflow/VERSION 1.3.0 or later, it is 1.2.4"),
        ("addition", "1.2.3", "1.3.0", None),
        ("addition", "1.2.3", "2.0.0", None),
        ("wording", "1.2.3", "1.2.3", "wording changes need workflow/VERSION 1.2.4 or later, it is 1.2.3"),
        ("wording", "1.2.3", "1.2.4", None),
        (None, "1.2.3", "1.2.3", None),
        (None, "1.2.3", "1.10.0", None),
        (None, "1.2.3", "1.2.2", "workflow/VERSION goes back from 1.2.3 to 1.2.2"),
    ],
)
def test_the_version_says_what_has_changed(kind, old, new, fault):
    changes = [(kind, "something")] if kind else []
    assert check_version(changes, parse(old), parse(new)) == ([fault] if fault else [])


class Repository:
    """A git repository with a contract and a version, and the guard run on it."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "workflow/schemas").mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *arguments], cwd=self.folder, check=True, capture_output=True)

    def write(self, contract, version):
        (self.folder / "workflow/schemas/publish.yaml").write_text(yaml.safe_dump(contract))
        (self.folder / "workflow/VERSION").write_text(f"{version}\n")

    def commit(self, contract=None, version=None):
        if contract:
            self.write(contract, version)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")

    def guard(self, base="main"):
        program = ROOT / "gates/contract_guard.py"
        command = [sys.executable, program, base, "--root", self.folder]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def repository(tmp_path):
    made = Repository(tmp_path / "repository")
    made.commit(CONTRACT, "1.2.3")
    made.git("checkout", "-q", "-b", "change")
    return made


WITHOUT_PADJ = changed(lambda files, _: files["differential"]["columns"].pop("padj"))
WITH_REPORT = changed(CHANGES["a new file"][0])


def test_a_changed_contract_needs_another_version(repository):
    assert repository.guard().returncode == 0
    repository.write(WITH_REPORT, "1.2.3")
    done = repository.guard()  # what is not committed counts
    assert done.returncode == 1
    assert done.stdout == "addition: file notes: is new\n"
    assert done.stderr == "error: addition changes need workflow/VERSION 1.3.0 or later, it is 1.2.3\n"
    repository.commit()
    assert repository.guard().returncode == 1
    repository.write(WITH_REPORT, "1.3.0")
    assert repository.guard().returncode == 0


def test_a_removed_field_needs_the_next_major_version_and_contract(repository):
    repository.commit(WITHOUT_PADJ, "1.3.0")
    done = repository.guard()
    assert done.returncode == 1
    assert "breaking: file differential: column padj: is gone" in done.stdout
    assert "error: breaking changes need workflow/VERSION 2.0.0 or later, it is 1.3.0" in done.stderr
    repository.commit(WITHOUT_PADJ, "2.0.0")
    assert (
        repository.guard().stderr == "error: workflow/VERSION is 2.0.0, its major number is not that of v1\n"
    )
    repository.commit(WITHOUT_PADJ | {"contract": "v2"}, "2.0.0")
    assert repository.guard().returncode == 0


def test_what_the_base_has_done_since_is_not_held_against_a_branch(repository):
    repository.git("checkout", "-q", "main")
    repository.commit(WITH_REPORT, "1.3.0")
    repository.git("checkout", "-q", "change")
    done = repository.guard()
    assert (done.returncode, done.stdout) == (0, "the contract has not changed\n")


def test_a_base_that_is_not_there_is_no_pass(repository):
    done = repository.guard("nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("error: nowhere is not a revision that this repository shares")


def test_the_first_contract_has_nothing_to_be_compared_with(tmp_path):
    repository = Repository(tmp_path / "repository")
    repository.commit()
    repository.git("checkout", "-q", "-b", "change")
    repository.commit(CONTRACT, "1.0.0")
    done = repository.guard()
    assert done.returncode == 0
    assert "has no contract: nothing to compare" in done.stdout


def test_the_version_of_this_project_is_that_of_its_contract():
    major = parse((ROOT / "workflow/VERSION").read_text())[0]
    assert CONTRACT["contract"] == f"v{major}"
    with pytest.raises(SystemExit, match=r"'1\.0' is not a version; write it like 1\.0\.0"):
        parse("1.0\n")
