r"""Measure each cell and mark those that fail a limit, with the first limit that they fail.

Metrics, in scanpy's words (scanpy.pp.calculate_qc_metrics): n_genes_by_counts (genes with a count),
total_counts, pct_counts_in_top_20_genes, and pct_counts_<group> for each group of genes in `patterns`, all
in percent of the cell's counts. A group's pattern is that of the cohort's species (load/cohort.json) and is
matched against the whole symbol, upper case, so `HB[ABDEGMQZ]\d*` takes HBA1 and HBB but not HBEGF or HBS1L.
A cell without counts has 0 percent of everything.

Limits are fixed ones from the config, and robust ones per sample: median -/+ nmads x 1.4826 x MAD over the
cells of the sample that pass the fixed limits (samples are never cut by shards): cells that are dropped
anyway must not widen or move the limits of the others. Both sides on log1p counts and log1p genes; only the
upper side on pct_counts_mt, because few mitochondrial reads harm no cell. With 5 MADs on the log scale the
upper side takes outliers beyond any doublet (about twice the counts), which are left to `doublets`. There is
no robust limit where the MAD is 0 (it would drop every cell off the median) or few cells of the sample pass.

An unfiltered matrix holds every barcode of a capture, most of them droplets without a cell. A sample looks
unfiltered when half of its counts are in barcodes with UNFILTERED_FOLD times the counts of its median
barcode, or more. Where totals are log-normal with standard deviation s (natural log), that fold is exp(s^2):
1.3 at s = 0.5, as within a tissue, 4.2 at s = 1.2. If moreover most of its barcodes are below qc.min_counts
or qc.min_genes, the sample is refused; otherwise it is warned of, as the limits do not tell cells apart then.
Sources: isOutlier of scater (McCarthy et al. 2017, Bioinformatics 33:1179), which has the same constant;
Heumos et al. 2023, Nature Reviews Genetics 24:550, for the metrics and the sides.

The metrics are plain sums over sparse rows. scanpy's function gives the same numbers and is the oracle in the
tests, but importing it takes 6.9 s a process against 3.0 s without it, and its first call compiles for 5 to
20 s; after that, 40,000 cells with 34 million entries take it 1.2 s and `measure` 1.0 s (2 cores, 2026-11).
"""

import numpy as np
import pandas as pd
from scipy import sparse

from files import match_symbols, read_shard, read_species, write_tsv
from job import InputError, conclude, job, track_progress, warn

TOP = 20
BLOCK = 2048  # cells at once: bounds the memory of temporary arrays, changes no number
UNFILTERED_FOLD = 5
MAD_TO_SD = 1.4826  # MAD of a normal distribution x this = its standard deviation

# reason: (metric, is the limit an upper one); a cell's reason is the first in this order that it fails
FIXED = {
    "min_counts": ("total_counts", False),
    "min_genes": ("n_genes_by_counts", False),
    "max_counts": ("total_counts", True),
    "max_genes": ("n_genes_by_counts", True),
    "max_pct_mt": ("pct_counts_mt", True),
    "max_pct_hb": ("pct_counts_hb", True),
    "max_pct_top_20": (f"pct_counts_in_top_{TOP}_genes", True),
}
ROBUST = {
    "mad_low_counts": ("total_counts", False),
    "mad_low_genes": ("n_genes_by_counts", False),
    "mad_high_counts": ("total_counts", True),
    "mad_high_genes": ("n_genes_by_counts", True),
    "mad_high_mt": ("pct_counts_mt", True),
}
ON_LOG_SCALE = {"total_counts", "n_genes_by_counts"}


def match_groups(symbols: pd.Series, patterns: dict[str, dict[str, str]], species: str) -> pd.DataFrame:
    """Which genes (rows) are in which group (columns, bool): the species' pattern matches the whole symbol.

    Raises InputError for a pattern that is not a regular expression.
    """
    groups = {
        name: match_symbols(symbols, pattern, f"qc.patterns.{species}.{name}")
        for name, pattern in patterns[species].items()
    }
    return pd.DataFrame(groups, index=symbols.index, dtype=bool)


def measure(counts: sparse.csr_matrix, groups: pd.DataFrame) -> pd.DataFrame:
    """Metrics of each cell: counts (cells, genes) raw integers, groups (genes, groups) bool."""
    if not counts.data.all():  # stored zeros do not count as genes
        counts = counts.copy()
        counts.eliminate_zeros()
    starts = range(0, max(counts.shape[0], 1), BLOCK)
    blocks = [
        _measure_block(counts[start : start + BLOCK], groups)
        for start in track_progress(
            starts, counts.shape[0], "cells", lambda start: min(BLOCK, counts.shape[0] - start)
        )
    ]
    return pd.concat(blocks, ignore_index=True)


def _measure_block(counts: sparse.csr_matrix, groups: pd.DataFrame) -> pd.DataFrame:
    """As `measure`, for as many cells as temporary arrays may hold."""
    weights = np.column_stack([np.ones(len(groups), dtype=np.int64), groups.to_numpy(dtype=np.int64)])
    sums = counts @ weights  # in 64 bits, as the weights are
    total = sums[:, 0]
    whole = np.maximum(total, 1)  # a cell without counts gets 0 percent
    metrics = {
        "n_genes_by_counts": np.diff(counts.indptr).astype(np.int64),
        "total_counts": total,
        f"pct_counts_in_top_{TOP}_genes": 100 * _count_top(counts) / whole,
    }
    metrics |= {f"pct_counts_{name}": 100 * sums[:, i + 1] / whole for i, name in enumerate(groups)}
    return pd.DataFrame(metrics)


def _count_top(counts: sparse.csr_matrix) -> np.ndarray:
    """Counts of each cell (int64) in its TOP highest genes."""
    stored = np.diff(counts.indptr)
    width = max(int(stored.max(initial=0)), TOP)
    rows = np.zeros((counts.shape[0], width), dtype=counts.dtype)
    rows[np.arange(width) < stored[:, None]] = counts.data
    rows.sort(axis=1)  # 4 ns a value; np.partition took 6 to 70 with so many ties
    return rows[:, width - TOP :].sum(axis=1, dtype=np.int64)


def set_limits(
    metrics: pd.DataFrame,
    sample: pd.Series,
    *,
    nmads: float | None,
    min_cells_for_mads: int,
    **fixed: float | None,
) -> pd.DataFrame:
    """The limits of each sample (rows) by reason (columns), in the metric's unit; missing where none holds.

    metrics: as from `measure`; sample: the sample of each cell; fixed: every limit of FIXED, None for none.
    The columns `cells` and `mads` (do enough cells pass the fixed limits for robust ones) come first.
    """
    cells = sample.value_counts().sort_index()
    failed = {
        name: is_outside(metrics[metric], fixed[name], upper) for name, (metric, upper) in FIXED.items()
    }
    passing = ~pd.DataFrame(failed).any(axis=1)
    enough = passing.groupby(sample).sum() >= min_cells_for_mads
    large = enough.reindex(cells.index) & (nmads is not None)
    limits = pd.DataFrame({"cells": cells, "mads": large} | {name: fixed[name] for name in FIXED})
    for reason, (metric, upper) in ROBUST.items():
        if nmads is None:
            limits[reason] = np.nan
            continue
        bound = estimate_limit(
            metrics.loc[passing, metric],
            sample[passing],
            nmads=nmads if upper else -nmads,
            log=metric in ON_LOG_SCALE,
        )
        limits[reason] = bound.reindex(cells.index).where(large)
    return limits.astype({name: float for name in [*FIXED, *ROBUST]})


def is_outside(values: pd.Series, limit: pd.Series | float | None, upper: bool) -> pd.Series:
    """Which values are above an upper limit, or below a lower one; none where the limit is missing."""
    if limit is None:
        return pd.Series(False, index=values.index)
    return values > limit if upper else values < limit  # comparing with a missing limit is False


def find_unfiltered(
    metrics: pd.DataFrame, sample: pd.Series, *, min_counts: int | None, min_genes: int | None
) -> pd.DataFrame:
    """The samples that look unfiltered (rows), by the rule in this module's docstring.

    Columns: barcodes; low, how many of them are below min_counts or min_genes; median, the counts of the
    median barcode; half, the counts above which barcodes hold half of the sample's counts.
    """
    low = is_outside(metrics["total_counts"], min_counts, False)
    low |= is_outside(metrics["n_genes_by_counts"], min_genes, False)
    table = pd.DataFrame(
        {
            "barcodes": sample.value_counts().sort_index(),
            "low": low.groupby(sample).sum(),
            "median": metrics["total_counts"].groupby(sample).median(),
            "half": metrics["total_counts"].groupby(sample).apply(weighted_median),
        }
    )
    return table[table["half"] >= UNFILTERED_FOLD * table["median"].clip(lower=1)]


def weighted_median(totals: pd.Series) -> int:
    """The largest total for which barcodes with at least as many counts hold half of all counts."""
    descending = np.sort(totals.to_numpy())[::-1]
    reached = np.cumsum(descending, dtype=np.int64)
    return int(descending[np.searchsorted(reached, reached[-1] / 2)])


def check_filtered(unfiltered: pd.DataFrame, *, min_counts: int | None, min_genes: int | None) -> None:
    """Raise InputError for a sample of which the limits would drop most barcodes; warn of the others.

    unfiltered: as from `find_unfiltered`.
    """
    limits = {"counts": min_counts, "genes": min_genes}
    below = " or ".join(f"fewer than {limit:,} {what}" for what, limit in limits.items() if limit)
    for row in unfiltered.itertuples():
        if row.low > row.barcodes / 2:
            raise InputError(
                f"sample {row.Index!r} looks unfiltered: {row.low:,} of {row.barcodes:,} barcodes have "
                f"{below}; use filtered_feature_bc_matrix, or load.empty_droplets: inflection"
            )
        warn(
            "sample_looks_unfiltered",
            f"sample {row.Index} may hold droplets without a cell: half of its counts are in barcodes with "
            f"{row.half:,} counts or more, its median barcode has {row.median:,.0f}",
            count=row.barcodes,
            setting="qc.min_counts",
        )


def estimate_limit(values: pd.Series, sample: pd.Series, *, nmads: float, log: bool) -> pd.Series:
    """Median + nmads standard deviations, estimated by the MAD, of the values of each sample.

    log: estimate on log1p(values) and return to their unit. Missing where the MAD is 0.
    """
    if log:
        values = np.log1p(values)
    middle = values.groupby(sample).median()
    distance = (values - values.groupby(sample).transform("median")).abs()
    mad = distance.groupby(sample).median()
    limit = middle + nmads * MAD_TO_SD * mad.where(mad > 0)
    return np.expm1(limit) if log else limit


def judge(metrics: pd.DataFrame, sample: pd.Series, limits: pd.DataFrame) -> pd.Series:
    """The first limit that each cell fails, "" if none: below a lower one or above an upper one."""
    rules = FIXED | ROBUST
    failed = [
        is_outside(metrics[metric], sample.map(limits[reason]), upper)
        for reason, (metric, upper) in rules.items()
    ]
    return pd.Series(np.select(failed, list(rules), default=""), index=metrics.index)


def warn_of_patterns(groups: pd.DataFrame, species: str) -> None:
    """Warn of patterns that match no gene. groups: as from `match_groups`."""
    for name in groups.columns[~groups.any()]:
        what = f"no gene symbol matches pattern {name} of {species}, so pct_counts_{name} is 0 in every cell"
        warn("pattern_matches_nothing", what, setting=f"qc.patterns.{species}.{name}")


def summarise(reason: pd.Series) -> str:
    """`98,214 cells, 2,931 dropped (max_pct_mt 1,204; min_genes 1,727)`."""
    lost = reason[reason != ""].value_counts().sort_index()
    why = "; ".join(f"{code} {number:,}" for code, number in lost.items())
    return f"{len(reason):,} cells, {lost.sum():,} dropped" + (f" ({why})" if why else "")


if __name__ == "__main__":
    with job(snakemake) as out:
        shard = read_shard(snakemake.input.shard)
        settings = {**snakemake.params}
        species = read_species(snakemake.input.cohort)
        groups = match_groups(shard.genes["symbol"], settings.pop("patterns"), species)
        warn_of_patterns(groups, species)
        sample = shard.obs["sample"].reset_index(drop=True)
        metrics = measure(shard.counts, groups)
        least = {name: settings[name] for name in ("min_counts", "min_genes")}
        check_filtered(find_unfiltered(metrics, sample, **least), **least)
        limits = set_limits(metrics, sample, **settings)
        reason = judge(metrics, sample, limits)
        metrics.insert(0, "cell", shard.obs.index)
        metrics.assign(passed=reason == "", reason=reason).to_parquet(out.cells, index=False)
        limits["passed"] = (reason == "").groupby(sample).sum()
        write_tsv(limits.rename_axis("sample").reset_index(), out.limits)
        conclude(summarise(reason))
