"""Check a release from end to end: `python verify.py DIR [--release ID]`; one line per fault, exit 1 if any.

DIR is results/publish/v1, a folder of results/publish/releases, or a copy of one on any machine. Needs pandas,
pyarrow and h5py, no network and nothing else of this repository: contract.json, in the release, says what its
files hold (workflow/CONTRACT.md is the same for people). In this order, going on only with what is sound:
every file of the manifest is there and no other, none is empty or a link, every size and digest is recomputed;
files are those that config and discovered cell types call for, their columns as the contract says; then facts
across files: cell types, genes, attrition, and counts, which are conserved from the input to the sums.

The digests show damage and later changes, not who made the release: compare its id with one you were given.
"""

import argparse
import hashlib
import itertools
import json
import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

MANIFEST = "manifest.json"
PNG = b"\x89PNG\r\n\x1a\n"
VALUES = 2**24  # of a matrix in memory at a time


def sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: object) -> str:
    """Digest of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def release_id(files: list[dict], volatile: list[str]) -> str:
    """Name of a release: a digest of its manifest's files, without size and digest of the volatile ones."""
    kept = [
        {key: entry[key] for key in ("path", "schema", "rows")}
        | ({} if entry["path"] in volatile else {key: entry[key] for key in ("bytes", "sha256")})
        for entry in sorted(files, key=lambda entry: entry["path"])
    ]
    return canonical(kept)[:12]


def check_tree(root: Path, listed: set[str]) -> list[str]:
    """Links, files that are missing, and files and folders that are not listed."""
    faults, found = [], set()
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if path.is_symlink():
                faults.append(f"{relative}: is a link; a release holds files only")
            elif name in files:
                found.add(relative)
            elif not any(path.iterdir()):
                faults.append(f"{relative}: is an empty folder, not in {MANIFEST}")
    linked = {fault.split(": ")[0] for fault in faults}
    faults += [f"{path}: is missing" for path in sorted(listed - found - linked)]
    return faults + [f"{path}: is not in {MANIFEST}" for path in sorted(found - listed)]


def check_bytes(root: Path, files: list[dict]) -> list[str]:
    """Files that are empty or whose size or digest is not that of the manifest."""
    faults = []
    for entry in files:
        path = root / entry["path"]
        size = path.stat().st_size
        if size == 0:
            faults.append(f"{entry['path']}: is empty")
        elif size != entry["bytes"]:
            faults.append(f"{entry['path']}: has {size} bytes, {entry['bytes']} in {MANIFEST}")
        elif sha256(path) != entry["sha256"]:
            faults.append(f"{entry['path']}: was changed, its sha256 is not that of {MANIFEST}")
    return faults


def expected(contract: dict, config: dict, tested: list[str]) -> dict[str, str]:
    """Path -> kind of every file that a release of this config and these tested cell types has."""
    values = {
        "contrast": [contrast["name"] for contrast in config["contrasts"]],
        "resolution": [str(value) for value in config["cluster"]["resolution"]],
        "cell_type": tested,
    }
    there = {
        None: True,
        "contrasts": bool(values["contrast"]),
        "gene_sets": bool(values["contrast"] and config["gene_sets"]),
        "prediction": bool(config["ridge"]["target"] and tested),
    }
    paths = {}
    for kind, spec in contract["files"].items():
        needs_types = "{cell_type}" in spec.get("source", "")
        if there[spec.get("when")] and (tested or not needs_types):
            names = [name for name in values if f"{{{name}}}" in spec["path"]]
            for chosen in itertools.product(*(values[name] for name in names)):
                paths[spec["path"].format(**dict(zip(names, chosen, strict=True)))] = kind
    return paths


def read_column(table: h5py.Group, name: str) -> pd.Series:
    """One column of an obs or var table as anndata writes it; a missing label is ""."""
    item = table[name]
    if isinstance(item, h5py.Dataset):
        return pd.Series(item.asstr()[:] if h5py.check_string_dtype(item.dtype) else item[:])
    if item.attrs["encoding-type"] == "categorical":
        categories = item["categories"].asstr()[:]
        return pd.Series(pd.Categorical.from_codes(item["codes"][:], categories))
    return pd.Series(np.where(item["mask"][:], "", item["values"].asstr()[:]))


def read_table(path: Path) -> pd.DataFrame:
    """A table of the release; TSV as text; of an h5ad obs, with the names of its rows in `index`."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pandas()
    if path.suffix == ".tsv":
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    with h5py.File(path) as file:
        obs = file["obs"]
        columns = {name: read_column(obs, name) for name in obs.attrs["column-order"]}
        return pd.DataFrame({"index": read_column(obs, obs.attrs["_index"]), **columns})


def fault_of_column(values: pd.Series, spec: dict) -> str:
    """What is wrong with a column by its specification; empty if nothing is."""
    kind = spec["type"].removesuffix("?")
    missing = values.isna()
    if not pd.api.types.is_numeric_dtype(values):
        missing |= (values == "").fillna(True).astype(bool)
    if missing.any() and not spec["type"].endswith("?") and "" not in spec.get("values", ()):
        return f"lacks {missing.sum()} of {len(values)} values"
    present = values[~missing]
    if kind == "text":
        if pd.api.types.is_numeric_dtype(present) and len(present):
            return f"holds numbers such as {present.iloc[0]}, not text"
        odd = present[~present.isin(spec["values"])] if "values" in spec else present[:0]
        return f"holds {odd.iloc[0]!r}, which is none of {spec['values']}" if len(odd) else ""
    if kind == "boolean":
        odd = present[~present.astype(str).isin(["True", "False"])]
        return f"holds {odd.iloc[0]!r}, not true or false" if len(odd) else ""
    numbers = pd.to_numeric(present.astype(object), errors="coerce")
    wrong = numbers.isna()
    if kind == "integer":
        wrong |= numbers != numbers.round()
    wrong |= (numbers < spec.get("min", -np.inf)) | (numbers > spec.get("max", np.inf))
    limits = [f"{end} {spec[end]}" for end in ("min", "max") if end in spec]
    return f"holds {present[wrong].iloc[0]!r}, no {' '.join([kind, *limits])}" if wrong.any() else ""


def check_table(path: str, table: pd.DataFrame, spec: dict, common: dict) -> list[str]:
    """Columns of a table, and its key, against the contract."""
    faults = []
    columns = {name: column or common[name] for name, column in spec["columns"].items()}
    for name, column in columns.items():
        if name in table:
            fault = fault_of_column(table[name], column)
            faults += [f"{path}: column {name} {fault}"] if fault else []
        elif not column.get("optional"):
            faults.append(f"{path}: column {name} is missing")
    if "further" not in spec:
        unknown = [name for name in table if name not in columns]
        faults += [f"{path}: column {name} is not in the contract, describe it there" for name in unknown]
    key = [name for name in spec.get("key", ()) if name in table]
    if key and table.duplicated(key).any():
        twice = dict(table.loc[table.duplicated(key), key].iloc[0])
        faults.append(f"{path}: has {', '.join(f'{name} {twice[name]}' for name in key)} more than once")
    return faults


def check_contents(root: Path, manifest: dict, contract: dict) -> tuple[list[str], dict]:
    """Every file against its kind in the contract; also the tables, by path."""
    faults, tables = [], {}
    for entry in manifest["files"]:
        path, spec = entry["path"], contract["files"].get(entry["schema"])
        if spec is None:
            faults.append(f"{path}: its schema {entry['schema']} is not in the contract")
        elif "columns" in spec:
            table = tables[path] = read_table(root / path)
            faults += check_table(
                path, table.drop(columns="index", errors="ignore"), spec, contract["columns"]
            )
            if len(table) != entry["rows"]:
                faults.append(f"{path}: has {len(table)} rows, {entry['rows']} in {MANIFEST}")
        elif path.endswith(".json"):
            content = json.loads((root / path).read_text())
            faults += [f"{path}: {key} is missing" for key in spec["keys"] if key not in content]
        elif path.endswith(".html"):
            if not (root / path).read_bytes().startswith(b"<!doctype html>"):
                faults.append(f"{path}: is no HTML page")
        elif (root / path).read_bytes()[:8] != PNG:
            faults.append(f"{path}: is no PNG image")
    return faults, tables


def check_types(tables: dict, kinds: dict[str, dict]) -> list[str]:
    """Cell types and genes of every table are discovered ones; where all tested types must be, all are."""
    types = tables["cell_types.tsv"]
    tested = set(types.loc[types["tested"] == "True", "id"])
    genes = set(tables["genes.parquet"]["gene_id"])
    faults = []
    for path, table in tables.items():
        spec = kinds[path]
        if "cell_type" in table:
            found = set(table["cell_type"].dropna()) - {""}
            by_label = spec.get("labels") and "label" not in table
            known = set(types["label"] if by_label else types["id"])
            faults += [
                f"{path}: {name!r} is no cell type of cell_types.tsv" for name in sorted(found - known)
            ]
            if spec.get("types") == "tested":
                faults += [f"{path}: lacks the tested cell type {name!r}" for name in sorted(tested - found)]
                faults += [f"{path}: {name!r} is not tested" for name in sorted((found & known) - tested)]
        if "gene_id" in table:
            unknown = sorted(set(table["gene_id"].dropna()) - genes - {""})
            faults += [f"{path}: {name!r} is no gene of genes.parquet" for name in unknown[:3]]
    return faults


def check_attrition(table: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """Every level adds up; over all cells it says what cells.parquet says."""
    faults = []
    table = table.astype({"cells": int, "samples": int, "samples_lost": int})
    for (stratum, level), part in table.groupby(["stratum", "level"]):
        by_step = part.set_index("step")
        dropped = part[~part["step"].isin(["input", "kept"])]
        for unit, lost in (("cells", "cells"), ("samples", "samples_lost")):
            left = by_step.loc["input", unit] - dropped[lost].sum()
            if left != by_step.loc["kept", unit]:
                kept = by_step.loc["kept", unit]
                where = f"attrition.tsv: {unit} of {stratum} {level}"
                faults.append(f"{where}: {left} are left after the losses, {kept} kept")
    whole = table[table["stratum"] == "all"]
    said = whole.set_index(["step", "reason"])["cells"].drop("input", level="step").to_dict()
    counted = cells.assign(
        step=cells["step"].astype(str).replace("", "kept"), reason=cells["reason"].astype(str)
    )
    counted = {("kept", ""): 0} | counted.groupby(["step", "reason"]).size().to_dict()
    for key in sorted(said.keys() | counted.keys()):
        if said.get(key) != counted.get(key):
            what = " ".join(filter(None, key))
            faults.append(f"attrition.tsv: {said.get(key)} cells {what}, {counted.get(key)} in cells.parquet")
    return faults


def sums_of(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Sums of the rows and of the columns of X in an h5ad, read in pieces; None if it has no X."""
    with h5py.File(path) as file:
        if "X" not in file or "indptr" not in file["X"]:
            return None
        x = file["X"]
        indptr, size = x["indptr"][:].astype(np.int64), int(x.attrs["shape"][1])
        columns, running, total = np.zeros(size), np.zeros(len(indptr)), 0.0
        for start in range(0, int(indptr[-1]), VALUES):
            data = x["data"][start : start + VALUES].astype(float)  # exact: whole numbers below 2^53
            columns += np.bincount(x["indices"][start : start + VALUES], weights=data, minlength=size)
            summed = np.concatenate([[0], np.cumsum(data)])
            here = (indptr > start) & (indptr <= start + len(data))
            running[here] = total + summed[indptr[here] - start]
            total += summed[-1]
        return np.diff(running), columns


def check_counts(root: Path, tables: dict) -> list[str]:
    """Counts are conserved: input, genes, cells, kept cells, their sums, and cohort.h5ad."""
    faults = []

    def equal(what: str, left: float, right: float) -> None:
        if left != right:
            faults.append(f"{what}: {left:.0f} and {right:.0f} counts")

    cells, sums = tables["cells.parquet"], tables["sums.h5ad"]
    loaded = json.loads((root / "cohort.json").read_text())["counts"]["usable"]
    equal("cohort.json and genes.parquet", loaded, tables["genes.parquet"]["counts"].sum())
    equal("cohort.json and cells.parquet", loaded, cells["total_counts"].sum())
    kept = cells[cells["kept"]]
    own = kept.assign(label=kept["cell_type"].astype(str), sample=kept["sample"].astype(str))
    own = own.groupby(["label", "sample"])["total_counts"].agg(["size", "sum"])
    said = sums.assign(label=sums["label"].astype(str), sample=sums["sample"].astype(str))
    said = said.set_index(["label", "sample"])[["cells", "counts"]].set_axis(["size", "sum"], axis=1)
    if not said.astype(float).sort_index().equals(own.astype(float).sort_index()):
        faults.append("sums.h5ad: cells and counts per cell type and sample are not those of cells.parquet")
    rows, by_gene = sums_of(root / "sums.h5ad")
    if not np.array_equal(rows, sums["counts"].to_numpy(dtype=float)):
        faults.append("sums.h5ad: the rows of X do not add up to column counts")
    equal("kept cells of cells.parquet and X of sums.h5ad", kept["total_counts"].sum(), rows.sum())
    if not np.array_equal(tables["cohort.h5ad"]["index"].astype(str), kept["cell"].astype(str)):
        faults.append("cohort.h5ad: its rows are not the kept cells of cells.parquet")
    elif (matrix := sums_of(root / "cohort.h5ad")) is not None:
        if not np.array_equal(matrix[0], kept["total_counts"].to_numpy(dtype=float)):
            faults.append("cohort.h5ad: the rows of X do not add up to total_counts of cells.parquet")
        if not np.array_equal(matrix[1], by_gene):
            faults.append("cohort.h5ad: the columns of X do not add up to those of sums.h5ad")
    return faults


def check_provenance(provenance: dict) -> list[str]:
    """The digest of the config is that of the config, and the seed the one in it."""
    faults = []
    if canonical(provenance["config"]) != provenance["config_sha256"]:
        faults.append("provenance.json: config_sha256 is not the digest of config")
    if provenance["random_state"] != provenance["config"]["random_state"]:
        faults.append("provenance.json: random_state is not that of config")
    return faults


def verify(folder: Path, release: str | None = None) -> list[str]:
    """Faults of a release, one line each; none if it is whole and says nothing twice in two ways."""
    root = folder.resolve()
    if not (root / MANIFEST).is_file() or (root / MANIFEST).is_symlink():
        return [f"{folder}: has no {MANIFEST}; name the folder of a release"]
    try:
        manifest = json.loads((root / MANIFEST).read_text())
        files, volatile = manifest["files"], manifest["volatile"]
        listed = {entry["path"] for entry in files}
        own = release_id(files, volatile)
    except (ValueError, KeyError, TypeError) as error:
        return [f"{MANIFEST}: cannot be read ({error!r})"]
    faults = check_tree(root, listed | {MANIFEST})
    if own != manifest["release"] or (release and release != own):
        faults.append(f"{MANIFEST}: lists release {own}, not {release or manifest['release']}")
    faults += check_bytes(root, [entry for entry in files if (root / entry["path"]).is_file()])
    faults += [f"contract.json: is not in {MANIFEST}"] if "contract.json" not in listed else []
    if faults:
        return faults
    contract = json.loads((root / "contract.json").read_text())
    faults, tables = check_contents(root, manifest, contract)
    if faults:
        return faults
    provenance = json.loads((root / "provenance.json").read_text())
    types = tables["cell_types.tsv"]
    wanted = expected(contract, provenance["config"], types.loc[types["tested"] == "True", "id"].tolist())
    kinds = {entry["path"]: entry["schema"] for entry in files}
    faults += [f"{path}: config and cell types call for it" for path in sorted(wanted.keys() - kinds.keys())]
    faults += [f"{path}: no part of this release" for path in sorted(kinds.keys() - wanted.keys())]
    faults += [f"{p}: is no {kind}" for p, kind in kinds.items() if p in wanted and wanted[p] != kind]
    faults += check_types(tables, {path: contract["files"][kind] for path, kind in kinds.items()})
    faults += check_attrition(tables["attrition.tsv"], tables["cells.parquet"])
    return faults + check_counts(root, tables) + check_provenance(provenance)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of a release")
    parser.add_argument("--release", help="the id that it must have")
    given = parser.parse_args()
    found = verify(given.folder, given.release)
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    if found:
        sys.exit(1)
    said = json.loads((given.folder / MANIFEST).read_text())
    print(f"{given.folder}: release {said['release']}, {len(said['files'])} files, all as the contract says")
