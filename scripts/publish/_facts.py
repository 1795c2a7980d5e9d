"""Check facts across the files of a release: the same fact in two files must agree."""

import hashlib
import itertools
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from _contents import read_column

EMBEDDINGS = ["X_pca", "X_harmony", "X_umap"]
VALUES = 2**24  # values of a matrix in memory at a time


def canonical(value: object) -> str:
    """SHA-256 of a JSON value with sorted keys and without spaces."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def list_expected(contract: dict, config: dict, tested: list[str]) -> dict[str, str]:
    """Path -> kind of every file that a release needs with this config and these tested cell types."""
    values = {
        "contrast": [contrast["name"] for contrast in config["contrasts"]],
        "resolution": [str(value) for value in config["cluster"]["resolution"]],
    }
    exists = {
        None: True,
        "contrasts": bool(values["contrast"]),
        "gene_sets": bool(values["contrast"] and config["gene_sets"]),
        "prediction": bool(config["ridge"]["target"] and tested),
    }
    paths = {}
    for kind, spec in contract["files"].items():
        needs_types = "{part}" in spec.get("source", "")
        if exists[spec.get("when")] and (tested or not needs_types):
            names = [name for name in values if f"{{{name}}}" in spec["path"]]
            for row in itertools.product(*(values[name] for name in names)):
                paths[spec["path"].format(**dict(zip(names, row, strict=True)))] = kind
    return paths


def check_types(tables: dict, kinds: dict[str, dict]) -> list[str]:
    """Problems of cell types, genes and samples that are not in their lists, and of missing cell types."""
    types = tables["cell_types.tsv"]
    tested = set(types.loc[types["tested"] == "True", "id"])
    lists = {"gene_id": ("genes.parquet", "gene"), "sample": ("samples.tsv", "sample")}
    names = {column: set(tables[path][column].astype(str)) for column, (path, _) in lists.items()}
    problems = []
    for path, table in tables.items():
        spec = kinds[path]
        if path == "cells.parquet":
            table = table[table["step"] != "load"]  # unusable cells may belong to anything
        if "cell_type" in table:
            present = set(table["cell_type"].dropna()) - {""}
            known = set(types["label"] if spec.get("labels") else types["id"])
            problems += [
                f"{path}: {name!r} is not a cell type of cell_types.tsv" for name in sorted(present - known)
            ]
            if spec.get("types") == "tested":
                absent, extra = sorted(tested - present), sorted((present & known) - tested)
                problems += [f"{path}: lacks the tested cell type {name!r}" for name in absent]
                problems += [f"{path}: {name!r} is not tested" for name in extra]
        for column, (listing, what) in lists.items():
            if column in table:
                unknown = sorted(set(table[column].dropna().astype(str)) - names[column] - {""})
                problems += [f"{path}: {name!r} is not a {what} of {listing}" for name in unknown[:3]]
    return problems


def check_attrition(table: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """Problems of attrition: each level must add up, and all cells must agree with cells.parquet."""
    problems = []
    table = table.astype({"cells": int, "samples": int, "samples_lost": int})
    for (stratum, level), part in table.groupby(["stratum", "level"]):
        where = f"attrition.tsv: {{}} of {stratum} {level}"
        if sorted(part.loc[part["step"].isin(["input", "kept"]), "step"]) != ["input", "kept"]:
            problems.append(f"{where.format('rows')}: not one input and one kept")
            continue
        by_step = part.set_index("step")
        dropped = part[~part["step"].isin(["input", "kept"])]
        for unit, lost in (("cells", "cells"), ("samples", "samples_lost")):
            left = by_step.loc["input", unit] - dropped[lost].sum()
            if left != by_step.loc["kept", unit]:
                kept = by_step.loc["kept", unit]
                problems.append(f"{where.format(unit)}: {left} are left after the losses, {kept} kept")
    whole = table[table["stratum"] == "all"]
    listed = (
        whole.set_index(["step", "reason"])["cells"].drop("input", level="step", errors="ignore").to_dict()
    )
    counted = cells.assign(
        step=cells["step"].astype(str).replace("", "kept"), reason=cells["reason"].astype(str)
    )
    counted = {("kept", ""): 0} | counted.groupby(["step", "reason"]).size().to_dict()
    for key in sorted(listed.keys() | counted.keys()):
        if listed.get(key) != counted.get(key):
            what = " ".join(filter(None, key))
            problems.append(
                f"attrition.tsv: {listed.get(key)} cells {what}, {counted.get(key)} in cells.parquet"
            )
    return problems


def sums_of(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Sums of the rows and of the columns of X in an h5ad, in bounded memory; None without X."""
    with h5py.File(path) as file:
        if "X" not in file or "indptr" not in file["X"]:
            return None
        x = file["X"]
        indptr, size = x["indptr"][:].astype(np.int64), int(x.attrs["shape"][1])
        columns, running, total = (
            np.zeros(size),
            np.zeros(len(indptr)),
            0.0,
        )  # running: sum of all rows before
        for start in range(0, int(indptr[-1]), VALUES):
            data = x["data"][start : start + VALUES].astype(float)  # exact: whole numbers below 2^53
            columns += np.bincount(x["indices"][start : start + VALUES], weights=data, minlength=size)
            summed = np.concatenate([[0], np.cumsum(data)])
            here = (indptr > start) & (indptr <= start + len(data))
            running[here] = total + summed[indptr[here] - start]
            total += summed[-1]
        return np.diff(running), columns


def check_counts(root: Path, tables: dict) -> list[str]:
    """Problems of counts, which must be equal in input, genes, cells, kept cells, sums and cohort.h5ad."""
    problems = []

    def compare(what: str, left: float, right: float) -> None:
        if left != right:
            problems.append(f"{what}: {left:.0f} and {right:.0f} counts")

    cells, sums = tables["cells.parquet"], tables["sums.h5ad"]
    loaded = json.loads((root / "cohort.json").read_text(encoding="utf-8"))["counts"]["usable"]
    compare("cohort.json and genes.parquet", loaded, tables["genes.parquet"]["counts"].sum())
    compare("cohort.json and cells.parquet", loaded, cells["total_counts"].sum())
    kept = cells[cells["kept"]]
    own = kept.assign(label=kept["cell_type"].astype(str), sample=kept["sample"].astype(str))
    own = own.groupby(["label", "sample"])["total_counts"].agg(["size", "sum"])
    listed = sums.assign(label=sums["label"].astype(str), sample=sums["sample"].astype(str))
    listed = listed.set_index(["label", "sample"])[["cells", "counts"]].set_axis(["size", "sum"], axis=1)
    if not listed.astype(float).sort_index().equals(own.astype(float).sort_index()):
        problems.append("sums.h5ad: cells and counts per cell type and sample are not those of cells.parquet")
    rows, by_gene = sums_of(root / "sums.h5ad")
    if not np.array_equal(rows, sums["counts"].to_numpy(dtype=float)):
        problems.append("sums.h5ad: the rows of X do not add up to column counts")
    compare("kept cells of cells.parquet and X of sums.h5ad", kept["total_counts"].sum(), rows.sum())
    if not np.array_equal(tables["cohort.h5ad"]["index"].astype(str), kept["cell"].astype(str)):
        problems.append("cohort.h5ad: its rows are not the kept cells of cells.parquet")
    elif (matrix := sums_of(root / "cohort.h5ad")) is not None:
        if not np.array_equal(matrix[0], kept["total_counts"].to_numpy(dtype=float)):
            problems.append("cohort.h5ad: the rows of X do not add up to total_counts of cells.parquet")
        if not np.array_equal(matrix[1], by_gene):
            problems.append("cohort.h5ad: the columns of X do not add up to those of sums.h5ad")
    return problems


def check_cohort(path: Path, genes: pd.Series, cells: int, counts: bool) -> list[str]:
    """Problems of genes, embeddings and presence of counts in cohort.h5ad."""
    problems = []
    with h5py.File(path) as file:
        var, obsm = file["var"], file["obsm"]
        if not np.array_equal(read_column(var, var.attrs["_index"]), genes):
            problems.append("its genes are not those of genes.parquet in their order")
        if "feature_name" not in var:
            problems.append("var lacks feature_name")
        for name in EMBEDDINGS:
            if name not in obsm or obsm[name].shape[0] != cells:
                problems.append(f"obsm lacks {name} of {cells} cells")
            elif not np.isfinite(obsm[name][:]).all():
                problems.append(f"obsm {name} has a number that is not finite")
        if ("X" in file) != counts:
            problems.append(f"has {'' if 'X' in file else 'no '}X, publish.counts is {str(counts).lower()}")
    return [f"{path.name}: {problem}" for problem in problems]


def check_tested(tables: dict) -> list[str]:
    """Problems of the numbers of tested, filtered and significant genes in the status of each cell type."""
    problems = []
    for path in [path for path in tables if path.startswith("differential/") and ".status." in path]:
        genes = tables[path.replace(".status.tsv", ".parquet")]
        filtered = tables.get(path.replace(".status.tsv", ".filtered.parquet"))  # older releases lack it
        for row in tables[path].itertuples():
            rows = genes[genes["cell_type"] == row.cell_type]
            counted = len(rows), int((rows["padj"] < float(row.fdr)).sum())
            listed = int(row.genes_tested), int(row.significant)
            if counted != listed:
                problems.append(
                    f"{path}: {row.cell_type}: {listed} genes tested and significant, found {counted}"
                )
            if filtered is None or row.status not in ("tested", "no_genes"):
                continue
            left_out = filtered.loc[filtered["cell_type"] == row.cell_type, "gene_id"]
            if len(rows) + len(left_out) != int(row.genes) or left_out.isin(rows["gene_id"]).any():
                problems.append(
                    f"{path}: {row.cell_type}: {len(rows)} genes tested and {len(left_out)} filtered are not "
                    f"the {row.genes} of the cohort"
                )
    return problems


def check_provenance(provenance: dict, manifest: dict, contract: dict) -> list[str]:
    """Problems of config digest, seed, version, contract and volatile files that differ between files."""
    pairs = {
        "provenance.json: config_sha256": (provenance["config_sha256"], canonical(provenance["config"])),
        "provenance.json: random_state": (provenance["random_state"], provenance["config"]["random_state"]),
        "manifest.json: workflow_version": (manifest["workflow_version"], provenance["workflow_version"]),
        "manifest.json: contract": (manifest["contract"], contract["contract"]),
        "manifest.json: volatile": (
            sorted(manifest["volatile"]),
            sorted(spec["path"] for spec in contract["files"].values() if spec.get("volatile")),
        ),
    }
    return [
        f"{where} is {value}, it should be {correct}"
        for where, (value, correct) in pairs.items()
        if value != correct
    ]


def check_facts(root: Path, manifest: dict, contract: dict, tables: dict) -> list[str]:
    """Problems across files; each file by itself must be correct."""
    kinds = {entry["path"]: entry["schema"] for entry in manifest["files"]}
    provenance = json.loads((root / "provenance.json").read_text(encoding="utf-8"))
    types = tables["cell_types.tsv"]
    config = provenance["config"]
    expected = list_expected(contract, config, types.loc[types["tested"] == "True", "id"].tolist())
    problems = [
        f"{path}: is missing, config and cell types need it"
        for path in sorted(expected.keys() - kinds.keys())
    ]
    problems += [f"{path}: is not part of this release" for path in sorted(kinds.keys() - expected.keys())]
    problems += [
        f"{path}: has the schema {kind}, not {expected[path]}"
        for path, kind in kinds.items()
        if path in expected and expected[path] != kind
    ]
    if problems:
        return problems
    problems += check_types(tables, {path: contract["files"][kind] for path, kind in kinds.items()})
    problems += check_attrition(tables["attrition.tsv"], tables["cells.parquet"])
    genes, cells = tables["genes.parquet"]["gene_id"], len(tables["cohort.h5ad"])
    problems += check_cohort(root / "cohort.h5ad", genes, cells, config["publish"]["counts"])
    problems += check_counts(root, tables) + check_tested(tables)
    return problems + check_provenance(provenance, manifest, contract)
