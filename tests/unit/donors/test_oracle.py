"""Our statistics against R: the stored tables of tests/oracle (DESeq2, edgeR, limma), made by `make oracle`.

`pytest -s tests/unit/donors/test_oracle.py` prints the measured agreement.
"""

import hashlib
import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from formulaic import model_matrix
from pydeseq2.default_inference import DefaultInference
from scipy import sparse
from threadpoolctl import threadpool_limits

from donors import _gls, composition, differential
from donors._contrast import resolve_contrast
from donors._deseq2 import RInference, independent_filter, log_likelihood_ratio
from donors._design import build
from donors._gene_filter import filter_by_expr, judge_genes
from donors._moderation import moderate
from files import logit_shares
from pathways import gsea
from pathways._gene_sets import read_collections

ORACLE = Path(__file__).parent.parent.parent / "oracle"
RECORD = json.loads((ORACLE / "oracle.json").read_text())
NAIVE = "onek1k_naive_cd4_sums_100donors.h5ad"
LRRN3, DONSON = "ENSG00000173114", "ENSG00000159147"
HALLMARK = "hallmark_v2026.1.gmt"
FILTER = {"gene_filter": "filterByExpr", "min_count": 10, "min_count_samples": 0.3}
FILTER |= {"min_total_count": 15, "large_n": 10, "min_prop": 0.7}
CASES = ["naive_cd4", "demo_cd4", "demo_b"]

pytestmark = [
    # anndata 0.13 and pydeseq2 0.5 use what pandas 3.1 is about to drop
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
    pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option is deprecated"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in Series.drop is deprecated"),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in a job; BLAS threads on tiny matrices cost more than they give."""
    with threadpool_limits(limits=1):
        yield


def stored(name: str) -> pd.DataFrame:
    """A reference table; NA is missing."""
    if name.endswith(".parquet"):
        return pd.read_parquet(ORACLE / name)
    return pd.read_csv(ORACLE / name, sep="\t", keep_default_na=False, na_values=["NA"])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sums(case: str, shared_data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All counts (donors, genes) and donors (age in years, sex)."""
    if case == "naive_cd4":
        data = ad.read_h5ad(shared_data / NAIVE)
        counts = pd.DataFrame(data.X.toarray().astype(np.int64), data.obs_names, data.var_names)
        sex = data.obs["sex_code"].map({0: "male", 1: "female"})
        return counts, pd.DataFrame({"age": data.obs["age"], "sex": sex})
    counts = stored(f"{case}.sums.parquet").set_index("gene_id").T
    return counts, stored(f"{case}.donors.tsv").astype({"sample": "str"}).set_index("sample")


def spline_designs(donors: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Model matrices with and without a cubic spline of age."""
    return model_matrix("~ bs(age, df=3) + sex", donors), model_matrix("~ sex", donors)


def compare(ours: pd.DataFrame, reference: pd.DataFrame, columns: list[str]) -> dict[str, float]:
    """Correlation and largest difference of columns, and numbers of genes at FDR 5 % (ours, R's, both)."""
    numbers = {}
    for column in columns:
        numbers[f"r_{column}"] = np.corrcoef(ours[column], reference[column])[0, 1]
        numbers[f"off_{column}"] = (ours[column] - reference[column]).abs().max()
    found, expected = ours["padj"] < 0.05, reference["padj"] < 0.05
    return numbers | {"ours": found.sum(), "r": expected.sum(), "both": (found & expected).sum()}


def row(*cells) -> None:
    """Print a row of a Markdown table."""
    print("\n|", " | ".join(map(str, cells)), "|", end="")


def fitted(case: str, shared_data: Path, contrast: dict) -> differential.Result:
    """Our test of a contrast, with the genes and settings that R had."""
    counts, donors = sums(case, shared_data)
    return differential.differential(
        sparse.csr_array(counts.to_numpy()),
        pd.DataFrame({"gene_id": counts.columns, "symbol": ""}),
        donors,
        resolve_contrast(contrast, donors),
        min_samples=8,
        min_residual_df=3,
        gene_filter="share",
        min_count=RECORD["gene_filter"]["min_count"],
        min_count_samples=RECORD["gene_filter"]["min_count_samples"][case],
        min_total_count=15,
        large_n=10,
        min_prop=0.7,
        fdr=0.05,
        cooks=True,
        shrink=False,
        threads=1,
    )


def test_the_stored_tables_are_the_ones_that_r_made():
    for name, digest in RECORD["outputs_sha256"].items():
        assert sha256(ORACLE / name) == digest, f"{name} was edited; run make oracle"
    tables = {path.name for path in ORACLE.iterdir() if path.suffix in (".tsv", ".parquet")}
    assert tables == set(RECORD["outputs_sha256"])


@pytest.mark.parametrize("name", [NAIVE, HALLMARK])
def test_the_shared_data_are_the_ones_that_r_read(shared_data, name):
    assert sha256(shared_data / name) == RECORD["inputs_sha256"][name]


@pytest.mark.parametrize("case", CASES)
def test_the_slope_of_age_is_deseq2s(case, shared_data):
    reference = stored(f"{case}.wald.parquet").set_index("gene_id")
    samples = stored(f"{case}.deseq2_samples.tsv").astype({"sample": "str"}).set_index("sample")
    result = fitted(case, shared_data, {"name": "age", "design": "~ age + sex", "test": "age", "unit": 10})
    genes = result.genes.set_index("gene_id")
    assert set(genes.index) == set(reference.index)
    genes = genes.loc[reference.index]
    agreement = compare(genes, reference, ["log2FoldChange", "stat"])
    factors = result.samples.set_index("sample")["size_factor"]
    off = (factors / samples["size_factor"] - 1).abs().max()
    dispersion = np.log(genes["dispersion"] / reference["dispersion"]).abs()
    row(
        f"{case}, Wald",
        len(genes),
        f"1 - {1 - agreement['r_log2FoldChange']:.1e} | 1 - {1 - agreement['r_stat']:.1e}",
        f"{agreement['off_log2FoldChange']:.2g} | {agreement['off_stat']:.2g}",
        f"{agreement['ours']} | {agreement['r']} | {agreement['both']}",
        f"{off:.0e} | {np.expm1(dispersion.quantile(0.99)):.2%}",
    )
    assert off < 1e-6
    assert (genes["baseMean"] / reference["baseMean"] - 1).abs().max() < 1e-6
    assert (genes["pvalue"].isna() == reference["pvalue"].isna()).all()
    assert result.status["trend"] == "parametric"
    if case == "naive_cd4":  # known facts: LRRN3 leads, DONSON has an outlier among donors of one age and sex
        first = result.genes.iloc[0]
        assert (first["gene_id"], round(first["log2FoldChange"], 3)) == (LRRN3, -0.374)
        assert result.genes.loc[result.genes["outlier"], "gene_id"].tolist() == [DONSON]
    assert agreement["r_log2FoldChange"] >= 0.999999
    assert agreement["r_stat"] >= 0.99999
    assert agreement["off_log2FoldChange"] < 0.001  # a correlation would not see a factor
    assert agreement["off_stat"] < 0.2
    assert (reference["padj"] < 0.049).sum() <= agreement["ours"] <= (reference["padj"] < 0.051).sum()
    assert agreement["both"] >= 0.98 * agreement["r"]


@pytest.mark.parametrize("test", ["wald", "lrt"])
@pytest.mark.parametrize("case", CASES)
def test_the_trend_of_dispersions_is_deseq2s_for_its_genes(case, test):
    genes = stored(f"{case}.{test}.parquet")
    means = stored(f"{case}.wald.parquet")["baseMean"]
    fit = stored(f"{case}.fit.tsv").query("test == @test").set_index("name")["value"]
    expected = fit[["asymptotic_dispersion", "extra_poisson"]].astype(float)
    trend, _, converged = RInference(n_cpus=1).dispersion_trend_gamma_glm(1 / means, genes["dispGeneEst"])
    off = np.abs(trend / expected.to_numpy() - 1).max()
    row(f"{case}, {test}, trend from R's dispersions", f"{trend[0]:.4f} | {trend[1]:.4f} | {off:.1e}")
    assert converged
    assert off < 1e-5


@pytest.mark.parametrize("test", ["wald", "lrt"])
@pytest.mark.parametrize("case", CASES)
def test_the_adjusted_pvalues_are_deseq2s_for_its_pvalues(case, test):
    genes = stored(f"{case}.{test}.parquet")
    means = stored(f"{case}.wald.parquet")["baseMean"]
    fit = stored(f"{case}.fit.tsv").query("test == @test").set_index("name")["value"]
    padj, threshold = independent_filter(means, genes["pvalue"], alpha=0.05)
    off = (padj - genes["padj"]).abs().max()
    found = (padj < 0.05).sum()
    row(f"{case}, {test}, padj from R's p-values", f"{found} | {(genes['padj'] < 0.05).sum()} | {off:.0e}")
    assert threshold == pytest.approx(float(fit["filter_threshold"]), rel=1e-9)
    assert (padj.isna() == genes["padj"].isna()).all()
    assert off < 1e-12


@pytest.mark.parametrize("case", CASES)
def test_the_likelihood_ratio_of_a_spline_is_deseq2s_for_its_dispersions(case, shared_data):
    reference = stored(f"{case}.lrt.parquet").iloc[:: 40 if case == "naive_cd4" else 10]
    samples = stored(f"{case}.deseq2_samples.tsv")
    counts, donors = sums(case, shared_data)
    full, reduced = spline_designs(donors)
    assert np.abs(full.to_numpy()[:, 1:4] - samples[["bs1", "bs2", "bs3"]].to_numpy()).max() < 1e-12
    stat, converged = log_likelihood_ratio(
        counts[reference["gene_id"]].to_numpy(),
        samples["size_factor"].to_numpy(),
        reference["dispersion"].to_numpy(),
        full.to_numpy(),
        reduced.to_numpy(),
        inference=DefaultInference(n_cpus=1),
    )
    assert converged.all()
    off = np.abs(stat / reference["stat"] - 1).max()
    row(f"{case}, LRT with R's dispersions", len(reference), f"{off:.1e}")
    assert off < 1e-5


@pytest.mark.parametrize("case", ["demo_cd4", "demo_b"])
def test_the_likelihood_ratio_of_a_spline_is_deseq2s(case, shared_data):
    reference = stored(f"{case}.lrt.parquet").set_index("gene_id")
    curve = {"name": "curve", "design": "~ bs(age, df=3) + sex", "test": "bs(age, df=3)"}
    result = fitted(case, shared_data, curve)
    ours = result.genes.set_index("gene_id").loc[reference.index]
    agreement = compare(ours, reference, ["stat"])
    row(
        f"{case}, LRT",
        len(ours),
        f"1 - {1 - agreement['r_stat']:.1e} | {agreement['off_stat']:.2g}",
        f"{agreement['ours']} | {agreement['r']} | {agreement['both']}",
    )
    assert (result.status["trend"], result.status["test"], result.status["df"]) == ("parametric", "LRT", 3)
    assert ours[["log2FoldChange", "lfcSE"]].isna().all(axis=None)
    assert (ours["pvalue"].isna() == reference["pvalue"].isna()).all()
    assert agreement["r_stat"] >= 0.9999
    assert agreement["off_stat"] < 0.2
    assert abs(agreement["ours"] - agreement["r"]) <= 0.02 * agreement["r"]


@pytest.mark.parametrize("case", CASES)
def test_the_gene_filter_is_edgers(case, shared_data):
    reference = stored(f"{case}.filter.parquet")
    numbers = stored(f"{case}.filter_numbers.tsv").set_index("name")["value"]
    counts, donors = sums(case, shared_data)
    genes = filter_by_expr(
        sparse.csr_array(counts.to_numpy()),
        model_matrix("~ age + sex", donors).to_numpy(),
        min_count=10,
        min_total_count=15,
        large_n=10,
        min_prop=0.7,
    )
    row(f"{case}, filterByExpr", len(genes), f"{genes['keep'].sum()} | {reference['keep'].sum()}")
    assert list(counts) == list(reference["gene_id"])
    assert genes.attrs == pytest.approx(numbers.to_dict(), rel=1e-9)
    assert (genes["samples_above"] == reference["samples_above"]).all()
    assert (genes["keep"] == reference["keep"]).all()


STATE = {"test": "state", "level": "case", "reference": "control"}
HALF = {"test": "half", "level": "second", "reference": "first"}


@pytest.mark.parametrize(
    ("r", "contrast"),
    [
        ("design_state", {**STATE, "design": "~ state"}),
        ("group_state", {**STATE, "design": "~ sex + age + stage + state"}),
        ("design_stage", {"test": "stage", "design": "~ stage"}),
        ("group_stage", {"test": "stage", "design": "~ 0 + sex + stage + age"}),
        ("group_half", {**HALF, "design": "~ donor + half"}),
        ("cells", {"test": "state:sex", "design": "~ state * sex + age"}),
        ("age", {"test": "age", "unit": 10, "design": "~ age + stage + sex"}),
    ],
    ids=lambda value: value if isinstance(value, str) else value["design"],
)
def test_the_gene_filter_of_a_contrast_is_edgers_for_the_tested_term(r, contrast):
    samples, kept = stored("groups.samples.tsv"), stored("groups.genes.parquet")
    counts = stored("groups.sums.parquet").set_index("gene_id").T
    settled = resolve_contrast({"name": "groups", "block": "donor", **contrast}, samples)
    design = build(settled, samples, min_samples=8, min_residual_df=3)
    genes = judge_genes(sparse.csr_array(counts.to_numpy()), design.of_tested, **FILTER)
    ours = genes["reason"].to_numpy() == ""
    row(f"groups, {contrast['design']}, {contrast['test']}", len(ours), f"{ours.sum()} | {kept[r].sum()}")
    assert (ours == kept[r]).all()
    assert 30 < ours.sum() < 570


@pytest.mark.parametrize("case", ["3_types", "demo", "20_types", "infinite_prior_df"])
def test_the_moderated_t_of_shares_is_limmas(case):
    rows = stored("composition.cells.parquet").query("case == @case")
    reference = stored("composition.types.tsv").query("case == @case").set_index("cell_type")
    prior = stored("composition.prior.tsv").set_index("case").loc[case]
    cells = rows.pivot(index="donor", columns="cell_type", values="cells")
    matrix = model_matrix("~ age + sex", rows.drop_duplicates("donor").set_index("donor").loc[cells.index])
    moderated, prior_df, prior_variance = moderate(
        reference["sigma"].to_numpy() ** 2, int(prior["df_residual"])
    )
    pairs = [
        (prior_df, prior["df_prior"]),
        (prior_variance, prior["s2_prior"]),
        (moderated, reference["s2_post"]),
    ]
    fits = _gls.fit_models(logit_shares(cells).to_numpy(), matrix.to_numpy())
    assert list(cells) == list(reference.index)
    for place, term in ((1, "age"), (2, "sexmale")):
        tests = _gls.test_models(fits, np.eye(3)[[place]])
        columns = {"effects": "coefficient", "se": "se", "t": "t", "pvalues": "p"}
        pairs += [(getattr(tests, ours), reference[f"{term}_{r}"]) for ours, r in columns.items()]
        pairs.append((tests.df, reference["df_total"]))
    off = max(np.max(np.abs(ours / r - 1)) for ours, r in pairs if np.isfinite(r).all())
    row(f"{case}, moderated t", f"{len(reference)} types", f"prior df {prior_df:.3g}", f"{off:.1e}")
    for ours, r in pairs:
        np.testing.assert_allclose(ours, r, rtol=1e-6)
    assert np.isinf(prior["df_prior"]) == (case == "infinite_prior_df")


def test_where_cells_are_many_composition_is_limma_on_logit_shares():
    """129 cells of a type in a sample or more, one variance of all types: the noise of counts is small."""
    rows = stored("composition.cells.parquet").query("case == 'infinite_prior_df'")
    reference = stored("composition.types.tsv").query("case == 'infinite_prior_df'").set_index("cell_type")
    cells = rows.pivot(index="donor", columns="cell_type", values="cells")
    matrix = model_matrix("~ age + sex", rows.drop_duplicates("donor").set_index("donor").loc[cells.index])
    for place, term in ((1, "age"), (2, "sexmale")):
        types = composition.compare_shares(cells, matrix, np.eye(3)[place], min_cells=5)[0]
        types = types.set_index("cell_type").loc[reference.index]
        off = (types["log_odds"] - reference[f"{term}_coefficient"]).abs() / reference[f"{term}_se"]
        t = np.corrcoef(types["t"], reference[f"{term}_t"])[0, 1]
        row(f"{term}, binomial and limma", f"{off.max():.2f} standard errors", f"correlation of t {t:.3f}")
        assert off.max() < 0.6
        np.testing.assert_allclose(types["se"], reference[f"{term}_se"], rtol=0.03)
        np.testing.assert_allclose(types["df"], reference["df_total"], rtol=1e-6)
        assert t > 0.97


def test_enrichment_along_a_ranking_is_fgseas(shared_data):
    ranking, reference = stored("gsea.ranking.parquet"), stored("gsea.terms.tsv").set_index("term")
    (hallmark,) = read_collections([str(shared_data / HALLMARK)])
    sizes = {name: RECORD["gsea"][name] for name in ("min_size", "max_size")}
    matched = gsea.match_sets(hallmark.sets, ranking, **sizes)
    terms, _ = gsea.prerank(ranking, matched, permutation_num=1000, random_state=1, threads=1)
    terms = terms.set_index("term").loc[reference.index]
    assert len(terms) == len(matched)
    assert (terms["matched"] == reference["size"]).all()
    np.testing.assert_allclose(terms["es"], reference["es"], rtol=1e-6)

    # Both have sampling error: of the mean of the permuted scores, and of a share of them.
    permuted = (1 + RECORD["gsea"]["permutations"] / 1000) / reference["same_sign"]
    nes_error = (terms["nes"] / reference["nes"] - 1) / (reference["null_cv"] * np.sqrt(permuted))
    share = reference["pvalue"].clip(lower=1e-3)
    p_error = (terms["pvalue"] - reference["pvalue"]) / np.sqrt(share * (1 - share) * permuted)
    off = (terms["nes"] / reference["nes"] - 1).abs().max()
    row("hallmark, GSEA", len(terms), f"{off:.1%} | {nes_error.abs().max():.1f} | {p_error.abs().max():.1f}")
    assert nes_error.abs().max() < 5
    assert p_error.abs().max() < 5
    assert 0.7 < nes_error.std() < 1.4
