"""Compute the UMAP of the neighbour graph and draw it by cell type.

UMAP (McInnes et al. 2018, arXiv:1802.03426) by umap-learn, with the arguments of scanpy.tl.umap. The initial
coordinates are spectral. They are the first two harmonised components if the eigensolver fails, and above
SPECTRAL_CELLS cells, because the memory of the solver grows with cells^1.5 (11 GB at 1.25 million). Seeded
and on one thread, so that it is the same everywhere. The axes have no unit.
"""

import contextlib
import warnings

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from embedding._compiled import cache_compilations
from files import colours, read_graph, save_figure, write_tsv
from job import INTERVAL_S, conclude, job

SPECTRAL_CELLS = 100_000


def lay_out(
    connectivities: csr_matrix, coordinates: np.ndarray, *, min_dist: float, random_state: int
) -> tuple[np.ndarray, str]:
    """UMAP of a neighbour graph: (cells, 2), and its initial coordinates: `spectral` or `components`.

    connectivities: (cells, cells) weights; coordinates: (cells, n) of which the neighbours were computed.
    """
    with cache_compilations():
        from umap.umap_ import find_ab_params, simplicial_set_embedding

    a, b = find_ab_params(1.0, min_dist)

    def umap(start: str | np.ndarray) -> np.ndarray:
        points, _ = simplicial_set_embedding(
            coordinates,
            connectivities.tocoo(),
            n_components=2,
            initial_alpha=1.0,
            a=a,
            b=b,
            gamma=1.0,
            negative_sample_rate=5,
            n_epochs=None,
            init=start,
            random_state=np.random.RandomState(random_state),
            metric="euclidean",
            metric_kwds={},
            densmap=False,
            densmap_kwds={},
            output_dens=False,
            tqdm_kwds={"disable": False, "delay": INTERVAL_S, "mininterval": INTERVAL_S, "desc": "progress"},
        )
        assert points.shape == (len(coordinates), 2), points.shape
        return points

    # UMAP is chaotic: the last bit of an eigenvector, which depends on the threads of BLAS, changes it
    with warnings.catch_warnings(), threadpool_limits(1):
        # a warning that distances between separate parts of the graph have no meaning
        warnings.filterwarnings("ignore", message="Graph is not fully connected", category=UserWarning)
        warnings.filterwarnings("error", message="Spectral initialisation failed", category=UserWarning)
        if len(coordinates) <= SPECTRAL_CELLS:
            with contextlib.suppress(UserWarning):
                return umap("spectral"), "spectral"
        return umap(coordinates[:, :2]), "components"


def draw(umap: pd.DataFrame) -> Figure:
    """Cells in two dimensions, coloured and numbered by cell type.

    umap: UMAP1, UMAP2, cell_type, one row per cell. The largest cell type comes first.
    """
    labels = umap["cell_type"].astype(str)  # a category would include types without a kept cell
    counts = labels.value_counts()
    types = sorted(counts.index, key=lambda label: (-counts[label], label))
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot()
    number = labels.map({label: i for i, label in enumerate(types)}).to_numpy()
    of_type = colours(len(types))
    order = np.random.default_rng(0).permutation(len(umap))  # no type lies on top of the others
    points = umap[["UMAP1", "UMAP2"]].to_numpy()
    size = np.clip(30_000 / len(umap), 0.2, 12)
    axes.scatter(*points[order].T, s=size, c=of_type[number[order]], linewidths=0, rasterized=True)
    for i, label in enumerate(types):
        axes.scatter([], [], s=30, color=of_type[i], label=f"{i + 1}  {label} ({counts[label]:,})")
        place = np.median(points[number == i], axis=0)
        halo = [withStroke(linewidth=2.5, foreground="white")]
        axes.annotate(str(i + 1), place, ha="center", va="center", weight="bold", path_effects=halo)
    axes.set(title=f"{len(umap):,} cells", xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8, handletextpad=0.2)
    return figure


if __name__ == "__main__":
    with job(snakemake) as out:
        index, connectivities = read_graph(snakemake.input.neighbors)
        harmony = pd.read_parquet(snakemake.input.harmony).set_index("cell").loc[index]
        cells = pd.read_parquet(snakemake.input.cells, columns=["cell", "cell_type"])
        points, start = lay_out(connectivities, harmony.to_numpy(), **snakemake.params)
        umap = pd.DataFrame({"cell": index, "UMAP1": points[:, 0], "UMAP2": points[:, 1]})
        umap.to_parquet(out.umap, index=False)
        write_tsv(pd.DataFrame([{"cells": len(index), "start": start}]), out.status)
        figure = draw(umap.merge(cells, on="cell", validate="one_to_one"))
        save_figure(figure, out.figure)
        conclude(f"{len(index):,} cells from the graph's {start}")
