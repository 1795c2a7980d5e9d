"""Two releases of the same numbers are the same; any other number, file or contract is reported by name."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pandas as pd
import pytest

import compare_releases

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def old(small_release):
    return small_release


def edit_json(path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def rewrite_manifest(release):
    """Let the manifest list the files as they are now, as publish would."""

    def describe_files(manifest):
        present = [
            path for path in sorted(release.rglob("*")) if path.is_file() and path.name != "manifest.json"
        ]
        entries = {entry["path"]: entry for entry in manifest["files"]}
        manifest["files"] = []
        for path in present:
            name, content = path.relative_to(release).as_posix(), path.read_bytes()
            entry = entries.get(name, {"path": name, "schema": "samples", "rows": 4})
            digest = hashlib.sha256(content).hexdigest()
            manifest["files"].append(entry | {"bytes": len(content), "sha256": digest})

    edit_json(release / "manifest.json", describe_files)


def add_one_to_a_sum(path):
    with h5py.File(path, "r+") as file:
        file["X/data"][0] += 1


def change_a_share(path):
    text = path.read_text(encoding="utf-8")
    assert "0.5" in text
    path.write_text(text.replace("0.5", "0.4", 1), encoding="utf-8")


def change_a_padj(path):
    table = pd.read_parquet(path)
    table.loc[0, "padj"] += 1e-12
    table.to_parquet(path, index=False)


def compare(capsys, old, new):
    """Exit status, lines on stdout, text on stderr."""
    status = compare_releases.main(old, new)
    printed = capsys.readouterr()
    return status, printed.out.splitlines(), printed.err


def lines_of(lines, status):
    return [line.removeprefix(status).strip() for line in lines[:-1] if line.startswith(status)]


def test_a_copy_is_the_same(old, release, capsys):
    status, lines, _ = compare(capsys, old, release)
    assert status == 0
    files = {path.relative_to(old).as_posix() for path in old.rglob("*") if path.is_file()} - {
        "manifest.json"
    }
    excluded = {"contract.json", "provenance.json", "report.html", "run.json"}
    assert set(lines_of(lines, "not counted")) == excluded
    assert set(lines_of(lines, "same")) == files - excluded
    assert lines[-1].startswith("the same numbers: ")


def test_commit_time_page_and_wording_of_the_contract_do_not_count(old, release, capsys):
    edit_json(
        release / "provenance.json", lambda content: content.update(commit="other", lock_sha256="other")
    )
    edit_json(release / "run.json", lambda content: content.update(host="elsewhere"))
    edit_json(release / "contract.json", lambda content: content["columns"]["cell"].update(means="A cell"))
    with open(release / "report.html", "a", encoding="utf-8") as page:
        page.write("<!-- took 3 s -->\n")
    rewrite_manifest(release)
    status, lines, _ = compare(capsys, old, release)
    assert status == 0
    assert not lines_of(lines, "different")


@pytest.mark.parametrize(
    ("path", "change", "text"),
    [
        ("composition/age.tsv", change_a_share, "not the same"),
        ("differential/age.parquet", change_a_padj, "column padj"),
        ("sums.h5ad", add_one_to_a_sum, "/X/data: values"),
        ("cohort.h5ad", add_one_to_a_sum, "/X/data: values"),
        ("cohort.json", lambda path: edit_json(path, lambda facts: facts.update(genes=2)), "keys genes"),
    ],
)
def test_another_number_is_different_and_its_file_named(old, release, capsys, path, change, text):
    change(release / path)
    rewrite_manifest(release)
    status, lines, _ = compare(capsys, old, release)
    assert status == 1
    (line,) = lines_of(lines, "different")
    assert line.startswith(f"{path}: ")
    assert text in line
    assert lines[-1].startswith("different: ")
    assert lines[-1].endswith(" 1 different") or ", 1 different," in lines[-1]


def test_the_same_values_in_other_bytes_are_the_same_numbers(old, release, capsys):
    path = release / "differential/age.parquet"
    pd.read_parquet(path).to_parquet(path, index=False, compression="gzip")
    rewrite_manifest(release)
    status, lines, _ = compare(capsys, old, release)
    assert status == 0
    assert lines_of(lines, "other bytes") == ["differential/age.parquet"]


def test_a_file_of_one_release_only_is_different(old, release, capsys):
    (release / "attrition.tsv").rename(release / "more.tsv")
    rewrite_manifest(release)
    status, lines, _ = compare(capsys, old, release)
    assert status == 1
    assert lines_of(lines, "only in OLD") == ["attrition.tsv"]
    assert lines_of(lines, "only in NEW") == ["more.tsv"]


def test_a_new_contract_cannot_exclude_a_file_of_numbers(old, release, capsys):
    table = (release / "samples.tsv").read_text(encoding="utf-8")
    (release / "samples.tsv").write_text(table + "\n", encoding="utf-8")
    edit_json(release / "contract.json", lambda content: content["files"]["samples"].update(volatile=True))
    rewrite_manifest(release)
    for pair in [(old, release), (release, old)]:
        status, lines, _ = compare(capsys, *pair)
        assert status == 1
        assert any(line.startswith("samples.tsv: ") for line in lines_of(lines, "different"))


def test_the_line_of_a_file_is_one_line(old, release, capsys):
    with h5py.File(release / "sums.h5ad", "r+") as file:
        file["obs"].attrs["column-order"] = [f"a long name of a column {number}" for number in range(40)]
    rewrite_manifest(release)
    _, lines, _ = compare(capsys, old, release)
    (line,) = lines_of(lines, "different")
    assert line.startswith("sums.h5ad: /obs: attributes")
    assert len(line) < 250
    assert len(lines) == len(json.loads((old / "manifest.json").read_text(encoding="utf-8"))["files"]) + 1


def tamper(release):
    """Same size, another number, the manifest as it was."""
    change_a_share(release / "composition/age.tsv")


def break_manifest(release):
    (release / "manifest.json").write_text("{}", encoding="utf-8")


def break_contract(release):
    (release / "contract.json").write_text("[]\n", encoding="utf-8")
    rewrite_manifest(release)


def follow_v2(release):
    edit_json(release / "manifest.json", lambda manifest: manifest.update(contract="v2"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (tamper, "composition/age.tsv: was changed, its sha256 is not that of manifest.json"),
        (
            lambda release: (release / "attrition.tsv").unlink(),
            "attrition.tsv: is missing, manifest.json lists it",
        ),
        (
            lambda release: (release / "notes.txt").write_text("x", encoding="utf-8"),
            "notes.txt: is not in manifest",
        ),
        (lambda release: (release / "manifest.json").unlink(), "is not a release, it has no manifest.json"),
        (shutil.rmtree, "is not a release, it has no manifest.json"),
        (break_manifest, "manifest.json: cannot be read as a manifest (KeyError('files'))"),
        (break_contract, "contract.json: cannot be read as a contract"),
        (follow_v2, "cannot be compared, their contracts are v1 and v2"),
    ],
)
def test_what_cannot_be_told_is_one_line_and_status_2(old, release, capsys, change, text):
    change(release)
    for pair in [(old, release), (release, old)]:
        status, lines, error = compare(capsys, *pair)
        assert (status, lines) == (2, [])
        assert text in error
        assert len(error.splitlines()) == 1


def test_the_command_ends_with_the_status(old, release):
    program = [sys.executable, str(ROOT / "gates/compare_releases.py")]
    assert subprocess.run([*program, old, release], check=False, capture_output=True).returncode == 0
    (release / "attrition.tsv").unlink()
    assert subprocess.run([*program, old, release], check=False, capture_output=True).returncode == 2
    rewrite_manifest(release)
    assert subprocess.run([*program, old, release], check=False, capture_output=True).returncode == 1
    assert subprocess.run([*program, old], check=False, capture_output=True).returncode == 2
