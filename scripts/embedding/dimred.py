"""Harmonise principal components over a batch and compute the graph of nearest neighbours.

Harmony (Korsunsky et al. 2019, Nature Methods 16:1289; harmonypy) shifts the components so that the batches
mix. Without a batch, or with a single one, the components do not change, and the status says so. Neighbours:
Euclidean distance in these coordinates, weights as in UMAP (McInnes et al. 2018, arXiv:1802.03426; by
scanpy). Everything is seeded and does not depend on the number of threads.
"""

import os

import anndata as ad
import harmonypy
import numpy as np
import pandas as pd

from embedding._compiled import cache_compilations
from files import write_graph, write_tsv
from job import InputError, announce, conclude, job, warn

EXACT_CELLS = 100_000  # up to here all distances take about as long as pynndescent, which is approximate
APPROXIMATE_THREADS = 4  # part of the method: the result of pynndescent depends on the number of threads
EPSILON = 1e-2  # Harmony's default: it has converged when the objective falls by a smaller share


def run_harmony(
    components: np.ndarray, batch: pd.Series | None, *, max_iter_harmony: int, random_state: int, threads: int
) -> tuple[np.ndarray, dict]:
    """Components after Harmony, and its status.

    components: (cells, n); batch: (cells,) labels, or None. Returns (cells, n) float32, and a dict of
    batches, iterations, converged (None if Harmony did not run) and reason (one_level).
    """
    cells, levels = len(components), 1 if batch is None else batch.nunique()
    if levels < 2:
        status = {"batches": levels, "iterations": 0, "converged": None}
        return components.astype(np.float32), status | {"reason": "" if batch is None else "one_level"}
    harmony = harmonypy.run_harmony(
        components,
        {"batch": batch.to_numpy(dtype=object)},
        "batch",
        nclust=int(np.clip(round(cells / 30), 1, 100)),  # harmonypy's rule, but at least 1
        max_iter_harmony=max_iter_harmony,
        epsilon_harmony=EPSILON,
        random_state=random_state,
        ncores=threads,
        verbose=True,  # logs the iterations
    )
    assert harmony.Z_corr.shape == components.shape, harmony.Z_corr.shape  # versions differ in orientation
    before, after = harmony.objective_harmony[-2:]
    status = {
        "batches": levels,
        "iterations": len(harmony.objective_harmony) - 1,
        "converged": bool((before - after) < EPSILON * abs(before)),
        "reason": "",
    }
    return harmony.Z_corr.astype(np.float32), status


def find_neighbors(
    coordinates: np.ndarray, cells: pd.Series, *, n_neighbors: int, random_state: int
) -> ad.AnnData:
    """Graph of nearest neighbours: obsp distances and connectivities, uns neighbors, obsm X_harmony.

    coordinates: (cells, n); n_neighbors includes the cell itself. Exact up to EXACT_CELLS cells, approximate
    by pynndescent above. Raises InputError if n_neighbors is not smaller than the number of cells.
    """
    with cache_compilations():
        import scanpy as sc
        import umap.umap_  # noqa: F401  so that scanpy finds it imported

    if len(cells) <= n_neighbors:
        raise InputError(
            f"dimred.n_neighbors: {n_neighbors} neighbours need more than {len(cells)} kept cells; lower "
            "dimred.n_neighbors"
        )
    graph = ad.AnnData(obs=pd.DataFrame(index=pd.Index(cells, dtype=object)), obsm={"X_harmony": coordinates})
    sc.settings.n_jobs = APPROXIMATE_THREADS
    sc.pp.neighbors(
        graph,
        n_neighbors=n_neighbors,
        use_rep="X_harmony",
        transformer="sklearn" if len(cells) <= EXACT_CELLS else None,
        random_state=random_state,
    )
    graph.uns["neighbors"].pop("rp_forest", None)  # large, and only needed to add new cells
    return graph


def pin_to_cores(cores: int) -> None:
    """Pin this process and its threads to `cores` cores, if the system supports it (Linux)."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        first = os.getpid() % len(allowed)  # two runs on one machine rarely use the same cores
        os.sched_setaffinity(0, (allowed * 2)[first : first + min(cores, len(allowed))])


def reduce(
    pca: pd.DataFrame,
    cells: pd.DataFrame,
    *,
    harmonize: str,
    max_iter_harmony: int,
    n_neighbors: int,
    random_state: int,
    threads: int,
) -> tuple[pd.DataFrame, ad.AnnData, pd.DataFrame]:
    """Harmonised components, neighbour graph and a status table with one row.

    pca: cell and components; cells: the batches, one row per row of pca in the same order.
    """
    announce(f"Harmony of {len(pca):,} cells by {harmonize}, at most {max_iter_harmony} iterations")
    coordinates, mixing = run_harmony(
        pca.drop(columns="cell").to_numpy(),
        None if harmonize == "none" else cells[harmonize].astype(str),
        max_iter_harmony=max_iter_harmony,
        random_state=random_state,
        threads=threads,
    )
    announce(f"{n_neighbors} neighbours of each cell")
    graph = find_neighbors(coordinates, pca["cell"], n_neighbors=n_neighbors, random_state=random_state)
    harmony = pd.DataFrame(coordinates, columns=pca.columns.drop("cell"))
    harmony.insert(0, "cell", pca["cell"])
    status = {
        "harmonized_by": harmonize if mixing["iterations"] else "none",
        **mixing,
        "cells": len(pca),
        "components": coordinates.shape[1],
        "neighbors": "exact" if len(pca) <= EXACT_CELLS else "pynndescent",
    }
    return harmony, graph, pd.DataFrame([status])


def warn_of(status: dict, harmonize: str) -> None:
    """Warn when Harmony has not done what `harmonize` asks for. status: row of the status table."""
    if status["converged"] is False:
        what = f"Harmony by {harmonize} did not converge in {status['iterations']} iterations"
        warn("harmony_not_converged", what, setting="dimred.max_iter_harmony")
    if status["reason"] == "one_level":
        what = f"{harmonize} has one level, so components are as they were"
        warn("batch_has_one_level", what, setting="dimred.harmonize")


if __name__ == "__main__":
    with job(snakemake) as out:
        os.environ["NUMBA_NUM_THREADS"] = str(APPROXIMATE_THREADS)  # before numba is imported
        pin_to_cores(snakemake.threads)
        pca = pd.read_parquet(snakemake.input.pca)
        cells = pd.read_parquet(snakemake.input.cells).set_index("cell").loc[pca["cell"]]
        harmony, graph, status = reduce(
            pca,
            cells,
            **snakemake.params,
            threads=snakemake.threads,
        )
        harmony.to_parquet(out.harmony, index=False)
        write_graph(out.neighbors, graph)
        write_tsv(status, out.status)
        warn_of(status.astype(object).iloc[0].to_dict(), snakemake.params.harmonize)
        conclude(", ".join(f"{name} {value}" for name, value in status.iloc[0].items() if value != ""))
