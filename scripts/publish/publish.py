"""Write a release of the results that others may rely on, verify it, and switch to it in one step.

workflow/schemas/publish.yaml lists the files and their sources. Tables in parts are joined; other files are
copied byte for byte; cohort.h5ad is written from the tables of cells and, with publish.counts, the counts of
the shards. Only a release without problems in verify.py gets its id, a digest of its content: the same
content is the same release.
"""

import hashlib
import itertools
import json
import os
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from files import count_rows, read_in_order, read_tsv, write_tsv
from job import InputError, conclude, job
from publish._cohort_file import describe_cells, in_order, index_type, write_cohort
from publish._release import (
    RELEASES,
    check_release,
    make_staging,
    prune,
    read_current,
    rename_release,
    switch_release,
)
from verify import release_id

EMBEDDINGS = {"X_pca": "pca", "X_harmony": "harmony", "X_umap": "umap"}


def join(parts: list[str], target: Path) -> None:
    """Concatenate the parts of a table; text does not change."""
    if target.suffix == ".tsv":
        write_tsv(pd.concat(map(read_tsv, parts)), target)
    else:
        pd.concat(map(pd.read_parquet, parts), ignore_index=True).to_parquet(target, index=False)


def gather(files: list[dict], sources: list[str], folder: Path) -> None:
    """Copy or join the sources into the folder.

    files: kind, path and parts, the number of sources of the file; sources: of all files, in their order.
    """
    rest = iter(sources)
    for file in files:
        target = folder / file["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        parts = list(itertools.islice(rest, file["parts"]))
        if len(parts) == 1:
            shutil.copyfile(parts[0], target)
        else:
            join(parts, target)


def assemble(paths: object, params: object, target: Path) -> None:
    """Write cohort.h5ad. paths, params: named inputs and params of the rule."""
    cells = pd.read_parquet(paths.cells)
    samples = pd.read_csv(paths.samples, sep="\t", dtype={"sample": str, "donor": str})
    clusters = dict(zip(params.resolutions, map(pd.read_parquet, paths.clusters), strict=True))
    obs = describe_cells(cells, samples, params.covariates, clusters)
    tables = ((key, pd.read_parquet(getattr(paths, name))) for key, name in EMBEDDINGS.items())
    obsm = ((key, in_order(table, obs.index).to_numpy(dtype=np.float32)) for key, table in tables)
    genes = pd.read_parquet(paths.genes)
    var = genes[["symbol"]].rename(columns={"symbol": "feature_name"}).astype(object)
    var = var.set_axis(pd.Index(genes["gene_id"].astype(object), name=None))
    columns = cells[["cell", "shard", "kept"]]
    shards = list(paths.shards)
    blocks = read_in_order(shards, columns) if params.counts else None
    write_cohort(str(target), obs, var, obsm, blocks, index_type(shards))


def digest(path: str | Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rows(path: Path) -> int | None:
    """Rows of a table or of the obs of an h5ad; None for other files."""
    if path.suffix == ".parquet":
        return pq.read_metadata(path).num_rows
    if path.suffix == ".tsv":
        return len(read_tsv(path))
    if path.suffix == ".h5ad":
        return count_rows(path)
    return None


def list_files(folder: Path, kinds: dict[str, str]) -> list[dict]:
    """Path, schema, bytes, rows and sha256 of every file. kinds: path -> kind."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        {
            "path": path.relative_to(folder).as_posix(),
            "schema": kinds[path.relative_to(folder).as_posix()],
            "bytes": path.stat().st_size,
            "rows": rows(path),
            "sha256": digest(path),
        }
        for path in paths
    ]


def write_json(path: Path, content: dict) -> None:
    """Indented JSON with sorted keys."""
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def describe_inputs(paths: list[str]) -> list[dict]:
    """Name, bytes and digest of each input file; the config has their paths."""
    return [{"name": Path(p).name, "bytes": os.path.getsize(p), "sha256": digest(p)} for p in paths]


def describe_run() -> dict:
    """Time and place of this job, which no other file of a release has."""
    return {
        "published_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        "host": socket.gethostname(),
        "profile": os.environ.get("SCOHORT_PROFILE") or None,
        "executor": "slurm" if "SLURM_JOB_ID" in os.environ else "local",
    }


def build(folder: Path, paths: object, params: object) -> str:
    """Fill an empty folder with a release and return its id."""
    gather(params.files, list(paths.files), folder)
    assemble(paths, params, folder / "cohort.h5ad")
    provenance = json.loads(Path(paths.provenance).read_text(encoding="utf-8"))
    inputs = {"cohort": describe_inputs(paths.cohort), "gene_sets": describe_inputs(paths.gene_sets)}
    write_json(folder / "provenance.json", provenance | {"inputs": inputs})
    write_json(folder / "run.json", describe_run())
    write_json(folder / "contract.json", params.contract)
    written = {spec["path"]: kind for kind, spec in params.contract["files"].items() if "source" not in spec}
    kinds = written | {file["path"]: file["kind"] for file in params.files}
    volatile = [spec["path"] for spec in params.contract["files"].values() if spec.get("volatile")]
    files = list_files(folder, kinds)
    release = release_id(files, volatile)
    about = {"contract": params.contract["contract"], "workflow_version": provenance["workflow_version"]}
    write_json(folder / "manifest.json", about | {"release": release, "volatile": volatile, "files": files})
    return release


def publish(place: Path, paths: object, params: object) -> tuple[str, str]:
    """Build a release, verify it and switch v1 to it; returns its id, and in one line what was done.

    place: the folder of v1 and releases; paths, params: named inputs and params of the rule.
    Raises RuntimeError if the release has problems, and InputError if the release exists and was changed.
    """
    folder = make_staging(place)
    try:
        release = build(folder, paths, params)
        if problems := check_release(folder):
            raise RuntimeError(f"not published, verify.py found problems: {problems}")
        final = place / RELEASES / release
        if final.exists() and check_release(final):
            raise InputError(f"{final}: was changed after it was published; remove it and run again")
        rename_release(folder, final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    before = read_current(place)
    switch_release(place, release)
    removed = prune(place, params.keep)
    return release, f"release {release}, before it {before}; removed {', '.join(removed) or 'none'}"


if __name__ == "__main__":
    with job(snakemake) as out:
        place = Path(snakemake.output.release).parent
        release, result = publish(place, snakemake.input, snakemake.params)
        write_json(Path(out.release), {"release": release})
        conclude(result)
