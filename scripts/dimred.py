"""Harmonise components over a batch, link each cell to its nearest ones and lay them out in two dimensions.

Harmony (Korsunsky et al. 2019, Nature Methods 16:1289; harmonypy) moves the components so that the levels of
the batch mix; without a batch, or with one level of it, they stay as they are, and the status says so.
Neighbours are Euclidean in these coordinates, weighted as in UMAP; UMAP (McInnes et al. 2018,
arXiv:1802.03426; umap-learn, called by scanpy) starts from the graph's spectrum. All of it is seeded and
gives the same for any number of threads; UMAP's axes have no unit.
"""

import contextlib
import os
import warnings

import anndata as ad
import harmonypy
import numpy as np
import pandas as pd
from _job import InputError, job
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from threadpoolctl import threadpool_limits

EXACT_CELLS = 100_000  # up to here all distances take less time than pynndescent's compilation (30 s)
APPROXIMATE_THREADS = 4  # what pynndescent finds depends on their number: it is part of the method
EPSILON = 1e-2  # Harmony's own: it has converged when the objective falls by a smaller share
# Okabe & Ito 2008, told apart with any colour vision; further types get darker and lighter ones
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#888888"]


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
        verbose=False,
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
    import scanpy as sc

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


def lay_out(graph: ad.AnnData, *, min_dist: float, random_state: int) -> tuple[np.ndarray, str]:
    """UMAP of a neighbour graph: (cells, 2), and what it started from.

    Starts from the graph's spectrum; from the first two coordinates if the eigensolver fails, and above
    EXACT_CELLS, as the solver's memory grows with cells^1.5 (11 GB at 1.25 million).
    """
    import scanpy as sc

    def umap(start: str | np.ndarray) -> np.ndarray:
        drawn = sc.tl.umap(graph, min_dist=min_dist, init_pos=start, random_state=random_state, copy=True)
        assert drawn.obsm["X_umap"].shape == (graph.n_obs, 2), drawn.obsm["X_umap"].shape
        return drawn.obsm["X_umap"]

    # UMAP is chaotic: the last bit of an eigenvector, which depends on the threads of BLAS, would show
    with warnings.catch_warnings(), threadpool_limits(1):
        # said of the centres of the graph's parts: how far apart these are drawn means nothing
        warnings.filterwarnings("ignore", message="Graph is not fully connected", category=UserWarning)
        warnings.filterwarnings("error", message="Spectral initialisation failed", category=UserWarning)
        if graph.n_obs <= EXACT_CELLS:
            with contextlib.suppress(UserWarning):
                return umap("spectral"), "spectral"
        return umap(graph.obsm["X_harmony"][:, :2]), "components"


def draw(umap: pd.DataFrame) -> Figure:
    """Cells in two dimensions, coloured and numbered by cell type.

    umap: UMAP1, UMAP2, cell_type, one row per cell; types are ordered by their number of cells.
    """
    counts = umap["cell_type"].value_counts()
    types = sorted(counts.index, key=lambda label: (-counts[label], label))
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot()
    number = umap["cell_type"].map({label: i for i, label in enumerate(types)}).to_numpy()
    colours = np.array([colour(i) for i in range(len(types))])
    order = np.random.default_rng(0).permutation(len(umap))  # no type lies on top of the others
    points = umap[["UMAP1", "UMAP2"]].to_numpy()
    size = np.clip(30_000 / len(umap), 0.2, 12)
    axes.scatter(*points[order].T, s=size, c=colours[number[order]], linewidths=0, rasterized=True)
    for i, label in enumerate(types):
        axes.scatter([], [], s=30, color=colours[i], label=f"{i + 1}  {label} ({counts[label]:,})")
        place = np.median(points[number == i], axis=0)
        halo = [withStroke(linewidth=2.5, foreground="white")]
        axes.annotate(str(i + 1), place, ha="center", va="center", weight="bold", path_effects=halo)
    axes.set(title=f"{len(umap):,} cells", xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8, handletextpad=0.2)
    return figure


def colour(i: int) -> tuple[float, float, float]:
    """Colour of the i-th type: the palette, then darker, then lighter ones, and again."""
    base = np.array([int(COLOURS[i % len(COLOURS)][k : k + 2], 16) / 255 for k in (1, 3, 5)])
    shade = i // len(COLOURS) % 3
    return tuple([base, base * 0.55, base * 0.5 + 0.5][shade])


def reduce(
    pca: pd.DataFrame,
    cells: pd.DataFrame,
    *,
    harmonize: str,
    max_iter_harmony: int,
    n_neighbors: int,
    min_dist: float,
    random_state: int,
    threads: int,
) -> tuple[pd.DataFrame, ad.AnnData, pd.DataFrame, pd.DataFrame]:
    """Harmonised components, neighbour graph, UMAP and a status of one row.

    pca: cell and components; cells: one row per cell of pca, in its order, with the batches.
    """
    coordinates, went = mix(
        pca.drop(columns="cell").to_numpy(),
        None if harmonize == "none" else cells[harmonize].astype(str),
        max_iter_harmony=max_iter_harmony,
        random_state=random_state,
        threads=threads,
    )
    graph = link(coordinates, pca["cell"], n_neighbors=n_neighbors, random_state=random_state)
    points, start = lay_out(graph, min_dist=min_dist, random_state=random_state)
    harmony = pd.DataFrame(coordinates, columns=pca.columns.drop("cell"))
    harmony.insert(0, "cell", pca["cell"])
    umap = pd.DataFrame({"cell": pca["cell"], "UMAP1": points[:, 0], "UMAP2": points[:, 1]})
    status = {
        "harmonized_by": harmonize if went["iterations"] else "none",
        **went,
        "cells": len(pca),
        "components": coordinates.shape[1],
        "neighbors": "exact" if len(pca) <= EXACT_CELLS else "pynndescent",
        "umap_start": start,
    }
    return harmony, graph, umap, pd.DataFrame([status])


if __name__ == "__main__":
    with job(snakemake) as out:  # noqa: F821
        os.environ["NUMBA_NUM_THREADS"] = str(APPROXIMATE_THREADS)  # before numba is imported
        pca = pd.read_parquet(snakemake.input.pca)  # noqa: F821
        cells = pd.read_parquet(snakemake.input.cells).set_index("cell").loc[pca["cell"]]  # noqa: F821
        harmony, graph, umap, status = reduce(
            pca,
            cells,
            **snakemake.params,  # noqa: F821
            threads=snakemake.threads,  # noqa: F821
        )
        harmony.to_parquet(out.harmony, index=False)
        ad.AnnData(
            obs=graph.obs, obsp=dict(graph.obsp), uns={"neighbors": graph.uns["neighbors"]}
        ).write_h5ad(out.neighbors)
        umap.to_parquet(out.umap, index=False)
        status.to_csv(out.status, sep="\t", index=False)
        draw(umap.assign(cell_type=cells["cell_type"].to_numpy())).savefig(
            out.figure, dpi=120, metadata={"Software": None}
        )
        print(
            "dimred: " + ", ".join(f"{name} {value}" for name, value in status.iloc[0].items() if value != "")
        )
