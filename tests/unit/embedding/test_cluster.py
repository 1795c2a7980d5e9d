"""Clusters: equal to scanpy's, found again, named by size, compared with labels as scikit-learn does."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from embedding.cluster import agreement, contingency, leiden, names_a_type, read_graph

# anndata 0.13 asks pandas for two options that pandas 4 will drop
pytestmark = pytest.mark.filterwarnings(
    "ignore:The '(future.infer_string|mode.chained_assignment)' option is deprecated"
)

SETTINGS = {"resolution": 1.0, "n_iterations": 2, "random_state": 3}


@pytest.fixture(scope="module")
def planted():
    """Graph of 400 cells in groups of 40, 200, 60, 100, and the group of each cell."""
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat([0, 1, 2, 3], [40, 200, 60, 100]))
    same = group[:, None] == group[None, :]
    weights = np.triu(rng.random(same.shape) * (rng.random(same.shape) < np.where(same, 0.3, 0.01)), k=1)
    return csr_matrix((weights + weights.T).astype(np.float32)), group


def test_planted_groups_are_found_and_named_by_size(planted):
    graph, group = planted
    clusters = leiden(graph, **SETTINGS)
    np.testing.assert_array_equal(clusters, np.array(["3", "0", "2", "1"])[group])


def test_equally_large_clusters_are_named_by_their_first_cell():
    pairs = np.zeros((6, 6))
    for one, other in [(0, 5), (1, 2), (3, 4)]:
        pairs[one, other] = pairs[other, one] = 1
    assert leiden(csr_matrix(pairs), **SETTINGS).tolist() == ["0", "1", "1", "2", "2", "0"]


def test_the_seed_decides_and_nothing_else(planted):
    rng = np.random.default_rng(1)
    noise = np.triu(rng.random((300, 300)) * (rng.random((300, 300)) < 0.05), k=1)
    graph = csr_matrix(noise + noise.T)  # no structure: every seed finds other clusters
    clusters = leiden(graph, **SETTINGS)
    rng.random(7)
    np.testing.assert_array_equal(clusters, leiden(graph, **SETTINGS))
    assert not np.array_equal(clusters, leiden(graph, **(SETTINGS | {"random_state": 4})))


def test_resolution_splits(planted):
    assert len(np.unique(leiden(planted[0], **(SETTINGS | {"resolution": 0.01})))) == 1
    assert len(np.unique(leiden(planted[0], **(SETTINGS | {"resolution": 8.0})))) > 4


def test_weights_count():
    weights = np.where(
        np.arange(8)[:, None] // 4 == np.arange(8) // 4, 1.0, 0.1
    )  # every cell is linked to all
    np.fill_diagonal(weights, 0)
    assert leiden(csr_matrix(weights), **SETTINGS).tolist() == ["0"] * 4 + ["1"] * 4


def test_clusters_are_those_of_scanpy(planted):
    import scanpy as sc

    graph, _ = planted
    theirs = ad.AnnData(obs=pd.DataFrame(index=pd.RangeIndex(400).astype(str).astype(object)))
    sc.tl.leiden(theirs, adjacency=graph, flavor="igraph", directed=False, resolution=1.0, n_iterations=2)
    ours = leiden(graph, **SETTINGS)
    assert agreement(ours, theirs.obs["leiden"].to_numpy()) == {"ari": 1, "nmi": 1}


def test_one_cell_of_its_own_and_one_cluster_of_all():
    graph = csr_matrix(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=float))
    assert leiden(graph, **SETTINGS).tolist() == ["0", "0", "1"]
    assert leiden(graph[:2, :2], **SETTINGS).tolist() == ["0", "0"]
    assert agreement(np.array(["0", "0"]), np.array(["T", "T"])) == {"ari": 1, "nmi": 1}
    unrelated = agreement(np.array(["0", "0", "0"]), np.array(["T", "T", "B"]))
    assert unrelated == pytest.approx({"ari": 0, "nmi": 0})


pairs = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyzw")), min_size=2, max_size=60)


@settings(deadline=None)
@given(pairs)
def test_agreement_is_that_of_scikit_learn(labels):
    clusters, cell_types = (np.array(column) for column in zip(*labels, strict=True))
    ours = agreement(clusters, cell_types)
    assert ours["ari"] == pytest.approx(adjusted_rand_score(cell_types, clusters), abs=1e-9)
    assert ours["nmi"] == pytest.approx(normalized_mutual_info_score(cell_types, clusters), abs=1e-9)


NAMED = ["T cell", "B", "unknown T", "NK cell", "cell of the eye", "non-classical monocyte", "other", "NAT"]
UNNAMED = ["", "unknown", "Unknown_3", " UNLABELLED ", "unlabeled cells", "not-assigned", "Unclassified cell"]
UNNAMED += ["nan", "n/a", "None", "cell", "native cell", "ambiguous", "unknown cell type"]


def test_labels_that_name_no_type():
    assert names_a_type(np.array(NAMED * 2, dtype=object)).all()
    assert not names_a_type(np.array(UNNAMED * 2, dtype=object)).any()


def test_cells_without_a_label_do_not_count_in_the_agreement():
    clusters = np.array(["0", "0", "1", "1", "0", "1", "2"])
    cell_types = np.array(["T", "T", "B", "B", "Unknown", "Unknown", "Unknown"])
    assert adjusted_rand_score(cell_types, clusters) < 0.3
    assert agreement(clusters, cell_types) == {"ari": 1, "nmi": 1}
    swapped = np.array(["T", "B", "B", "B", "unassigned", "", "cell"])
    expected = adjusted_rand_score(swapped[:4], clusters[:4])
    assert agreement(clusters, swapped)["ari"] == pytest.approx(expected)


def test_without_any_label_there_is_no_agreement():
    found = agreement(np.array(["0", "1"]), np.array(["unknown", ""]))
    assert np.isnan(found["ari"])
    assert np.isnan(found["nmi"])


def test_contingency_counts_every_cell():
    table = contingency(np.array(["10", "2", "2", "2", "0"]), np.array(["B", "T", "T", "NA", "T"]))
    assert table.to_numpy().tolist() == [["0", "T", 1], ["2", "T", 2], ["2", "NA", 1], ["10", "B", 1]]
    assert list(table) == ["cluster", "cell_type", "cells"]


def test_graph_is_read_as_it_was_written(tmp_path, planted):
    obs = pd.DataFrame(index=pd.Index([f"cell {i}" for i in range(400)], dtype=object))
    ad.AnnData(obs=obs, obsp={"connectivities": planted[0]}).write_h5ad(tmp_path / "graph.h5ad")
    cells, connectivities = read_graph(tmp_path / "graph.h5ad")
    assert cells.tolist() == obs.index.tolist()
    assert (connectivities != planted[0]).nnz == 0
