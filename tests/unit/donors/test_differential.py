"""Plain PyDESeq2 as oracle, invariances of the model, planted effects, real data, reasons and refusals."""

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from threadpoolctl import threadpool_limits

from donors import _contrast, _design, _fit, _shrink, differential
from donors import _differential_figures as figures
from files import read_tested, stack_tables
from job import InputError, collect_warnings

pytestmark = [
    # anndata 0.13 and pydeseq2 0.5 use what pandas 3.1 is about to drop
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
    pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option is deprecated"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in Series.drop is deprecated"),
    # counts without a trend: PyDESeq2 says that it takes the mean of dispersions, and so does the status
    pytest.mark.filterwarnings("ignore:The dispersion trend curve fitting did not converge"),
]

FILTER = {
    "gene_filter": "share",
    "min_count": 10,
    "min_count_samples": 0.3,
    "min_total_count": 15,
    "large_n": 10,
    "min_prop": 0.7,
}
LIMITS = {"min_samples": 2, "min_residual_df": 3}
SETTINGS = {"fdr": 0.05, "cooks": True, "shrink": False, "threads": 1} | FILTER | LIMITS
AGE = {"name": "age", "design": "~ age + sex", "test": "age", "unit": 10}
STIM = {"name": "stim", "design": "~ condition", "test": "condition", "level": "stim", "reference": "ctrl"}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in a job; BLAS threads on tiny matrices cost more than they give."""
    import pydeseq2.ds  # noqa: F401  so that its BLAS is loaded

    with threadpool_limits(limits=1):
        yield


def people(n: int = 24, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "sample": [f"s{i:02d}" for i in range(n)],
            "age": rng.uniform(20, 90, n).round(),
            "bmi": rng.normal(25, 4, n),
            "sex": np.array(["F", "M"])[np.arange(n) % 2],
            "condition": np.array(["ctrl", "stim"])[np.arange(n) // 2 % 2],
            "pool": np.array(["p1", "p2", "p3"])[rng.permutation(np.arange(n) % 3)],
        }
    )


def counts_of(obs: pd.DataFrame, log2fc, seed: int = 1, genes: int = 120) -> np.ndarray:
    """Negative binomial counts; the first 20 genes change by log2fc (samples,) up, the next 20 down."""
    rng = np.random.default_rng(seed)
    base = (60 + rng.lognormal(4.5, 1, genes)) * rng.lognormal(0, 0.3, len(obs))[:, None]
    sign = np.zeros(genes)
    sign[:20], sign[20:40] = 1, -1
    mean = base * 2.0 ** np.outer(log2fc, sign)
    return rng.negative_binomial(20, 20 / (20 + mean))


def named(genes: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"gene_id": [f"g{i:03d}" for i in range(genes)], "symbol": [f"S{i}" for i in range(genes)]}
    )


def run(counts, obs, contrast, **settings) -> differential.Result:
    settled = _contrast.resolve_contrast(contrast, obs)
    matrix = sparse.csr_array(np.asarray(counts, dtype=np.int64))
    return differential.differential(matrix, named(matrix.shape[1]), obs, settled, **(SETTINGS | settings))


def plain_pydeseq2(counts, metadata, formula, contrast, **kwargs) -> pd.DataFrame:
    """PyDESeq2 as its manual shows it, all genes; the trend of dispersions is R's (test_oracle.py)."""
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.ds import DeseqStats

    from donors._deseq2 import RInference

    frame = pd.DataFrame(counts, index=metadata.index, columns=named(counts.shape[1])["gene_id"])
    data = DeseqDataSet(
        counts=frame, metadata=metadata, design=formula, quiet=True, inference=RInference(n_cpus=1), **kwargs
    )
    data.deseq2()
    stats = DeseqStats(data, contrast=contrast, quiet=True, n_cpus=1)
    stats.summary()
    return stats.results_df


def assert_same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    theirs = theirs.loc[ours["gene_id"]]
    for column in ("baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue"):  # padj: test_oracle.py
        np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-10, err_msg=column)


def assert_equivalent(one: pd.DataFrame, other: pd.DataFrame, factor: float = 1.0) -> None:
    """The same statistics within the tolerance of the iterative fits; effects scaled by factor."""
    one, other = one.set_index("gene_id").sort_index(), other.set_index("gene_id").sort_index()
    np.testing.assert_allclose(one["stat"], other["stat"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one["pvalue"], other["pvalue"], rtol=1e-3)
    np.testing.assert_allclose(one["log2FoldChange"] * factor, other["log2FoldChange"], rtol=1e-4, atol=1e-6)


# the fit


def test_a_number_gives_what_plain_pydeseq2_gives():
    obs = people()
    counts = counts_of(obs, (obs["age"] - 50) / 10 * 0.3)
    result = run(counts, obs, AGE, min_count=0)
    sd = obs["age"].std()
    metadata = pd.DataFrame({"age": (obs["age"] - obs["age"].mean()) / sd, "sex": obs["sex"]}).set_index(
        obs["sample"]
    )
    assert_same(result.genes, plain_pydeseq2(counts, metadata, "~ age + sex", np.array([0, 10 / sd, 0])))
    assert result.status["genes_tested"] == 120
    assert result.status["size_factors"] == "ratio"


def test_a_factor_with_outliers_gives_what_plain_pydeseq2_gives():
    obs = people(32).sort_values(["condition", "sample"])
    counts = counts_of(obs, (obs["condition"] == "stim") * 1.0)
    counts[3, 50] = counts[20, 60] = 50_000  # 16 replicates: replaced, not dropped
    result = run(counts, obs, STIM)
    metadata = obs.set_index("sample")[["condition"]]
    theirs = plain_pydeseq2(counts, metadata, "~ condition", ["condition", "stim", "ctrl"])
    assert_same(result.genes, theirs)
    unmended = run(counts, obs, STIM, cooks=False).genes.set_index("gene_id")
    mended = result.genes.set_index("gene_id")
    assert abs(mended.loc["g050", "log2FoldChange"]) < 0.5 < abs(unmended.loc["g050", "log2FoldChange"])


def test_an_outlier_among_few_replicates_gets_no_pvalue():
    obs = people(10).sort_values("sample").assign(condition=["ctrl"] * 5 + ["stim"] * 5)
    counts = counts_of(obs, np.zeros(10))
    counts[2, 7] = 100_000
    genes = run(counts, obs, STIM).genes
    assert genes.loc[genes["outlier"], "gene_id"].tolist() == ["g007"]
    assert genes["pvalue"].isna().tolist() == [False] * 119 + [True]  # and it comes last
    assert not run(counts, obs, STIM, cooks=False).genes["outlier"].any()


def test_zeros_in_every_gene_switch_the_size_factors_and_say_so():
    obs = people()
    counts = counts_of(obs, np.zeros(24))
    counts[np.arange(120) % 24, np.arange(120)] = 0
    result = run(counts, obs, AGE)
    assert result.status["size_factors"] == "poscounts"
    assert result.status["size_factor_genes"] == 115  # of 120, 5 of each sample are zeros
    sd = obs["age"].std()
    metadata = pd.DataFrame({"age": (obs["age"] - obs["age"].mean()) / sd, "sex": obs["sex"]}).set_index(
        obs["sample"]
    )
    theirs = plain_pydeseq2(
        counts, metadata, "~ age + sex", np.array([0, 10 / sd, 0]), size_factors_fit_type="poscounts"
    )
    assert_same(result.genes, theirs)
    assert np.exp(np.log(result.samples["size_factor"]).mean()) == pytest.approx(1)


def test_planted_effects_are_found_per_unit():
    obs = people(40)
    result = run(counts_of(obs, obs["age"] / 10 * 0.3), obs, AGE)
    genes = result.genes.set_index("gene_id").sort_index()
    assert genes["log2FoldChange"].iloc[:20].median() == pytest.approx(0.3, abs=0.05)
    assert genes["log2FoldChange"].iloc[20:40].median() == pytest.approx(-0.3, abs=0.05)
    assert (genes["padj"].iloc[:40] < 0.05).sum() >= 38
    assert (genes["padj"].iloc[40:] < 0.05).sum() <= 6
    assert result.status["up"] + result.status["down"] == (genes["padj"] < 0.05).sum()
    assert result.status["up"] == ((genes["padj"] < 0.05) & (genes["log2FoldChange"] > 0)).sum()


def test_the_unit_scales_effects_and_no_statistic():
    obs = people()
    counts = counts_of(obs, obs["age"] / 10 * 0.2)
    decade, year = run(counts, obs, AGE).genes, run(counts, obs, {**AGE, "unit": 1}).genes
    assert_equivalent(year, decade, factor=10)
    assert decade["lfcSE"].sum() == pytest.approx(10 * year["lfcSE"].sum(), rel=1e-4)


def test_a_number_of_small_range_is_tested_whatever_its_unit():
    """A fraction of 0 to 0.02: a slope per 1 is beyond PyDESeq2's bound of 30 on coefficients."""
    obs = people(30).assign(fraction=np.random.default_rng(2).uniform(0, 0.02, 30))
    counts = counts_of(obs, obs["fraction"] / 0.02 * 2)
    contrast = {"name": "fraction", "design": "~ fraction", "test": "fraction"}
    one, percent = (run(counts, obs, contrast | {"unit": unit}).genes for unit in (1, 0.01))
    assert_equivalent(percent, one, factor=100)
    genes = one.set_index("gene_id").sort_index()
    assert (genes["padj"].iloc[:40] < 0.05).sum() >= 38
    assert (genes["padj"].iloc[40:] < 0.05).sum() <= 6
    assert genes["log2FoldChange"].iloc[:20].median() == pytest.approx(100, rel=0.15)
    assert genes["converged"].all()


def test_scale_and_origin_of_another_number_do_not_matter():
    obs = people()
    counts = counts_of(obs, obs["age"] / 10 * 0.2)
    contrast = {**AGE, "design": "~ age + bmi + sex"}
    assert_equivalent(
        run(counts, obs, contrast).genes, run(counts, obs.assign(bmi=obs["bmi"] * 1e5 + 3e6), contrast).genes
    )


def test_the_reference_turns_the_sign():
    obs = people()
    counts = counts_of(obs, (obs["condition"] == "stim") * 1.0)
    there, back = run(counts, obs, STIM), run(counts, obs, {**STIM, "level": "ctrl", "reference": "stim"})
    np.testing.assert_allclose(
        there.genes.set_index("gene_id")["stat"].sort_index(),
        -back.genes.set_index("gene_id")["stat"].sort_index(),
        rtol=1e-4,
    )
    assert there.status["effect"] == "stim against ctrl"
    assert (there.status["up"], there.status["down"]) == (back.status["down"], back.status["up"])


def test_coding_without_intercept_is_the_same_model():
    obs = people()
    counts = counts_of(obs, (obs["condition"] == "stim") * 1.0)
    one = run(counts, obs, {**STIM, "design": "~ condition + sex"})
    other = run(counts, obs, {**STIM, "design": "~ 0 + condition + sex"})
    assert_equivalent(one.genes, other.genes)
    assert other.status["coefficient"] == "condition[stim] - condition[ctrl]"


def test_an_interaction_is_the_difference_of_slopes():
    obs = people(40)
    counts = counts_of(obs, obs["age"] / 10 * 0.4 * (obs["sex"] == "M"))
    contrast = {**AGE, "design": "~ age * sex", "test": "age:sex"}
    result = run(counts, obs, contrast)
    genes = result.genes.set_index("gene_id").sort_index()
    assert genes["log2FoldChange"].iloc[:20].median() == pytest.approx(0.4, abs=0.08)
    assert result.status["effect"] == "per 10 of age:sex, M against F"
    slope = run(counts, obs, {**AGE, "design": "~ age * sex"}).genes.set_index("gene_id").sort_index()
    assert slope["log2FoldChange"].iloc[:20].median() == pytest.approx(0, abs=0.08)  # of the reference sex, F
    turned = {**AGE, "design": "~ age * sex", "references": {"sex": "M"}}
    slope = run(counts, obs, turned).genes.set_index("gene_id").sort_index()
    assert slope["log2FoldChange"].iloc[:20].median() == pytest.approx(0.4, abs=0.08)


def test_spellings_of_the_response_between_groups_have_one_answer():
    """Genes 0 to 39 answer to stim in group b only; genes 40 to 79 answer alike in both."""
    obs = pd.DataFrame({"donor": np.repeat([f"d{i:02d}" for i in range(12)], 2)})
    obs["sample"], obs["condition"] = [f"s{i:02d}" for i in range(24)], np.tile(["ctrl", "stim"], 12)
    obs["group"] = np.where(obs["donor"] < "d06", "a", "b")
    stim = (obs["condition"] == "stim").to_numpy()
    counts = counts_of(obs, 1.0 * (stim & (obs["group"] == "b").to_numpy()))
    counts[:, 40:80] = counts_of(obs, 1.0 * stim, seed=2)[:, :40]
    found = []
    for formula in ("~ donor + condition * group", "~ group + group:donor + condition:group"):
        contrast = {"name": "response", "design": formula, "test": "condition:group"}
        result = run(counts, obs, contrast, shrink=True)
        assert (result.status["status"], result.status["test"]) == ("tested", "Wald")
        assert result.status["shrinkage"] == "apeglm"
        assert result.status["effect"] == "stim against ctrl, in b minus in a"
        found.append(result.genes.set_index("gene_id").sort_index())
    for column in ("log2FoldChange", "lfcSE", "stat"):
        np.testing.assert_allclose(found[0][column], found[1][column], rtol=1e-3, atol=1e-4)
    significant = found[0].index[found[0]["padj"] < 0.05]
    assert (significant <= "g039").mean() > 0.9
    assert (significant <= "g039").sum() > 25
    assert found[0]["log2FoldChange"].iloc[:20].mean() == pytest.approx(1, abs=0.2)


def test_the_file_of_samples_says_who_took_part():
    obs = people()
    counts = counts_of(obs, obs["age"] / 10 * 0.2)
    obs["reason"] = ["too_few_cells", *[""] * 23]
    obs.loc[1, "age"], obs.loc[2, "sex"] = np.nan, None
    result = run(counts, obs, AGE)
    assert result.samples["reason"].tolist()[:4] == ["too_few_cells", "missing_age", "missing_sex", ""]
    assert result.samples["used"].tolist() == [False] * 3 + [True] * 21
    assert result.samples["size_factor"].isna().tolist() == [True] * 3 + [False] * 21
    assert (result.status["samples"], result.status["samples_used"]) == (24, 21)
    assert result.status["residual_df"] == 18
    kept = run(counts[3:], obs.iloc[3:].reset_index(drop=True), AGE)
    pd.testing.assert_frame_equal(kept.genes, result.genes)


def test_pairs_with_a_single_donor_work():
    obs = pd.DataFrame(
        {
            "sample": [f"s{i:02d}" for i in range(15)],
            "donor": [str(1000 + i // 2) for i in range(15)],  # the last has ctrl only
            "condition": ["ctrl", "stim"] * 7 + ["ctrl"],
        }
    )
    counts = counts_of(obs, (obs["condition"] == "stim") * 1.5)
    result = run(counts, obs, {**STIM, "design": "~ donor + condition"})
    genes = result.genes.set_index("gene_id").sort_index()
    assert genes["log2FoldChange"].iloc[:20].median() == pytest.approx(1.5, abs=0.2)
    alone, trend = result.status["message"].split("; ")
    assert alone == "samples with a coefficient of their own, which tell nothing: 1"
    assert (trend, result.status["trend"]) == (_fit.MEAN_TREND, "mean")
    assert result.status["residual_df"] == 15 - 9


# several effects together


def test_a_factor_of_several_levels_is_tested_as_a_whole():
    obs = people(30)
    shift = obs["pool"].map({"p1": 0.0, "p2": 1.0, "p3": -0.5})
    counts = counts_of(obs, shift)
    contrast = {"name": "pool", "design": "~ pool + sex", "test": "pool"}
    result = run(counts, obs, contrast, shrink=True)
    genes = result.genes.set_index("gene_id").sort_index()
    assert genes["log2Range"].iloc[:40].median() == pytest.approx(1.5, abs=0.2)
    assert genes[["log2FoldChange", "lfcSE", "log2FoldChange_shrunk"]].isna().all(axis=None)
    assert (genes["padj"].iloc[:40] < 0.05).all()
    assert (genes["padj"].iloc[40:] < 0.05).sum() <= 6
    status = result.status
    assert (status["test"], status["df"], status["up"], status["down"]) == ("LRT", 2, 0, 0)
    assert status["significant"] == (genes["padj"] < 0.05).sum()
    assert status["effect"] == "any change with pool"
    assert status["shrinkage"] == "not shrunk: several effects are tested together"
    other = (
        run(counts, obs, contrast | {"design": "~ 0 + pool + sex"}).genes.set_index("gene_id").sort_index()
    )
    np.testing.assert_allclose(genes["stat"], other["stat"], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(genes["log2Range"], other["log2Range"], rtol=1e-3, atol=1e-3)


def test_an_outlier_beside_higher_counts_is_one_unless_the_design_is_two_groups():
    obs = people(16).assign(condition=["ctrl"] * 8 + ["stim"] * 8, sex=["F"] * 4 + ["M"] * 8 + ["F"] * 4)
    counts = counts_of(obs, np.zeros(16))
    counts[8:12, 7] = [60_000, 61_000, 62_000, 63_000]  # of four alike, so no outlier themselves
    counts[0, 7] = 20_000
    genes = run(counts, obs, {**STIM, "design": "~ condition * sex"}).genes.set_index("gene_id")
    assert genes.index[genes["outlier"]].tolist() == ["g007"]
    assert np.isnan(genes.loc["g007", "pvalue"])


# shrunken effects


def test_shrunken_effects_do_not_depend_on_the_unit():
    obs = people()
    counts = counts_of(obs, obs["age"] / 10 * 0.2)
    decade, year = (
        run(counts, obs, {**AGE, "unit": unit}, shrink=True).genes.set_index("gene_id").sort_index()
        for unit in (10, 1)
    )
    np.testing.assert_allclose(
        decade["log2FoldChange_shrunk"], 10 * year["log2FoldChange_shrunk"], rtol=1e-2, atol=1e-4
    )
    np.testing.assert_allclose(decade["lfcSE_shrunk"], 10 * year["lfcSE_shrunk"], rtol=1e-2)
    assert (decade["lfcSE_shrunk"] / decade["lfcSE"]).median() < 1
    raw = run(counts, obs, AGE).genes.set_index("gene_id").sort_index()
    pd.testing.assert_series_equal(raw["pvalue"], decade["pvalue"])
    assert raw["log2FoldChange_shrunk"].isna().all()


def test_a_combination_of_coefficients_is_not_shrunk_and_says_so():
    obs = people()
    result = run(counts_of(obs, np.zeros(24)), obs, {**STIM, "design": "~ 0 + condition"}, shrink=True)
    combination = "condition[stim] - condition[ctrl] is a combination of coefficients"
    assert result.status["shrinkage"] == f"not shrunk: {combination}"
    assert result.genes["log2FoldChange_shrunk"].isna().all()


def test_the_scale_of_the_prior_is_pydeseq2s():
    from pydeseq2.ds import DeseqStats

    rng = np.random.default_rng(0)
    for spread in (0.0, 0.05, 0.5):
        se = rng.uniform(0.05, 0.2, 500)
        effects = rng.normal(0, np.hypot(spread, se))
        fake = SimpleNamespace(LFC=pd.DataFrame({"age": effects}), SE=pd.Series(se))
        expected = DeseqStats._fit_prior_var(fake, coeff_idx=0)
        assert _shrink.prior_variance(effects, se) == pytest.approx(expected, rel=1e-6)


def test_the_posterior_deviation_is_the_curvature_of_pydeseq2s_objective():
    from pydeseq2.utils import nbinomFn

    rng = np.random.default_rng(0)
    matrix = np.column_stack([np.ones(30), rng.normal(size=30), np.arange(30) % 2])
    counts, size, offset = rng.negative_binomial(5, 0.1, (30, 1)), np.array([5.0]), rng.normal(0, 0.2, 30)
    beta, scale, step = np.array([[3.8, 0.05, -0.1]]), 0.1, 1e-3

    def objective(beta):
        return nbinomFn(beta, matrix, counts[:, 0], size[0], offset, 15, scale, 1)

    steps = step * np.eye(3)
    hessian = [
        [
            sum(i * j * objective(beta[0] + i * steps[a] + j * steps[b]) for i in (1, -1) for j in (1, -1))
            / (4 * step**2)
            for a in range(3)
        ]
        for b in range(3)
    ]
    sd = _shrink.posterior_sd(matrix, counts, size, offset, beta, place=1, prior_scale=scale)
    assert sd[0] == pytest.approx(np.sqrt(np.linalg.inv(hessian)[1, 1]), rel=1e-3)


# the filter of genes


def test_every_gene_is_tested_or_listed_with_a_reason():
    obs = people()
    counts = counts_of(obs, np.zeros(24))
    counts[:, 5], counts[:13, 6], counts[13:, 6], counts[:3, 7], counts[3:, 7] = 0, 40, 0, 40, 0
    result = run(counts, obs, AGE, gene_filter="filterByExpr")
    assert dict(zip(result.filtered["gene_id"], result.filtered["reason"], strict=True)) == {
        "g005": "no_counts",
        "g007": "few_samples_with_count",
    }
    listed = [*result.genes["gene_id"], *result.filtered["gene_id"]]
    assert sorted(listed) == [f"g{i:03d}" for i in range(120)]
    assert result.status["genes_tested"] == 118
    assert result.filtered["symbol"].tolist() == ["S5", "S7"]
    assert result.filtered["counts"].tolist() == [0, 120]
    assert "g007" in set(run(counts, obs, AGE, min_count_samples=0.1).genes["gene_id"])


def test_genes_of_few_cases_are_tested_and_lead():
    obs = people().assign(condition=np.repeat(["stim", "ctrl"], [4, 20]))
    counts = counts_of(obs, np.zeros(24))
    counts[4:, :20] = 0
    default = run(counts, obs, STIM, gene_filter="filterByExpr")
    on = {f"g{i:03d}" for i in range(20)}
    assert set(default.genes["gene_id"].head(20)) == on
    assert (default.genes["padj"].head(20) < 1e-3).all()
    blind = run(counts, obs, STIM, gene_filter="share")
    assert set(blind.filtered["gene_id"]) == on
    adjusted = run(counts, obs, {**STIM, "design": "~ sex + age + condition"}, gene_filter="filterByExpr")
    assert on <= set(adjusted.genes["gene_id"])


def test_one_nearly_empty_sample_leaves_few_genes_under_the_size_factors():
    obs = people()
    counts = counts_of(obs, np.zeros(24))
    assert run(counts, obs, AGE).status["size_factor_genes"] == 120
    counts[3, 13:] = 0
    assert run(counts, obs, AGE).status["size_factor_genes"] == 13
    left_out = obs.assign(reason=np.where(obs.index == 3, "too_few_counts", ""))
    assert run(counts, left_out, AGE).status["size_factor_genes"] == 120


# reasons


def not_tested(obs, contrast, **settings) -> dict:
    result = run(counts_of(obs, np.zeros(len(obs))), obs, contrast, **settings)
    assert result.genes.empty
    assert result.samples["size_factor"].isna().all()
    return result.status


def test_reasons_not_to_test():
    obs = people()
    few = obs.assign(reason="too_few_cells").assign(reason=lambda t: t["reason"].where(t.index > 0, ""))
    status = not_tested(few, AGE)
    assert (status["status"], status["samples_used"]) == ("too_few_samples", 1)
    few = "1 of 24 samples can be used (too_few_cells 23); pseudobulk.min_samples is 2"
    assert status["message"] == few
    status = not_tested(obs.assign(sex="F"), AGE)
    assert (status["status"], status["message"]) == ("single_level", "sex is F in all 24 samples")
    assert not_tested(obs.assign(age=50.0), AGE)["status"] == "single_level"
    status = not_tested(obs.assign(batch=obs["condition"]), {**STIM, "design": "~ batch + condition"})
    assert status["status"] == "confounded"
    assert status["message"] == "condition cannot be separated from batch"
    status = not_tested(obs.iloc[:5], AGE)
    assert status["status"] == "no_residual_df"
    assert "5 samples for 3 coefficients leave 2" in status["message"]
    assert "differential.min_residual_df is 3" in status["message"]
    assert not_tested(obs, AGE, min_count=10**9)["status"] == "no_genes"


def test_a_level_that_one_cell_type_lacks_is_a_reason_not_an_error():
    everyone = people()
    contrast = {"name": "pool", "design": "~ pool + sex", "test": "pool", "level": "p3", "reference": "p1"}
    settled = _contrast.resolve_contrast(contrast, everyone)
    for lacking in ("p1", "p3"):
        design = _design.build(settled, everyone[everyone["pool"] != lacking], **LIMITS)
        assert design.reason == "missing_level"
        assert design.message == f"pool is {lacking!r} in none of 16 samples"
    design = _design.build(settled, everyone[everyone["pool"] != "p2"], **LIMITS)
    assert list(design.matrix) == ["Intercept", "pool[T.p3]", "sex[T.M]"]


def test_a_missing_reference_matters_only_where_it_gives_the_effect_its_meaning():
    everyone = people()
    some = everyone[everyone["pool"] != "p1"]
    added = _contrast.resolve_contrast({**AGE, "design": "~ age + pool"}, everyone)
    assert sorted(_design.build(added, some, **LIMITS).matrix) == ["Intercept", "age", "pool[T.p3]"]
    multiplied = _contrast.resolve_contrast({**AGE, "design": "~ age * pool"}, everyone)
    assert _design.build(multiplied, some, **LIMITS).reason == "missing_level"


def test_empty_results_have_the_columns_and_types_of_full_ones(tmp_path):
    obs = people()
    counts = counts_of(obs, np.zeros(24))
    full, empty = run(counts, obs, AGE), run(counts, obs, AGE, min_count=10**9)
    for name, result in (("full", full), ("empty", empty)):
        result.genes.to_parquet(tmp_path / name, index=False)
    full_back, empty_back = pd.read_parquet(tmp_path / "full"), pd.read_parquet(tmp_path / "empty")
    assert full_back.dtypes.equals(empty_back.dtypes)
    assert list(full.status) == list(empty.status)
    assert list(full.samples) == list(empty.samples)
    assert full_back["pvalue"].is_monotonic_increasing


# designs


@pytest.mark.parametrize(
    "design",
    [
        "~ age + __import__('os').getcwd()",
        "~ np.log(age)",
        "~ age.values",
        "~ age[0]",
        "~ open(age)",
        "~ exec('1')",
        "~ log(log(age))",
        "~ log(age + bmi)",
        "~ bs(age, df=bmi)",
        "~ bs(age, knots=[open])",
        "~ bs(*age)",
        "~ bs(age, **bmi)",
        "~ {age}",
        "~ I(age)",
        "~ `age`",
        "~ age ** 2",
        "~ age / sex",
        "~ age | sex",
        "~ age @ sex",
        "~ age + 2",
        "~ age - 1.0",
        "~ 'age'",
        "~ (lambda: age)()",
        "~ [age for age in sex]",
        "~ age if sex else bmi",
        "~ (age := sex)",
        "~ age # sex",
        "~ age\n+ sex",
        "~ age +",
        "age ~ sex",
        "~",
    ],
)
def test_formulas_that_are_more_than_formulas_are_refused(design):
    with pytest.raises(InputError, match=r"^contrasts\.age\.design: .*use columns, \+ - \* :"):
        _contrast.resolve_contrast({**AGE, "design": design}, people())


@pytest.mark.parametrize(
    ("design", "columns"),
    [
        ("~ age + sex", ["Intercept", "age", "sex[T.M]"]),
        ("~ age*sex", ["Intercept", "age", "sex[T.M]", "age:sex[T.M]"]),
        ("~ age + age:sex + sex", ["Intercept", "age", "sex[T.M]", "age:sex[T.M]"]),
        ("~ 0 + sex + age", ["sex[F]", "sex[M]", "age"]),
        ("~ age + sex - 1", ["age", "sex[F]", "sex[M]"]),
        ("~ age + log2(bmi)", ["Intercept", "age", "log2(bmi)"]),
        ("~ age + bs(bmi, df=3)", ["Intercept", "age", *(f"bs(bmi, df=3)[{i}]" for i in (1, 2, 3))]),
        ("~ age + (sex + condition)", ["Intercept", "age", "sex[T.M]", "condition[T.stim]"]),
    ],
)
def test_formulas_that_are_allowed(design, columns):
    obs = people()
    built = _design.build(_contrast.resolve_contrast({**AGE, "design": design}, obs), obs, **LIMITS)
    assert not built.reason
    assert sorted(built.matrix) == sorted(columns)
    assert built.coefficient == "age"
    assert built.vector[list(built.matrix).index("age")] == pytest.approx(10 / obs["age"].std())
    assert np.count_nonzero(built.vector) == 1


def test_knots_and_a_function_of_the_tested_number():
    obs = people()
    contrast = {
        "name": "x",
        "design": "~ log2(age) + bs(bmi, degree=2, knots=[24, 27])",
        "test": "log2(age)",
        "unit": 3,
    }
    built = _design.build(_contrast.resolve_contrast(contrast, obs), obs, **LIMITS)
    place = list(built.matrix).index("log2(age)")
    assert built.vector[place] == 3  # per 3 doublings
    np.testing.assert_allclose(built.matrix["log2(age)"], np.log2(obs["age"]))


def test_numbers_are_centred_and_scaled_by_hand():
    obs = pd.DataFrame(
        {"age": [20.0, 40, 60, 80, 100, 120], "bmi": [1.0, 2, 3, 1, 2, 3], "sex": list("FMFMFM")}
    )
    built = _design.build(_contrast.resolve_contrast({**AGE, "design": "~ age + bmi"}, obs), obs, **LIMITS)
    sd = np.sqrt(2 * (50**2 + 30**2 + 10**2) / 5)
    assert built.matrix["age"].tolist() == pytest.approx([v / sd for v in (-50, -30, -10, 10, 30, 50)])
    assert built.vector.tolist() == pytest.approx([0, 10 / sd, 0])
    assert built.matrix["bmi"].tolist() == pytest.approx([v / np.sqrt(0.8) for v in (-1, 0, 1) * 2])
    product = {"name": "x", "design": "~ age * bmi", "test": "age:bmi", "unit": 10}
    built = _design.build(_contrast.resolve_contrast(product, obs), obs, **LIMITS | {"min_residual_df": 1})
    slope = np.linalg.lstsq(built.matrix.to_numpy(), 7 * obs["age"] * obs["bmi"] + obs["bmi"], rcond=None)[0]
    assert slope @ built.vector == pytest.approx(70)  # per 10 of the product


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"design": "~ agee + sex"},
            r"contrasts\.age\.design: 'agee' is not a column .*have: sample, age, bmi, sex",
        ),
        ({"design": "~ age + log(sex)"}, r"contrasts\.age\.design: 'sex' is text inside a function"),
        ({"test": "bmi"}, r"contrasts\.age\.test: 'bmi' is not a term of the design \(it has: age, sex\)"),
        ({"test": "age + sex"}, r"contrasts\.age\.test: 'age \+ sex' is not a term"),
        ({"test": "1"}, r"contrasts\.age\.test: '1' is not a term"),
        ({"test": "sex"}, r"contrasts\.age\.unit: 'sex' is no number; remove contrasts\.age\.unit"),
        ({"level": "M"}, r"contrasts\.age\.level: 'age' has 0 categories; remove contrasts\.age\.level"),
        ({"references": {"bmi": "x"}}, r"contrasts\.age\.references: 'bmi' is not a category of the design"),
        ({"references": {"sex": "X"}}, r"contrasts\.age: sex is never 'X' \(it is: F, M\)"),
    ],
)
def test_a_contrast_that_does_not_fit_names_its_key(change, message):
    with pytest.raises(InputError, match=message):
        _contrast.resolve_contrast({**AGE, **change}, people())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": "on"}, r"contrasts\.stim: condition is never 'on' \(it is: ctrl, stim\)"),
        ({"reference": "off"}, r"contrasts\.stim: condition is never 'off'"),
        ({"level": "ctrl"}, r"contrasts\.stim\.level: 'ctrl' is the reference too"),
        ({"unit": 2}, r"contrasts\.stim\.unit: 'condition' is no number"),
    ],
)
def test_levels_that_do_not_exist_are_named(change, message):
    with pytest.raises(InputError, match=message):
        _contrast.resolve_contrast({**STIM, **change}, people())


def test_three_levels_need_the_one_to_compare():
    obs, contrast = people(), {"name": "pool", "design": "~ pool", "test": "pool"}
    with pytest.raises(
        InputError, match=r"contrasts\.pool\.level: pool has 2 levels beside the reference 'p2'"
    ):
        _contrast.resolve_contrast({**contrast, "reference": "p2"}, obs)
    settled = _contrast.resolve_contrast({**contrast, "level": "p1"}, obs)
    assert settled.references["pool"] == "p2"
    built = _design.build(settled, obs, **LIMITS)
    assert built.coefficient == "pool[T.p1]"
    assert built.vector.tolist() == [float(column == "pool[T.p1]") for column in built.matrix]


@pytest.mark.parametrize(
    ("contrast", "message"),
    [
        ({**AGE, "design": "~ age + bs(bmi, df=2)"}, r"contrasts\.age\.design: Unable to evaluate factor"),
        ({**AGE, "design": "~ age + log(zero)"}, r"contrasts\.age\.design: log\(zero\) is not finite"),
    ],
)
def test_designs_that_cannot_be_built_are_explained(contrast, message):
    obs = people().assign(zero=np.arange(24.0))
    with pytest.raises(InputError, match=message):
        _design.build(_contrast.resolve_contrast(contrast, obs), obs, **LIMITS)


def test_leverage_by_hand():
    matrix = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 0, 1]], dtype=float)
    assert _design.leverage(matrix).tolist() == pytest.approx([0.5, 0.5, 0.5, 0.5, 1])


# words and figures


def test_the_parts_are_the_tested_types_in_their_order():
    types = pd.DataFrame({"id": list("abcdef"), "tested": [True, False, True, True, True, True]})
    parts = [list(differential.part_of(types, part, cell_types_per_job=2)["id"]) for part in range(3)]
    assert parts == [["a", "c"], ["d", "e"], ["f"]]
    with pytest.raises(InputError, match=r"no part 03; 5 cell types are tested, 2 in a job"):
        differential.part_of(types, 3, cell_types_per_job=2)


def test_a_status_is_written_alike_whatever_is_beside_it(tmp_path):
    """So that a release does not depend on cell_types_per_job: 7, not 7.0 where another type has none."""
    obs = people()
    counts = counts_of(obs, np.zeros(24))
    tested = run(counts, obs, AGE).status
    not_tested = run(counts, obs.assign(sex="F"), AGE).status
    assert not_tested["df"] is None
    lines = [
        differential.status_table([tested, *others]).to_csv(sep="\t", index=False).splitlines()[1]
        for others in ([], [not_tested], [tested])
    ]
    assert lines[0] == lines[1] == lines[2]
    assert dict(zip(tested, lines[0].split("\t"), strict=True))["residual_df"] == "21"


def test_types_are_stacked_without_a_change(tmp_path):
    """Also when a type has no tested gene: its empty table turns no column into another kind."""
    obs = people()
    counts = counts_of(obs, np.zeros(24))
    full, empty = run(counts, obs, AGE).genes, run(counts, obs, AGE, min_count=10**9).genes
    stacked = stack_tables({"x": empty, "b": full, "a": full})
    assert next(iter(stacked)) == "cell_type"
    assert list(dict.fromkeys(stacked["cell_type"])) == ["b", "a"]
    for name, part in stacked.groupby("cell_type"):
        pd.testing.assert_frame_equal(part.drop(columns="cell_type").reset_index(drop=True), full, obj=name)
    nothing = stack_tables({"x": empty, "y": empty})
    assert nothing.empty
    assert nothing.dtypes.equals(stacked.dtypes)


def test_what_differential_wrote_is_read_by_cell_type(tmp_path):
    obs = people()
    full = run(counts_of(obs, np.zeros(24)), obs, AGE).genes
    stack_tables({"b": full, "x": full[:0]}).to_parquet(tmp_path / "00.parquet", index=False)
    stack_tables({"a": full[:7]}).to_parquet(tmp_path / "01.parquet", index=False)
    types = pd.DataFrame({"id": ["b", "rare", "x", "a"], "label": ["B", "R", "X", "A"]})
    types["tested"] = ["True", "False", "True", "True"]
    types.to_csv(tmp_path / "types.tsv", sep="\t", index=False)
    read = read_tested(tmp_path / "types.tsv", [tmp_path / "00.parquet", tmp_path / "01.parquet"])
    assert [(each.cell_type, each.label, len(each.genes)) for each in read] == [
        ("b", "B", len(full)),
        ("x", "X", 0),
        ("a", "A", 7),
    ]
    pd.testing.assert_frame_equal(read[0].genes, full)
    pd.testing.assert_frame_equal(read[2].genes, full[:7])
    types["tested"] = "False"
    types.to_csv(tmp_path / "types.tsv", sep="\t", index=False)
    assert read_tested(tmp_path / "types.tsv", []) == []


@given(st.lists(st.floats(0, 10), min_size=1, max_size=10))
def test_labels_are_spread_in_order_and_within_bounds(heights):
    placed = figures.spread(np.sort(heights), 0.9, 0, 10)
    assert (np.diff(placed) >= 0.9 - 1e-9).all()
    assert placed.min() >= -1e-9
    assert placed.max() <= 10


def test_figures_show_every_gene_or_why_there_is_none(tmp_path):
    obs = people()
    counts = counts_of(obs, obs["age"] / 10 * 0.2)
    result = run(counts, obs, AGE)
    status = {**result.status, "label": "T CD4+"}
    empty = run(counts, obs, AGE, min_count=10**9)
    tests = [(result.genes, status), (empty.genes, {**empty.status, "label": "B"})]
    figure = figures.volcano(tests)
    axes, nothing = figure.axes
    assert axes.get_title().startswith("T CD4+\n120 genes, 24 samples: ")
    assert sum(len(points.get_offsets()) for points in axes.collections) == 120
    assert {text.get_text().strip() for text in axes.texts} == set(result.genes["symbol"].iloc[:10])
    assert axes.get_xlabel() == "log2 fold change per 10 of age"
    assert "no_genes" in nothing.texts[0].get_text()
    assert figure.get_suptitle() == "age: ~ age + sex"
    assert len(figure.legends[0].get_texts()) == 3
    histogram = figures.pvalues(tests).axes[0]
    assert sum(bar.get_height() for bar in histogram.patches) == 120
    assert histogram.lines[0].get_ydata()[0] == 6
    dispersion = figures.dispersions(tests).axes[0]
    assert [len(points.get_offsets()) for points in dispersion.collections] == [120, 120]
    curve = {"name": "curve", "design": "~ bs(age, df=3) + sex", "test": "bs(age, df=3)"}
    joint = run(counts, obs, curve)
    axes = figures.volcano([(joint.genes, {**joint.status, "label": "T"})]).axes[0]
    assert sum(len(points.get_offsets()) for points in axes.collections) == 120
    largest = "largest log2 difference between samples"
    assert axes.get_xlabel() == f"{largest}, any change with bs(age, df=3)"
    without = [(result.genes.assign(pvalue=np.nan, padj=np.nan), status)]
    for draw in (figures.volcano, figures.pvalues, figures.dispersions):
        assert "no gene has a p-value" in draw(without).axes[0].texts[0].get_text()
        assert draw([]).texts[0].get_text() == "no cell type is tested"
        for name in ("one.png", "two.png"):
            draw(tests).savefig(tmp_path / name, metadata={"Software": None})
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


# real data


@pytest.mark.parametrize("cell_type", ["CD14+ Monocytes", "CD4 T cells"])
def test_interferon_genes_lead_in_stimulated_cells(shared_data, cell_type):
    """Kang et al. 2018, paired by donor; one sample has too few cells, so one donor is alone."""
    cells = ad.read_h5ad(shared_data / "kang_pbmc_ifnb_16samples.h5ad")
    wanted = ((cells.obs["cell_type"] == cell_type) & (cells.obs["donor_id"] != "unassigned")).to_numpy()
    sample = cells.obs["sample_id"].astype(str)[wanted]
    sums = pd.DataFrame(cells.X[wanted].toarray().astype(np.int64)).groupby(sample.to_numpy()).sum()
    obs = cells.obs.loc[wanted, ["donor_id", "condition"]].astype(str).groupby(sample.to_numpy()).first()
    obs = obs.assign(
        sample=obs.index, reason=np.where(sample.value_counts()[obs.index] < 10, "too_few_cells", "")
    )
    genes = pd.DataFrame({"gene_id": cells.var_names.astype(str), "symbol": cells.var_names.astype(str)})
    contrast = _contrast.resolve_contrast({**STIM, "design": "~ donor_id + condition"}, obs)
    result = differential.differential(sparse.csr_array(sums.to_numpy()), genes, obs, contrast, **SETTINGS)
    leading = result.genes.head(10)
    assert {"ISG15", "ISG20"} <= set(leading["symbol"])
    assert (leading.set_index("symbol").loc[["ISG15", "ISG20"], "log2FoldChange"] > 1).all()
    assert result.status["samples_used"] == 15
    assert result.status["message"] == "samples with a coefficient of their own, which tell nothing: 1"


USUAL = {"contrast": "age", "label": "B cell", "size_factors": "ratio", "trend": "parametric"}
USUAL |= {"not_converged": 0, "genes_tested": 2000, "size_factor_genes": 50}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({}, []),
        ({"size_factors": "poscounts"}, ["size_factors_by_poscounts"]),
        ({"size_factor_genes": 49}, ["few_genes_under_size_factors"]),
        ({"trend": "mean"}, ["dispersion_trend_not_fitted"]),
        ({"not_converged": 3}, ["genes_not_converged"]),
        ({"size_factors": "", "size_factor_genes": None, "trend": "", "genes_tested": 0}, []),  # not tested
    ],
)
def test_a_fit_that_is_not_the_usual_one_is_warned_of(status, code):
    with collect_warnings() as warned:
        differential.warn_of(USUAL | status)
    assert [row["code"] for row in warned] == code
    assert all(row["message"].startswith("age, B cell: ") for row in warned)
