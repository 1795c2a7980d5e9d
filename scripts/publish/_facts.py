"""Facts across the files of a release: what one file says of another has to be so."""

import hashlib
import itertools
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from _contents import read_column

EMBEDDINGS = ["X_pca", "X_harmony", "X_umap"]
VALUES = 2**24  # of a matrix in memory at a time


def canonical(value: object) -> str:
    """Digest of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def expected(contract: dict, config: dict, tested: list[str]) -> dict[str, str]:
    """Path -> kind of every file that a release of this config and these tested cell types has."""
    values = {
        "contrast": [contrast["name"] for contrast in config["contrasts"]],
        "resolution": [str(value) for value in config["cluster"]["resolution"]],
    }
    there = {
        None: True,
        "contrasts": bool(values["contrast"]),
        "gene_sets": bool(values["contrast"] and config["gene_sets"]),
        "prediction": bool(config["ridge"]["target"] and tested),
    }
    paths = {}
    for kind, spec in contract["files"].items():
        needs_types = "{part}" in spec.get("source", "")
        if there[spec.get("when")] and (tested or not needs_types):
            names = [name for name in values if f"{{{name}}}" in spec["path"]]
            for chosen in itertools.product(*(values[name] for name in names)):
                paths[spec["path"].format(**dict(zip(names, chosen, strict=True)))] = kind
    return paths


def check_types(tables: dict, kinds: dict[str, dict]) -> list[str]:
    """Cell types, genes and samples are those of their lists; where all tested types must be, all are."""
    types = tables["cell_types.tsv"]
    tested = set(types.loc[types["tested"] == "True", "id"])
    lists = {"gene_id": ("genes.parquet", "gene"), "sample": ("samples.tsv", "sample")}
    named = {column: set(tables[path][column].astype(str)) for column, (path, _) in lists.items()}
    faults = []
    for path, table in tables.items():
        spec = kinds[path]
        if path == "cells.parquet":
            table = table[table["step"] != "load"]  # unusable cells may belong to anything
        if "cell_type" in table:
            found = set(table["cell_type"].dropna()) - {""}
            known = set(types["label"] if spec.get("labels") else types["id"])
            faults += [
                f"{path}: {name!r} is no cell type of cell_types.tsv" for name in sorted(found - known)
            ]
            if spec.get("types") == "tested":
                faults += [f"{path}: lacks the tested cell type {name!r}" for name in sorted(tested - found)]
                faults += [f"{path}: {name!r} is not tested" for name in sorted((found & known) - tested)]
        for column, (listing, what) in lists.items():
            if column in table:
                unknown = sorted(set(table[column].dropna().astype(str)) - named[column] - {""})
                faults += [f"{path}: {name!r} is no {what} of {listing}" for name in unknown[:3]]
    return faults


def check_attrition(table: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """Every level adds up; over all cells it says what cells.parquet says."""
    faults = []
    table = table.astype({"cells": int, "samples": int, "samples_lost": int})
    for (stratum, level), part in table.groupby(["stratum", "level"]):
        where = f"attrition.tsv: {{}} of {stratum} {level}"
        if sorted(part.loc[part["step"].isin(["input", "kept"]), "step"]) != ["input", "kept"]:
            faults.append(f"{where.format('rows')}: not one input and one kept")
            continue
        by_step = part.set_index("step")
        dropped = part[~part["step"].isin(["input", "kept"])]
        for unit, lost in (("cells", "cells"), ("samples", "samples_lost")):
            left = by_step.loc["input", unit] - dropped[lost].sum()
            if left != by_step.loc["kept", unit]:
                kept = by_step.loc["kept", unit]
                faults.append(f"{where.format(unit)}: {left} are left after the losses, {kept} kept")
    whole = table[table["stratum"] == "all"]
    said = whole.set_index(["step", "reason"])["cells"].drop("input", level="step", errors="ignore").to_dict()
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
    """Counts are conserved: input, genes, cells, kept cells, their sums, and cohort.h5ad."""
    faults = []

    def equal(what: str, left: float, right: float) -> None:
        if left != right:
            faults.append(f"{what}: {left:.0f} and {right:.0f} counts")

    cells, sums = tables["cells.parquet"], tables["sums.h5ad"]
    loaded = json.loads((root / "cohort.json").read_text(encoding="utf-8"))["counts"]["usable"]
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


def check_cohort(path: Path, genes: pd.Series, cells: int, counts: bool) -> list[str]:
    """Genes and embeddings of cohort.h5ad; it has counts exactly when the config asks for them."""
    faults = []
    with h5py.File(path) as file:
        var, obsm = file["var"], file["obsm"]
        if not np.array_equal(read_column(var, var.attrs["_index"]), genes):
            faults.append("its genes are not those of genes.parquet in their order")
        if "feature_name" not in var:
            faults.append("var lacks feature_name")
        for name in EMBEDDINGS:
            if name not in obsm or obsm[name].shape[0] != cells:
                faults.append(f"obsm lacks {name} of {cells} cells")
            elif not np.isfinite(obsm[name][:]).all():
                faults.append(f"obsm {name} holds a number that is not finite")
        if ("X" in file) != counts:
            faults.append(f"has {'' if 'X' in file else 'no '}X, publish.counts is {str(counts).lower()}")
    return [f"{path.name}: {fault}" for fault in faults]


def check_tested(tables: dict) -> list[str]:
    """Genes tested and significant, as the status of each cell type says, are those of the table."""
    faults = []
    for path in [path for path in tables if path.startswith("differential/") and ".status." in path]:
        genes = tables[path.replace(".status.tsv", ".parquet")]
        for row in tables[path].itertuples():
            mine = genes[genes["cell_type"] == row.cell_type]
            found = len(mine), int((mine["padj"] < float(row.fdr)).sum())
            said = int(row.genes_tested), int(row.significant)
            if found != said:
                faults.append(f"{path}: {row.cell_type}: {said} genes tested and significant, found {found}")
    return faults


def check_provenance(provenance: dict, manifest: dict, contract: dict) -> list[str]:
    """Config digest, seed, version, contract and volatile files are the same wherever they are written."""
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
        f"{where} is {said}, it should be {true}" for where, (said, true) in pairs.items() if said != true
    ]


def check_facts(root: Path, manifest: dict, contract: dict, tables: dict) -> list[str]:
    """Facts across files, once each of them is what the contract says."""
    kinds = {entry["path"]: entry["schema"] for entry in manifest["files"]}
    provenance = json.loads((root / "provenance.json").read_text(encoding="utf-8"))
    types = tables["cell_types.tsv"]
    config = provenance["config"]
    wanted = expected(contract, config, types.loc[types["tested"] == "True", "id"].tolist())
    faults = [f"{path}: config and cell types call for it" for path in sorted(wanted.keys() - kinds.keys())]
    faults += [f"{path}: no part of this release" for path in sorted(kinds.keys() - wanted.keys())]
    faults += [f"{p}: is no {kind}" for p, kind in kinds.items() if p in wanted and wanted[p] != kind]
    if faults:
        return faults
    faults += check_types(tables, {path: contract["files"][kind] for path, kind in kinds.items()})
    faults += check_attrition(tables["attrition.tsv"], tables["cells.parquet"])
    genes, cells = tables["genes.parquet"]["gene_id"], len(tables["cohort.h5ad"])
    faults += check_cohort(root / "cohort.h5ad", genes, cells, config["publish"]["counts"])
    faults += check_counts(root, tables) + check_tested(tables)
    return faults + check_provenance(provenance, manifest, contract)
