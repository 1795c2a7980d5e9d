r"""Measure each cell and mark those that fail a limit, with the first limit that they fail.

Metrics, in scanpy's words (scanpy.pp.calculate_qc_metrics): n_genes_by_counts (genes with a count),
total_counts, pct_counts_in_top_20_genes, and pct_counts_<group> for each group of genes in `patterns`, all
in percent of the cell's counts. A group is matched against the whole symbol, upper case, so `HB[ABDEGMQZ]\d*`
takes HBA1 and HBB but not HBEGF or HBS1L. A cell without counts has 0 percent of everything.

Limits are fixed ones from the config, and robust ones per sample: median -/+ nmads x 1.4826 x MAD over all
cells of the sample (samples are never cut by shards). Both sides on log1p counts and log1p genes; only the
upper side on pct_counts_mt, because few mitochondrial reads harm no cell. With 5 MADs on the log scale the
upper side takes outliers beyond any doublet (about twice the counts), which are left to `doublets`. There is
no robust limit where the MAD is 0 (it would drop every cell off the median) or the sample is small.
Sources: isOutlier of scater (McCarthy et al. 2017, Bioinformatics 33:1179), which has the same constant;
Heumos et al. 2023, Nature Reviews Genetics 24:550, for the metrics and the sides.

The metrics are plain sums over sparse rows. scanpy's function gives the same numbers and is the oracle in the
tests, but importing it takes 6.9 s a process against 3.0 s without it, and its first call compiles for 5 to
20 s; after that, 40,000 cells with 34 million entries take it 1.2 s and `measure` 1.0 s (2 cores, 2026-11).
"""

import re

import numpy as np
import pandas as pd
from scipy import sparse

from files import read_shard, write_tsv
from job import InputError, job, track_progress, warn

TOP = 20
BLOCK = 2048  # cells at once: bounds the memory of temporary arrays, changes no number
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


def gene_groups(symbols: pd.Series, patterns: dict[str, str]) -> pd.DataFrame:
    """Which genes (rows) are in which group (columns, bool): the pattern matches the whole symbol.

    Raises InputError for a pattern that is no regular expression.
    """
    upper = symbols.astype(str).str.upper()
    groups = {}
    for name, pattern in patterns.items():
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise InputError(f"qc.patterns.{name}: {pattern!r} is no regular expression ({error})") from error
        groups[name] = [compiled.fullmatch(symbol) is not None for symbol in upper]
    return pd.DataFrame(groups, index=symbols.index, dtype=bool)


def measure(counts: sparse.csr_matrix, groups: pd.DataFrame) -> pd.DataFrame:
    """Metrics of each cell: counts (cells, genes) raw integers, groups (genes, groups) bool."""
    if not counts.data.all():  # stored zeros are no genes
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
        f"pct_counts_in_top_{TOP}_genes": 100 * _top_counts(counts) / whole,
    }
    metrics |= {f"pct_counts_{name}": 100 * sums[:, i + 1] / whole for i, name in enumerate(groups)}
    return pd.DataFrame(metrics)


def _top_counts(counts: sparse.csr_matrix) -> np.ndarray:
    """Counts of each cell (int64) in its TOP highest genes."""
    stored = np.diff(counts.indptr)
    width = max(int(stored.max(initial=0)), TOP)
    rows = np.zeros((counts.shape[0], width), dtype=counts.dtype)
    rows[np.arange(width) < stored[:, None]] = counts.data
    rows.sort(axis=1)  # 4 ns a value; np.partition took 6 to 70 with so many ties
    return rows[:, width - TOP :].sum(axis=1, dtype=np.int64)


def limits_per_sample(
    metrics: pd.DataFrame,
    sample: pd.Series,
    *,
    nmads: float | None,
    min_cells_for_mads: int,
    **fixed: float | None,
) -> pd.DataFrame:
    """The limits of each sample (rows) by reason (columns), in the metric's unit; missing where none holds.

    metrics: as from `measure`; sample: the sample of each cell; fixed: every limit of FIXED, None for none.
    The columns `cells` and `mads` (are there enough cells for robust limits) come first.
    """
    cells = sample.value_counts().sort_index()
    large = (cells >= min_cells_for_mads) & (nmads is not None)
    limits = pd.DataFrame({"cells": cells, "mads": large} | {name: fixed[name] for name in FIXED})
    for reason, (metric, upper) in ROBUST.items():
        if nmads is None:
            limits[reason] = np.nan
            continue
        bound = robust_limit(
            metrics[metric], sample, nmads=nmads if upper else -nmads, log=metric in ON_LOG_SCALE
        )
        limits[reason] = bound.where(large)
    return limits.astype({name: float for name in [*FIXED, *ROBUST]})


def robust_limit(values: pd.Series, sample: pd.Series, *, nmads: float, log: bool) -> pd.Series:
    """Median + nmads standard deviations, estimated by the MAD, of the values of each sample.

    log: estimate on log1p(values) and return to their unit. Missing where the MAD is 0.
    """
    if log:
        values = np.log1p(values)
    middle = values.groupby(sample).median()
    mad = (values - sample.map(middle)).abs().groupby(sample).median()
    limit = middle + nmads * MAD_TO_SD * mad.where(mad > 0)
    return np.expm1(limit) if log else limit


def judge(metrics: pd.DataFrame, sample: pd.Series, limits: pd.DataFrame) -> pd.Series:
    """The first limit that each cell fails, "" if none: below a lower one or above an upper one."""
    rules = FIXED | ROBUST
    fails = []
    for reason, (metric, upper) in rules.items():
        limit = sample.map(limits[reason])  # comparing with a missing one is False
        fails.append(metrics[metric] > limit if upper else metrics[metric] < limit)
    return pd.Series(np.select(fails, list(rules), default=""), index=metrics.index)


def summary(reason: pd.Series) -> str:
    """`98,214 cells, 2,931 dropped (max_pct_mt 1,204; min_genes 1,727)`."""
    lost = reason[reason != ""].value_counts().sort_index()
    why = "; ".join(f"{code} {number:,}" for code, number in lost.items())
    return f"{len(reason):,} cells, {lost.sum():,} dropped" + (f" ({why})" if why else "")


if __name__ == "__main__":
    with job(snakemake) as out:
        shard = read_shard(snakemake.input.shard)
        settings = {**snakemake.params}
        groups = gene_groups(shard.genes["symbol"], settings.pop("patterns"))
        for name in groups.columns[~groups.any()]:
            what = f"no gene symbol matches pattern {name}, so pct_counts_{name} is 0 in every cell"
            warn("pattern_matches_nothing", what, setting=f"qc.patterns.{name}")
        sample = shard.obs["sample"].reset_index(drop=True)
        metrics = measure(shard.counts, groups)
        limits = limits_per_sample(metrics, sample, **settings)
        reason = judge(metrics, sample, limits)
        metrics.insert(0, "cell", shard.obs.index)
        metrics.assign(passed=reason == "", reason=reason).to_parquet(out.cells, index=False)
        limits["passed"] = (reason == "").groupby(sample).sum()
        write_tsv(limits.rename_axis("sample").reset_index(), out.limits)
        print(f"qc: {summary(reason)}")
