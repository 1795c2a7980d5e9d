"""Test each gene of one cell type for one contrast: PyDESeq2 on the sums of its samples.

Negative binomial model with a log link on raw sums; size factors by the median of ratios ("ratio"), or by
"poscounts" when every tested gene has a zero (PyDESeq2 would otherwise iterate without end); dispersions
shrunk to their trend; Wald test of the effect that the contrast names; p-values adjusted by Benjamini and
Hochberg after independent filtering at `fdr`. Love, Huber & Anders 2014, Genome Biology 15:550; PyDESeq2:
Muzellec et al. 2023, Bioinformatics 39:btad547.

log2FoldChange and lfcSE are per contrast.unit of a numeric term, or level against reference of a factor (see
_design.py, which makes the model matrix). A gene is tested when at least min_count counts are reached in at
least min_count_samples (a share, rounded up) of the samples used. With `cooks`, counts that are outliers by
Cook's distance are replaced where 7 samples share their row of the model matrix, and genes with an outlier
among 3 to 6 such samples get no p-value; a numeric covariate leaves no such samples.
Columns beside PyDESeq2's: dispersion, converged (the coefficients; dispersions fall back on a grid search),
outlier (p-value withheld).
"""

import textwrap
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
from _contrast import Contrast, settle
from _design import Design, build, choose_samples
from _job import InputError, job
from _sums import read_column, read_sums
from scipy import sparse

COLUMNS = {
    "gene_id": str,
    "symbol": str,
    "baseMean": float,
    "log2FoldChange": float,
    "lfcSE": float,
    "stat": float,
    "pvalue": float,
    "padj": float,
    "dispersion": float,
    "converged": bool,
    "outlier": bool,
}
COLOURS = {"up": "#b2182b", "down": "#2166ac", "rest": "#bdbdbd"}
LABELLED = 10  # genes named in a volcano plot
BINS = 20  # of the p-value histogram


class Result(NamedTuple):
    """What one cell type and contrast give."""

    genes: pd.DataFrame  # a row per tested gene
    status: dict  # what was done, or why nothing was
    samples: pd.DataFrame  # a row per sample


def counted(counts: sparse.csr_array, *, min_count: int, min_count_samples: float) -> np.ndarray:
    """(genes,) bool: which genes reach min_count, at least 1, in enough samples.

    counts: (samples, genes) raw counts. Enough is min_count_samples x samples, rounded up, at least 1.
    """
    enough = max(1, int(np.ceil(np.round(min_count_samples * counts.shape[0], 9))))
    reached = sparse.csr_array(counts >= max(min_count, 1))
    return np.asarray(reached.sum(axis=0)).ravel() >= enough


def fit(
    counts: pd.DataFrame, matrix: pd.DataFrame, vector: np.ndarray, *, fdr: float, cooks: bool, threads: int
) -> tuple[pd.DataFrame, pd.Series, dict[str, str]]:
    """PyDESeq2's table for the effect coefficients @ vector, size factors of the samples, and what it chose.

    counts: samples x genes, integers; matrix: the model matrix, same rows, full rank. The last is
    size_factors (ratio, poscounts) and trend (parametric, mean) of the dispersions.
    """
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.default_inference import DefaultInference
    from pydeseq2.ds import DeseqStats

    inference = DefaultInference(n_cpus=threads)
    method = "poscounts" if (counts.to_numpy() == 0).any(axis=0).all() else "ratio"
    dataset = DeseqDataSet(
        counts=counts,
        metadata=pd.DataFrame(index=counts.index),
        design=matrix,
        size_factors_fit_type=method,
        refit_cooks=cooks,
        inference=inference,
        quiet=True,
        low_memory=True,
    )
    dataset.deseq2()
    stats = DeseqStats(
        dataset, contrast=vector, alpha=fdr, cooks_filter=cooks, inference=inference, quiet=True
    )
    stats.summary()
    genes = stats.results_df.assign(
        dispersion=dataset.var["dispersions"],
        converged=dataset.var["_LFC_converged"].astype(bool),
        outlier=dataset.cooks_outlier().astype(bool) & cooks,
    )
    chosen = {"size_factors": method, "trend": dataset.uns["disp_function_type"]}
    return genes, dataset.obs["size_factors"], chosen


def differential(
    counts: sparse.csr_array,
    genes: pd.DataFrame,
    obs: pd.DataFrame,
    contrast: Contrast,
    *,
    refused: str,
    min_count: int,
    min_count_samples: float,
    min_residual_df: int,
    fdr: float,
    cooks: bool,
    threads: int,
) -> Result:
    """Test one contrast in one table of samples.

    counts: (samples, genes) raw counts; genes: gene_id, symbol; obs: (samples) what the design names and,
    where they apply, `sample` and `reason` (why a sample takes no part); refused: why nothing is to be
    tested, "" otherwise. When there is a reason not to test, the status has it and the table of genes is
    empty. Raises InputError as `build` does.
    """
    if refused:
        message = "so says pseudobulk/cell_types.tsv"
        design = Design(choose_samples(obs, contrast.variables), reason=refused, message=message)
    else:
        design = build(contrast, obs, min_residual_df=min_residual_df)
    reason, message, tested = design.reason, design.message, np.zeros(len(genes), dtype=bool)
    if not reason:
        used = sparse.csr_array(counts[design.samples["used"].to_numpy()])
        tested = counted(used, min_count=min_count, min_count_samples=min_count_samples)
        if not tested.any():
            reason, message = "no_genes", f"no gene has {min_count} counts in enough samples"
    table, samples, chosen = no_genes(), design.samples.assign(size_factor=np.nan), {}
    if not reason:
        names = samples.loc[samples["used"], "sample"]
        dense = pd.DataFrame(used[:, tested].toarray(), index=names, columns=genes["gene_id"][tested])
        matrix = design.matrix.set_axis(names)
        raw, size_factors, chosen = fit(dense, matrix, design.vector, fdr=fdr, cooks=cooks, threads=threads)
        raw.insert(0, "symbol", genes["symbol"][tested].to_numpy())
        table = raw.rename_axis("gene_id").reset_index()[list(COLUMNS)].astype(COLUMNS)
        table = table.sort_values(["pvalue", "gene_id"], ignore_index=True)
        samples["size_factor"] = samples["sample"].map(size_factors)
    status = describe(contrast, design, table, fdr=fdr) | chosen
    status |= {"status": reason or "tested", "message": message, "genes": len(genes)}
    return Result(table, status, samples)


def describe(contrast: Contrast, design: Design, table: pd.DataFrame, *, fdr: float) -> dict:
    """The status of a test: what was asked and done, and what was found at the false discovery rate `fdr`."""
    significant, positive = table["padj"] < fdr, table["log2FoldChange"] > 0
    return {
        "contrast": contrast.name,
        "status": "",
        "message": "",
        "samples": len(design.samples),
        "samples_used": int(design.samples["used"].sum()),
        "genes": 0,
        "genes_tested": len(table),
        "design": contrast.design,
        "coefficient": design.coefficient,
        "effect": effect(contrast),
        "unit": contrast.unit,
        "size_factors": "",
        "trend": "",
        "residual_df": design.residual_df,
        "fdr": fdr,
        "up": int((significant & positive).sum()),
        "down": int((significant & ~positive).sum()),
        "not_converged": int((~table["converged"]).sum()),
    }


def no_genes() -> pd.DataFrame:
    """The table of genes without a row, with its columns and types."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})


def effect(contrast: Contrast) -> str:
    """What a fold change compares: `per 10 of age`, `stim against ctrl`, `per 10 of age:sex, M against F`."""
    per_unit = f"per {contrast.unit:g} of {contrast.test}" if contrast.unit is not None else ""
    levels = f"{contrast.level} against {contrast.references[contrast.factor]}" if contrast.factor else ""
    return ", ".join(filter(None, [per_unit, levels])) or contrast.test


def untested(status: dict):
    """A figure that says why there is nothing to draw."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    text = textwrap.fill(f"not tested: {status['status']}. {status['message']}", 60)
    figure.text(0.5, 0.5, text, ha="center", va="center")
    figure.suptitle(title(status), fontsize=10)
    return figure


def title(status: dict) -> str:
    """The cell type and the contrast, on two lines."""
    return f"{textwrap.shorten(status['label'], 60)}\n{status['contrast']}: {status['design']}"


def spread(heights: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Ascending heights moved apart to at least `gap`, as little as needed, between low and high."""
    placed = np.clip(heights, low, high)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], high - gap * (len(placed) - 1 - i))
    return placed


def volcano(genes: pd.DataFrame, status: dict):
    """Effect against -log10 p of every tested gene, the most significant ones named in the margins."""
    from matplotlib.figure import Figure

    if genes.empty:
        return untested(status)
    drawn = genes.dropna(subset=["pvalue"])
    x, y = drawn["log2FoldChange"].to_numpy(), -np.log10(drawn["pvalue"].clip(lower=1e-300).to_numpy())
    significant = (drawn["padj"] < status["fdr"]).to_numpy()
    kind = np.where(significant, np.where(x > 0, "up", "down"), "rest")
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in ("rest", "up", "down"):
        some = kind == name
        text = f"{name} {some.sum():,}" if name != "rest" else f"not at FDR {status['fdr']:g}: {some.sum():,}"
        axes.scatter(x[some], y[some], s=8, c=COLOURS[name], linewidths=0, label=text)
    reach, top = np.abs(x).max() * 1.05, y.max() * 1.08
    axes.set(xlim=(-1.45 * reach, 1.45 * reach), ylim=(-0.02 * top, top))
    for side in (-1, 1):
        best = np.flatnonzero(np.sign(x[:LABELLED]) == side)[::-1]  # by p-value, so y ascends
        for i, height in zip(best, spread(y[best], 0.055 * top, 0, 0.97 * top), strict=True):
            end = side * 1.08 * reach
            axes.plot([x[i], end], [y[i], height], color="0.6", lw=0.5, zorder=0)
            name = textwrap.shorten(drawn["symbol"].iloc[i], 16, placeholder="…")
            axes.text(end, height, f" {name} ", ha="left" if side > 0 else "right", va="center", fontsize=7)
    axes.axvline(0, color="0.8", lw=0.8, zorder=0)
    comma = "," if status["unit"] is None else ""
    axes.set(xlabel=f"log2 fold change{comma} {status['effect']}", ylabel="-log10 p-value")
    axes.set_title(f"{len(drawn):,} genes, {status['samples_used']} samples", fontsize=9)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False, markerscale=1.5)
    figure.suptitle(title(status), fontsize=10)
    return figure


def pvalue_histogram(genes: pd.DataFrame, status: dict):
    """P-values in 20 bins; without any effect all bins would reach the line."""
    from matplotlib.figure import Figure

    if genes.empty:
        return untested(status)
    pvalues = genes["pvalue"].dropna()
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.hist(pvalues, bins=BINS, range=(0, 1), color="#6baed6", edgecolor="white")
    axes.axhline(len(pvalues) / BINS, color="0.2", ls="--", label="expected without any effect")
    axes.set(xlabel="p-value", ylabel="genes", xlim=(0, 1))
    axes.set_title(f"{len(pvalues):,} genes, {len(genes) - len(pvalues):,} without p-value", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    figure.suptitle(title(status), fontsize=10)
    return figure


def read_samples(path: str) -> pd.DataFrame:
    """The table of the samples of all cell types, without their counts."""
    with h5py.File(path) as file:
        table = file["obs"]
        return pd.DataFrame({name: read_column(table, name) for name in table.attrs["column-order"]})


def verdict(cell_types: pd.DataFrame, cell_type: str) -> tuple[str, str]:
    """Label of a cell type, and why `pseudobulk` does not have it tested ("" if it has).

    cell_types: pseudobulk/cell_types.tsv as text. Raises InputError when it lacks the id.
    """
    row = cell_types[cell_types["id"] == cell_type]
    if row.empty:
        has = ", ".join(cell_types["id"])
        raise InputError(f"cell type {cell_type!r}: pseudobulk/cell_types.tsv has no such id (it has: {has})")
    return row["label"].iloc[0], row["reason"].iloc[0]


def summary(status: dict) -> str:
    """One line of what was found, or why not."""
    where = f"differential: {status['contrast']} in {status['label']}: "
    if status["status"] != "tested":
        return f"{where}not tested, {status['status']} ({status['message']})"
    found = f"{status['up']} up, {status['down']} down, {status['effect']}"
    genes = f"{status['genes_tested']:,} of {status['genes']:,} genes pass the filter"
    how = f"{status['samples_used']} of {status['samples']} samples, size factors {status['size_factors']}"
    failed = f"{status['not_converged']} genes not converged" if status["not_converged"] else ""
    return "; ".join(filter(None, [where + found, genes, how, failed, status["message"]]))


if __name__ == "__main__":
    with job(snakemake) as out:  # noqa: F821
        params = dict(snakemake.params.items())  # noqa: F821
        cell_type, contrast = params.pop("cell_type"), params.pop("contrast")
        types = pd.read_csv(snakemake.input.cell_types, sep="\t", dtype=str, keep_default_na=False)  # noqa: F821
        label, refused = verdict(types, cell_type)
        counts, obs, genes = read_sums(snakemake.input.sums, cell_type)  # noqa: F821
        result = differential(
            counts,
            genes,
            obs,
            settle(contrast, read_samples(snakemake.input.sums)),  # noqa: F821
            refused=refused,
            threads=snakemake.threads,  # noqa: F821
            **params,
        )
        status = {"contrast": "", "cell_type": cell_type, "label": label, **result.status}
        result.genes.to_parquet(out.genes, index=False)
        pd.DataFrame([status]).to_csv(out.status, sep="\t", index=False)
        result.samples.to_csv(out.samples, sep="\t", index=False)
        for figure, path in ((volcano, out.volcano), (pvalue_histogram, out.pvalues)):
            figure(result.genes, status).savefig(path, dpi=120, metadata={"Software": None})
        print(summary(status))
