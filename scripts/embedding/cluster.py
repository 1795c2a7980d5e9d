"""Cluster the neighbour graph at one resolution and compare the clusters with the cell types of the input.

Leiden (Traag et al. 2019, Scientific Reports 9:5233) by igraph, on weighted modularity, as in scanpy's
`leiden(flavor="igraph", directed=False)`, but with each edge once and without a list of edges in Python.
Agreement with the labels: adjusted Rand index and normalised mutual information (divided by the mean of both
entropies), 1 for equal partitions and about 0 for unrelated ones. Cells with a label that names no cell type
(missing, unknown, unclassified, ...) are not a group of their own, so they do not count.
"""

import random
import re

import igraph
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, triu

from files import read_graph, write_tsv
from job import announce, conclude, job

UNNAMED = re.compile(
    r"((un(known|assigned|labell?ed|classified|annotated|determined|defined|identified|resolved|specified)"
    r"|not (assigned|labell?ed|annotated|available|applicable|determined|reported)|ambiguous|missing"
    r"|n/?a|nan|none|null)( cells?)?( types?)?( \d+)?|(native )?cell|)"
)


def leiden(
    connectivities: csr_matrix, *, resolution: float, n_iterations: int, random_state: int
) -> np.ndarray:
    """Cluster of each cell, "0" is the largest; ties in size go to the cluster with the earliest cell.

    connectivities: (cells, cells), symmetric. A higher resolution gives more clusters.
    """
    edges = triu(connectivities, k=1).tocoo()
    graph = igraph.Graph(n=connectivities.shape[0], edges=np.column_stack([edges.row, edges.col]))
    igraph.set_random_number_generator(random.Random(random_state))
    partition = graph.community_leiden(
        objective_function="modularity",
        weights=edges.data,
        resolution=resolution,
        n_iterations=n_iterations,
    )
    _, first, member, size = np.unique(
        partition.membership, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(size), dtype=int)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return rank[member].astype(str).astype(object)


def names_a_type(cell_types: np.ndarray) -> np.ndarray:
    """Whether each label names a cell type: (cells,) booleans; case, blanks, `_`, `-` and `.` do not matter.

    "unknown", "Unclassified_2" and "not-assigned" do not, nor does "cell", the root of the Cell Ontology.
    """
    codes, labels = pd.factorize(cell_types)
    plain = [re.sub(r"[\s_.-]+", " ", label).strip().lower() for label in labels]
    return np.array([UNNAMED.fullmatch(label) is None for label in plain], dtype=bool)[codes]


def agreement(clusters: np.ndarray, cell_types: np.ndarray) -> dict[str, float]:
    """Adjusted Rand index and normalised mutual information of two partitions of the same cells.

    Only cells with a label that names a type count; both are missing when there is none.
    """
    named = names_a_type(cell_types)
    if not named.any():
        return {"ari": np.nan, "nmi": np.nan}
    clusters, cell_types = clusters[named], cell_types[named]
    one, other = (pd.factorize(labels)[0].tolist() for labels in (clusters, cell_types))
    if one == other:  # numbered by appearance; igraph has no index for two trivial partitions
        return {"ari": 1.0, "nmi": 1.0}
    compare = igraph.compare_communities
    return {"ari": compare(one, other, method="adjusted_rand"), "nmi": compare(one, other, method="nmi")}


def contingency(clusters: np.ndarray, cell_types: np.ndarray) -> pd.DataFrame:
    """cluster, cell_type, cells: one row per combination that occurs, largest cluster and type first."""
    table = (
        pd.DataFrame({"cluster": clusters, "cell_type": cell_types}).value_counts().reset_index(name="cells")
    )
    table["number"] = table["cluster"].astype(int)
    return table.sort_values(["number", "cells", "cell_type"], ascending=[True, False, True]).drop(
        columns="number"
    )


if __name__ == "__main__":
    with job(snakemake) as out:
        index, connectivities = read_graph(snakemake.input.neighbors)
        cells = pd.read_parquet(snakemake.input.cells, columns=["cell", "cell_type"])
        cell_types = cells.set_index("cell").loc[index, "cell_type"].astype(str).to_numpy()
        announce(f"Leiden on {len(index):,} cells with {connectivities.nnz // 2:,} edges")
        clusters = leiden(connectivities, **snakemake.params)
        row = {
            "resolution": snakemake.wildcards.resolution,
            "clusters": len(np.unique(clusters)),
            **agreement(clusters, cell_types),
            "cells": len(index),
            "cells_without_label": int((~names_a_type(cell_types)).sum()),
        }
        pd.DataFrame({"cell": index, "cluster": clusters}).to_parquet(out.clusters, index=False)
        write_tsv(pd.DataFrame([row]), out.agreement)
        write_tsv(contingency(clusters, cell_types), out.contingency)
        line = "{clusters} clusters of {cells:,} cells, ARI {ari:.3f}, NMI {nmi:.3f}"
        left_out = ", {cells_without_label:,} cells without a label left out of both"
        conclude((line + left_out * (row["cells_without_label"] > 0)).format(**row))
