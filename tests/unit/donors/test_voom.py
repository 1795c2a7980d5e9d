"""limma-voom with correlated samples: R's limma, least squares by hand, planted truth and null.

`pytest -s tests/unit/donors/test_voom.py` prints the table of docs/methods.md. SCOHORT_SEED shifts all seeds.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import sparse, stats
from threadpoolctl import threadpool_limits

from donors import _differential_figures as figures
from donors import _gls, _size_factors, _voom, composition, differential
from donors._contrast import resolve_contrast

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
    pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option is deprecated"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in Series.drop is deprecated"),
    pytest.mark.filterwarnings("ignore:The dispersion trend curve fitting did not converge"),
]

ORACLE = Path(__file__).parent.parent.parent / "oracle"
SHIFT = 1000 * int(os.environ.get("SCOHORT_SEED", "0"))
SETTINGS = {
    "min_samples": 8, "min_residual_df": 3, "gene_filter": "share", "min_count": 10,
    "min_count_samples": 0.3, "min_total_count": 15, "large_n": 10, "min_prop": 0.7, "fdr": 0.05,
    "cooks": True, "shrink": False, "threads": 1,
}  # fmt: skip
AGE = {"name": "age", "design": "~ age", "test": "age", "unit": 10}
STIM = {"name": "stim", "design": "~ condition", "test": "condition", "level": "stim", "reference": "ctrl"}
BLOCK, SUM = {"block": "donor"}, {"aggregate": "donor"}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in a job."""
    import pydeseq2.ds  # noqa: F401  so that its BLAS is loaded

    with threadpool_limits(limits=1):
        yield


# R's limma


def visits():
    """Counts (samples, genes), samples, and what R says of genes and of all of them."""
    counts = pd.read_parquet(ORACLE / "visits.sums.parquet").set_index("gene_id").T
    samples = pd.read_csv(ORACLE / "visits.samples.tsv", sep="\t").set_index("sample")
    genes = pd.read_parquet(ORACLE / "visits.genes.parquet").set_index("gene_id")
    numbers = pd.read_csv(ORACLE / "visits.numbers.tsv", sep="\t").set_index("name")["value"]
    one, male, stim = np.ones(len(samples)), samples["sex"] == "male", samples["condition"] == "stim"
    matrix = np.column_stack([one, samples["age"], male, stim]).astype(float)
    return counts.to_numpy(float), samples, matrix, genes, numbers


def test_voom_with_a_correlation_is_that_of_r():
    counts, samples, matrix, genes, numbers = visits()
    libraries, donors = samples["library"].to_numpy(float), samples["donor"].to_numpy()
    fits, correlation, _ = _voom.fit_voom(counts, libraries, matrix, donors)
    assert correlation == pytest.approx(numbers["correlation"], abs=1e-5)
    np.testing.assert_allclose(np.sqrt(fits.variances), genes["sigma"], rtol=1e-5)
    for place, name in ((1, "age"), (3, "conditionstim")):
        tests = _gls.test_models(fits, np.eye(4)[[place]])
        assert tests.df == pytest.approx(numbers["df_residual"] + numbers["df_prior"], rel=1e-5)
        off = np.abs(tests.t - genes[f"{name}_t"]).max()
        print(f"\n{name}: largest difference of t {off:.1e}, correlation {correlation:.7f}")
        np.testing.assert_allclose(tests.effects, genes[f"{name}_effect"], atol=1e-5)
        np.testing.assert_allclose(tests.se, genes[f"{name}_se"], rtol=1e-5)
        np.testing.assert_allclose(tests.t, genes[f"{name}_t"], atol=1e-4)
        np.testing.assert_allclose(tests.pvalues, genes[f"{name}_p"], rtol=1e-3)


def test_weights_and_correlations_on_the_way_are_those_of_r():
    counts, samples, matrix, genes, numbers = visits()
    libraries, donors = samples["library"].to_numpy(float), samples["donor"].to_numpy()
    y = _voom.log_cpm(counts, libraries)
    weights = _voom.voom_weights(y, libraries, matrix, _gls.fit_models(y, matrix))
    first = _gls.common_correlation(y, matrix, donors, weights=weights)
    assert first == pytest.approx(numbers["correlation_first"], abs=1e-5)
    fits = _gls.fit_models(y, matrix, block=donors, correlation=first)
    weights = _voom.voom_weights(y, libraries, matrix, fits)
    for place, name in ((0, "weight_first"), (-1, "weight_last")):
        np.testing.assert_allclose(weights[place], genes[name], rtol=1e-4)
    codes = np.unique(donors, return_inverse=True)[1]
    found = _gls.correlations(y, matrix, codes, weights=weights).clip(-1 / 3 + 0.01, 0.99)
    off = np.abs(found - genes["correlation"])  # R stops after 20 steps
    assert off.max() < 0.005
    assert off.quantile(0.99) < 1e-4


# the parts, by hand


def test_a_model_with_weights_and_blocks_is_generalised_least_squares():
    rng = np.random.default_rng(0)
    block = np.repeat(list("abcde"), [1, 2, 3, 4, 2])
    matrix = np.column_stack([np.ones(12), rng.normal(size=12), block > "b"]).astype(float)
    y, weights = rng.normal(size=(12, 3)), rng.uniform(0.5, 4, (12, 3))
    fits = _gls.fit_models(y, matrix, weights=weights, block=block, correlation=0.4)
    same = np.where(block[:, None] == block, 0.4, 0) + 0.6 * np.eye(12)
    for place in range(3):
        root = 1 / np.sqrt(weights[:, place])
        gls = sm.GLS(y[:, place], matrix, sigma=same * np.outer(root, root)).fit()
        np.testing.assert_allclose(fits.coefficients[place], gls.params, rtol=1e-9)
        np.testing.assert_allclose(fits.covariance[place], gls.normalized_cov_params, rtol=1e-9)
        assert fits.variances[place] == pytest.approx(gls.scale, rel=1e-9)


def test_the_correlation_of_a_balanced_table_is_that_of_its_mean_squares():
    """Restricted maximum likelihood of equal blocks: (MSB - MSW) / (MSB + (m - 1) MSW)."""
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(10), 3)
    y = rng.normal(size=(10, 50))[codes] + rng.normal(size=(30, 50))
    means = np.stack([y[codes == block].mean(axis=0) for block in range(10)])
    between = 3 * ((means - y.mean(axis=0)) ** 2).sum(axis=0) / 9
    within = ((y - means[codes]) ** 2).sum(axis=0) / 20
    found = _gls.correlations(y, np.ones((30, 1)), codes)
    np.testing.assert_allclose(found, (between - within) / (between + 2 * within), atol=1e-6)


def test_donors_of_one_sample_do_not_correlate_and_explained_ones_are_refused():
    y, matrix = np.random.default_rng(2).normal(size=(8, 5)), np.ones((8, 1))
    assert _gls.common_correlation(y, matrix, np.arange(8)) == 0
    donors = np.repeat(np.arange(4), 2)
    with pytest.raises(ValueError, match="columns of the design"):
        _gls.common_correlation(y, (donors[:, None] == np.arange(4)).astype(float), donors)


@pytest.mark.parametrize("zeros", [False, True])
def test_size_factors_are_those_of_pydeseq2(zeros):
    from pydeseq2.dds import DeseqDataSet

    rng = np.random.default_rng(3)
    counts = rng.negative_binomial(5, 0.05, (10, 40)) + 1
    if zeros:
        counts[np.arange(40) % 10, np.arange(40)] = 0
    factors, method = _size_factors.size_factors(counts.astype(float))
    obs = pd.DataFrame({"group": list("ab") * 5}, index=[f"s{n}" for n in range(10)])
    theirs = DeseqDataSet(
        counts=pd.DataFrame(counts, obs.index, [f"g{n}" for n in range(40)]),
        metadata=obs,
        design="~ group",
        quiet=True,
    )
    theirs.fit_size_factors(fit_type=method)
    assert method == ("poscounts" if zeros else "ratio")
    np.testing.assert_allclose(factors, theirs.obs["size_factors"], rtol=1e-10)


# cohorts of known truth


def cohort(
    donors: int, visits: int, seed: int, *, age=0.0, stim=0.0, genes: int = 300, donor_sd: float = 0.4
):
    """Negative binomial sums of donors who differ by donor_sd (natural log); 40 genes have the log2 effects.

    age: per decade; stim: of every other visit. Returns counts and samples.
    """
    rng = np.random.default_rng(SHIFT + seed)
    donor = np.repeat(np.arange(donors), visits)
    obs = pd.DataFrame(
        {
            "sample": [f"s{number:03d}" for number in range(len(donor))],
            "donor": [f"d{number:02d}" for number in donor],
            "age": rng.uniform(20, 80, donors).round()[donor],
            "condition": np.tile(["ctrl", "stim"], len(donor))[: len(donor)] if visits > 1 else "ctrl",
        }
    )
    base = rng.lognormal(4.5, 1.2, genes) + 15
    level = rng.normal(0, donor_sd, (donors, genes))[donor] + rng.normal(0, 0.4, (len(donor), 1))
    sign = np.where(np.arange(40) % 2, -1, 1) * np.log(2)
    level[:, :40] += np.outer((obs["age"] - 50) / 10 * age + (obs["condition"] == "stim") * stim, sign)
    size = 1 / ((0.05 + 3 / base) * rng.lognormal(0, 0.5, genes))
    return rng.negative_binomial(size, size / (size + base * np.exp(level))), obs


def measure(data, contrast, **settings) -> differential.Result:
    counts, obs = data
    genes = pd.DataFrame({"gene_id": [f"g{i:03d}" for i in range(counts.shape[1])], "symbol": ""})
    result = differential.differential(
        sparse.csr_array(counts), genes, obs, resolve_contrast(contrast, obs), **(SETTINGS | settings)
    )
    assert result.status["status"] == "tested"
    return result


@pytest.mark.parametrize(("donors", "visits"), [(20, 3), (24, 2)])
@pytest.mark.parametrize("way", ["block", "aggregate"])
def test_donors_with_visits_keep_the_type_i_error(donors, visits, way):
    """As independent samples 15 to 25 % of the p-values are below 0.05."""
    below, found, correlations = [], 0, []
    for seed in range(20):
        result = measure(cohort(donors, visits, seed), AGE | {way: "donor"})
        below.append((result.genes["pvalue"] < 0.05).mean())
        found += result.status["significant"]
        correlations.append(result.status["block_correlation"])
    share = np.mean(below)
    print(
        f"\n{way}, {donors} donors x {visits}: {share:.3f} below 0.05, {found} genes at FDR 5 %",
        end="",
    )
    assert 0.035 < share < (0.075 if way == "aggregate" else 0.065)
    assert found <= 20
    if way == "block":
        assert 0.3 < np.mean(correlations) < 0.7


@pytest.mark.parametrize("way", ["block", "aggregate"])
def test_planted_slopes_are_found_with_their_size(way):
    genes = [
        measure(cohort(24, 2, seed, age=0.3), AGE | {way: "donor"}).genes.set_index("gene_id").sort_index()
        for seed in range(3)
    ]
    power = np.mean([(table["padj"].iloc[:40] < 0.05).mean() for table in genes])
    slope = np.mean([table["log2FoldChange"].iloc[:40:2].mean() for table in genes])
    print(f"\n{way}: power {power:.2f}, mean slope {slope:.3f} of 0.3", end="")
    assert power > 0.5
    assert slope == pytest.approx(0.3, abs=0.04)


def test_a_change_within_donors_is_found_by_the_block_as_by_pairs():
    data = cohort(12, 2, 5, stim=1.0)
    blocked = measure(data, STIM | BLOCK).genes.set_index("gene_id").sort_index()
    paired = measure(data, STIM | {"design": "~ donor + condition"}).genes.set_index("gene_id").sort_index()
    assert (blocked["padj"].iloc[:40] < 0.05).mean() > 0.9
    assert (blocked["pvalue"].iloc[40:] < 0.05).mean() < 0.12
    together = blocked.index.intersection(paired.index)
    off = (blocked.loc[together, "log2FoldChange"] - paired.loc[together, "log2FoldChange"]).abs()
    assert off.median() < 0.05


def test_the_status_says_how_a_block_was_tested():
    result = measure(cohort(20, 2, 1), AGE | BLOCK)
    status = result.status
    assert (status["method"], status["test"], status["size_factors"]) == ("limma-voom", "t", "ratio")
    assert result.genes[["dispersion", "log2FoldChange_shrunk"]].isna().all(axis=None)
    assert result.samples["size_factor"].notna().all()
    single = measure(cohort(20, 1, 1), AGE | BLOCK).status
    assert single["block_correlation"] == 0
    assert "no donor has several samples" in single["message"]


def test_a_curve_with_a_block_is_an_f_test():
    curve = {"name": "curve", "design": "~ bs(age, df=3)", "test": "bs(age, df=3)"}
    result = measure(cohort(20, 2, 2, age=0.3), curve | BLOCK)
    genes = result.genes.set_index("gene_id").sort_index()
    assert (result.status["test"], result.status["df"]) == ("F", 3)
    assert genes["log2FoldChange"].isna().all()
    assert (genes["padj"].iloc[:40] < 0.05).mean() > 0.3
    assert (genes["pvalue"].iloc[40:] < 0.05).mean() < 0.12


def test_figures_can_be_drawn_without_dispersions(tmp_path):
    data = cohort(12, 2, 2, age=0.3)
    curve = {"name": "curve", "design": "~ bs(age, df=3)", "test": "bs(age, df=3)"}
    for contrast in (AGE, curve):
        result = measure(data, contrast | BLOCK)
        tests = [(result.genes, result.status | {"label": "T"})]
        for draw in (figures.volcano, figures.pvalues, figures.dispersions):
            draw(tests).savefig(tmp_path / "figure.png")
        assert figures.dispersions(tests).axes[0].get_title() == "T\nlimma-voom has no dispersions"
    assert figures.volcano(tests).axes[0].get_xlabel().startswith("largest log2 difference")


def test_the_unit_scales_effects_of_a_block_and_no_statistic():
    data = cohort(20, 2, 3, age=0.2)
    decade, year = (measure(data, AGE | BLOCK | {"unit": unit}).genes for unit in (10, 1))
    np.testing.assert_allclose(decade["stat"], year["stat"], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(decade["log2FoldChange"], 10 * year["log2FoldChange"], rtol=1e-6, atol=1e-9)


# sums of donors


def test_sums_of_donors_are_tested_as_if_each_had_one_sample():
    counts, obs = cohort(20, 3, 4, age=0.2)
    ours = measure((counts, obs), AGE | SUM)
    by_donor = pd.DataFrame(counts).groupby(obs["donor"].to_numpy()).sum().to_numpy()
    single = obs.drop_duplicates("donor").assign(sample=lambda t: t["donor"]).reset_index(drop=True)
    theirs = measure((by_donor, single), AGE)
    pd.testing.assert_frame_equal(ours.genes, theirs.genes)
    assert ours.status["residual_df"] == 18
    assert len(ours.samples) == 60
    sums = ours.samples["size_factor"].groupby(obs["donor"]).sum()
    np.testing.assert_allclose(sums, theirs.samples.set_index("sample")["size_factor"].loc[sums.index])


# shares of cell types


def shares(donors: int, visits: int, seed: int, slope: float = 0.0):
    """Cells of 6 types in samples of about 500, age per decade around 0, donor of each sample."""
    rng = np.random.default_rng(SHIFT + seed)
    donor = np.repeat(np.arange(donors), visits)
    age = rng.uniform(-3, 3, donors)[donor]
    logits = np.log([0.3, 0.25, 0.2, 0.15, 0.07, 0.03]) + rng.normal(0, 0.4, (donors, 6))[donor]
    logits = logits + rng.normal(0, 0.2, logits.shape)
    logits[:, 0] += slope * age
    parts = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    cells = [rng.multinomial(n, p) for n, p in zip(rng.integers(300, 700, len(donor)), parts, strict=True)]
    return pd.DataFrame(cells, columns=list("ABCDEF")), pd.DataFrame({"Intercept": 1.0, "age": age}), donor


def test_shares_of_visits_keep_the_type_i_error_with_a_block():
    pvalues, as_independent, correlations = [], [], []
    for seed in range(60):
        cells, matrix, donor = shares(20, 3, seed)
        table, fits = composition.compare_shares(cells, matrix, np.array([0, 1]), donor, min_cells=5)
        pvalues.append(table["pvalue"])
        correlations.append(fits.correlation)
        plain = composition.compare_shares(cells, matrix, np.array([0, 1]), min_cells=5)[0]
        as_independent.append(plain["pvalue"])
    share, before = ((np.concatenate(each) < 0.05).mean() for each in (pvalues, as_independent))
    print(f"\nshares: {share:.3f} below 0.05 with a block, {before:.3f} without", end="")
    assert share < 0.1 < 0.15 < before
    assert 0.4 < np.mean(correlations) < 0.9


def test_a_share_that_changes_is_found_with_a_block():
    cells, matrix, donor = shares(30, 2, 1, slope=0.4)
    table = composition.compare_shares(cells, matrix, np.array([0, 1]), donor, min_cells=5)[0]
    table = table.set_index("cell_type")
    assert table.index[0] == "A"
    assert table.loc["A", "low"] < np.exp(0.4) < table.loc["A", "high"]
    assert stats.false_discovery_control(table["pvalue"])[0] < 0.01
