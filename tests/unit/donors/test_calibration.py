"""Simulated cohorts of known truth: type-I error, false discoveries, power, ranking, of genes and shares.

`pytest -s tests/unit/donors/test_calibration.py` prints the tables of docs/methods.md.
SCOHORT_SEED shifts all seeds.
"""

import os
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from donors import differential
from donors._contrast import resolve_contrast

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
    pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option is deprecated"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in Series.drop is deprecated"),
]

SHIFT = 1000 * int(os.environ.get("SCOHORT_SEED", "0"))
GENES = 300
EFFECTS = np.repeat([0.1, -0.1, 0.2, -0.2, 0.4, -0.4], 10)  # log2 per decade of the first 60 genes
NONE = np.zeros(0)
SETTINGS = {
    "min_samples": 8, "min_residual_df": 3, "gene_filter": "share", "min_count": 10,
    "min_count_samples": 0.3, "min_total_count": 15, "large_n": 10, "min_prop": 0.7, "fdr": 0.05,
    "cooks": True, "shrink": False, "threads": 1,
}  # fmt: skip
AGE = {"name": "age", "design": "~ age + sex", "test": "age", "unit": 10}
CURVE = {"name": "curve", "design": "~ bs(age, df=3) + sex", "test": "bs(age, df=3)"}


class Cohort(NamedTuple):
    """Sums of one cell type, and the donors."""

    counts: np.ndarray
    obs: pd.DataFrame


def cohort(donors: int, seed: int, *, effects: np.ndarray = EFFECTS) -> Cohort:
    """Negative binomial sums; dispersion 0.05 + 3 / mean scattered by 0.5 (natural log)."""
    rng = np.random.default_rng(SHIFT + seed)
    obs = pd.DataFrame(
        {
            "sample": [f"d{i:02d}" for i in range(donors)],
            "age": rng.uniform(20, 90, donors).round(),
            "sex": np.array(["F", "M"])[rng.permutation(np.arange(donors) % 2)],
        }
    )
    base = rng.lognormal(4.5, 1.2, GENES) + 15
    log2fc = np.zeros(GENES)
    log2fc[: len(effects)] = effects
    of_sex = rng.normal(0, 0.2, GENES) * (obs["sex"] == "M").to_numpy()[:, None]
    depth = rng.lognormal(0, 0.4, donors)[:, None]
    decades = (obs["age"].to_numpy() - 55) / 10
    mean = base * depth * 2.0 ** (np.outer(decades, log2fc) + of_sex)
    dispersion = (0.05 + 3 / base) * rng.lognormal(0, 0.5, GENES)
    return Cohort(rng.negative_binomial(1 / dispersion, 1 / (1 + mean * dispersion)), obs)


def measured(data: Cohort, contrast: dict, **settings) -> pd.DataFrame:
    """The table of genes with their true effects, by gene."""
    genes = pd.DataFrame({"gene_id": [f"g{i:03d}" for i in range(GENES)], "symbol": ""})
    result = differential.differential(
        sparse.csr_array(data.counts),
        genes,
        data.obs,
        resolve_contrast(contrast, data.obs),
        **(SETTINGS | settings),
    )
    assert result.status["trend"] == "parametric"
    table = result.genes.set_index("gene_id").sort_index()
    truth = pd.Series(np.r_[EFFECTS, np.zeros(GENES - len(EFFECTS))], genes["gene_id"])
    return table.assign(truth=truth)


def permuted(data: Cohort, seed: int) -> Cohort:
    """The same sums with the ages of other donors, within each sex.

    For sums that no gene's age has changed: else the genes that it has would all follow the same hidden age,
    and their p-values would not be independent, as the Kolmogorov-Smirnov test has them.
    """
    rng = np.random.default_rng(SHIFT + seed)
    age = data.obs.groupby("sex")["age"].transform(lambda values: rng.permutation(values.to_numpy()))
    return Cohort(data.counts, data.obs.assign(age=age))


def interval(hits: int, trials: int) -> tuple[float, float]:
    """99.9 % Clopper-Pearson interval of a share."""
    return tuple(stats.binomtest(int(hits), int(trials)).proportion_ci(0.999))


def row(*cells) -> None:
    """Print a row of a Markdown table."""
    print("\n|", " | ".join(map(str, cells)), "|", end="")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in a job."""
    import pydeseq2.ds  # noqa: F401  so that its BLAS is loaded

    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="module")
def planted():
    """Tables of 3 cohorts each of 24 and of 40 donors."""
    tables = {(donors, seed): measured(cohort(donors, seed), AGE) for donors in (24, 40) for seed in range(3)}
    return pd.concat(tables, names=["donors", "seed"]).reset_index()


@pytest.mark.parametrize("contrast", [AGE, CURVE], ids=["Wald", "LRT"])
def test_pvalues_are_uniform_under_permuted_ages(contrast):
    tables = [measured(permuted(cohort(30, seed, effects=NONE), seed), contrast) for seed in range(10, 15)]
    pvalues = pd.concat(tables)["pvalue"].dropna()
    hits = (pvalues < 0.05).sum()
    low, high = interval(hits, len(pvalues))
    ks = stats.kstest(pvalues, "uniform")
    test = "LRT, spline" if contrast is CURVE else "Wald, slope"
    row(test, f"{len(pvalues)} | {hits / len(pvalues):.4f} | {low:.3f} to {high:.3f} | {ks.pvalue:.3f}")
    assert low < 0.05 < high
    assert ks.pvalue > 0.001


def test_false_discoveries_are_as_many_as_allowed(planted):
    found = planted[planted["padj"] < 0.05]
    false = (found["truth"] == 0).sum()
    low, high = interval(false, len(found))
    row("FDR", f"{len(found)} found | {false / len(found):.3f} | {low:.3f} to {high:.3f}")
    assert low < 0.05
    right = found[found["truth"] != 0]
    assert (np.sign(right["log2FoldChange"]) == np.sign(right["truth"])).mean() > 0.99


def test_power_grows_with_effect_and_donors(planted):
    planted = planted.assign(size=planted["truth"].abs(), found=planted["padj"] < 0.05)
    power = planted[planted["size"] > 0].pivot_table(index="donors", columns="size", values="found")
    for donors, values in power.iterrows():
        row(f"{donors} donors, power", *(f"{value:.2f}" for value in values))
    assert (power.diff(axis=1).iloc[:, 1:] > 0).all(axis=None)
    assert (power.loc[40] >= power.loc[24]).all()
    assert power.loc[40, 0.4] > 0.9


def test_planted_genes_lead(planted):
    areas = {
        (donors, size): roc_auc_score(some["truth"] != 0, -some["pvalue"].fillna(1))
        for donors, cohorts in planted.groupby("donors")
        for size in (0.1, 0.2, 0.4)
        for some in [cohorts[cohorts["truth"].abs().isin([0, size])]]
    }
    for donors in (24, 40):
        row(f"{donors} donors, AUROC", *(f"{areas[donors, size]:.3f}" for size in (0.1, 0.2, 0.4)))
    assert areas[24, 0.4] > 0.95
    assert areas[40, 0.4] > areas[40, 0.1] > 0.6


def test_effects_and_their_intervals_hold_the_truth(planted):
    error = planted["log2FoldChange"] - planted["truth"]
    covered = (error.abs() < 1.96 * planted["lfcSE"]).mean()
    row("95 % intervals that hold the truth", f"{covered:.3f}")
    strong = planted[planted["truth"].abs() == 0.4]
    slope = (strong["log2FoldChange"] * np.sign(strong["truth"])).mean() / 0.4
    row("mean estimate / truth at 0.4", f"{slope:.3f}")
    assert 0.92 < covered < 0.97
    assert 0.93 < slope < 1.07


def test_shrunken_effects_err_less_and_keep_strong_ones():
    table = measured(cohort(24, 20), AGE, shrink=True)
    error = {
        name: np.sqrt(((table[name] - table["truth"]) ** 2).mean())
        for name in ("log2FoldChange", "log2FoldChange_shrunk")
    }
    row("root mean square error, raw and shrunken", *(f"{value:.4f}" for value in error.values()))
    assert error["log2FoldChange_shrunk"] < 0.9 * error["log2FoldChange"]
    strong = table[table["truth"].abs() == 0.4]
    kept = (strong["log2FoldChange_shrunk"] / strong["log2FoldChange"]).median()
    assert 0.8 < kept < 1.02
