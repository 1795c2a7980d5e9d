"""Decide which samples and cell types hold enough cells to be worth analysing.

Counts usable cells only (load/cells.parquet). Samples are judged first, then cell types among the cells of
the samples that remain, and last, if asked for, the samples that lack a kept type:

1. few_cells_in_sample: fewer than min_cells_per_sample cells;
   below_percentile: fewer cells than the sample_percentile-th percentile over all samples (linear
   interpolation; 0 drops none).
2. few_cells_in_type: fewer than min_cells_per_type cells in the remaining samples;
   few_samples_with_type: found in less than min_sample_share of them. A sample has a type when it holds at
   least min_cells_in_type cells of it.
3. lacks_a_type: complete_cases keeps only samples that have every kept type. That is the classical rule;
   it loses donors in an age-dependent way, because types become rare with age (pitfalls: 981 -> 698 in
   OneK1K), so it is off unless asked for. Types are not judged again after it.

The first rule that is broken is the reason. `id`, the name of a cell type in paths, is made here and nowhere
else; labels stay in tables.
"""

import hashlib
import re

import numpy as np
import pandas as pd

from files import write_tsv
from job import InputError, conclude, job

MAX_SLUG = 60  # characters; folders, suffixes and temporary names must fit in 255


def name_ids(labels: list[str]) -> dict[str, str]:
    """Path-safe ids of labels: {label: id}, one to one and the same for any order of the labels.

    The label in lower case, every run of other characters than a-z and 0-9 as one `_`, none at the ends.
    Where that is empty, longer than 60 characters or shared, `-` and six hex digits of the label's sha256
    follow; a label never brings a `-` of its own, so these cannot meet a plain id. Ids match `[a-z0-9_-]+`
    and, being lower case, stay apart on file systems that ignore case.
    Raises InputError if two labels share even the six digits.
    """
    plain = {label: re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") for label in set(labels)}
    shared = pd.Series(plain, dtype=object).value_counts()
    ids = {}
    for label, slug in plain.items():
        if not slug or len(slug) > MAX_SLUG or shared[slug] > 1:
            slug = f"{slug[:MAX_SLUG]}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"
        ids[label] = slug
    slugs = pd.Series(ids, dtype=object)
    clash = sorted(slugs.index[slugs.duplicated(keep=False)])
    if clash:
        raise InputError(f"cell types: {clash} get the same id; rename one in the column of load.cell_type")
    return ids


def count_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Usable cells of each sample (rows) in each cell type (columns), int64; both sorted by label."""
    usable = cells[cells["reason"] == ""]
    return pd.crosstab(usable["sample"].astype(str), usable["cell_type"].astype(str))


def judge_samples(totals: pd.Series, *, min_cells_per_sample: int, sample_percentile: float) -> pd.Series:
    """Why each sample is dropped, "" where it is not; totals: usable cells per sample."""
    limit = np.percentile(totals, sample_percentile)
    reason = pd.Series("", index=totals.index, dtype=object)
    reason[totals < limit] = "below_percentile"
    reason[totals < min_cells_per_sample] = "few_cells_in_sample"
    return reason


def judge_cell_types(
    counts: pd.DataFrame, *, min_cells_per_type: int, min_sample_share: float, min_cells_in_type: int
) -> pd.DataFrame:
    """Cells, samples that have it, and why it is dropped ("" if not), for each cell type.

    counts: remaining samples x cell types.
    """
    cells, having = counts.sum(), (counts >= min_cells_in_type).sum()
    reason = pd.Series("", index=counts.columns, dtype=object)
    # rounded, because 0.07 of 100 samples is 7.000000000000001
    reason[having < np.round(min_sample_share * len(counts), 9)] = "few_samples_with_type"
    reason[cells < min_cells_per_type] = "few_cells_in_type"
    return pd.DataFrame({"cells": cells, "samples": having, "reason": reason})


def choose(
    counts: pd.DataFrame,
    *,
    min_cells_per_sample: int,
    sample_percentile: float,
    min_cells_per_type: int,
    min_sample_share: float,
    min_cells_in_type: int,
    complete_cases: bool,
) -> tuple[pd.Series, pd.DataFrame]:
    """Apply the rules in order to usable cells per sample (rows) and cell type (columns).

    Returns the reason of each sample and, indexed by label, cells, samples and reason of each cell type:
    its cells in the samples that pass the first step, and the number of those samples that have it.
    Raises InputError if no sample or no cell type is left.
    """
    samples = judge_samples(
        counts.sum(axis=1), min_cells_per_sample=min_cells_per_sample, sample_percentile=sample_percentile
    )
    if (samples != "").all():
        raise InputError(
            f"samples: none of {len(samples)} has enough cells (the largest has "
            f"{counts.sum(axis=1).max():,}); lower filter.min_cells_per_sample, now {min_cells_per_sample}"
        )
    remaining = counts[samples == ""]
    types = judge_cell_types(
        remaining,
        min_cells_per_type=min_cells_per_type,
        min_sample_share=min_sample_share,
        min_cells_in_type=min_cells_in_type,
    )
    kept_types = types.index[types["reason"] == ""]
    if kept_types.empty:
        raise InputError(
            f"cell types: none of {len(types)} has enough cells (the largest has {types['cells'].max():,}) "
            f"in enough samples (at most {types['samples'].max()} of {len(remaining)}); lower "
            f"filter.min_cells_per_type, now {min_cells_per_type}, or filter.min_sample_share, "
            f"now {min_sample_share}"
        )
    if complete_cases:
        complete = (remaining[kept_types] >= min_cells_in_type).all(axis=1)
        samples[complete.index[~complete]] = "lacks_a_type"
        if not complete.any():
            raise InputError(
                f"samples: none of {len(remaining)} has all {len(kept_types)} kept cell types; set "
                "filter.complete_cases to false or raise filter.min_sample_share"
            )
    return samples, types


def describe_samples(
    samples: pd.DataFrame, totals: pd.Series, reason: pd.Series, covariates: list[str]
) -> pd.DataFrame:
    """load/samples.parquet as filter/samples.tsv: sample, donor, cells, kept, reason, covariates.

    totals, reason: usable cells and reason by sample; covariates: their names, in order.
    """
    names = samples["sample"].astype(str)
    decided = samples[["sample", "donor"]].assign(
        cells=names.map(totals), kept=names.map(reason) == "", reason=names.map(reason)
    )
    return decided.join(samples[covariates])


def describe_cell_types(types: pd.DataFrame) -> pd.DataFrame:
    """filter/cell_types.tsv: id, label, cells, samples, kept, reason, by id; types: as from `choose`."""
    table = types.rename_axis("label").reset_index()
    table.insert(0, "id", table["label"].map(name_ids(list(table["label"]))))
    table.insert(4, "kept", table["reason"] == "")
    return table.sort_values("id", ignore_index=True)


def summarise(kept: pd.Series, reason: pd.Series) -> str:
    """`9 of 12 kept (few_cells_in_type 3)`."""
    lost = reason[~kept].value_counts().sort_index()
    why = "; ".join(f"{code} {number:,}" for code, number in lost.items())
    return f"{kept.sum():,} of {len(kept):,} kept" + (f" ({why})" if why else "")


if __name__ == "__main__":
    with job(snakemake) as out:
        cells = pd.read_parquet(snakemake.input.cells, columns=["sample", "cell_type", "reason"])
        counts = count_cells(cells)
        settings = dict(snakemake.params.items())
        covariates = settings.pop("covariates")
        reason, types = choose(counts, **settings)
        loaded = pd.read_parquet(snakemake.input.samples)
        samples = describe_samples(loaded, counts.sum(axis=1), reason, covariates)
        write_tsv(samples, out.samples)
        cell_types = describe_cell_types(types)
        write_tsv(cell_types, out.cell_types)
        conclude(
            f"samples {summarise(samples['kept'], samples['reason'])}, "
            f"cell types {summarise(cell_types['kept'], cell_types['reason'])}"
        )
