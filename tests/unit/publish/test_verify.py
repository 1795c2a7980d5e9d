"""A whole release passes; every way of not being whole is found, by name, however it was covered up."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest

from _contents import check_column
from _facts import canonical
from publish.publish import build, digest, list_files, write_json
from verify import release_id, verify

FOLDER = Path(__file__).parent.parent.parent.parent / "scripts/publish"
ALONE = """
import runpy, sys
def offline(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise OSError(f"there is no network: {event}")
sys.addaudithook(offline)
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rsplit("/", 1)[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def edit_json(path, **changes):
    """Set keys of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    write_json(path, {key: value for key, value in content.items() if value is not None})


def edit_table(path, change):
    """Replace a table by what a function makes of it."""
    if path.suffix == ".tsv":
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        change(table).to_csv(path, sep="\t", index=False)
    else:
        change(pd.read_parquet(path)).to_parquet(path, index=False)


def seal(release, **about):
    """Write the manifest of what is there now, as somebody would who covers up a change."""
    manifest = json.loads((release / "manifest.json").read_text())
    kinds = {entry["path"]: entry["schema"] for entry in manifest["files"]}
    (release / "manifest.json").unlink()
    files = list_files(release, kinds | about.pop("kinds", {}))
    manifest |= {"files": files} | about
    write_json(release / "manifest.json", manifest | {"release": release_id(files, manifest["volatile"])})


def append(path, data):
    path.write_bytes(path.read_bytes() + data)


def found(release):
    return "\n".join(verify(release))


def test_a_whole_release_has_no_fault(small_release):
    assert verify(small_release) == []


def test_a_copy_is_verified_alone_without_network_and_from_anywhere(small_release, tmp_path):
    """Nothing of the repository but the three files, nothing of the environment, and no connection."""
    for name in ("verify.py", "_contents.py", "_facts.py"):
        (tmp_path / "tool").mkdir(exist_ok=True)
        shutil.copy2(FOLDER / name, tmp_path / "tool")
    bundle = shutil.copytree(small_release, tmp_path / "a bundle")
    command = [sys.executable, "-I", "-c", ALONE, str(tmp_path / "tool/verify.py"), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={}, check=False)
    assert done.returncode == 0, done.stderr
    assert "all as the contract says" in done.stdout
    (bundle / "samples.tsv").unlink()
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={}, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: samples.tsv: is missing\n"


def test_the_id_that_was_given_has_to_be_that_of_the_release(small_release):
    own = json.loads((small_release / "manifest.json").read_text())["release"]
    assert verify(small_release, own) == []
    assert "not 0123456789ab" in "".join(verify(small_release, "0123456789ab"))


def swap_a_byte(release):
    data = bytearray((release / "cells.parquet").read_bytes())
    data[100] ^= 1
    (release / "cells.parquet").write_bytes(data)


def link_to_a_copy(release):
    shutil.copy2(release / "samples.tsv", release.parent / "samples.tsv")
    (release / "samples.tsv").unlink()
    (release / "samples.tsv").symlink_to(release.parent / "samples.tsv")


def link_a_folder(release):
    shutil.move(release / "gsea", release.parent / "gsea")
    (release / "gsea").symlink_to(release.parent / "gsea")


def put_a_pipe(release):
    (release / "samples.tsv").unlink()
    os.mkfifo(release / "samples.tsv")


def edit_manifest(change):
    def edit(release):
        path = release / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        write_json(path, manifest)

    return edit


def drop_key(manifest):
    del manifest["files"][0]["rows"]


def of_file(path, change):
    return lambda release: change(release / path)


DAMAGED = {
    "a file is missing": (of_file("samples.tsv", Path.unlink), "samples.tsv: is missing"),
    "a folder is missing": (of_file("gsea", shutil.rmtree), "gsea/age.parquet: is missing"),
    "an extra file": (
        of_file("extra.txt", lambda p: p.write_text("x")),
        "extra.txt: is not in manifest.json",
    ),
    "a hidden extra file": (
        of_file("gsea/.DS_Store", lambda p: p.write_text("x")),
        "gsea/.DS_Store: is not in",
    ),
    "an empty folder": (of_file("extra", Path.mkdir), "extra: is an empty folder"),
    "a changed byte": (swap_a_byte, "cells.parquet: was changed, its sha256"),
    "a line more": (of_file("samples.tsv", lambda p: append(p, b"x\n")), "samples.tsv: has "),
    "an empty file": (of_file("samples.tsv", lambda p: p.write_text("")), "samples.tsv: is empty"),
    "a link to a file": (link_to_a_copy, "samples.tsv: is a link"),
    "a link to a folder": (link_a_folder, "gsea: is a link"),
    "a hard link": (
        lambda release: os.link(release / "samples.tsv", release.parent / "other"),
        "samples.tsv: is a hard link",
    ),
    "a pipe": (put_a_pipe, "samples.tsv: is not a regular file"),
    "no manifest": (of_file("manifest.json", Path.unlink), "has no manifest.json"),
    "a cut manifest": (
        of_file("manifest.json", lambda p: p.write_text("{")),
        "manifest.json: cannot be read",
    ),
    "an entry without rows": (edit_manifest(drop_key), "manifest.json: cannot be read (KeyError('rows'))"),
    "an entry removed": (
        edit_manifest(lambda m: m["files"].pop(0)),
        "attrition.tsv: is not in manifest.json",
    ),
    "an entry twice": (
        edit_manifest(lambda m: m["files"].append(m["files"][0])),
        "manifest.json: lists attrition.tsv more than once",
    ),
    "another id": (edit_manifest(lambda m: m.update(release="0" * 12)), "not 000000000000"),
    "another digest": (
        edit_manifest(lambda m: m["files"][0].update(sha256="0" * 64)),
        "manifest.json: lists release",
    ),
    "the time of publishing": (
        of_file("run.json", lambda p: edit_json(p, published_at="2000-01-01T00:00:00+00:00")),
        "run.json: ",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_found(release, name):
    damage, message = DAMAGED[name]
    damage(release)
    assert message in found(release)


def in_table(path, change):
    return of_file(path, lambda file: edit_table(file, change))


def put(column, row, value):
    """A change of one value of a table, whatever the type of its column."""

    def change(table):
        table = table.astype({column: object})
        table.loc[row, column] = value
        return table

    return change


def in_h5ad(path, change):
    def edit(release):
        with h5py.File(release / path, "r+") as file:
            change(file)

    return edit


def move_a_count(file):
    """From one gene of a cell to another: the sum of the cell stays."""
    start, end = file["X/indptr"][:2]
    assert end - start >= 2
    data = file["X/data"][start:end]
    file["X/data"][start : start + 2] = [data[0] + 1, data[1] - 1]


def add_a_count(file):
    file["X/data"][0] = file["X/data"][0] + 1


def rewrite(file, name, values):
    del file[name]
    file[name] = values


def swap_genes(file):
    names = file["var/gene_id" if "gene_id" in file["var"] else "var/_index"]
    names = names["values"] if isinstance(names, h5py.Group) else names
    names[:2] = names[:2][::-1]


def without_x(release):
    with h5py.File(release / "cohort.h5ad", "r+") as file:
        del file["X"]


def edit_provenance(**changes):
    return of_file("provenance.json", lambda path: edit_json(path, **changes))


def other_config(release):
    """A config, with its digest, that asks for one more contrast."""
    path = release / "provenance.json"
    config = json.loads(path.read_text())["config"]
    config["contrasts"].append({"name": "sex"})
    edit_json(path, config=config, config_sha256=canonical(config))


COVERED = {
    "a column is gone": (
        in_table("samples.tsv", lambda t: t.drop(columns="donor")),
        "samples.tsv: column donor is missing",
    ),
    "a column more": (
        in_table("genes.parquet", lambda t: t.assign(x=1)),
        "genes.parquet: column x is not in the contract",
    ),
    "a renamed column": (
        in_table("differential/age.parquet", lambda t: t.rename(columns={"padj": "fdr"})),
        "differential/age.parquet: column padj is missing",
    ),
    "text where a number is": (
        in_table("samples.tsv", put("cells", 0, "many")),
        "samples.tsv: column cells has 'many', which is not an integer min 0",
    ),
    "a fraction of a cell": (
        in_table("samples.tsv", put("cells", 0, "1.5")),
        "column cells has '1.5', which is not an integer",
    ),
    "a p-value of 2": (
        in_table("differential/age.parquet", put("pvalue", 0, 2.0)),
        "column pvalue has 2.0, which is not a number min 0 max 1",
    ),
    "an unknown word": (
        in_table("cells.parquet", put("step", 3, "magic")),
        "column step has 'magic', which is not one of",
    ),
    "a lost value": (in_table("genes.parquet", put("symbol", 0, None)), "column symbol lacks 1 of 6 values"),
    "a row twice": (
        in_table("genes.parquet", lambda t: pd.concat([t, t.tail(1)])),
        "genes.parquet: has gene_id ENSG5 more than",
    ),
    "no UTF-8": (of_file("cohort.json", lambda p: append(p, b"\xff\n")), "cohort.json: is not UTF-8"),
    "carriage returns": (
        of_file("samples.tsv", lambda p: p.write_bytes(p.read_bytes().replace(b"\n", b"\r\n"))),
        "samples.tsv: has carriage returns",
    ),
    "no last newline": (
        of_file("cohort.json", lambda p: p.write_text(p.read_text().rstrip())),
        "cohort.json: does not end in a newline",
    ),
    "a JSON key is gone": (
        of_file("cohort.json", lambda p: edit_json(p, genes=None)),
        "cohort.json: lacks genes",
    ),
    "a cut image": (
        of_file("figures/umap.png", lambda p: p.write_bytes(p.read_bytes()[:-1])),
        "figures/umap.png: is not a PNG",
    ),
    "a cell type of nowhere": (
        in_table("prediction/predictions.parquet", put("cell_type", 0, "x")),
        "prediction/predictions.parquet: 'x' is not a cell type of cell_types.tsv",
    ),
    "a label of nowhere": (
        in_table("composition/age.tsv", put("cell_type", 0, "x")),
        "composition/age.tsv: 'x' is not a cell type",
    ),
    "a cell of no type": (
        in_table("cells.parquet", put("cell_type", 3, "x")),
        "cells.parquet: 'x' is not a cell type",
    ),
    "a tested type left out": (
        in_table("differential/age.status.tsv", lambda t: t.head(1)),
        "differential/age.status.tsv: lacks the tested cell type 'b_plasma_cell'",
    ),
    "a type too many": (
        in_table("prediction/summary.tsv", lambda t: pd.concat([t, t.head(1).assign(cell_type="rare_cell")])),
        "prediction/summary.tsv: 'rare_cell' is not tested",
    ),
    "a gene of nowhere": (
        in_table("synthesis/age.genes.tsv", put("gene_id", 0, "ENSG9")),
        "'ENSG9' is not a gene of genes.parquet",
    ),
    "a sample of nowhere": (
        in_table("prediction/gaps.tsv", put("sample", 0, "s9")),
        "prediction/gaps.tsv: 's9' is not a sample of samples",
    ),
    "attrition that does not add up": (
        in_table("attrition.tsv", put("cells", 1, "2")),
        "attrition.tsv: cells of all all: 39 are left after",
    ),
    "attrition without input": (
        in_table("attrition.tsv", lambda t: t[t["step"] != "input"]),
        "attrition.tsv: rows of all all: not one",
    ),
    "attrition of other cells": (
        in_table("attrition.tsv", lambda t: t.replace({"reason": {"high_mt": "high_hb"}})),
        "attrition.tsv: None cells qc high_mt, 1 in cells.parquet",
    ),
    "counts of a gene": (
        in_table("genes.parquet", lambda t: t.assign(counts=t["counts"] + 1)),
        "cohort.json and genes.parquet: ",
    ),
    "counts of a cell": (
        in_table("cells.parquet", put("total_counts", 10, 999.0)),
        "cohort.json and cells.parquet: ",
    ),
    "cells of a sum": (
        in_h5ad("sums.h5ad", lambda f: f["obs/cells"].__setitem__(0, 9)),
        "sums.h5ad: cells and counts per cell type and sample are not those of cells.parquet",
    ),
    "a count of a sum": (in_h5ad("sums.h5ad", add_a_count), "sums.h5ad: the rows of X do not add up"),
    "a count of a cell in cohort.h5ad": (
        in_h5ad("cohort.h5ad", add_a_count),
        "cohort.h5ad: the rows of X do not add up to total_counts",
    ),
    "a count of another gene": (
        in_h5ad("cohort.h5ad", move_a_count),
        "cohort.h5ad: the columns of X do not add up to those of sums.h5ad",
    ),
    "genes in another order": (
        in_h5ad("cohort.h5ad", swap_genes),
        "cohort.h5ad: its genes are not those of genes",
    ),
    "a map without a cell": (
        in_h5ad("cohort.h5ad", lambda f: rewrite(f, "obsm/X_umap", np.zeros((39, 2), np.float32))),
        "cohort.h5ad: obsm lacks X_umap of 40 cells",
    ),
    "a cell off the map": (
        in_h5ad("cohort.h5ad", lambda f: f["obsm/X_umap"].__setitem__((0, 0), np.nan)),
        "cohort.h5ad: obsm X_umap has a number that is not finite",
    ),
    "no symbols": (
        in_h5ad("cohort.h5ad", lambda f: f["var"].__delitem__("feature_name")),
        "var lacks feature_name",
    ),
    "no counts": (without_x, "cohort.h5ad: has no X, publish.counts is true"),
    "another number of tested genes": (
        in_table("differential/age.parquet", lambda t: t.drop(index=2)),
        "differential/age.status.tsv: cd4_t_cell_naive: (3, 1) genes tested and significant, found (2, 1)",
    ),
    "a gene neither tested nor filtered": (
        in_table("differential/age.filtered.parquet", lambda t: t.drop(index=2)),
        "differential/age.status.tsv: cd4_t_cell_naive: 3 genes tested and 2 filtered are not the 6 of the",
    ),
    "a gene both tested and filtered": (
        in_table("differential/age.filtered.parquet", put("gene_id", 0, "ENSG0")),
        "differential/age.status.tsv: cd4_t_cell_naive: 3 genes tested and 3 filtered are not the 6 of the",
    ),
    "another config": (edit_provenance(config_sha256="0" * 64), "provenance.json: config_sha256 is 0000"),
    "another seed": (edit_provenance(random_state=8), "provenance.json: random_state is 8, it should be 7"),
    "another version": (
        edit_provenance(workflow_version="9.9.9"),
        "manifest.json: workflow_version is 1.2.3",
    ),
    "a config with one contrast more": (
        other_config,
        "differential/sex.parquet: is missing, config and cell types need it",
    ),
    "a file that nothing calls for": (
        of_file("samples.tsv", lambda p: shutil.copy2(p, p.with_name("note.tsv"))),
        "note.tsv: is not part of this release",
    ),
}


@pytest.mark.parametrize("name", COVERED)
def test_a_change_is_found_although_the_manifest_was_made_to_fit(release, name):
    change, message = COVERED[name]
    change(release)
    seal(release, kinds={"note.tsv": "samples"} if name == "a file that nothing calls for" else {})
    assert message in found(release)


def test_a_resealed_release_without_a_change_is_whole(release):
    """Otherwise the test above would find anything."""
    seal(release)
    assert verify(release) == []


def test_files_that_may_differ_are_those_of_the_contract(release):
    seal(release, volatile=["run.json", "cells.parquet"])
    assert "manifest.json: volatile is ['cells.parquet', 'run.json']" in found(release)


def forge(release, path, **entry):
    """Set what the manifest says of one file, and its id."""
    manifest = json.loads((release / "manifest.json").read_text())
    next(file for file in manifest["files"] if file["path"] == path).update(entry)
    manifest["release"] = release_id(manifest["files"], manifest["volatile"])
    write_json(release / "manifest.json", manifest)


def test_rows_are_counted(release):
    forge(release, "cells.parquet", rows=1)
    assert found(release) == "cells.parquet: has 43 rows, 1 in the manifest"


@pytest.mark.parametrize("path", ["sums.h5ad", "cells.parquet", "provenance.json"])
def test_what_cannot_be_read_is_a_fault(release, path):
    (release / path).write_bytes(b"x" * 99 + b"\n")
    forge(release, path, bytes=100, sha256=digest(release / path))
    assert f"{path}: cannot be read" in found(release)


def test_cells_in_another_order_are_found(release):
    edit_table(release / "cells.parquet", lambda table: table.iloc[::-1])
    seal(release)
    assert "cohort.h5ad: its rows are not the kept cells of cells.parquet" in found(release)


def test_a_file_of_another_kind_is_found(release):
    seal(release, kinds={"figures/umap.png": "figure_gsea"})
    assert "figures/umap.png: has the schema figure_gsea, not figure_umap" in found(release)


@pytest.mark.parametrize(
    ("values", "spec", "fault"),
    [
        ([1, 2], {"type": "integer", "min": 1}, ""),
        ([1.0, np.nan], {"type": "integer?"}, ""),
        ([1.0, np.nan], {"type": "integer"}, "lacks 1 of 2 values"),
        (["", "a"], {"type": "text"}, "lacks 1 of 2 values"),
        (["", "a"], {"type": "text", "values": ["", "a"]}, ""),
        ([3, 4], {"type": "text"}, "has numbers such as 3, not text"),
        (["True", "False"], {"type": "boolean"}, ""),
        (["yes"], {"type": "boolean"}, "has 'yes', not true or false"),
        ([0.5, 1.5], {"type": "number", "max": 1}, "has 1.5, which is not a number max 1"),
        (["1e-300", "0"], {"type": "number", "min": 0}, ""),
        ([], {"type": "text"}, ""),
    ],
)
def test_a_column_is_what_its_description_says(values, spec, fault):
    assert check_column(pd.Series(values), spec) == fault


def test_a_release_of_a_former_contract_still_verifies(small, tmp_path):
    """1.0.0 had no warnings.tsv: what a release must hold is said by its own contract.json."""
    paths, params = small
    place = [file["kind"] for file in params.files].index("warnings")
    assert all(file["parts"] == 1 for file in params.files[:place])
    contract = params.contract | {
        "files": {kind: spec for kind, spec in params.contract["files"].items() if kind != "warnings"}
    }
    old = params.__dict__ | {
        "contract": contract,
        "files": [file for file in params.files if file["kind"] != "warnings"],
    }
    sources = [source for number, source in enumerate(paths.files) if number != place]
    folder = tmp_path / "old"
    folder.mkdir()
    build(folder, SimpleNamespace(**paths.__dict__ | {"files": sources}), SimpleNamespace(**old))
    assert not (folder / "warnings.tsv").exists()
    assert verify(folder) == []


def test_a_release_needs_its_warnings_and_their_columns(release):
    edit_table(release / "warnings.tsv", lambda table: table.assign(accepted="perhaps"))
    seal(release)
    assert verify(release) == ["warnings.tsv: column accepted has 'perhaps', not true or false"]
    (release / "warnings.tsv").unlink()
    seal(release)
    assert any("warnings.tsv" in fault for fault in verify(release))
