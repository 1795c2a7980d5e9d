"""Write a benchmark cohort of any size in bounded memory: `python bench/generate.py --cells 100000`.

Makes a folder with `cohort.h5ad` (as CELLxGENE serves it: counts in X, CSR, float32, gzip), `gene_sets.gmt`,
`config.yaml`, the overlay with which the workflow runs on them, and `cohort.json`, its settings. The cells of
a donor are scattered over their pool, so that no reader can take a donor as a run of rows. The model is in
`draw.py`.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import yaml
from snakemake.utils import update_config

import _draw as draw

ROOT = Path(__file__).parent.parent

WORK = Path(__file__).parent / "work"
CELLS_PER_DONOR = 1273  # OneK1K
CELLS_PER_SHARD = 80_000
LEAST_SHARDS = 4
BLOCK = 16_000  # cells drawn at a time; about 1 GB of memory
CHUNK = 25_000  # stored values in an HDF5 chunk, about what h5py chooses for such files
GZIP = {"compression": "gzip", "compression_opts": 4}  # anndata's default level


def write_h5ad(path: Path, blocks: Iterator[tuple], obs: pd.DataFrame, var: pd.DataFrame) -> int:
    """Write blocks of (data, indices, row lengths) as X of an h5ad and return the number of values."""
    from anndata.io import write_elem

    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name, frame in {"obs": obs, "var": var}.items():
            write_elem(file, name, frame, dataset_kwargs={"compression": "gzip"})
        for name in ("obsm", "obsp", "varm", "varp", "layers", "uns"):
            write_elem(file, name, {})
        matrix = file.create_group("X")
        matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        matrix.attrs["shape"] = np.array([len(obs), len(var)])
        stored = [
            matrix.create_dataset(name, shape=(0,), maxshape=(None,), dtype=kind, chunks=(CHUNK,), **GZIP)
            for name, kind in {"data": np.float32, "indices": np.int32}.items()
        ]
        lengths, size = [], 0
        for data, indices, rows in blocks:
            for dataset, values in zip(stored, (data, indices), strict=True):
                dataset.resize((size + len(values),))
                dataset[size:] = values
            size += len(data)
            lengths.append(rows)
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths), dtype=np.int64)])
        matrix.create_dataset("indptr", data=indptr.astype(pointer_type(size)), chunks=True, **GZIP)
    return size


def pointer_type(values: int) -> type:
    """Type of row pointers: as small as scipy takes it."""
    return np.int32 if values <= np.iinfo(np.int32).max else np.int64


def obs_table(cells: pd.DataFrame, donors: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """The columns that CELLxGENE would show for each cell; the index holds unique barcodes."""
    of_cell = donors.iloc[cells["donor"]]
    stage = of_cell["age"].astype(str) + "-year-old stage"
    columns = {
        "donor_id": of_cell["donor_id"],
        "cell_type": np.array(labels)[cells["type"]],
        "sex": of_cell["sex"],
        "pool_number": of_cell["pool_number"],
        "development_stage": stage,
    }
    categories = {name: pd.Categorical(np.asarray(values, dtype=object)) for name, values in columns.items()}
    return pd.DataFrame(categories | {"age": of_cell["age"].to_numpy()}, index=barcodes(len(cells)))


def barcodes(n: int) -> pd.Index:
    """Distinct 16-letter barcodes; multiplying by an odd number permutes the 4^16 of them."""
    codes = np.arange(n, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(4**16)
    digits = codes[:, None] >> np.arange(0, 32, 2, dtype=np.uint64) & np.uint64(3)
    letters = np.frombuffer(b"ACGT", dtype="S1")[digits]
    return pd.Index(np.char.decode(letters.view("S16").ravel(), "ascii") + "-1", dtype=object)


def write_gene_sets(path: Path, model: draw.Model, symbols: list[str], seed: int) -> None:
    """50 sets of 30 to 200 genes, as large as Hallmark's; the first two go up and down with age."""
    rng = np.random.default_rng([seed, 7])
    shared = model.slopes.min(axis=0) == model.slopes.max(axis=0)
    sets = {
        "AGE_UP": np.flatnonzero(shared & (model.slopes[0] > 0)),
        "AGE_DOWN": np.flatnonzero(shared & (model.slopes[0] < 0)),
    }
    strong = np.argsort(-model.weights.mean(axis=0))[: len(symbols) // 3]
    for number in range(1, 49):
        sets[f"RANDOM_{number}"] = rng.choice(strong, min(rng.integers(30, 201), len(strong)), replace=False)
    with open(path, "w", encoding="utf-8") as file:
        for name, genes in sets.items():
            file.write("\t".join([name, "benchmark", *(symbols[gene] for gene in genes)]) + "\n")


def overlay(shards: int) -> dict:
    """The demo's settings and what differs; paths are relative to `scohort/`, the folder of the run."""
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text(encoding="utf-8"))
    changes = {
        "cohort": {"path": "../cohort.h5ad"},
        "gene_sets": ["../gene_sets.gmt"],
        "load": {"shards": shards},
        "preprocess": {"n_top_genes": 2000, "n_comps": 50},
        "cluster": {"resolution": [1.0]},
        "differential": {"gene_filter": "share"},  # as in a plain script
        "ridge": {"alpha": [1, 10, 100, 1000, 10000]},
    }
    update_config(config, changes)
    return config


def generate(folder: Path, *, cells: int, donors: int, genes: int, shards: int, seed: int) -> dict:
    """Write cohort, gene sets and overlay into the folder and return its settings and number of values."""
    settings = {"cells": cells, "donors": donors, "genes": genes, "shards": shards, "seed": seed}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cohort.json").unlink(missing_ok=True)
    var = draw.gene_table(genes)
    symbols = var["feature_name"].tolist()
    model = draw.model(symbols, seed)
    people = draw.donor_table(cells, donors, seed)
    table = draw.cell_table(people, model, seed)
    blocks = (
        draw.counts(table.iloc[start : start + BLOCK], people, model, symbols, seed, start // BLOCK)
        for start in range(0, cells, BLOCK)
    )
    values = write_h5ad(
        folder / "cohort.h5ad", blocks, obs_table(table, people, model.labels), var.astype("category")
    )
    write_gene_sets(folder / "gene_sets.gmt", model, symbols, seed)
    (folder / "config.yaml").write_text(yaml.safe_dump(overlay(shards), sort_keys=False), encoding="utf-8")
    facts = settings | {"values": values}
    (folder / "cohort.json").write_text(
        json.dumps(facts) + "\n", encoding="utf-8"
    )  # last: where it is, all is whole
    return facts


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which cohort; the tools that run on one have them too."""
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="default: bench/work/<cells>")
    parser.add_argument("--donors", type=int, help=f"default: cells / {CELLS_PER_DONOR}, at least 12")
    parser.add_argument("--genes", type=int, default=35_000)
    parser.add_argument(
        "--shards", type=int, help=f"default: cells / {CELLS_PER_SHARD}, at least {LEAST_SHARDS}"
    )
    parser.add_argument("--seed", type=int, default=1)


def cohort_of(given: argparse.Namespace) -> dict:
    """Folder and settings from the options, OneK1K's ratios where nothing is said."""
    return {
        "folder": given.folder or WORK / str(given.cells),
        "cells": given.cells,
        "donors": given.donors or max(12, round(given.cells / CELLS_PER_DONOR)),
        "genes": given.genes,
        "shards": given.shards or max(LEAST_SHARDS, round(given.cells / CELLS_PER_SHARD)),
        "seed": given.seed,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    cohort, start = cohort_of(parser.parse_args()), time.perf_counter()
    facts = generate(**cohort)
    took, disk = time.perf_counter() - start, (cohort["folder"] / "cohort.h5ad").stat().st_size / 1e6
    print(
        f"generate: {facts['cells']:,} cells, {facts['donors']} donors, {facts['genes']:,} genes, "
        f"{facts['values'] / facts['cells']:,.0f} non-zeros a cell, {disk:,.0f} MB, {took:.0f} s"
    )
