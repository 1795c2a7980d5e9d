"""Join every decision about a cell, and count what was lost where and why.

Cells leave in this order, each with its first reason: `load` (unusable rows of the input), `filter` (its
sample, then its cell type, was dropped), `qc` (it fails a limit), `doublets` (it was called one). A cell that
passes all is kept. Cells that Scrublet did not score are kept; `scored` tells them apart.

The attrition table counts cells and samples per step and reason, over all cells and in each level of each
stratum. In every level cells(input) = sum of cells dropped + cells(kept), and samples(input) = sum of
samples_lost + samples(kept), exactly.
"""

import itertools

import numpy as np
import pandas as pd

from files import read_cell_types, read_tsv, write_tsv
from job import InputError, conclude, job, warn

STEPS = ["load", "filter", "qc", "doublets"]
QC_WORDS = ["passed", "reason"]  # the columns of qc/*.parquet that are not metrics, besides cell
LABELS = ["sample", "donor", "cell_type", "pool"]
SAMPLES_NAMED = 5  # in a warning


def join(
    loaded: pd.DataFrame,
    samples: pd.DataFrame,
    cell_types: pd.DataFrame,
    qc: pd.DataFrame,
    doublets: pd.DataFrame,
) -> pd.DataFrame:
    """One row per input cell, in input order: labels, metrics, doublet score, kept, step and first reason.

    loaded: load/cells.parquet; samples, cell_types: the tables of `filter`, as text; qc, doublets: one row
    per usable cell, in any order. Metrics and scores are missing in unusable cells.
    Raises ValueError unless qc and doublets hold exactly the usable cells.
    """
    usable = (loaded["reason"] == "").to_numpy()
    names = loaded.loc[usable, "cell"]
    for table, what in ((qc, "qc"), (doublets, "doublets")):
        if len(table) != usable.sum() or not table["cell"].is_unique:
            raise ValueError(f"{what}: {len(table):,} cells where {usable.sum():,} are usable")
    qc = _align(qc, names)
    doublets = _align(doublets, names)

    cells = loaded[["cell", *LABELS, "shard"]].copy()
    for metric in qc.columns.difference(QC_WORDS, sort=False):
        cells[metric] = _place_usable(qc[metric].to_numpy(dtype=float), usable, np.nan)
    cells["doublet_score"] = _place_usable(doublets["doublet_score"].to_numpy(), usable, np.nan)
    for flag in ("doublet", "scored"):
        cells[flag] = _place_usable(doublets[flag].to_numpy(), usable, False)

    by_step = {
        "load": loaded["reason"],
        "filter": _explain_filter(loaded, samples, cell_types),
        "qc": _place_usable(qc["reason"].to_numpy(dtype=object), usable, ""),
        "doublets": np.where(cells["doublet"], "doublet", ""),
    }
    reasons = {step: np.asarray(reason, dtype=object) for step, reason in by_step.items()}
    fails = [reason != "" for reason in reasons.values()]
    cells["kept"] = ~np.logical_or.reduce(fails)
    cells["step"] = np.select(fails, list(reasons), default="")
    cells["reason"] = np.select(fails, list(reasons.values()), default="")
    return cells


def _align(table: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """The table's rows in the order of the names, without the column cell; ValueError if one is missing."""
    positions = pd.Index(table["cell"]).get_indexer(names)
    if (positions < 0).any():
        raise ValueError(f"cell {names[positions < 0].iloc[0]!r} is usable but neither measured nor scored")
    return table.drop(columns="cell").iloc[positions]


def _place_usable(values: np.ndarray, usable: np.ndarray, missing: object) -> np.ndarray:
    """Values of the usable cells, in place among all cells; `missing` in the others."""
    spread = np.full(len(usable), missing, dtype=values.dtype)
    spread[usable] = values
    return spread


def _explain_filter(loaded: pd.DataFrame, samples: pd.DataFrame, cell_types: pd.DataFrame) -> pd.Series:
    """Why each usable cell's sample, or else its cell type, was dropped; "" if neither was."""
    by_sample = loaded["sample"].map(samples.set_index("sample")["reason"]).astype(object)
    by_type = loaded["cell_type"].map(cell_types.set_index("label")["reason"]).astype(object)
    unknown = (loaded["reason"] == "") & (by_sample.isna() | by_type.isna())
    if unknown.any():
        raise ValueError(
            f"cell {loaded['cell'][unknown].iloc[0]!r} has a sample or type that filter never saw"
        )
    return by_sample.where(by_sample != "", by_type)


def warn_of_thresholds(status: pd.DataFrame) -> None:
    """Warn of Scrublet's thresholds that were replaced. status: one row per group of `doublets`."""
    scored = status[status["status"] == "scored"]
    replaced = scored[scored["threshold_from"] != "automatic"]
    if len(replaced):
        cells = replaced["cells"]
        rate, called = (
            (replaced[name] * cells).sum() / cells.sum() for name in ("expected_doublet_rate", "called_share")
        )
        what = f"the thresholds of {len(replaced):,} of {len(scored):,} groups are those of the expected rate"
        why = f"Scrublet's own are far from it; {called:.1%} of the cells are called, {rate:.1%} are expected"
        warn(
            "doublet_threshold_replaced",
            f"{what}, as {why}",
            count=len(replaced),
            setting="doublets.expected_doublet_rate",
        )


def warn_of_losses(cells: pd.DataFrame) -> None:
    """Warn when qc drops most cells of the run, or of some samples. cells: as from `join`."""
    measured = cells[cells["step"].isin(["qc", "doublets", ""])]
    fails = measured["step"] == "qc"
    reasons = (
        measured.loc[fails, "reason"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    )
    if fails.mean() > 0.5:
        reason, first = reasons.index[0], reasons.iloc[0]
        what = f"qc drops {fails.sum():,} of {len(measured):,} cells ({fails.mean():.0%})"
        warn(
            "most_cells_dropped",
            f"{what}, {first:,} of them by {reason}",
            count=int(fails.sum()),
            setting=name_setting(reason),
        )
        return
    dropped = fails.groupby(measured["sample"].astype(str)).mean()
    worst = dropped[dropped > 0.5].sort_values(ascending=False, kind="stable")
    if len(worst):
        named = ", ".join(f"{sample} ({share:.0%})" for sample, share in worst.head(SAMPLES_NAMED).items())
        more = f" and {len(worst) - SAMPLES_NAMED} more" * (len(worst) > SAMPLES_NAMED)
        what = f"qc drops most cells of {len(worst):,} of {len(dropped):,} samples: {named}{more}"
        warn("most_cells_of_samples_dropped", what, count=len(worst), setting="qc")


def name_setting(reason: str) -> str:
    """The config key of a reason of qc: `max_pct_mt` -> `qc.max_pct_mt`, `mad_low_genes` -> `qc.nmads`."""
    return "qc.nmads" if reason.startswith("mad_") else f"qc.{reason}"


def find_levels(
    cells: pd.DataFrame, samples: pd.DataFrame, strata: list[dict], covariates: list[str]
) -> dict[str, pd.Categorical]:
    """The level of each cell in each stratum, by its column; "" where unknown.

    strata: {column, breaks?}; the column is a label of the cell or a covariate of its sample
    (filter/samples.tsv, as text); covariates: their names. Breaks 30 and 45 make the levels `<30`,
    `30 to <45` and `>=45`.
    Raises InputError for a column that does not exist or breaks in a column that holds no numbers.
    """
    by_sample = samples.set_index("sample")[covariates]
    row = by_sample.index.get_indexer(cells["sample"])  # -1: the cell has no sample with usable cells
    categories = {}
    for stratum in strata:
        column, breaks = stratum["column"], stratum.get("breaks")
        if column in LABELS:
            values = cells[column]
        elif column in by_sample:
            values = by_sample[column]
        else:
            known = ", ".join([*LABELS, *covariates])
            raise InputError(f"cells.strata: there is no column {column!r}; choose from {known}")
        if column in categories:
            raise InputError(f"cells.strata: {column!r} is listed twice; remove one")
        groups = bin_numbers(values, breaks) if breaks else values.mask(values == "").astype("category")
        groups = groups.cat.remove_unused_categories()  # without "", which comes last
        codes = groups.cat.codes.to_numpy()
        if column not in LABELS:
            codes = np.where(row >= 0, codes[row], -1)
        level = pd.Categorical.from_codes(codes, [*groups.cat.categories, ""])
        categories[column] = level.fillna("")
    return categories


def bin_numbers(values: pd.Series, breaks: list[float]) -> pd.Series:
    """Numbers written as text, as ordered categories between the breaks; missing where there is none."""
    values = values.astype(str)  # from categories as well
    numbers = pd.to_numeric(values.mask(values == ""), errors="coerce")
    wrong = numbers.isna() & (values != "")
    if wrong.any():
        raise InputError(
            f"cells.strata: {values.name!r} has breaks but holds {values[wrong].iloc[0]!r}, "
            "which is not a number; remove its breaks"
        )
    edges = sorted(set(breaks))
    between = [f"{low:g} to <{high:g}" for low, high in itertools.pairwise(edges)]
    names = [f"<{edges[0]:g}", *between, f">={edges[-1]:g}"]
    return pd.cut(numbers, [-np.inf, *edges, np.inf], right=False, labels=names)


def count_attrition(cells: pd.DataFrame, levels: dict[str, pd.Categorical]) -> pd.DataFrame:
    """Cells and samples that enter, leave at each step for each reason, and are kept, per stratum and level.

    cells: as from `join`; levels: as from `find_levels`; the stratum `all` is added.
    samples: those with a cell in the row; samples_lost: those that lost their last cell of this level at this
    step, counted once, for the reason that took most of its cells there (the first by name if tied).
    """
    everything = pd.Categorical.from_codes(np.zeros(len(cells), int), ["all"])
    tables = [_count_stratum(cells, name, level) for name, level in ({"all": everything} | levels).items()]
    return pd.concat(tables, ignore_index=True)


def _count_stratum(cells: pd.DataFrame, stratum: str, level: pd.Categorical) -> pd.DataFrame:
    """The attrition table of one stratum."""
    order = ["input", *STEPS, "kept"]
    fates = pd.DataFrame(
        {
            "level": level,
            "step": pd.Categorical(cells["step"].replace("", "kept"), order),
            "reason": cells["reason"].astype("category"),
            "sample": cells["sample"].astype("category"),
        }
    )
    # one row per level, fate and sample: from here on the table is small
    fates = fates.groupby(list(fates), observed=True).size().rename("cells").reset_index()
    fates["samples"] = (fates["sample"] != "").astype(int)
    fates = fates.sort_values(["step", "cells", "reason"], ascending=[True, True, False], kind="stable")
    last = ~fates.duplicated(["level", "sample"], keep="last")
    fates["samples_lost"] = (last & (fates["step"] != "kept")) * fates["samples"]

    entered = (
        fates.drop_duplicates(["level", "sample"])[["level", "samples"]].groupby("level", observed=True).sum()
    )
    entered["cells"] = fates.groupby("level", observed=True)["cells"].sum()
    entered = entered.reset_index().assign(step="input", reason="", samples_lost=0)
    numbers = ["cells", "samples", "samples_lost"]
    left = fates.groupby(["level", "step", "reason"], observed=True)[numbers].sum().reset_index()
    none_kept = entered.assign(step="kept", cells=0, samples=0)  # a level that lost all has the row as well
    table = pd.concat([entered, left.astype({"reason": str}), none_kept], ignore_index=True)
    table = table.drop_duplicates(["level", "step", "reason"], keep="first")
    table["step"] = pd.Categorical(table["step"], order)
    table["level"] = pd.Categorical(table["level"], level.categories)
    table = table.sort_values(["level", "step", "reason"], ignore_index=True).assign(stratum=stratum)
    return table[["step", "reason", "stratum", "level", *numbers]]


if __name__ == "__main__":
    with job(snakemake) as out:
        paths = snakemake.input
        samples = read_tsv(paths.samples)
        cells = join(
            pd.read_parquet(paths.cells),
            samples,
            read_cell_types(paths.cell_types),
            pd.concat([pd.read_parquet(path) for path in paths.qc], ignore_index=True),
            pd.concat([pd.read_parquet(path) for path in paths.doublets], ignore_index=True),
        )
        table = count_attrition(cells, find_levels(cells, samples, **snakemake.params))
        cells.to_parquet(out.cells, index=False)
        write_tsv(table, out.attrition)
        warn_of_losses(cells)
        warn_of_thresholds(pd.concat([pd.read_csv(path, sep="\t") for path in paths.thresholds]))
        total = table[table["stratum"] == "all"].groupby("step", observed=True)["cells"].sum()
        lost = "; ".join(f"{step} {total[step]:,}" for step in STEPS if step in total)
        conclude(f"{total['kept']:,} of {total['input']:,} kept" + (f" (lost: {lost})" if lost else ""))
