"""Hidden factors: planted ones are found, a batch that goes with age does no harm, and what is written."""

import numpy as np
import pandas as pd
import pytest
from scipy import linalg, sparse
from threadpoolctl import threadpool_limits

from donors import _factors, _fit, differential
from donors._contrast import resolve_contrast

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
    pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option is deprecated"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in Series.drop is deprecated"),
    pytest.mark.filterwarnings("ignore:The dispersion trend curve fitting did not converge"),
]

SETTINGS = {
    "min_samples": 8, "min_residual_df": 3, "gene_filter": "share", "min_count": 10,
    "min_count_samples": 0.3, "min_total_count": 15, "large_n": 10, "min_prop": 0.7, "fdr": 0.05,
    "cooks": True, "shrink": False, "threads": 1,
}  # fmt: skip
AGE = {"name": "age", "design": "~ age", "test": "age", "unit": 10}
VOOM = {"block": "donor"}  # one sample of each donor: limma-voom without a correlation


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in a job."""
    import pydeseq2.ds  # noqa: F401  so that its BLAS is loaded

    with threadpool_limits(limits=1):
        yield


def drawn(samples: int = 40, genes: int = 800, seed: int = 0):
    """Values with noise of 1: two factors, the first goes with x; x changes the first 80 genes by 2."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=samples)
    factors = np.column_stack([0.8 * x + 0.6 * rng.normal(size=samples), rng.normal(size=samples)])
    y = factors @ rng.normal(0, 1, (2, genes)) + rng.normal(size=(samples, genes))
    y[:, :80] += 2 * x[:, None]
    return y, np.column_stack([np.ones(samples), x]), factors


def test_planted_factors_are_found_with_what_they_share_with_the_tested_term():
    y, matrix, factors = drawn()
    parts = _factors.split_values(y, matrix, matrix[:, :1])
    found = _factors.find_factors(parts, 2)
    centred = found - found.mean(axis=0), factors - factors.mean(axis=0)
    angles = linalg.subspace_angles(*centred)
    assert np.cos(angles).min() > 0.98
    with_x = [np.corrcoef(matrix[:, 1], each @ np.linalg.pinv(each) @ matrix[:, 1])[0, 1] for each in centred]
    assert with_x[0] == pytest.approx(with_x[1], abs=0.05)
    beside = found - matrix @ np.linalg.lstsq(matrix, found)[0]
    np.testing.assert_allclose(beside.T @ beside / 38, np.eye(2), atol=1e-10)
    residuals_alone = linalg.subspace_angles(centred[1], beside)
    assert np.cos(residuals_alone).min() < 0.85  # what RUVr would add


def test_genes_that_change_with_the_term_as_with_a_factor_are_outliers():
    """A tenth of the genes changes with x along the loadings: least squares would take x into the factor."""
    rng = np.random.default_rng(4)
    x, factor, loadings = rng.normal(size=40), rng.normal(size=40), rng.normal(0, 1, 800)
    y = np.outer(factor, loadings) + rng.normal(size=(40, 800))
    y[:, :80] += 4 * np.outer(x, loadings[:80])
    matrix = np.column_stack([np.ones(40), x])
    found = _factors.find_factors(_factors.split_values(y, matrix, matrix[:, :1]), 1)[:, 0]
    slope = np.polyfit(x, found / np.polyfit(factor - factor.mean(), found, 1)[0] - factor, 1)[0]
    print(f"\nslope of the factor with x beyond its own {slope:.3f}", end="")
    assert abs(slope) < 0.15


def test_loadings_have_sums_above_zero():
    for seed in range(4):
        y, matrix, _ = drawn(seed=seed)
        parts = _factors.split_values(y, matrix, matrix[:, :1])
        assert ((_factors.find_factors(parts, 2).T @ parts.residuals).sum(axis=1) > 0).all()


def test_counts_are_scaled_to_noise_that_is_alike():
    rng = np.random.default_rng(5)
    base = np.repeat([12.0, 100, 2000], 200)
    counts = rng.negative_binomial(20, 20 / (20 + base * rng.lognormal(0, 0.3, (40, 1)))).astype(float)
    matrix = np.ones((40, 1))
    spread = _factors.scale_counts(counts, matrix).std(axis=0, ddof=1)
    assert [spread[base == mean].mean().round(1) for mean in (12, 100, 2000)] == [1, 1, 1]


def test_factors_do_not_depend_on_coding_or_order_of_genes():
    y, matrix, _ = drawn(seed=1)
    first = _factors.find_factors(_factors.split_values(y, matrix, matrix[:, :1]), 2)
    coded = matrix @ np.array([[1.0, 0], [3, -2]])
    other = _factors.find_factors(_factors.split_values(y[:, ::-1], coded, matrix[:, :1]), 2)
    np.testing.assert_allclose(first, other, atol=1e-6)


def test_several_effects_are_robust_each():
    y, matrix, factors = drawn(seed=2)
    rng = np.random.default_rng(3)
    group = rng.integers(0, 3, 40)
    wide = np.column_stack([matrix, group == 1, group == 2])
    found = _factors.find_factors(_factors.split_values(y, wide, wide[:, :1]), 2)
    centred = found - found.mean(axis=0), factors - factors.mean(axis=0)
    assert np.cos(linalg.subspace_angles(*centred)).min() > 0.97


def cohort(donors: int, seed: int, *, together: float, age=0.0, genes: int = 300, changed: int = 40):
    """Negative binomial sums: a hidden batch of two changes all genes by 0.5 (natural log); age some (log2).

    together: correlation of age with what decides the batch.
    """
    rng = np.random.default_rng(seed)
    years = rng.normal(size=donors)
    batch = together * years + np.sqrt(1 - together**2) * rng.normal(size=donors) > 0
    base = rng.lognormal(4.5, 1, genes) + 15
    level = rng.normal(0, 0.25, (donors, genes)) + rng.normal(0, 0.4, (donors, 1))
    level += np.outer(batch, rng.normal(0, 0.5, genes))
    sign = np.where(np.arange(changed) % 2, -1, 1) * np.log(2)
    level[:, :changed] += np.outer(years * age, sign)
    names = [f"d{number:02d}" for number in range(donors)]
    obs = pd.DataFrame({"sample": names, "donor": names, "age": 50 + 10 * years})
    obs["batch"] = np.where(batch, "b", "a")
    return rng.negative_binomial(20, 20 / (20 + base * np.exp(level))), obs


def measure(data, contrast, **settings) -> differential.Result:
    counts, obs = data
    genes = pd.DataFrame({"gene_id": [f"g{i:03d}" for i in range(counts.shape[1])], "symbol": ""})
    return differential.differential(
        sparse.csr_array(counts), genes, obs, resolve_contrast(contrast, obs), **(SETTINGS | settings)
    )


def rates(contrast, *, seeds: int, **planted) -> tuple[float, float]:
    """P-values below 0.05 of genes that age does not change, and power at FDR 5 %."""
    below, power = [], []
    for seed in range(seeds):
        table = measure(cohort(24, seed, **planted), contrast).genes
        changes = table["gene_id"] < "g040"
        below.append((table.loc[~changes, "pvalue"] < 0.05).mean())
        power.append((table.loc[changes, "padj"] < 0.05).mean())
    return float(np.mean(below)), float(np.mean(power))


@pytest.mark.parametrize("together", [0.0, 0.6])
def test_a_hidden_batch_that_goes_with_age_keeps_the_type_i_error(together):
    without, one = (rates(AGE | VOOM | more, seeds=6, together=together)[0] for more in ({}, {"factors": 1}))
    print(f"\n{together}: {without:.3f} below 0.05 without factors, {one:.3f} with one", end="")
    assert without > 0.2 or together == 0
    assert 0.03 < one < 0.075


def test_factors_find_what_a_hidden_batch_hides():
    planted = {"together": 0.0, "age": 0.35}
    none, one, known = (
        rates(AGE | VOOM | more, seeds=4, **planted)
        for more in ({}, {"factors": 1}, {"design": "~ age + batch"})
    )
    print(f"\npower {none[1]:.2f} without, {one[1]:.2f} with a factor, {known[1]:.2f} with the batch", end="")
    assert one[1] > none[1] + 0.1
    assert one[1] > known[1] - 0.05


def test_deseq2_gets_the_same_factors():
    data = cohort(24, 0, together=0.6)
    plain, two = measure(data, AGE), measure(data, AGE | {"factors": 2})
    assert (plain.genes["pvalue"] < 0.05).mean() > 0.15
    assert (two.genes["pvalue"] < 0.05).mean() < 0.1
    assert two.status["method"] == "DESeq2"
    by_voom = measure(data, AGE | VOOM | {"factors": 2})
    names = _fit.FACTORS
    np.testing.assert_allclose(two.samples[names], by_voom.samples[names])
    assert two.samples[names].notna().sum().tolist() == [24, 24, 0, 0, 0]


def test_no_factor_is_the_same_answer_with_a_table_of_numbers():
    data = cohort(24, 1, together=0.3)
    plain, none = measure(data, AGE | VOOM), measure(data, AGE | VOOM | {"factors": 0})
    pd.testing.assert_frame_equal(plain.genes, none.genes)
    assert plain.numbers.empty
    assert none.numbers["factors"].tolist() == [0, 1, 2, 3, 4, 5]
    assert none.numbers["in_contrast"].tolist() == [True, False, False, False, False, False]
    first = none.numbers.iloc[0]
    assert (first["correlation"], first["shared"]) == (pytest.approx(1), first["significant"])
    assert first["significant"] == plain.status["significant"]
    assert none.numbers["vif"].iloc[0] == pytest.approx(1)
    assert none.numbers["vif"].iloc[1] > 1.02  # the batch goes with age
    assert none.numbers["variance"].iloc[1:].is_monotonic_decreasing


def test_the_numbers_are_those_of_the_tests_with_so_many_factors():
    data = cohort(24, 2, together=0.6, age=0.4)
    numbers = measure(data, AGE | VOOM | {"factors": 1}).numbers.set_index("factors")
    for number in (0, 2):
        own = measure(data, AGE | VOOM | {"factors": number})
        assert numbers.loc[number, "significant"] == own.status["significant"]
        assert numbers.loc[number, "vif"] == pytest.approx(own.status["vif"])


def test_factors_take_degrees_of_freedom_and_genes():
    data = cohort(8, 0, together=0.0)
    assert measure(data, AGE | VOOM | {"factors": 3}).status["residual_df"] == 3
    status = measure(data, AGE | VOOM | {"factors": 4}).status
    assert (status["status"], status["residual_df"]) == ("no_residual_df", 2)
    assert status["message"].startswith("8 samples for 6 coefficients (4 of hidden factors) leave 2 residual")
    few = cohort(24, 0, together=0.0, genes=90)
    status = measure(few, AGE | VOOM | {"factors": 2}).status
    assert status["status"] == "no_genes"
    assert status["message"].endswith("genes are too few for 2 hidden factors (50 each)")


def test_samples_of_one_donor_have_the_factor_of_their_sum():
    counts, obs = cohort(24, 3, together=0.6)
    half = np.random.default_rng(0).binomial(counts, 0.5)
    visits = pd.concat([obs.assign(sample=obs["sample"] + end) for end in "xy"], ignore_index=True)
    both = measure((np.vstack([half, counts - half]), visits), AGE | {"aggregate": "donor", "factors": 1})
    single = measure((counts, obs), AGE | {"factors": 1})
    own = both.samples.set_index("sample")["factor1"]
    for end in "xy":
        np.testing.assert_allclose(own[obs["sample"] + end], single.samples["factor1"], rtol=1e-6)
