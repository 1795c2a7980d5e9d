"""Score doublets with Scrublet in each donor or pool, among the cells that passed qc.

Doublets arise within one capture, so each group is scored alone: `by: pool` where one capture holds several
donors that were not told apart, `by: donor` where the doublets between donors are gone already. Scores are
Scrublet's (Wolock et al. 2019, Cell Systems 8:281), with the steps of its `scrub_doublets` called one by
one so that a group that cannot be scored is known before it fails:

- not_run, too_few_cells: fewer than min_cells cells passed qc; no_pool: the cells name no pool;
  few_variable_genes: fewer than two genes are left by Scrublet's filter (3 counts in 3 cells, above the
  min_gene_variability_pctl-th percentile of the v-score).
- at most one component less than the group has cells or variable genes;
- nearest neighbours are exact (scikit-learn) instead of approximate (annoy): as fast at this size
  (0.34 against 0.40 s for 1,200 cells), and there is no index that is built differently on other machines.

The automatic threshold (the minimum between the two modes of the simulated scores) is used where it calls
about as many cells as are expected: the share that it calls is at most max_fold times the expected rate, and
at least the expected rate / max_fold. Otherwise, and where there is no minimum, the threshold is the score
that calls the share nearest to the expected rate, the smaller share of two that are equally near. In groups
of one cell type the automatic threshold calls nearly all cells; in groups of about 1,000 cells it often calls
a tenth of the doublets, although their scores are the highest.

The expected rate is a share, the same in all groups; or `auto`: rate_per_1000_cells x cells / 1,000, as two
cells meet in a droplet in proportion to the cells loaded; or the mean of a numeric covariate. The cells of
`auto` are those of the group in the same pool, on average over the group's cells. For `by: donor` in a
capture of several donors this is the rate of doublets within the donor, which are those that were not found
by genotype: their share of all doublets is the donor's share of the capture.
A cell that was not scored has scored = False, score missing and doublet = False, which says nothing.

A group's seed comes from random_state and its name, and its arithmetic runs on one thread, so a result
depends neither on shards nor on threads. Groups run side by side in threads, which was as fast as
processes (24 donors of 1,100 cells on 2 cores: 7.5 s one by one, 4.8 s in threads, 5.0 s in processes)
and copies no counts.
"""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import scrublet
from scipy import sparse
from threadpoolctl import threadpool_limits

from files import read_shard, write_tsv
from job import InputError, Progress, conclude, job, warn

MIN_COUNTS, MIN_CELLS = 3, 3  # Scrublet's own defaults for a variable gene: 3 counts in 3 cells
MAX_RATE = 0.5  # an expected rate above it is not one of a capture
STATUS = [
    "group",
    "cells",
    "status",
    "reason",
    "threshold",
    "threshold_from",
    "called",
    "called_share",
    "automatic_share",  # what Scrublet's own threshold would call; missing where there is none
    "expected_doublet_rate",
]
NOT_SCORED = {  # reason -> the setting that changes it
    "too_few_cells": "doublets.min_cells",
    "no_pool": "load.pool",
    "few_variable_genes": "doublets.min_gene_variability_pctl",
}
RANDOM = threading.Lock()  # Scrublet seeds and draws from numpy's one global generator


class Scrublet(scrublet.Scrublet):
    """Scrublet with a simulation that may run in several threads."""

    def simulate_doublets(self, *args, **kwargs):
        """Draw the pairs of cells, one thread at a time."""
        with RANDOM:
            super().simulate_doublets(*args, **kwargs)


def choose_rates(
    cells: pd.DataFrame, by: str, *, expected_doublet_rate: float | str, rate_per_1000_cells: float
) -> dict[str, float]:
    """The expected doublet rate of each group (see the module's docstring).

    cells: one row per cell with the column `by`, pool, and the covariate that expected_doublet_rate names, if
    any. Raises InputError where the rate of a group is not above 0 and at most MAX_RATE.
    """
    group = cells[by].astype(str)
    if expected_doublet_rate == "auto":
        together = group.groupby([group, cells["pool"].astype(str)]).transform("size")
        rates = rate_per_1000_cells * together / 1000
        remedy = "lower doublets.rate_per_1000_cells, set load.pool to the capture, or set a number"
    elif isinstance(expected_doublet_rate, str):
        rates = cells[expected_doublet_rate].astype(float)
        remedy = f"correct {expected_doublet_rate}, a share of the cells, or set a number"
    else:
        return dict.fromkeys(group.unique(), expected_doublet_rate)
    means = rates.groupby(group).agg(lambda values: values.mean(skipna=False))
    wrong = means[~((means > 0) & (means <= MAX_RATE)) & (means.index != "")]
    if len(wrong):
        raise InputError(
            f"doublets.expected_doublet_rate: {expected_doublet_rate} is {wrong.iloc[0]:.3g} for {by} "
            f"{wrong.index[0]!r}, where 0 to {MAX_RATE} is possible; {remedy}"
        )
    return means.to_dict()


def derive_seed(random_state: int, group: str) -> int:
    """Seed of a group, 32 bits: the same wherever and in whatever order the group is scored."""
    return int.from_bytes(hashlib.sha256(f"{random_state}:{group}".encode()).digest()[:4])


def simulate_and_score(
    counts: sparse.csr_matrix,
    *,
    seed: int,
    expected_doublet_rate: float,
    n_prin_comps: int,
    min_gene_variability_pctl: float,
    sim_doublet_ratio: float,
) -> Scrublet | None:
    """Scrublet's scores and automatic threshold of one group; None where fewer than two genes vary.

    counts: (cells, genes) raw integers. The result holds doublet_scores_obs_, (cells,), and threshold_,
    which is absent if there is no minimum between two modes.
    """
    counts = sparse.csc_matrix(counts)  # what scrublet 0.2 can work with
    total = np.asarray(counts.sum(axis=1)).ravel()
    counts = counts[:, _has_variance(counts, total)]
    if counts.shape[1] < 2:
        return None
    scrub = Scrublet(
        counts,
        total_counts=total,
        sim_doublet_ratio=sim_doublet_ratio,
        expected_doublet_rate=expected_doublet_rate,
        random_state=seed,
    )
    scrublet.pipeline_normalize(scrub)
    with np.errstate(invalid="ignore"):  # its CV_input, unused, is the root of a number that may be negative
        scrublet.pipeline_get_gene_filter(
            scrub,
            min_counts=MIN_COUNTS,
            min_cells=MIN_CELLS,
            min_gene_variability_pctl=min_gene_variability_pctl,
        )
    genes = len(scrub._gene_filter)
    if genes < 2:
        return None
    scrublet.pipeline_apply_gene_filter(scrub)
    scrub.simulate_doublets(sim_doublet_ratio=sim_doublet_ratio)
    scrublet.pipeline_normalize(scrub, postnorm_total=1e6)
    scrublet.pipeline_zscore(scrub)
    n_comps = min(n_prin_comps, counts.shape[0] - 1, genes - 1)
    scrublet.pipeline_pca(scrub, n_prin_comps=n_comps, random_state=seed)
    scrub.calculate_doublet_scores(use_approx_neighbors=False)
    scrub.call_doublets(verbose=False)
    return scrub


def _has_variance(counts: sparse.csc_matrix, total: np.ndarray) -> np.ndarray:
    """Genes with a share of the counts that differs between cells; the others break Scrublet's logarithms."""
    share = sparse.diags_array(1 / total) @ counts
    mean = np.asarray(share.mean(axis=0)).ravel()
    variance = np.asarray(share.power(2).mean(axis=0)).ravel() - mean**2
    return variance > 1e-9 * mean**2  # above rounding; one count more or less gives at least 1e-6


def choose_threshold(
    scores: np.ndarray, automatic: float | None, *, expected_doublet_rate: float, max_fold: float
) -> tuple[float, str]:
    """The score above which a cell is called a doublet, and where it comes from."""
    if automatic is not None:
        fold = (scores > automatic).mean() / expected_doublet_rate
        if 1 / max_fold <= fold <= max_fold:
            return float(automatic), "automatic"
    values, cells = np.unique(scores, return_counts=True)
    shares = 1 - np.cumsum(cells) / len(scores)  # of cells above each value; the last is 0
    off = np.abs(shares - expected_doublet_rate).round(12)
    return float(values[len(off) - 1 - np.argmin(off[::-1])]), "expected_rate"


def score_group(
    counts: sparse.csr_matrix,
    group: str,
    *,
    min_cells: int,
    max_fold: float,
    expected_doublet_rate: float,
    random_state: int,
    **settings,
) -> tuple[np.ndarray | None, dict]:
    """Scores of one group's cells, or None, and its row of the status table.

    counts: (cells, genes) raw integers of the cells that passed qc; settings: of `simulate_and_score`.
    """
    status = dict.fromkeys(STATUS) | {"group": group, "cells": counts.shape[0], "status": "not_run"}
    status["expected_doublet_rate"] = expected_doublet_rate
    if not group:
        return None, status | {"reason": "no_pool"}
    if counts.shape[0] < min_cells:
        return None, status | {"reason": "too_few_cells"}
    scrub = simulate_and_score(
        counts,
        seed=derive_seed(random_state, group),
        expected_doublet_rate=expected_doublet_rate,
        **settings,
    )
    if scrub is None:
        return None, status | {"reason": "few_variable_genes"}
    scores = scrub.doublet_scores_obs_
    automatic = getattr(scrub, "threshold_", None)
    threshold, source = choose_threshold(
        scores, automatic, expected_doublet_rate=expected_doublet_rate, max_fold=max_fold
    )
    called = int((scores > threshold).sum())
    return scores, status | {
        "status": "scored",
        "reason": "",
        "threshold": threshold,
        "threshold_from": source,
        "called": called,
        "called_share": called / len(scores),
        "automatic_share": None if automatic is None else float((scores > automatic).mean()),
    }


def score_groups(
    counts: sparse.csr_matrix,
    group: np.ndarray,
    passed: np.ndarray,
    rates: dict[str, float],
    *,
    threads: int,
    **settings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score each group's cells that passed qc, `threads` groups at a time.

    counts: (cells, genes) raw integers; group (str) and passed (bool) of each cell; rates: expected doublet
    rate of each group; settings: of `score_group`. Returns group, doublet_score, doublet, scored per cell,
    and one status row per group.
    """
    names = np.unique(group)
    members = [np.flatnonzero((group == name) & passed) for name in names]
    # One thread of arithmetic per group; OpenMP counts its threads per calling thread, hence the initializer.
    with (
        threadpool_limits(1),
        ThreadPoolExecutor(threads, initializer=threadpool_limits, initargs=(1,)) as pool,
    ):
        progress = Progress(int(passed.sum()), "cells scored")

        def score(name, rows):
            result = score_group(counts[rows], name, expected_doublet_rate=rates[name], **settings)
            progress.add(len(rows))
            return result

        results = list(pool.map(score, names, members))
    cells = pd.DataFrame({"group": group, "doublet_score": np.nan, "doublet": False, "scored": False})
    for rows, (scores, status) in zip(members, results, strict=True):
        if scores is not None:
            cells.loc[rows, "doublet_score"] = scores
            cells.loc[rows, "doublet"] = scores > status["threshold"]
            cells.loc[rows, "scored"] = True
    return cells, pd.DataFrame([row for _, row in results], columns=STATUS).astype({"called": "Int64"})


def warn_of(status: pd.DataFrame) -> None:
    """Warn of groups that were not scored. Replaced thresholds are for `cells`, which sees all groups."""
    for row in status.itertuples():
        if row.status != "scored":
            why = row.reason.replace("_", " ")
            if row.group:
                what = f"{row.group} is not scored for doublets: {why}"
                warn("doublets_not_scored", what, count=row.cells, setting=NOT_SCORED[row.reason])
            else:  # these cells may be in several shards, so their number is not told
                what = f"cells without a pool are not scored for doublets: {why}"
                warn("doublets_not_scored", what, setting=NOT_SCORED[row.reason])


if __name__ == "__main__":
    with job(snakemake) as out:
        shard = read_shard(snakemake.input.shard)
        passed = pd.read_parquet(snakemake.input.qc, columns=["cell", "passed"]).set_index("cell")["passed"]
        settings = {**snakemake.params}
        by, names = settings.pop("by"), ("expected_doublet_rate", "rate_per_1000_cells")
        rates = choose_rates(shard.obs, by, **{name: settings.pop(name) for name in names})
        cells, status = score_groups(
            shard.counts,
            shard.obs[by].to_numpy(dtype=str),
            passed.loc[shard.obs.index].to_numpy(),
            rates,
            threads=snakemake.threads,
            **settings,
        )
        cells.insert(0, "cell", shard.obs.index)
        cells.to_parquet(out.cells, index=False)
        write_tsv(status, out.status)
        warn_of(status)
        ran = status["status"] == "scored"
        lost = status.loc[~ran, "reason"].value_counts().sort_index()
        why = "; ".join(f"{reason} {number:,}" for reason, number in lost.items())
        conclude(
            f"{cells['doublet'].sum():,} of {cells['scored'].sum():,} scored cells called; "
            f"{ran.sum():,} of {len(status):,} groups scored, "
            f"{(status['threshold_from'] == 'expected_rate').sum():,} by the expected rate"
            + (f" (not scored: {why})" if why else "")
        )
