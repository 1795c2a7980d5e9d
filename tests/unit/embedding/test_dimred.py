"""Harmony mixes batches and keeps types apart; neighbours are the nearest."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from embedding import dimred
from embedding.dimred import find_neighbors, reduce, run_harmony
from job import InputError, collect_warnings

# anndata 0.13 asks pandas for two options that pandas 4 will drop
pytestmark = pytest.mark.filterwarnings(
    "ignore:The '(future.infer_string|mode.chained_assignment)' option is deprecated"
)

N_CELLS, N_NEIGHBORS = 300, 15
HARMONY = {"max_iter_harmony": 20, "random_state": 5, "threads": 1}
SETTINGS = HARMONY | {"n_neighbors": N_NEIGHBORS}


@pytest.fixture(scope="module")
def cells():
    """Six types in both of two pools, in random order."""
    kinds = np.random.default_rng(2).permutation(N_CELLS)
    types = np.array(["B", "DC", "Mono", "NK", "T", "pDC"])
    table = {"cell_type": types[kinds % 6], "pool": np.array(["1", "2"])[kinds // 6 % 2]}
    return pd.DataFrame(table, index=[f"cell{i}" for i in range(N_CELLS)])


@pytest.fixture(scope="module")
def pca(cells):
    """Each type 8 away on a component of its own, pools 3 apart on the last: a graph of six parts."""
    components = np.random.default_rng(3).normal(size=(N_CELLS, 7))
    components[np.arange(N_CELLS), pd.factorize(cells["cell_type"])[0]] += 8
    components[:, 6] += 3 * (cells["pool"] == "2")
    table = pd.DataFrame(components.astype(np.float32), columns=[f"PC{i + 1}" for i in range(7)])
    table.insert(0, "cell", cells.index)
    return table


@pytest.fixture(scope="module")
def reduced(pca, cells):
    return reduce(pca, cells, harmonize="pool", **SETTINGS)


def distance_of_pools(coordinates, cells):
    """Mean distance of the two pools' centres within a type."""
    centres = pd.DataFrame(np.asarray(coordinates)).groupby(
        [cells["cell_type"].to_numpy(), cells["pool"].to_numpy()]
    )
    means = centres.mean()
    return np.linalg.norm(means.xs("1", level=1) - means.xs("2", level=1), axis=1).mean()


# Harmony


def test_pools_mix_and_types_stay_apart(pca, cells):
    components = pca.drop(columns="cell").to_numpy()
    mixed, status = run_harmony(components, cells["pool"], **HARMONY)
    assert mixed.shape == components.shape
    assert mixed.dtype == np.float32
    assert distance_of_pools(components, cells) > 2.5
    assert distance_of_pools(mixed, cells) < 0.75
    centres = pd.DataFrame(mixed).groupby(cells["cell_type"].to_numpy()).mean()
    assert cdist(centres, centres)[np.triu_indices(6, 1)].min() > 8
    assert status["batches"] == 2
    assert status["converged"]
    assert 1 <= status["iterations"] < 20


def test_threads_change_nothing(pca, cells):
    components = pca.drop(columns="cell").to_numpy()
    one, _ = run_harmony(components, cells["pool"], **HARMONY)
    two, _ = run_harmony(components, cells["pool"], **(HARMONY | {"threads": 2}))
    np.testing.assert_array_equal(one, two)


def test_too_few_iterations_are_recorded(pca, cells):
    _, status = run_harmony(
        pca.drop(columns="cell").to_numpy(), cells["pool"], **(HARMONY | {"max_iter_harmony": 1})
    )
    assert status == {"batches": 2, "iterations": 1, "converged": False, "reason": ""}


def test_without_batch_or_with_one_level_components_stay(pca, cells):
    components = pca.drop(columns="cell").to_numpy()
    for batch, reason in [(None, ""), (pd.Series("1", cells.index), "one_level")]:
        same, status = run_harmony(components, batch, **HARMONY)
        np.testing.assert_array_equal(same, components)
        assert status == {"batches": 1, "iterations": 0, "converged": None, "reason": reason}


def test_a_dozen_cells_have_one_harmony_cluster(pca, cells):
    mixed, _ = run_harmony(pca.drop(columns="cell").to_numpy()[:12], cells["pool"][:12], **HARMONY)
    assert np.isfinite(mixed).all()


# neighbours


def test_neighbours_are_the_nearest_cells(reduced):
    harmony, graph, _ = reduced
    coordinates = harmony.drop(columns="cell").to_numpy(dtype=np.float64)
    nearest = np.argsort(cdist(coordinates, coordinates), axis=1)[:, 1:N_NEIGHBORS]
    found = graph.obsp["distances"].indices.reshape(N_CELLS, N_NEIGHBORS - 1)
    np.testing.assert_array_equal(np.sort(found), np.sort(nearest))
    connectivities = graph.obsp["connectivities"]
    assert abs(connectivities - connectivities.T).max() < 1e-6
    assert graph.obs_names.tolist() == harmony["cell"].tolist()


def test_status_says_what_was_done(reduced):
    status = reduced[2]
    assert status.iloc[0].to_dict() == {
        "harmonized_by": "pool",
        "batches": 2,
        "iterations": status["iterations"][0],
        "converged": True,
        "reason": "",
        "cells": N_CELLS,
        "components": 7,
        "neighbors": "exact",
    }


def test_more_neighbours_than_cells(pca):
    coordinates = pca.drop(columns="cell").to_numpy()[:15]
    message = "dimred.n_neighbors: 15 neighbours need more than 15 kept cells; lower dimred.n_neighbors"
    with pytest.raises(InputError, match=message):
        find_neighbors(coordinates, pca["cell"][:15], n_neighbors=15, random_state=0)


def test_all_threads_stay_on_the_cores_of_the_rule():
    script = (
        "import os, threading; from embedding import dimred; dimred.pin_to_cores(1); seen = []; "
        "other = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0))); "
        "other.start(); other.join(); print(len(seen[0]), len(os.sched_getaffinity(0)))"
    )
    folder = Path(dimred.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"], done.stderr


@pytest.mark.parametrize(
    ("went", "code"),
    [
        ({"converged": False, "reason": "", "iterations": 3}, ["harmony_not_converged"]),
        ({"converged": None, "reason": "one_level", "iterations": 0}, ["batch_has_one_level"]),
        ({"converged": True, "reason": "", "iterations": 3}, []),
        ({"converged": None, "reason": "", "iterations": 0}, []),
    ],
)
def test_harmony_that_did_not_do_what_was_asked_is_warned_of(went, code):
    with collect_warnings() as warned:
        dimred.warn_of(went, "pool")
    assert [row["code"] for row in warned] == code


def test_a_fit_that_did_not_converge_is_warned_of_from_the_status_table():
    status = pd.DataFrame([{"converged": False, "reason": "", "iterations": 1}])
    with collect_warnings() as warned:
        dimred.warn_of(status.astype(object).iloc[0].to_dict(), "pool")
    assert [row["message"] for row in warned] == ["Harmony by pool did not converge in 1 iterations"]
