"""Write all kept cells of a cohort as one AnnData file, with the counts block by block in bounded memory.

Names follow CELLxGENE where possible (https://github.com/chanzuckerberg/single-cell-curation, schema 5):
obs `donor_id`, `cell_type`, var `feature_name`, obsm `X_...`, raw counts as float32 CSR, text as categories.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import sparse

from files import RowAppender, count_values, create_h5ad

COMPRESSION = {"compression": "gzip", "compression_opts": 1}
EXACT = 2**24  # float32 holds whole numbers below this


def describe_cells(
    cells: pd.DataFrame, samples: pd.DataFrame, covariates: list[str], clusters: dict[str, pd.DataFrame]
) -> pd.DataFrame:
    """Obs of the kept cells in input order, indexed by cell: labels, metrics, covariates, clusters.

    cells: cells/cells.parquet; samples: filter/samples.tsv with these covariates; clusters:
    resolution -> cell, cluster.
    Raises ValueError unless each clustering has exactly the kept cells.
    """
    kept = cells[cells["kept"]].drop(columns=["step", "reason", "shard"]).set_index("cell")
    obs = kept.rename(columns={"donor": "donor_id"})
    by_sample = samples.set_index("sample")
    for name in covariates:
        if name not in obs:  # a paired design has the donor among its covariates
            obs[name] = by_sample[name].reindex(obs["sample"].astype(str)).to_numpy()
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


def index_type(shards: list[str]) -> type:
    """Integers that can count all values of the shards; a CSR matrix needs one type for both its indices."""
    return np.int32 if sum(map(count_values, shards)) < 2**31 else np.int64


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
    with create_h5ad(path, obs, var, uns={"default_embedding": "X_umap"}, obsm=obsm) as file:
        if blocks is None:
            return
        appender = RowAppender(file, (len(obs), len(var)), values=np.float32, indices=index, **COMPRESSION)
        for block in blocks:
            if block.nnz and block.data.max() >= EXACT:
                raise ValueError(
                    f"a count of {block.data.max()} is too large for float32; set publish.counts: false"
                )
            appender.append(block)
        appender.finish()
