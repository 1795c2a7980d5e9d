"""The neighbour graph, dimred/neighbors.h5ad: connectivities and distances of the kept cells."""

from typing import TYPE_CHECKING

import h5py
import pandas as pd
from scipy.sparse import csr_matrix

from files._h5ad import read_names, read_rows

if TYPE_CHECKING:
    from anndata import AnnData


def write_graph(path: str, graph: "AnnData") -> None:
    """Write what scanpy.pp.neighbors added, without the coordinates, which have a file of their own."""
    import anndata as ad

    uns = {"neighbors": graph.uns["neighbors"]}
    ad.AnnData(obs=graph.obs, obsp=dict(graph.obsp), uns=uns).write_h5ad(path)


def read_graph(path: str) -> tuple[pd.Index, csr_matrix]:
    """Cells and their (cells, cells) symmetric connectivities."""
    with h5py.File(path) as file:
        cells = pd.Index(read_names(file["obs"]))
        return cells, csr_matrix(read_rows(file["obsp/connectivities"], 0, len(cells)))
