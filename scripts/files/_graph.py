"""Read the neighbour graph that dimred writes, without the seconds that importing anndata costs."""

import h5py
import pandas as pd
from scipy.sparse import csr_matrix


def read_graph(path: str) -> tuple[pd.Index, csr_matrix]:
    """Cells and their (cells, cells) symmetric connectivities; AnnData's format, read without its import."""
    with h5py.File(path) as file:
        cells = pd.Index(file["obs"][file["obs"].attrs["_index"]].asstr()[:])
        values = file["obsp/connectivities"]
        parts = values["data"][:], values["indices"][:], values["indptr"][:]
    return cells, csr_matrix(parts, shape=(len(cells), len(cells)))
