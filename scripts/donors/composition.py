"""Test whether the share of a cell type among a sample's cells changes with a contrast.

For cell type c, k of a sample's n kept cells are of the type; the log odds of the share are linear in the
columns of the contrast's design. The variance of k has the noise of counts and a variance of log odds between
samples, which all types share (_cell_counts.py), so that a sample with few cells, or a rare type, says less.
The residual variances of the types, relative to this model, are moderated by an empirical-Bayes prior, and t
or F has the prior's degrees of freedom added; they are at least those of the noise of counts. Sources: see
_cell_counts.py; Smyth 2004, Stat Appl Genet Mol Biol 3:3, sections 3 and 6.2 (moderation), which
propeller uses on logit shares (Phipson et al. 2022, Bioinformatics 38:4720).

A type has a reason instead of a test: no_cells in the samples used; too_few_cells, fewer than min_cells on
the smaller side of the effect if its share were the same in all samples; no_variation, exactly the same share
in every sample, as in a cohort cut to equal numbers; not_converged.

With `block: donor` the samples of a donor share a part of the variance between samples; with
`aggregate: donor` their cells are counted together.

A term of several columns is tested by the moderated F, f on f_df and df degrees of freedom (t^2 for one
column); it has no odds ratio, no t and no interval.

The effect is the odds ratio per unit of the contrast. Shares sum to one: when one type grows, others must
shrink, so a change is relative to the sample's other cells and says nothing about absolute numbers.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from donors._cell_counts import ShareFits, expected_cells, fit_shares
from donors._composition_figure import draw
from donors._contrast import Contrast, resolve_contrast
from donors._design import Design, build, effect
from donors._gls import test_models
from files import SAMPLE_COLUMNS, count_cells, read_obs, save_figure, write_tsv
from job import conclude, job

COLUMNS = [
    "cell_type",
    "samples",
    "cells",
    "expected_cells",
    "mean_share",
    "log_odds",
    "se",
    "t",
    "f",
    "f_df",
    "df",
    "odds_ratio",
    "low",
    "high",
    "pvalue",
    "padj",
    "reason",
]


class Result(NamedTuple):
    """What one contrast gives."""

    types: pd.DataFrame  # a row per cell type, with a reason where it is not tested
    status: dict  # what was done, or why nothing was
    effect: str  # what an odds ratio compares


def composition(
    cells: pd.DataFrame,
    samples: pd.DataFrame,
    contrast: Contrast,
    *,
    min_samples: int,
    min_residual_df: int,
    min_cells: float,
) -> Result:
    """Test the share of each cell type for one contrast.

    cells: (samples, types); samples: what the design names, in the same order. When there is a reason not to
    test, the status has it and the table is empty. Raises InputError as `build` does.
    """
    design = build(contrast, samples, min_samples=min_samples, min_residual_df=min_residual_df)
    reason, fits = design.reason, None
    types = pd.DataFrame(columns=COLUMNS)
    used = cells if reason else cells_of(design, cells)
    if not reason:
        reason = "" if (used.sum() > 0).sum() > 1 else "single_cell_type"
    if not reason:
        block = design.donors.to_numpy() if contrast.block else None
        types, fits = compare_shares(used, design.matrix, design.hypothesis, block, min_cells=min_cells)
        reason = name_reason(types)
    message = "; ".join(filter(None, [design.message, explain(types, min_cells)]))
    return Result(types, describe(contrast, design, types, fits, reason, message), effect(contrast, design))


def compare_shares(
    cells: pd.DataFrame,
    matrix: pd.DataFrame,
    hypothesis: np.ndarray,
    block: np.ndarray | None = None,
    *,
    min_cells: float,
) -> tuple[pd.DataFrame, ShareFits | None]:
    """One row per cell type: shares, odds ratio per unit with 95 % interval, p-value and FDR over the types.

    Also the models, None where no type has enough cells. cells: (samples, types) of the samples in matrix, in
    its order; hypothesis: (coefficients,) or (effects, coefficients), what is 0 if nothing changes; several
    effects together have only F. block: (samples,) labels of samples that are correlated.
    """
    hypothesis, counts, totals = np.atleast_2d(hypothesis), cells.to_numpy().T, cells.sum(axis=1).to_numpy()
    types = pd.DataFrame({"cell_type": cells.columns, "samples": len(cells), "cells": counts.sum(axis=1)})
    types["expected_cells"] = expected_cells(counts, totals, matrix.to_numpy(), hypothesis)
    types["mean_share"] = (counts / totals).mean(axis=1)
    few = types["expected_cells"] < min_cells
    constant = np.ptp(counts / totals, axis=1) == 0
    reasons = {"no_cells": types["cells"] == 0, "too_few_cells": few, "no_variation": constant}
    types["reason"] = np.select(list(reasons.values()), list(reasons), "")
    tested, fits = types.index[types["reason"] == ""], None
    if len(tested):
        fits = fit_shares(counts[tested], totals, matrix.to_numpy(), block)
        types.loc[tested[~fits.converged], "reason"] = "not_converged"
        types = types.join(tabulate(fits, hypothesis).set_axis(tested[fits.converged]))
        has_pvalue = types["pvalue"].notna()
        adjusted = stats.false_discovery_control(types.loc[has_pvalue, "pvalue"])
        types["padj"] = pd.Series(adjusted, types.index[has_pvalue])
    types = types.reindex(columns=COLUMNS).astype({"f_df": "Int64"})
    return types.sort_values(["pvalue", "cell_type"], ignore_index=True), fits


def tabulate(fits: ShareFits, hypothesis: np.ndarray) -> pd.DataFrame:
    """Effect, test and interval of each type, in a row if the model converged."""
    tests = test_models(fits.models, hypothesis)
    half = stats.t.ppf(0.975, tests.df) * tests.se
    table = pd.DataFrame(
        {
            "log_odds": tests.effects,
            "se": tests.se,
            "t": tests.t,
            "f": tests.f,
            "f_df": len(hypothesis),
            "df": tests.df,
            "odds_ratio": np.exp(tests.effects),
            "low": np.exp(tests.effects - half),
            "high": np.exp(tests.effects + half),
            "pvalue": tests.pvalues,
        }
    )
    return table[fits.converged]


def describe_samples(rows: pd.DataFrame, covariates: list[str]) -> pd.DataFrame:
    """One row per sample: its covariates, and log_cells, log_depth and pct_counts_mt over all its cells."""
    samples = rows[["sample", "donor", "pool", *covariates]].drop_duplicates("sample")
    samples = samples.set_index("sample", drop=False).sort_index()
    mt = (rows["pct_counts_mt"] * rows["counts"]).groupby(rows["sample"]).sum()
    totals = rows.groupby("sample")[["cells", "counts"]].sum()
    samples["log_cells"] = np.log(totals["cells"])
    samples["log_depth"] = np.log(totals["counts"])
    samples["pct_counts_mt"] = mt / totals["counts"]
    return samples


def cells_of(design: Design, cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of the rows of the matrix: of samples, or of donors where their samples are summed.

    cells: (samples, types), by sample.
    """
    used = cells.loc[design.samples.index[design.samples["used"]]]
    return used if design.rows is None else used.groupby(design.rows).sum().set_axis(design.matrix.index)


def name_reason(types: pd.DataFrame) -> str:
    """Why no type is tested: the reason of all of them, or no_cell_type; "" where one is."""
    reasons = set(types["reason"])
    if "" in reasons:
        return ""
    return reasons.pop() if len(reasons) == 1 else "no_cell_type"


def explain(types: pd.DataFrame, min_cells: float) -> str:
    """Which cell types are not tested, and why; "" where all are."""
    least = f"composition.min_cells is {min_cells:g}"
    lines = {
        "no_cells": "no cell in the samples used",
        "too_few_cells": f"too few cells expected on the smaller side of the effect, {least}",
        "no_variation": "the same share in every sample",
        "not_converged": "not converged",
    }
    names = types.assign(
        name=types["cell_type"].where(
            types["reason"] != "too_few_cells",
            types["cell_type"] + types["expected_cells"].map(" ({:.3g})".format),
        )
    )
    groups = {reason: ", ".join(names.loc[names["reason"] == reason, "name"]) for reason in lines}
    return "; ".join(f"{lines[reason]}: {text}" for reason, text in groups.items() if text)


def describe(
    contrast: Contrast, design: Design, types: pd.DataFrame, fits: ShareFits | None, reason: str, message: str
) -> dict:
    """The status of a test: what was asked and done."""
    return {
        "contrast": contrast.name,
        "status": reason or "tested",
        "message": message,
        "samples": len(design.samples),
        "samples_used": int(design.samples["used"].sum()),
        "cell_types": int((types["reason"] == "").sum()),
        "coefficient": design.coefficient,
        "test": ("F" if design.joint else "t") if design.hypothesis is not None else "",
        "residual_df": design.residual_df,
        "vif": design.vif,
        "block_correlation": fits.correlation if contrast.block and fits else None,
        "sd_between_samples": float(np.sqrt(fits.within + fits.between)) if fits else None,
    }


def summary(types: pd.DataFrame, status: dict) -> str:
    """One line of what was found, or why not."""
    changes = f"{status['cell_types']} types, {(types['padj'] < 0.05).sum()} change at FDR 5 %"
    not_tested = "" if status["status"] == "tested" else f"not tested: {status['status']}"
    return "; ".join(filter(None, [not_tested or changes, status["message"]]))


if __name__ == "__main__":
    with job(snakemake) as out:
        rows, params = read_obs(snakemake.input.sums), dict(snakemake.params.items())
        covariates = params.pop("covariates")
        samples = describe_samples(rows, covariates)
        contrast = resolve_contrast(params.pop("contrast"), samples[[*SAMPLE_COLUMNS, *covariates]])
        types, status, compared = composition(count_cells(rows), samples, contrast, **params)
        write_tsv(types, out.cell_types)
        write_tsv(pd.DataFrame([status]), out.status)
        save_figure(draw(types, compared, summary(types, status)), out.figure)
        conclude(summary(types, status))
