"""A small cohort as the steps would leave it, and a release made of it by the real code in about two seconds.

43 cells of 4 samples, 6 genes, 3 cell types of which one is too rare to be tested. Matrix, sums and attrition
are computed here, apart from the steps; tables of answers are filled by the contract's types, where nothing
has to agree.
"""

import hashlib
import itertools
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

ROOT = Path(__file__).parent.parent.parent
CONTRACT = yaml.safe_load((ROOT / "workflow/schemas/publish.yaml").read_text())
TYPES = {"CD4+ T cell, naive": "cd4_t_cell_naive", "B/plasma cell": "b_plasma_cell", "rare cell": "rare_cell"}
TESTED = ["cd4_t_cell_naive", "b_plasma_cell"]
GENES = [f"ENSG{number}" for number in range(6)]
CONFIG = {
    "random_state": 7,
    "contrasts": [{"name": "age", "design": "~ age", "test": "age", "unit": 10}],
    "cluster": {"resolution": [0.5]},
    "gene_sets": ["sets.gmt"],
    "ridge": {"target": "age"},
    "publish": {"counts": True},
}
VALUES = {"contrast": ["age"], "resolution": ["0.5"]}
PIXEL = (  # the smallest PNG
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
    "a5f645400000000049454e44ae426082"
)


def small_cells() -> tuple[pd.DataFrame, np.ndarray]:
    """cells.parquet and the counts of its cells: one is unusable, one of a dropped sample, two fail qc."""
    rng = np.random.default_rng(1)
    number = np.arange(43)
    cells = pd.DataFrame({"cell": [f"cell{n:02d}" for n in number]})
    cells["sample"] = [f"s{n % 4}" for n in number]
    cells["donor"] = cells["sample"].str.replace("s", "d")
    cells["cell_type"] = np.array(list(TYPES))[[0, 0, 1, 0, 1] * 8 + [2, 0, 1]]
    cells["pool"] = np.where(number % 2, "p1", "p0")
    cells["shard"] = np.where(np.isin(cells["sample"], ["s0", "s1"]), "00", "01")
    counts = rng.poisson(3, (43, 6))
    cells["n_genes_by_counts"] = (counts > 0).sum(axis=1).astype(float)
    cells["total_counts"] = counts.sum(axis=1).astype(float)
    for name in ("pct_counts_in_top_20_genes", "pct_counts_mt", "pct_counts_ribo", "pct_counts_hb"):
        cells[name] = rng.uniform(0, 20, 43)
    cells["doublet_score"], cells["doublet"], cells["scored"] = rng.uniform(0, 1, 43), False, True
    cells["kept"], cells["step"], cells["reason"] = True, "", ""
    for row, step, reason in [(0, "load", "excluded"), (3, "qc", "high_mt"), (4, "qc", "few_genes")]:
        cells.loc[row, ["kept", "step", "reason"]] = [False, step, reason]
    cells.loc[0, ["shard", "n_genes_by_counts", "total_counts"]] = ["", np.nan, np.nan]
    cells.loc[0, "cell_type"] = "debris"  # of no discovered type, as unusable cells may be
    counts[0] = 0
    for name in ("sample", "donor", "cell_type", "pool"):
        cells[name] = cells[name].astype("category")
    return cells, counts


def attrition(cells: pd.DataFrame) -> pd.DataFrame:
    """What cells/attrition.tsv holds for all cells: no sample is lost whole."""
    rows = [("input", "", len(cells), 0)]
    lost = cells[~cells["kept"]].groupby(["step", "reason"]).size()
    rows += [(step, reason, count, 0) for (step, reason), count in lost.items()]
    rows += [("kept", "", int(cells["kept"].sum()), 0)]
    table = pd.DataFrame(rows, columns=["step", "reason", "cells", "samples_lost"])
    return table.assign(stratum="all", level="all", samples=4)


def sums(cells: pd.DataFrame, counts: np.ndarray) -> ad.AnnData:
    """pseudobulk/sums.h5ad: a row per cell type and sample that share kept cells."""
    kept = cells[cells["kept"]].astype({"cell_type": str, "sample": str})
    groups = kept.groupby(["cell_type", "sample"]).groups
    matrix = np.array([counts[list(rows)].sum(axis=0) for rows in groups.values()])
    obs = pd.DataFrame(
        {
            "cell_type": [TYPES[label] for label, _ in groups],
            "label": [label for label, _ in groups],
            "sample": [sample for _, sample in groups],
            "donor": [sample.replace("s", "d") for _, sample in groups],
            "pool": "p0",
            "cells": [len(rows) for rows in groups.values()],
            "counts": matrix.sum(axis=1),
            "log_cells": [np.log(len(rows)) for rows in groups.values()],
            "log_depth": np.log(matrix.sum(axis=1)),
            "pct_counts_mt": 1.0,
            "used": True,
            "reason": "",
        },
        index=[f"sum{number}" for number in range(len(groups))],
    ).astype({name: object for name in ("cell_type", "label", "sample", "donor", "pool", "reason")})
    var = pd.DataFrame(index=pd.Index(GENES, dtype=object))
    return ad.AnnData(sparse.csr_matrix(matrix.astype(np.int64)), obs, var)


def filled(spec: dict, labels: bool) -> pd.DataFrame:
    """A table that the contract accepts: a row per tested type, or several where the key asks for more."""
    columns = {name: column or CONTRACT["columns"][name] for name, column in spec["columns"].items()}
    rows = 2 if "cell_type" in columns else 1
    table = {}
    for name, column in columns.items():
        kind = column["type"].removesuffix("?")
        if name == "cell_type":
            table[name] = list(TYPES)[:2] if labels else TESTED
        elif name in ("gene_id", "sample"):
            table[name] = {"gene_id": GENES, "sample": ["s0", "s1"]}[name][:rows]
        elif kind == "text":
            table[name] = [column.get("values", [f"{name} of it"])[0]] * rows
        else:
            low = column.get("min", 0)
            table[name] = [{"integer": int(low) + 1, "number": low + 0.5, "boolean": True}[kind]] * rows
    return pd.DataFrame(table)


def answers(kind: str, spec: dict, cell_type: str | None) -> pd.DataFrame:
    """A table of a contrast, a clustering or the prediction; of one cell type for those in parts."""
    table = filled(spec, bool(spec.get("labels")))
    if kind == "differential":
        table = pd.DataFrame({name: [table.loc[0, name]] * 3 for name in table})
        table["gene_id"], table["padj"] = GENES[:3], [0.01, 0.5, np.nan]
    if kind == "differential_status":
        table = table.assign(status="tested", genes=len(GENES), genes_tested=3, significant=1, fdr=0.05)
    if kind == "differential_filtered":
        table = pd.DataFrame({name: [table.loc[0, name]] * 3 for name in table}).assign(gene_id=GENES[3:])
    if cell_type is None:
        return table
    one_row = kind in ("differential_status", "differential_samples", "differential_factors")
    return (table.head(1) if one_row else table).assign(cell_type=cell_type)


def tables_of_cohort(cells: pd.DataFrame, counts: np.ndarray) -> dict[str, pd.DataFrame]:
    """The tables that have to agree with one another, by their source."""
    usable = cells["step"] != "load"
    per_gene = counts[usable]
    types = pd.DataFrame({"id": TYPES.values(), "label": TYPES.keys(), "samples": [4, 4, 1], "cells": 1})
    drop = {"tested": [True, True, False], "reason": ["", "", "too_few_samples"]}
    samples = pd.DataFrame({"sample": [f"s{n}" for n in range(4)], "donor": [f"d{n}" for n in range(4)]})
    genes = pd.DataFrame({"gene_id": GENES, "symbol": [f"G{n}" for n in range(6)]})
    clusters = cells.loc[cells["kept"], ["cell"]]
    numbers = np.random.default_rng(2).normal(size=(len(clusters), 3)).astype(np.float32)
    points = pd.DataFrame(numbers, columns=["A", "B", "C"], index=clusters.index)
    return {
        "pseudobulk/cell_types.tsv": types.assign(**drop),
        "filter/cell_types.tsv": types.assign(kept=True, reason=""),
        "filter/samples.tsv": samples.assign(cells=10, kept=True, reason="", age=[20.0, 30, 40, np.nan]),
        "load/genes.parquet": genes.assign(
            duplicated_symbol=False, counts=per_gene.sum(axis=0), cells=(per_gene > 0).sum(axis=0)
        ),
        "cells/cells.parquet": cells,
        "cells/attrition.tsv": attrition(cells),
        "cluster/resolution_0.5.parquet": clusters.assign(cluster="0").iloc[::-1],
        "preprocess/pca.parquet": clusters.join(points),
        "dimred/harmony.parquet": clusters.join(points + 1),
        "layout/umap.parquet": clusters.join(points[["A", "B"]]),
    }


def write(path: Path, table: pd.DataFrame) -> None:
    """A table in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_csv(path, sep="\t", index=False)


def write_source(results: Path, kind: str, spec: dict, chosen: dict) -> Path:
    """The source of one published file, unless the tables of the cohort have it already."""
    path = results / spec["source"].format(**chosen)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() and path.suffix == ".png":
        path.write_bytes(bytes.fromhex(PIXEL))
    elif not path.exists() and path.suffix == ".html":
        path.write_text("<!doctype html>\n<title>report</title>\n</html>\n")
    elif not path.exists() and path.suffix == ".json":
        path.write_text(json.dumps(dict.fromkeys(spec["keys"], 1)) + "\n")
    elif not path.exists():
        part = chosen.get("part")
        write(path, answers(kind, spec, TESTED[int(part)] if part else None))
    return path


def places(results: Path) -> tuple[list[dict], list[Path]]:
    """What rules/release.smk says of published files and their sources, which are written where missing."""
    files, sources = [], []
    for kind, spec in CONTRACT["files"].items():
        if "source" in spec:
            names = re.findall(r"{(\w+)}", spec["path"])
            parts = [f"{part:02d}" for part in range(len(TESTED))] if "{part}" in spec["source"] else [None]
            for chosen in itertools.product(*(VALUES[name] for name in names)):
                filling = dict(zip(names, chosen, strict=True))
                sources += [write_source(results, kind, spec, filling | {"part": part}) for part in parts]
                files.append({"kind": kind, "path": spec["path"].format(**filling), "parts": len(parts)})
    return files, sources


def write_small(results: Path) -> tuple[SimpleNamespace, SimpleNamespace]:
    """All that publish needs, below a folder: its named inputs and its params."""
    cells, counts = small_cells()
    for source, table in tables_of_cohort(cells, counts).items():
        write(results / source, table)
    (results / "pseudobulk").mkdir(exist_ok=True)
    sums(cells, counts).write_h5ad(results / "pseudobulk/sums.h5ad")
    shards = []
    for shard in ("00", "01"):
        mine = np.flatnonzero(cells["shard"] == shard)
        obs = pd.DataFrame(index=cells["cell"].iloc[mine].astype(object))
        shards.append(results / f"load/shards/{shard}.h5ad")
        shards[-1].parent.mkdir(parents=True, exist_ok=True)
        matrix = sparse.csr_matrix(counts[mine].astype(np.float32))
        ad.AnnData(matrix, obs, pd.DataFrame(index=pd.Index(GENES, dtype=object))).write_h5ad(shards[-1])
    total = int(counts.sum())
    facts = dict.fromkeys(CONTRACT["files"]["cohort_facts"]["keys"], 1) | {"counts": {"usable": total}}
    (results / "load/cohort.json").write_text(json.dumps(facts) + "\n")
    text = json.dumps(CONFIG, sort_keys=True, separators=(",", ":"))
    provenance = dict.fromkeys(CONTRACT["files"]["provenance"]["keys"], "of this test")
    provenance |= {"config": CONFIG, "config_sha256": hashlib.sha256(text.encode()).hexdigest()}
    provenance |= {"random_state": 7, "workflow_version": "1.2.3"}
    (results / "provenance.json").write_text(json.dumps(provenance) + "\n")
    (results / "sets.gmt").write_text("set\t\tG1\tG2\n")
    files, sources = places(results)
    named = {"cells": "cells/cells.parquet", "samples": "filter/samples.tsv", "genes": "load/genes.parquet"}
    named |= {"pca": "preprocess/pca.parquet", "harmony": "dimred/harmony.parquet"}
    named |= {"umap": "layout/umap.parquet", "provenance": "provenance.json"}
    paths = SimpleNamespace(
        files=[str(source) for source in sources],
        clusters=[str(results / "cluster/resolution_0.5.parquet")],
        shards=[str(shard) for shard in shards],
        cohort=[str(shards[0])],
        gene_sets=[str(results / "sets.gmt")],
        **{name: str(results / path) for name, path in named.items()},
    )
    return paths, SimpleNamespace(
        files=files, resolutions=["0.5"], covariates=["age"], contract=CONTRACT, counts=True, keep=2
    )


@pytest.fixture
def small(tmp_path):
    """The results of a small cohort that a test may change; named inputs and params of publish."""
    return write_small(tmp_path / "results")


@pytest.fixture(scope="session")
def small_release(tmp_path_factory):
    """A release of the small cohort; tests must not change it."""
    from publish.publish import build

    folder = tmp_path_factory.mktemp("release")
    paths, params = write_small(folder / "results")
    (folder / "release").mkdir()
    build(folder / "release", paths, params)
    return folder / "release"


@pytest.fixture
def release(small_release, tmp_path):
    """A copy of the small release that a test may change."""
    return shutil.copytree(small_release, tmp_path / "release")
