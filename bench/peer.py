"""The same analysis as a plain in-memory scanpy script: one process, one file, what a user would write.

`python bench/peer.py cohort.h5ad gene_sets.gmt out/` does what the workflow does with the overlay of
`generate.py`: the same limits, filters, design, gene sets and alphas, with the usual calls of scanpy,
harmonypy, PyDESeq2, gseapy and scikit-learn (Scrublet by `scanpy.pp.scrublet` with `batch_key`) and all cores
where a call takes them. Where the workflow does more (attrition, figures beyond two, diagnostics per alpha),
this script leaves it out, so the comparison errs in its favour.
"""

import argparse
import contextlib
import os
import time
from pathlib import Path

import anndata as ad
import gseapy
import harmonypy
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
from pydeseq2.dds import DeseqDataSet
from pydeseq2.default_inference import DefaultInference
from pydeseq2.ds import DeseqStats
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SETTINGS = {  # as in config/config.yaml with the overlay; a test compares them
    "random_state": 20240501,
    "filter": {"min_cells_per_sample": 20, "min_cells_per_type": 50},
    "qc": {"min_genes": 50, "min_counts": 100, "max_pct_mt": 20, "max_pct_hb": 10, "nmads": 5},
    "doublets": {"expected_doublet_rate": 0.06, "min_cells": 30, "n_prin_comps": 30, "sim_doublet_ratio": 2},
    "preprocess": {"target_sum": 10000, "n_top_genes": 2000, "span": 0.3, "n_comps": 50},
    "dimred": {"max_iter_harmony": 20, "n_neighbors": 15},
    "layout": {"min_dist": 0.5},
    "cluster": {"resolution": [1.0], "n_iterations": 2},
    "markers": {"n_genes": 50},
    "pseudobulk": {"min_cells": 10, "min_samples": 8},
    "differential": {
        "gene_filter": "share",
        "min_count": 10,
        "min_count_samples": 0.3,
        "fdr": 0.05,
        "cooks": True,
    },
    "gsea": {"min_size": 10, "max_size": 500, "permutation_num": 1000},
    "overrepresentation": {"fdr": 0.05, "min_genes": 5},
    "ridge": {
        "alpha": [1, 10, 100, 1000, 10000],
        "n_top_genes": 500,
        "min_share": 0.5,
        "folds": 5,
        "repeats": 2,
        "inner_folds": 4,
    },
}
SEED = SETTINGS["random_state"]
NUISANCE = r"TR[ABDG][VDJ]\d.*|IG[HKL][VDJ]\d.*|MT-.+|RP[SL]\d+[AXYL]?\d*|RPLP[0-2]|RPSA"


@contextlib.contextmanager
def timed(name: str):
    """Print how long a step took."""
    start = time.perf_counter()
    yield
    print(f"peer: {name} {time.perf_counter() - start:.1f} s", flush=True)


def trusted_cells(path: Path) -> ad.AnnData:
    """Read the cohort, drop small donors and types, and cells that fail the limits."""
    adata = sc.read_h5ad(path)
    for column, key in (("donor_id", "min_cells_per_sample"), ("cell_type", "min_cells_per_type")):
        sizes = adata.obs[column].value_counts()
        adata = adata[adata.obs[column].map(sizes).astype(int) >= SETTINGS["filter"][key]]
    adata = adata.copy()
    sc.pp.filter_genes(adata, min_cells=3)
    symbols = adata.var["feature_name"].astype(str).str.upper()
    adata.var["mt"] = symbols.str.startswith("MT-")
    adata.var["ribo"] = symbols.str.fullmatch(r"RP[SL]\d+[AXYL]?\d*|RPLP[0-2]|RPSA")
    adata.var["hb"] = symbols.str.fullmatch(r"HB[ABDEGMQZ]\d*")
    sc.pp.calculate_qc_metrics(adata, qc_vars=["mt", "ribo", "hb"], percent_top=[20], inplace=True)
    obs, limits = adata.obs, SETTINGS["qc"]
    good = (
        (obs["n_genes_by_counts"] >= limits["min_genes"])
        & (obs["total_counts"] >= limits["min_counts"])
        & (obs["pct_counts_mt"] <= limits["max_pct_mt"])
        & (obs["pct_counts_hb"] <= limits["max_pct_hb"])
        & ~outlier(obs, "log1p_total_counts")
        & ~outlier(obs, "log1p_n_genes_by_counts")
        & ~outlier(obs, "pct_counts_mt", upper_only=True)
    )
    donors = obs.loc[good, "donor_id"].value_counts()
    good &= obs["donor_id"].map(donors).astype(int) >= SETTINGS["doublets"]["min_cells"]
    return adata[good].copy()


def outlier(obs: pd.DataFrame, column: str, upper_only: bool = False) -> pd.Series:
    """Cells that are more than `nmads` scaled median absolute deviations off their donor's median."""
    away = obs[column] - obs.groupby("donor_id", observed=True)[column].transform("median")
    mad = 1.4826 * away.abs().groupby(obs["donor_id"], observed=True).transform("median")
    return ((away if upper_only else away.abs()) > SETTINGS["qc"]["nmads"] * mad) & (mad > 0)


def drop_doublets(adata: ad.AnnData) -> ad.AnnData:
    """Run Scrublet in each donor and keep what it does not call."""
    settings = SETTINGS["doublets"]
    sc.pp.scrublet(
        adata,
        batch_key="donor_id",
        expected_doublet_rate=settings["expected_doublet_rate"],
        n_prin_comps=settings["n_prin_comps"],
        sim_doublet_ratio=settings["sim_doublet_ratio"],
        random_state=SEED,
        verbose=False,
    )
    return adata[~adata.obs["predicted_doublet"].fillna(False).astype(bool)].copy()


def variable_genes_and_components(adata: ad.AnnData) -> None:
    """Normalise, choose variable genes by pool and compute components, in place."""
    settings = SETTINGS["preprocess"]
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=settings["target_sum"])
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(
        adata,
        flavor="seurat_v3",
        layer="counts",
        batch_key="pool_number",
        n_top_genes=settings["n_top_genes"],
        span=settings["span"],
    )
    nuisance = adata.var["feature_name"].astype(str).str.fullmatch(NUISANCE)
    adata.var["highly_variable"] &= ~nuisance
    sc.pp.pca(adata, n_comps=settings["n_comps"], random_state=SEED)


def embed(adata: ad.AnnData, figure: Path) -> None:
    """Harmony over pools, neighbours and UMAP, in place."""
    settings = SETTINGS["dimred"]
    harmony = harmonypy.run_harmony(
        adata.obsm["X_pca"],
        adata.obs,
        "pool_number",
        max_iter_harmony=settings["max_iter_harmony"],
        random_state=SEED,
        verbose=False,
    )
    adata.obsm["X_harmony"] = np.asarray(harmony.Z_corr)
    sc.pp.neighbors(adata, n_neighbors=settings["n_neighbors"], use_rep="X_harmony", random_state=SEED)
    sc.tl.umap(adata, **SETTINGS["layout"], random_state=SEED)
    sc.pl.umap(adata, color="cell_type", show=False)
    plt.savefig(figure, dpi=120, bbox_inches="tight")
    plt.close()


def cluster(adata: ad.AnnData, out: Path) -> None:
    """Leiden, its agreement with the labels, and markers."""
    for resolution in SETTINGS["cluster"]["resolution"]:
        key = f"leiden_{resolution}"
        sc.tl.leiden(
            adata,
            resolution=resolution,
            flavor="igraph",
            n_iterations=SETTINGS["cluster"]["n_iterations"],
            directed=False,
            random_state=SEED,
            key_added=key,
        )
        pd.crosstab(adata.obs[key], adata.obs["cell_type"]).to_csv(out / f"{key}.tsv", sep="\t")
        genes = SETTINGS["markers"]["n_genes"]
        sc.tl.rank_genes_groups(adata, key, method="t-test", n_genes=genes, pts=True)
        sc.get.rank_genes_groups_df(adata, None).to_csv(out / f"markers_{resolution}.tsv", sep="\t")


def pseudobulk(adata: ad.AnnData) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Sums per cell type and donor: cell type -> (counts: donors x genes, donors: covariates)."""
    keys = ["cell_type", "donor_id"]
    sums = sc.get.aggregate(adata, by=keys, func="sum", layer="counts")
    sums.obs["cells"] = adata.obs.groupby(keys, observed=True).size().reindex(sums.obs[keys]).to_numpy()
    donors = adata.obs.groupby("donor_id", observed=True)[["age", "sex"]].first()
    symbols = adata.var["feature_name"].astype(str)
    tested = {}
    for cell_type in sums.obs["cell_type"].cat.categories:
        rows = sums[(sums.obs["cell_type"] == cell_type) & (sums.obs["cells"] >= 10)]
        if rows.n_obs >= SETTINGS["pseudobulk"]["min_samples"]:
            names = rows.obs["donor_id"].astype(str).to_numpy()
            matrix = rows.layers["sum"]
            matrix = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
            counts = pd.DataFrame(np.rint(matrix).astype(int), index=names, columns=symbols)
            tested[cell_type] = counts, donors.loc[names]
    return tested


def differential(counts: pd.DataFrame, donors: pd.DataFrame, cores: int) -> pd.DataFrame:
    """PyDESeq2 for age per decade given sex, over genes with enough counts."""
    settings = SETTINGS["differential"]
    enough = (counts >= settings["min_count"]).mean() >= settings["min_count_samples"]
    counts = counts.loc[:, enough]
    inference = DefaultInference(n_cpus=cores)
    dds = DeseqDataSet(
        counts=counts,
        metadata=donors.assign(decades=donors["age"] / 10, sex=donors["sex"].astype(str)),
        design="~ decades + sex",
        size_factors_fit_type="poscounts" if (counts == 0).any().all() else "ratio",
        refit_cooks=settings["cooks"],
        inference=inference,
        quiet=True,
    )
    dds.deseq2()
    contrast = (dds.obsm["design_matrix"].columns == "decades").astype(float)
    stats = DeseqStats(dds, contrast=contrast, alpha=settings["fdr"], inference=inference, quiet=True)
    with open(os.devnull, "w", encoding="utf-8") as null, contextlib.redirect_stdout(null):
        stats.summary()  # prints the whole table
    return stats.results_df.sort_values("pvalue")


def pathways(genes: pd.DataFrame, gmt: Path, cores: int) -> dict[str, pd.DataFrame]:
    """Prerank on the Wald statistic; enrichment of up and down against the tested genes."""
    gsea, ora = SETTINGS["gsea"], SETTINGS["overrepresentation"]
    ranked = gseapy.prerank(rnk=genes["stat"].dropna(), gene_sets=str(gmt), **gsea, seed=SEED, threads=cores)
    tables = {"gsea": ranked.res2d}
    hits = genes[genes["padj"] < ora["fdr"]]
    for direction, sign in (("up", 1), ("down", -1)):
        chosen = hits.index[np.sign(hits["log2FoldChange"]) == sign].tolist()
        if len(chosen) >= ora["min_genes"]:
            found = gseapy.enrich(
                chosen, gene_sets=str(gmt), background=genes.index.tolist(), outdir=None, no_plot=True
            )
            tables[direction] = pd.DataFrame(found.results)  # a list when nothing overlaps
    return tables


def variance(expression: np.ndarray, _) -> np.ndarray:
    """Variance of each gene, to choose genes inside each fold."""
    return expression.var(axis=0)


def predict(counts: pd.DataFrame, donors: pd.DataFrame) -> pd.DataFrame:
    """Out-of-fold predictions of age by ridge regression, alpha chosen inside each fold."""
    settings = SETTINGS["ridge"]
    expression = np.log1p(counts.div(counts.sum(axis=1), axis=0) * 1e6)
    expression = expression.loc[:, (counts > 0).mean() >= settings["min_share"]].to_numpy()
    k = min(settings["n_top_genes"], expression.shape[1])
    model = make_pipeline(SelectKBest(variance, k=k), StandardScaler(), Ridge())
    age, predictions = donors["age"].to_numpy(), []
    for repeat in range(settings["repeats"]):
        search = GridSearchCV(
            model,
            {"ridge__alpha": settings["alpha"]},
            cv=KFold(settings["inner_folds"], shuffle=True, random_state=SEED + repeat),
            scoring="neg_mean_squared_error",
        )
        outer = KFold(settings["folds"], shuffle=True, random_state=SEED + repeat)
        predicted = cross_val_predict(search, expression, age, cv=outer)
        predictions.append(pd.DataFrame({"repeat": repeat, "observed": age, "predicted": predicted}))
    return pd.concat(predictions)


def volcano(genes: pd.DataFrame, title: str, figure: Path) -> None:
    """Effect against significance."""
    fig, axes = plt.subplots()
    axes.scatter(genes["log2FoldChange"], -np.log10(genes["pvalue"]), s=4)
    axes.set(title=title, xlabel="log2 fold change per decade", ylabel="-log10 p")
    fig.savefig(figure, dpi=120)
    plt.close(fig)


def main(cohort: Path, gmt: Path, out: Path, cores: int) -> None:
    """Run everything and write tables and figures into `out`."""
    mpl.use("Agg")
    out.mkdir(parents=True, exist_ok=True)
    with timed("read and filter"):
        adata = trusted_cells(cohort)
    with timed("doublets"):
        adata = drop_doublets(adata)
    with timed("variable genes and components"):
        variable_genes_and_components(adata)
    with timed("harmony, neighbours, umap"):
        embed(adata, out / "umap.png")
    with timed("leiden and markers"):
        cluster(adata, out)
    with timed("pseudobulk"):
        adata.obs.to_csv(out / "cells.tsv", sep="\t")
        tested = pseudobulk(adata)
    for number, (cell_type, (counts, donors)) in enumerate(tested.items()):
        with timed(f"{cell_type} ({len(donors)} donors)"):
            genes = differential(counts, donors, cores)
            genes.to_csv(out / f"{number:02d}_differential.tsv", sep="\t")
            volcano(genes, cell_type, out / f"{number:02d}_volcano.png")
            for name, table in pathways(genes, gmt, cores).items():
                table.to_csv(out / f"{number:02d}_{name}.tsv", sep="\t")
            predict(counts, donors).to_csv(out / f"{number:02d}_ridge.tsv", sep="\t")
    print(f"peer: {adata.n_obs:,} cells kept, {len(tested)} cell types tested")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("gmt", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    main(**vars(parser.parse_args()))
