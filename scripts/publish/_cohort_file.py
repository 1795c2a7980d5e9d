"""Write all kept cells of a cohort as one AnnData file, with the counts block by block in bounded memory.

Names follow CELLxGENE where possible (https://github.com/chanzuckerberg/single-cell-curation, schema 5):
obs `donor_id`, `cell_type`, var `feature_name`, obsm `X_...`, raw counts as float32 CSR, text as categories.
"""

from collections.abc import Iterator

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

BLOCK = 16_384  # cells of the input in memory at a time
STORAGE = {"chunks": (65_536,), "compression": "gzip", "compression_opts": 1, "shuffle": True}
EXACT = 2**24  # float32 holds whole numbers below this
EMPTY = ["step", "reason"]  # empty for kept cells
NOT_COVARIATES = ["sample", "donor", "cells", "kept", "reason"]  # other columns of filter/samples.tsv are


def describe_cells(
    cells: pd.DataFrame, samples: pd.DataFrame, clusters: dict[str, pd.DataFrame]
) -> pd.DataFrame:
    """Obs of the kept cells in input order, indexed by cell: labels, metrics, covariates, clusters.

    cells: cells/cells.parquet; samples: filter/samples.tsv; clusters: resolution -> cell, cluster.
    Raises ValueError unless each clustering has exactly the kept cells.
    """
    kept = cells[cells["kept"]].drop(columns=[*EMPTY, "shard"]).set_index("cell")
    obs = kept.rename(columns={"donor": "donor_id"})
    covariates = samples.set_index("sample").drop(columns=NOT_COVARIATES[1:])
    # a paired design has the donor in both tables
    for name in covariates.columns.difference(obs.columns, sort=False):
        obs[name] = covariates[name].reindex(obs["sample"].astype(str)).to_numpy()
    text = [name for name in obs if not pd.api.types.is_numeric_dtype(obs[name])]
    for name in text:
        obs[name] = pd.Categorical(obs[name].astype(object).where(obs[name] != "", None))
    for resolution, table in clusters.items():
        values = in_order(table, obs.index)["cluster"].to_numpy(dtype=object)
        obs[f"leiden_{resolution}"] = pd.Categorical(values, sorted(set(values), key=int))
    return obs.set_axis(obs.index.astype(object).rename(None))


def in_order(table: pd.DataFrame, names: pd.Index) -> pd.DataFrame:
    """The rows of a table of cells in the order of `names`; ValueError unless they are the same cells."""
    rows = pd.Index(table["cell"]).get_indexer(names)
    if len(table) != len(names) or (rows < 0).any():
        raise ValueError(f"the table has {len(table):,} cells, not the {len(names):,} kept cells")
    return table.drop(columns="cell").iloc[rows]


def names_of(file: h5py.File) -> h5py.Dataset:
    """The names of the cells in an h5ad, in either of anndata's two formats of text."""
    names = file["obs"][file["obs"].attrs["_index"]]
    return names["values"] if isinstance(names, h5py.Group) else names


def rows_of(file: h5py.File, start: int, stop: int) -> sparse.csr_array:
    """Rows of X in a shard."""
    x = file["X"]
    indptr = x["indptr"][start : stop + 1]
    stored = slice(int(indptr[0]), int(indptr[-1]))
    shape = (stop - start, int(x.attrs["shape"][1]))
    return sparse.csr_array((x["data"][stored], x["indices"][stored], indptr - indptr[0]), shape=shape)


def counts_in_order(shards: list[str], cells: pd.DataFrame) -> Iterator[sparse.csr_array]:
    """Counts of the kept cells, in input order, a block of cells at a time.

    shards: files in the order of their numbers; cells: cell, shard (its number as text, "" for an unusable
    cell), kept, in input order. Cells within a shard have the same order, so each shard is read once.
    Raises ValueError if a shard has other cells.
    """
    files = [h5py.File(path) for path in shards]
    try:
        number = pd.to_numeric(cells["shard"]).fillna(-1).to_numpy(dtype=int)  # -1: in no shard
        kept, names = cells["kept"].to_numpy(), cells["cell"].to_numpy(dtype=object)
        done = np.zeros(len(files), dtype=int)
        for first in range(0, len(cells), BLOCK):
            here = slice(first, min(first + BLOCK, len(cells)))
            parts, places = [], []
            for shard, file in enumerate(files):
                members = np.flatnonzero(number[here] == shard) + first
                start, done[shard] = done[shard], done[shard] + len(members)
                if len(members) == 0:
                    continue
                if not np.array_equal(names_of(file).asstr()[start : done[shard]], names[members]):
                    raise ValueError(f"{shards[shard]}: its cells are not in the order of the input")
                parts.append(rows_of(file, start, done[shard])[np.flatnonzero(kept[members])])
                places.append(members[kept[members]])
            if parts:
                yield sparse.csr_array(sparse.vstack(parts, format="csr"))[np.argsort(np.concatenate(places))]
    finally:
        for file in files:
            file.close()


def index_type(shards: list[str]) -> type:
    """Integer type that can count all values of the shards; CSR needs the same type for both index arrays."""
    stored = 0
    for path in shards:
        with h5py.File(path) as file:
            stored += len(file["X/data"])
    return np.int32 if stored < 2**31 else np.int64


def write_cohort(
    path: str,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    obsm: Iterator[tuple[str, np.ndarray]],
    blocks: Iterator[sparse.csr_array] | None,
    index: type = np.int32,
) -> None:
    """Write an h5ad of these cells and genes; without blocks of counts it has no X.

    obsm: yields name and array of the embeddings, so that only one is in memory. index: integer type that can
    count the values of all blocks. Raises ValueError for a count that float32 cannot represent exactly.
    """
    from anndata.io import write_elem

    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        write_elem(file, "obs", obs)
        write_elem(file, "var", var)
        write_elem(file, "uns", {"default_embedding": "X_umap"})
        write_elem(file, "obsm", {})
        for name, values in obsm:
            write_elem(file["obsm"], name, values)
        if blocks is not None:
            write_counts(file, (len(obs), len(var)), blocks, index)


def write_counts(
    file: h5py.File, shape: tuple[int, int], blocks: Iterator[sparse.csr_array], index: type
) -> None:
    """Write X as CSR, block by block; ValueError for a count that float32 cannot represent exactly."""
    x = file.create_group("X")
    x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(shape)})
    for name, dtype in {"data": np.float32, "indices": index}.items():
        x.create_dataset(name, shape=(0,), maxshape=(None,), dtype=dtype, **STORAGE)
    lengths = [np.zeros(1, dtype=np.int64)]
    for block in blocks:
        if block.nnz and block.data.max() >= EXACT:
            raise ValueError(
                f"a count of {block.data.max()} is too large for float32; set publish.counts: false"
            )
        end = len(x["data"])
        for name, values in (("data", block.data), ("indices", block.indices)):
            x[name].resize((end + len(values),))
            x[name][end:] = values
        lengths.append(np.diff(block.indptr).astype(np.int64))
    x["indptr"] = np.cumsum(np.concatenate(lengths)).astype(index)
