"""Test each gene of some cell types for one contrast: DESeq2's model on the sums of a type's samples.

Each type is tested alone. A job has cell_types_per_job of them, as PyDESeq2 takes longer to import than to
test a small cohort; what it finds does not depend on that.

Negative binomial model with a log link on raw sums; size factors by the median of ratios ("ratio"), or by
"poscounts" when every tested gene has a zero (PyDESeq2 would otherwise iterate without end); dispersions
shrunk to their trend; Wald test of the effect that the contrast names, or a likelihood-ratio test of a term
of several columns; p-values adjusted by Benjamini and Hochberg after independent filtering at `fdr`. Love,
Huber & Anders 2014, Genome Biology 15:550; PyDESeq2 (Muzellec et al. 2023, Bioinformatics 39:btad547) with
R's decisions where they differ (_deseq2.py). Genes are chosen by `gene_filter` (_gene_filter.py).

log2FoldChange and lfcSE are per contrast.unit of a numeric term, or level against reference of a factor (see
_design.py, which makes the model matrix). Where several effects are tested together there is no one fold
change: both are missing, stat is the likelihood ratio on df degrees of freedom, and log2Range says how much
the term changes the gene between the two samples that it sets furthest apart. With `shrink`,
log2FoldChange_shrunk and lfcSE_shrunk are apeglm's, in the same unit; the status says where they cannot be.

A contrast with `aggregate: donor` is tested on the sums of each donor's samples. One with `block: donor` is
tested by limma-voom (_voom.py), in which the samples of a donor are correlated, and one with `sample_weights`
too, with a weight of each sample: effects in log2 per unit, stat is the moderated t or F, p-values are
adjusted without a filter, and dispersions are missing.

With `factors: k` the design gets k hidden factors (_factors.py), and a table says how the answer of
limma-voom depends on their number.

With `cooks`, counts that are outliers by Cook's distance are replaced where 7 samples share their row of the
model matrix, and genes with an outlier among samples that share it with 2 others get no p-value (outlier).
A numeric covariate leaves few such samples: donors of one age and sex.
Dispersions: of the gene alone, of the trend, of the gene shrunk to it (map), and the final one, which stays
the gene's own when that is far above the trend. dispersion_searched: an optimiser failed and a grid search
found it; converged: the coefficients; replaced: outliers were.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from donors._contrast import Contrast, resolve_contrast
from donors._design import Design, build, effect
from donors._fit import MEAN_TREND, OF_ROWS, Fit, check_genes, describe_fit, fit
from donors._gene_filter import GENES, judge_genes
from donors._replication import sum_samples
from files import SAMPLE_COLUMNS, read_cell_types, read_obs, read_tsv, read_types, stack_tables, write_tsv
from job import InputError, announce, conclude, job, warn

FEW_GENES = 50  # under a size factor, below which it is warned of


class Result(NamedTuple):
    """What one cell type and contrast give."""

    genes: pd.DataFrame  # a row per tested gene
    status: dict  # what was done, or why nothing was
    samples: pd.DataFrame  # a row per sample
    filtered: pd.DataFrame  # a row per gene that has not enough counts to be tested, and why
    numbers: pd.DataFrame  # a row per number of hidden factors; none where none are looked for


def differential(
    counts: sparse.csr_array,
    genes: pd.DataFrame,
    obs: pd.DataFrame,
    contrast: Contrast,
    *,
    min_samples: int,
    min_residual_df: int,
    fdr: float,
    cooks: bool,
    shrink: bool,
    threads: int,
    **gene_filter,
) -> Result:
    """Test one contrast in one table of samples.

    counts: (samples, genes) raw counts; genes: gene_id, symbol; obs: (samples) what the design names and,
    where they apply, `sample` and `reason` (why a sample takes no part); gene_filter: settings of
    judge_genes. When there is a reason not to test, the status has it and the table of genes is empty.
    Raises InputError as `build` does.
    """
    design = build(contrast, obs, min_samples=min_samples, min_residual_df=min_residual_df)
    reason, message, filtered, fitted = design.reason, design.message, no_filtered(), Fit.without(design)
    if not reason:
        used = sum_used(counts, design)
        judged = judge_genes(used, design.of_tested, **gene_filter)
        tested = judged["reason"].to_numpy() == ""
        filtered = pd.concat([genes[["gene_id", "symbol"]].reset_index(drop=True), judged], axis=1)[~tested]
        reason, why = check_genes(int(tested.sum()), contrast, gene_filter["min_count"])
        message = why or message
    if not reason:
        dense = pd.DataFrame(used[:, tested].toarray(), columns=genes["gene_id"][tested])
        settings = {"fdr": fdr, "cooks": cooks, "shrink": shrink, "threads": threads}
        fitted = fit(dense, genes["symbol"][tested], design, contrast, **settings)
        message = "; ".join(filter(None, [message, *describe_fit(fitted, contrast)]))
    status = describe(contrast, fitted.design, fitted.genes, fdr=fdr) | fitted.facts
    status |= {"status": reason or "tested", "message": message, "genes": len(genes)}
    status |= {"gene_filter": gene_filter["gene_filter"]}
    samples = describe_samples(design, fitted.rows, counts)
    return Result(fitted.genes, status, samples, filtered, fitted.numbers)


def sum_used(counts: sparse.csr_array, design: Design) -> sparse.csr_array:
    """(rows of the model matrix, genes) counts of the samples used, summed where the design sums donors."""
    used = sparse.csr_array(counts[design.samples["used"].to_numpy()])
    return used if design.rows is None else sum_samples(used, design.rows)


def describe_samples(design: Design, rows: pd.DataFrame, counts: sparse.csr_array) -> pd.DataFrame:
    """The samples of the design with size factor, weight and hidden factors, missing where not used.

    rows: a row per row of the model matrix, or none; counts: (samples, genes) of all samples.
    """
    samples = design.samples.assign(**dict.fromkeys(OF_ROWS, np.nan))
    if rows.empty:
        return samples
    used = samples["used"]
    place = np.arange(len(rows)) if design.rows is None else design.rows
    values = rows.iloc[place].astype(float)
    totals = np.asarray(counts[used.to_numpy()].sum(axis=1)).ravel()
    values["size_factor"] = split_factors(rows["size_factor"], totals, place)
    samples.loc[used, OF_ROWS] = values.to_numpy()
    return samples


def split_factors(factors: pd.Series, counts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(samples,) size factors of samples: of a sum of samples, the part that the sample's counts are of it.

    factors: of the rows of the matrix; counts: (samples,) all counts; rows: (samples,) their row.
    """
    return factors.to_numpy()[rows] * counts / np.bincount(rows, weights=counts)[rows]


def describe(contrast: Contrast, design: Design, table: pd.DataFrame, *, fdr: float) -> dict:
    """The status of a test: what was asked and done, and what was found at the false discovery rate `fdr`.

    up and down count directions, which a joint test does not have.
    """
    significant = table["padj"] < fdr
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
        "effect": effect(contrast, design),
        "unit": None if design.joint else contrast.unit,
        "method": "limma-voom" if contrast.by_voom else "DESeq2",
        "test": name_test(contrast, design),
        "df": len(design.hypothesis) if design.hypothesis is not None else None,
        "size_factors": "",
        "size_factor_genes": None,
        "trend": "",
        "shrinkage": "",
        "filter_threshold": None,
        "block_correlation": None,
        "gene_filter": "",
        "residual_df": design.residual_df,
        "vif": design.vif,
        "fdr": fdr,
        "significant": int(significant.sum()),
        "up": int((significant & (table["log2FoldChange"] > 0)).sum()),
        "down": int((significant & (table["log2FoldChange"] < 0)).sum()),
        "without_pvalue": int(table["pvalue"].isna().sum()),
        "not_converged": int((~table["converged"]).sum()),
    }


def name_test(contrast: Contrast, design: Design) -> str:
    """LRT or Wald, of limma F or t; of several effects together the first. "" where nothing can be tested."""
    if design.hypothesis is None:
        return ""
    together, one = ("F", "t") if contrast.by_voom else ("LRT", "Wald")
    return together if design.joint else one


def no_filtered() -> pd.DataFrame:
    """The table of genes left out without a row."""
    kinds = {"gene_id": str, "symbol": str, **GENES}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})


def part_of(cell_types: pd.DataFrame, part: int, *, cell_types_per_job: int) -> pd.DataFrame:
    """Rows of the tested cell types of one job: part 0 has the first ones.

    cell_types: pseudobulk/cell_types.tsv. Raises InputError when there are not so many.
    """
    tested = cell_types[cell_types["tested"]]
    chosen = tested.iloc[part * cell_types_per_job : (part + 1) * cell_types_per_job]
    if chosen.empty:
        raise InputError(
            f"differential: no part {part:02d}; {len(tested)} cell types are tested, {cell_types_per_job} in "
            "a job (differential.cell_types_per_job)"
        )
    return chosen


def check_verdict(path: str, cell_type: str, status: dict) -> None:
    """Raise RuntimeError unless rule contrasts came to the same verdict on the design."""
    table = read_tsv(path).set_index("cell_type")
    expected = table.loc[cell_type, "reason"]
    found = "" if status["status"] in ("tested", "no_genes") else status["status"]
    if found != expected:
        raise RuntimeError(f"{path}: {cell_type} is {expected or 'estimable'!r}, here it is {found!r}")


def status_table(status: list[dict]) -> pd.DataFrame:
    """A row per cell type; what may be missing in one row is written alike in the others then."""
    kinds = {"df": "Int64", "residual_df": "Int64", "unit": "Float64", "block_correlation": "Float64"}
    kinds |= {"size_factor_genes": "Int64"}
    return pd.DataFrame(status).astype(kinds)


def summary(status: dict) -> str:
    """One line of what was found in a cell type, or why not."""
    where = f"differential of {status['contrast']} in {status['label']}: "
    if status["status"] != "tested":
        return f"{where}not tested, {status['status']} ({status['message']})"
    found = f"{found_in(status)}, {status['effect']}"
    genes = f"{status['genes_tested']:,} of {status['genes']:,} genes pass the filter"
    how = f"{status['samples_used']} of {status['samples']} samples, size factors {status['size_factors']}"
    failed = f"{status['not_converged']} genes not converged" if status["not_converged"] else ""
    return "; ".join(filter(None, [where + found, genes, how, failed, status["message"]]))


def found_in(status: dict) -> str:
    """Numbers of significant genes, or the reason why none was tested."""
    if status["status"] != "tested":
        return f"not tested ({status['status']})"
    directions = f"{status['up']} up, {status['down']} down"
    return f"{status['significant']} genes" if status["test"] in ("LRT", "F") else directions


def warn_of(status: dict) -> None:
    """Warn of a fit that is not the usual one. status: of a cell type."""
    where = f"{status['contrast']}, {status['label']}"
    if status["size_factors"] == "poscounts":
        what = f"{where}: every tested gene has a zero in some sample, so size factors are poscounts"
        warn("size_factors_by_poscounts", what, setting="differential.min_count")
    if status["size_factors"] and status["size_factor_genes"] < FEW_GENES:
        what = (
            f"{where}: size factors are medians over {status['size_factor_genes']:,} of "
            f"{status['genes_tested']:,} tested genes, below {FEW_GENES}"
        )
        warn("few_genes_under_size_factors", what, setting="pseudobulk.min_counts")
    if status["trend"] == "mean":
        warn("dispersion_trend_not_fitted", f"{where}: {MEAN_TREND}", setting="differential.min_count")
    if status["not_converged"]:
        what = f"{where}: {status['not_converged']:,} of {status['genes_tested']:,} genes did not converge"
        warn("genes_not_converged", what, count=status["not_converged"])


if __name__ == "__main__":
    with job(snakemake) as out:
        params = dict(snakemake.params.items())
        sums = snakemake.input.sums
        types = read_cell_types(snakemake.input.cell_types)
        part, per_job = int(snakemake.wildcards.part), params.pop("cell_types_per_job")
        types = part_of(types, part, cell_types_per_job=per_job)
        variables = [*SAMPLE_COLUMNS, *params.pop("covariates")]
        contrast = resolve_contrast(params.pop("contrast"), read_obs(sums)[variables])
        results = {}
        for (cell_type, label), (counts, obs, genes) in zip(
            types[["id", "label"]].to_numpy(), read_types(sums, types["id"]), strict=True
        ):
            method = "limma-voom" if contrast.by_voom else "PyDESeq2"
            announce(f"{method} on {counts.shape[0]:,} samples x {counts.shape[1]:,} genes of {label}")
            try:
                result = differential(counts, genes, obs, contrast, threads=snakemake.threads, **params)
                check_verdict(snakemake.input.contrast, cell_type, result.status)
            except Exception as error:
                error.add_note(f"in cell type {label}")
                raise
            head = {"contrast": "", "cell_type": cell_type, "label": label}
            results[cell_type] = result._replace(status=head | result.status)
            warn_of(results[cell_type].status)
            print(summary(results[cell_type].status), flush=True)
        genes = stack_tables({name: result.genes for name, result in results.items()})
        genes.to_parquet(out.genes, index=False)
        filtered = stack_tables({name: result.filtered for name, result in results.items()})
        filtered.to_parquet(out.filtered, index=False)
        status = [result.status for result in results.values()]
        write_tsv(status_table(status), out.status)
        samples = stack_tables({name: result.samples for name, result in results.items()})
        write_tsv(samples, out.samples)
        write_tsv(stack_tables({name: result.numbers for name, result in results.items()}), out.factors)
        conclude("; ".join(f"{each['label']} {found_in(each)}" for each in status))
