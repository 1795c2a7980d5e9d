"""Harmonise components over a batch and link each cell to its nearest ones.

Harmony (Korsunsky et al. 2019, Nature Methods 16:1289; harmonypy) moves the components so that the levels of
the batch mix; without a batch, or with one level of it, they stay as they are, and the status says so.
Neighbours are Euclidean in these coordinates, weighted as in UMAP (McInnes et al. 2018, arXiv:1802.03426;
called by scanpy). All of it is seeded and gives the same for any number of threads.
"""

import os

import anndata as ad
import harmonypy
import numpy as np
import pandas as pd

from embedding._compiled import compilations_kept
from files import write_graph, write_tsv
from job import InputError, announce, job, warn

EXACT_CELLS = (
    100_000  # there all distances take about as long as pynndescent, which is no more than approximate
)
APPROXIMATE_THREADS = 4  # what pynndescent finds depends on their number: it is part of the method
EPSILON = 1e-2  # Harmony's own: it has converged when the objective falls by a smaller share


def mix(
    components: np.ndarray, batch: pd.Series | None, *, max_iter_harmony: int, random_state: int, threads: int
) -> tuple[np.ndarray, dict]:
    """Components moved so that the batch's levels mix, and how that went.

    components: (cells, n); batch: (cells,) labels, or None. Returns (cells, n) float32 and batches,
    iterations, converged (None if nothing was done) and reason (one_level).
    """
    cells, levels = len(components), 1 if batch is None else batch.nunique()
    if levels < 2:
        status = {"batches": levels, "iterations": 0, "converged": None}
        return components.astype(np.float32), status | {"reason": "" if batch is None else "one_level"}
    harmony = harmonypy.run_harmony(
        components,
        {"batch": batch.to_numpy(dtype=object)},
        "batch",
        nclust=int(np.clip(round(cells / 30), 1, 100)),  # its own rule, but never none
        max_iter_harmony=max_iter_harmony,
        epsilon_harmony=EPSILON,
        random_state=random_state,
        ncores=threads,
        verbose=True,  # its iterations, in the log
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


def link(coordinates: np.ndarray, cells: pd.Series, *, n_neighbors: int, random_state: int) -> ad.AnnData:
    """Graph of nearest neighbours: obsp distances and connectivities, uns neighbors, obsm X_harmony.

    coordinates: (cells, n); n_neighbors counts the cell itself. Exact up to EXACT_CELLS, then by pynndescent.
    Raises InputError if there are not more cells than neighbours.
    """
    with compilations_kept():
        import scanpy as sc
        import umap.umap_  # noqa: F401  so that scanpy finds it imported

    if len(cells) <= n_neighbors:
        raise InputError(
            f"dimred.n_neighbors: {n_neighbors} neighbours wanted of {len(cells)} kept cells; lower "
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
    graph.uns["neighbors"].pop("rp_forest", None)  # large, and only of use to place new cells
    return graph


def stay_on(cores: int) -> None:
    """Keep this process and its threads on as many cores as it was given, where the system can (Linux)."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        first = os.getpid() % len(allowed)  # two runs on one machine rarely choose the same
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
    """Harmonised components, neighbour graph and a status of one row.

    pca: cell and components; cells: one row per cell of pca, in its order, with the batches.
    """
    announce(f"Harmony of {len(pca):,} cells by {harmonize}, at most {max_iter_harmony} iterations")
    coordinates, went = mix(
        pca.drop(columns="cell").to_numpy(),
        None if harmonize == "none" else cells[harmonize].astype(str),
        max_iter_harmony=max_iter_harmony,
        random_state=random_state,
        threads=threads,
    )
    announce(f"{n_neighbors} neighbours of each cell")
    graph = link(coordinates, pca["cell"], n_neighbors=n_neighbors, random_state=random_state)
    harmony = pd.DataFrame(coordinates, columns=pca.columns.drop("cell"))
    harmony.insert(0, "cell", pca["cell"])
    status = {
        "harmonized_by": harmonize if went["iterations"] else "none",
        **went,
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
        stay_on(snakemake.threads)
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
        print(
            "dimred: " + ", ".join(f"{name} {value}" for name, value in status.iloc[0].items() if value != "")
        )
