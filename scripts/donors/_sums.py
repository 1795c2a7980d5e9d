"""What is computed of one set of sums over samples: components, distances, covariates and shares of variance.

A set is one cell type over the samples that take part in it, or all cell types together.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from donors._components import (
    WIDER,
    associate,
    distance_limit,
    indicator,
    is_constant_within,
    principal_components,
    robust_distances,
)
from donors._expression import choose_genes, equalise, log_cpm, reliable_genes
from donors._same_person import (
    correlate,
    expect_correlation,
    leftover,
)
from donors._variance_shares import sequential_shares

TECHNICAL = ["log_cells", "log_depth", "pct_counts_mt"]  # of a sum, numbers
LEAST_SAMPLES, LEAST_GENES = 4, 20  # for components


class Sums(NamedTuple):
    """The sums of one cell type, or of all of them, over the samples that take part."""

    cell_type: str  # id; "" for all cell types
    counts: np.ndarray  # (samples, genes) of the genes that are counted often enough
    values: np.ndarray  # (samples, genes) log2 counts per million
    is_sex_gene: np.ndarray  # (genes,)
    obs: pd.DataFrame  # sample, donor, pool, covariates, TECHNICAL


def prepare_sums(
    cell_type: str, counts, obs: pd.DataFrame, is_sex_gene: np.ndarray, min_count: float
) -> Sums:
    """Log expression of the genes that are counted often enough. counts: (samples, all genes) sparse."""
    dense = counts.toarray()
    genes = choose_genes(dense, min_count=min_count)
    values = log_cpm(dense[:, genes], dense.sum(axis=1))
    return Sums(cell_type, dense[:, genes], values, is_sex_gene[genes], obs.reset_index(drop=True))


def list_covariates(obs: pd.DataFrame, covariates: dict[str, str]) -> dict[str, bool]:
    """Names of what may go with the expression, in order, and whether each is a number.

    Covariates of the config, the pool where there is one, the donor where donors have several samples.
    """
    kinds = {name: kind != "categorical" for name, kind in covariates.items()}
    if (obs["pool"].astype(object).fillna("").astype(str) != "").any():
        kinds["pool"] = False
    if obs["donor"].duplicated().any():
        kinds["donor"] = False
    return kinds


def is_given(values: pd.Series) -> np.ndarray:
    """Which values are not missing."""
    return (values.notna() & (values.astype(object) != "")).to_numpy()


def find_components(sums: Sums, *, n_top_genes: int, n_comps: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (samples, k) and shares of the variance; no column where there are too few samples or genes."""
    if len(sums.obs) < LEAST_SAMPLES or sums.values.shape[1] < LEAST_GENES:
        return np.zeros((len(sums.obs), 0)), np.zeros(0)
    genes = reliable_genes(sums.counts, sums.values, n_top_genes)
    values = equalise(sums.values[:, genes], sums.counts[:, genes])
    return principal_components(values, min(n_comps, len(values) - 2))


def tabulate_scores(sums: Sums, scores: np.ndarray, shares: np.ndarray) -> pd.DataFrame:
    """A row per sample and component."""
    k = len(shares)
    return pd.DataFrame(
        {
            "cell_type": sums.cell_type,
            "sample": np.repeat(sums.obs["sample"].astype(str).to_numpy(), k),
            "component": np.tile(np.arange(1, k + 1), len(sums.obs)),
            "score": scores.ravel(),
            "variance": np.tile(shares, len(sums.obs)),
        }
    )


def tabulate_distances(sums: Sums, scores: np.ndarray, *, alpha: float, random_state: int) -> pd.DataFrame:
    """Robust distance of each sample, its limit, and whether the sample lies beyond it."""
    n, k = scores.shape
    distance = robust_distances(scores) if k else np.full(n, np.nan)
    limit = WIDER * distance_limit(n, k, alpha, random_state) if k else np.nan
    return pd.DataFrame(
        {
            "cell_type": sums.cell_type,
            "sample": sums.obs["sample"].astype(str),
            "distance": distance,
            "limit": limit,
            "outlying": distance > limit,
        }
    )


def tabulate_associations(
    sums: Sums, scores: np.ndarray, kinds: dict[str, bool], *, permutations: int, random_state: int
) -> pd.DataFrame:
    """R2 and p-value of each covariate and component; a covariate that cannot be compared has neither."""
    rng = np.random.default_rng([random_state, len(sums.obs), *sums.cell_type.encode()])
    tables = []
    for name, is_number in (kinds | dict.fromkeys(TECHNICAL, True)).items():
        given = is_given(sums.obs[name])
        own = sums.obs.loc[given, name].reset_index(drop=True)
        donors = sums.obs.loc[given, "donor"].astype(str).to_numpy()
        if scores.shape[1] and given.sum() >= LEAST_SAMPLES:
            r2, pvalue, unit = associate(
                scores[given], own, donors, is_number=is_number, permutations=permutations, rng=rng
            )
        else:
            r2 = pvalue = np.full(scores.shape[1], np.nan)
            unit = ""
        about = {"cell_type": sums.cell_type, "covariate": name, "samples": int(given.sum())}
        found = {"component": np.arange(1, scores.shape[1] + 1), "r2": r2, "pvalue": pvalue, "permuted": unit}
        tables.append(pd.DataFrame(about | found))
    return pd.concat(tables, ignore_index=True)


def tabulate_variance(sums: Sums, kinds: dict[str, bool]) -> pd.DataFrame:
    """Quartiles over genes of the share of variance of each covariate, in order, and of the residual.

    Samples without a value of some covariate that varies are left out. None where no degree of freedom of the
    residual is left or there are too few genes.
    """
    columns = ["cell_type", "covariate", "place", "samples", "genes", "df", "expected", "low", "median"]
    columns += ["high", "mean"]
    names = [name for name in kinds if sums.obs[name][is_given(sums.obs[name])].drop_duplicates().size > 1]
    given = np.logical_and.reduce([np.ones(len(sums.obs), bool), *(is_given(sums.obs[n]) for n in names)])
    values = sums.values[given]
    values = values[:, values.std(axis=0) > 0] if len(values) else values
    if given.sum() < LEAST_SAMPLES or values.shape[1] < LEAST_GENES:
        return pd.DataFrame(columns=columns)
    blocks = [indicator(sums.obs.loc[given, name], is_number=kinds[name]) for name in names]
    shares, df = sequential_shares(values, blocks)
    if df[-1] < 1:
        return pd.DataFrame(columns=columns)
    low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75], axis=1)
    table = {"cell_type": sums.cell_type, "covariate": [*names, "residual"]}
    table |= {"place": np.arange(1, len(names) + 2), "samples": int(given.sum()), "genes": values.shape[1]}
    table |= {"df": df, "expected": df / (given.sum() - 1), "low": low, "median": middle, "high": high}
    return pd.DataFrame(table | {"mean": shares.mean(axis=1)})[columns]


def stands_for_donor(values: pd.Series, donors: pd.Series) -> bool:
    """Whether each level has one donor, so that removing it would remove what differs between donors."""
    return is_constant_within(donors, values.astype(str).to_numpy())


def correlate_samples(sums: Sums, kinds: dict[str, bool], n_top_genes: int) -> np.ndarray:
    """(samples, samples) correlation over genes that differ between samples beyond counting and covariates.

    Covariates that stand for the donor stay in, and so do those beyond a third of the samples as columns.
    """
    n, columns = len(sums.obs), np.zeros((len(sums.obs), 0))
    for name, is_number in kinds.items():
        values = sums.obs[name]
        if name == "donor" or not is_given(values).any():
            continue
        if is_number:
            new = values.astype(float).fillna(values.astype(float).mean()).to_numpy()[:, None]
        elif stands_for_donor(values, sums.obs["donor"]):
            continue
        else:
            new = indicator(values.astype(object).fillna("").astype(str), is_number=False)
        if columns.shape[1] + new.shape[1] <= n / 3:
            columns = np.hstack([columns, new])
    own = ~sums.is_sex_gene
    projection = leftover(columns)
    values = projection @ sums.values[:, own]
    genes = reliable_genes(sums.counts[:, own], values, n_top_genes)
    return correlate(values[:, genes]) - expect_correlation(projection)
