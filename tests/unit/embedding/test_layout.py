"""UMAP has two dimensions, keeps neighbours together and is scanpy's; its picture names every type."""

import io

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from embedding import layout
from embedding.dimred import find_neighbors
from embedding.layout import draw, lay_out

# anndata 0.13 asks pandas for two options that pandas 4 will drop
pytestmark = pytest.mark.filterwarnings(
    "ignore:The '(future.infer_string|mode.chained_assignment)' option is deprecated"
)

N_CELLS = 300
SETTINGS = {"min_dist": 0.5, "random_state": 5}


@pytest.fixture(scope="module")
def types():
    """Six types in random order."""
    return np.random.default_rng(2).permutation(N_CELLS) % 6


@pytest.fixture(scope="module")
def coordinates(types):
    """Each type 8 away on a component of its own: a graph of six parts."""
    components = np.random.default_rng(3).normal(size=(N_CELLS, 6))
    components[np.arange(N_CELLS), types] += 8
    return components.astype(np.float32)


def linked(coordinates):
    """The neighbour graph as dimred makes it."""
    return find_neighbors(
        coordinates, pd.Series([f"cell{i}" for i in range(N_CELLS)]), n_neighbors=15, random_state=0
    )


@pytest.fixture(scope="module")
def graph(coordinates):
    return linked(coordinates)


@pytest.fixture(scope="module")
def points(graph, coordinates):
    return lay_out(graph.obsp["connectivities"], coordinates, **SETTINGS)


def test_umap_has_two_dimensions_and_keeps_types_together(points, types):
    umap, start = points
    assert start == "spectral"
    assert umap.shape == (N_CELLS, 2)
    nearest = np.argsort(cdist(umap, umap), axis=1)[:, 1:11]
    assert (types[nearest] == types[:, None]).mean() > 0.99


def test_umap_depends_on_the_seed_alone(points, graph, coordinates):
    again, _ = lay_out(graph.obsp["connectivities"], coordinates, **SETTINGS)
    np.testing.assert_array_equal(points[0], again)
    other, _ = lay_out(graph.obsp["connectivities"], coordinates, **SETTINGS | {"random_state": 6})
    assert not np.array_equal(points[0], other)


def test_umap_is_that_of_scanpy(points, graph):
    import scanpy as sc

    theirs = sc.tl.umap(graph, min_dist=0.5, random_state=5, init_pos="spectral", copy=True)
    np.testing.assert_allclose(points[0], theirs.obsm["X_umap"], atol=1e-3)


def test_parts_of_a_graph_may_be_far_apart(coordinates):
    umap, start = lay_out(linked(5 * coordinates).obsp["connectivities"], 5 * coordinates, **SETTINGS)
    assert start == "spectral"
    assert np.isfinite(umap).all()


def test_large_cohorts_start_from_components(graph, coordinates, monkeypatch):
    monkeypatch.setattr(layout, "SPECTRAL_CELLS", N_CELLS - 1)
    umap, start = lay_out(graph.obsp["connectivities"], coordinates, **SETTINGS)
    assert start == "components"
    assert umap.shape == (N_CELLS, 2)


def drawn(n_types, n=500):
    rng = np.random.default_rng(4)
    table = pd.DataFrame(rng.normal(size=(n, 2)), columns=["UMAP1", "UMAP2"])
    return table.assign(cell_type=[f"type {i % n_types}, a long label (CD4+)" for i in range(n)])


def test_figure_names_every_type_with_its_cells():
    types = pd.Categorical(["T"] * 200 + ["B"] * 100 + ["NK"] * 200, ["T", "lost in qc", "B", "NK"])
    figure = draw(drawn(3, n=500).assign(cell_type=types))
    axes = figure.axes[0]
    assert axes.get_title() == "500 cells"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["1  NK (200)", "2  T (200)", "3  B (100)"]
    assert sorted(text.get_text() for text in axes.texts) == ["1", "2", "3"]
    assert len(axes.collections[0].get_offsets()) == 500


def test_figure_has_the_same_bytes_twice():
    images = []
    for _ in range(2):
        images.append(io.BytesIO())
        draw(drawn(29)).savefig(images[-1], format="png", dpi=60, metadata={"Software": None})
    assert images[0].getvalue() == images[1].getvalue()
