"""Weights of samples: R's limma, the likelihood itself, poor samples that are planted, and a null."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, sparse, stats
from threadpoolctl import threadpool_limits

from donors import _gls, _sample_weights, _voom, differential
from donors._contrast import resolve_contrast

ORACLE = Path(__file__).parent.parent.parent / "oracle"
SETTINGS = {
    "min_samples": 8, "min_residual_df": 3, "gene_filter": "share", "min_count": 10,
    "min_count_samples": 0.3, "min_total_count": 15, "large_n": 10, "min_prop": 0.7, "fdr": 0.05,
    "cooks": True, "shrink": False, "threads": 1,
}  # fmt: skip
AGE = {"name": "age", "design": "~ age", "test": "age", "unit": 10}
WEIGHTS, BLOCK = {"sample_weights": True}, {"block": "donor"}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in a job."""
    with threadpool_limits(limits=1):
        yield


@pytest.mark.parametrize("way", ["alone", "block"])
def test_weights_and_statistics_are_those_of_r(way):
    counts = pd.read_parquet(ORACLE / "weights.sums.parquet").set_index("gene_id").T.to_numpy(float)
    samples = pd.read_csv(ORACLE / "weights.samples.tsv", sep="\t")
    genes = pd.read_parquet(ORACLE / "weights.genes.parquet")
    male, stim = samples["sex"] == "male", samples["condition"] == "stim"
    matrix = np.column_stack([np.ones(len(samples)), samples["age"], male, stim]).astype(float)
    libraries = samples["library"].to_numpy(float)
    donors = samples["donor"].to_numpy() if way == "block" else np.arange(len(samples))
    fits, correlation, own = _voom.fit_voom(counts, libraries, matrix, donors, weigh_samples=True)
    off = np.abs(own - samples[f"weight_{way}"]).max()
    tests = _gls.test_models(fits, np.eye(4)[[1]])
    print(
        f"\n{way}: largest difference of weights {off:.1e}, t {np.abs(tests.t - genes[f'{way}_t']).max():.1e}"
    )
    np.testing.assert_allclose(own, samples[f"weight_{way}"], rtol=1e-5)
    np.testing.assert_allclose(tests.effects, genes[f"{way}_effect"], atol=1e-5)
    np.testing.assert_allclose(tests.se, genes[f"{way}_se"], rtol=1e-5)
    np.testing.assert_allclose(tests.t, genes[f"{way}_t"], atol=1e-4)
    np.testing.assert_allclose(tests.pvalues, genes[f"{way}_p"], rtol=1e-3)
    expected = pd.read_csv(ORACLE / "weights.numbers.tsv", sep="\t").set_index("name")["value"]
    assert correlation == pytest.approx(expected["correlation"] if way == "block" else 0, abs=1e-5)
    near = np.abs(np.log(own / samples["weight_default"])) < 0.1  # limma's default depends on order
    assert near.all()
    assert set(samples["sample"][own < 0.5]) == {"s05", "s20", "s31", "s32"}


def table(samples: int = 9, genes: int = 12, seed: int = 0):
    rng = np.random.default_rng(seed)
    matrix = np.column_stack([np.ones(samples), rng.normal(size=samples)])
    spread = np.where(np.arange(samples) == 3, 3.0, 1.0)[:, None]
    return rng.normal(size=(samples, genes)) * spread, matrix, rng.uniform(0.5, 3, (samples, genes))


def test_the_weights_are_at_the_maximum_of_the_restricted_likelihood():
    y, matrix, weights = table()
    own = _sample_weights.sample_weights(y, matrix, weights)
    basis = np.linalg.svd(np.ones((1, 9)))[2][1:].T

    def minus_likelihood(free):
        log_variance = basis @ free
        value = _sample_weights.PRIOR * (log_variance + np.exp(-log_variance)).sum()
        for gene in range(y.shape[1]):
            root = np.sqrt(weights[:, gene] * np.exp(-log_variance))
            x, z = matrix * root[:, None], y[:, gene] * root
            rss = ((z - x @ np.linalg.lstsq(x, z)[0]) ** 2).sum()
            value += 7 * np.log(rss) + np.linalg.slogdet(x.T @ x)[1] + log_variance.sum()
        return value

    best = optimize.minimize(minus_likelihood, np.zeros(8), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(np.log(own), -basis @ best.x, atol=1e-5)
    assert own.argmin() == 3
    assert np.log(own).sum() == pytest.approx(0, abs=1e-9)


def test_weights_do_not_depend_on_the_order_of_genes_or_on_their_scale():
    y, matrix, weights = table(seed=1)
    own = _sample_weights.sample_weights(y, matrix, weights)
    scales = np.random.default_rng(2).lognormal(0, 2, y.shape[1])
    other = _sample_weights.sample_weights((y * scales)[:, ::-1], matrix, weights[:, ::-1])
    np.testing.assert_allclose(own, other, rtol=1e-6)


def test_samples_that_the_design_fits_have_weight_one():
    y, matrix, weights = table(samples=3)
    assert _sample_weights.sample_weights(y, matrix, weights).tolist() == [1, 1, 1]
    y, matrix, weights = table(seed=3)
    exact = np.column_stack([matrix, np.arange(9) == 3])  # sample 3 has a coefficient of its own
    own = _sample_weights.sample_weights(y, exact, weights)
    assert 0.5 < own[3] < 2


def cohort(donors: int, seed: int, *, age=0.0, poor: int = 0, visits: int = 1, genes: int = 300):
    """Negative binomial sums; `poor` samples have noise of 0.8 (natural log) more; 40 genes change."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(donors), visits)
    obs = pd.DataFrame(
        {"sample": [f"s{n:02d}" for n in range(len(donor))], "donor": [f"d{n}" for n in donor]}
    )
    obs["age"] = rng.uniform(20, 80, donors)[donor]
    base = rng.lognormal(4.5, 1, genes) + 15
    level = rng.normal(0, 0.2, (donors, genes))[donor] + rng.normal(0, 0.4, (len(donor), 1))
    level[:, :40] += np.outer((obs["age"] - 50) / 10 * age, np.where(np.arange(40) % 2, -1, 1) * np.log(2))
    level[:poor] += rng.normal(0, 0.8, (poor, genes))
    return rng.negative_binomial(20, 20 / (20 + base * np.exp(level))), obs


def measure(data, contrast) -> differential.Result:
    counts, obs = data
    genes = pd.DataFrame({"gene_id": [f"g{i:03d}" for i in range(counts.shape[1])], "symbol": ""})
    result = differential.differential(
        sparse.csr_array(counts), genes, obs, resolve_contrast(contrast, obs), **SETTINGS
    )
    assert (result.status["status"], result.status["method"]) == ("tested", "limma-voom")
    return result


def test_poor_samples_count_less_and_effects_are_found_that_they_hide():
    found = {}
    for name, more in (("weights", WEIGHTS), ("none", BLOCK)):
        tables = [measure(cohort(20, seed, age=0.25, poor=4), AGE | more) for seed in range(3)]
        power = [
            (each.genes.set_index("gene_id").sort_index()["padj"].iloc[:40] < 0.05).mean() for each in tables
        ]
        found[name] = np.mean(power)
    own = measure(cohort(20, 0, age=0.25, poor=4), AGE | WEIGHTS).samples.set_index("sample")["sample_weight"]
    print(f"\npower with weights {found['weights']:.2f}, without {found['none']:.2f}")
    assert (own.iloc[:4] < 0.5).all()
    assert (own.iloc[4:] > 0.5).all()
    assert found["weights"] > found["none"] + 0.1
    assert measure(cohort(20, 0), AGE | BLOCK).samples["sample_weight"].isna().all()


@pytest.mark.parametrize(("visits", "more"), [(1, {}), (2, BLOCK), (2, {"aggregate": "donor"})])
def test_poor_samples_keep_the_type_i_error(visits, more):
    pvalues = [
        measure(cohort(20, seed, poor=4, visits=visits), AGE | WEIGHTS | more).genes["pvalue"]
        for seed in range(10)
    ]
    share = (np.concatenate(pvalues) < 0.05).mean()
    print(f"\n{visits} visits {more}: {share:.3f} below 0.05", end="")
    assert 0.03 < share < 0.07


def test_pairs_can_have_weights():
    """The two residuals of a donor are alike, so the weights of a pair are too, nearly."""
    counts, obs = cohort(12, 4, visits=2)
    obs["condition"] = np.tile(["ctrl", "stim"], 12)
    contrast = {"name": "stim", "design": "~ donor + condition", "test": "condition"}
    result = measure((counts, obs), contrast | WEIGHTS)
    assert result.samples["sample_weight"].between(0.3, 3).all()
    assert np.isnan(result.status["block_correlation"])
    assert stats.kstest(result.genes["pvalue"], "uniform").pvalue > 0.001
