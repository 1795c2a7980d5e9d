"""Components of samples, what goes with them, and outlying samples: by hand, planted, and under a null."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from donors._components import (
    WIDER,
    associate,
    distance_limit,
    indicator,
    is_constant_within,
    permute,
    principal_components,
    robust_distances,
)
from donors._expression import choose_genes, counting_variance, equalise, log_cpm, reliable_genes


def test_log_expression_by_hand():
    counts, totals = np.array([[0.0, 10], [0, 40]]), np.array([100.0, 300])
    # mean total 200: priors 1 and 3
    expected = np.log2(1e6 * np.array([[1 / 102, 11 / 102], [3 / 306, 43 / 306]]))
    assert log_cpm(counts, totals) == pytest.approx(expected)
    assert log_cpm(counts, totals)[0, 0] == log_cpm(counts, totals)[1, 0], "no count is the same at any depth"


def test_genes_need_their_median_count():
    counts = np.array([[10, 9, 0], [10, 9, 100], [9, 30, 0]])
    assert choose_genes(counts, min_count=10).tolist() == [True, False, False]
    assert choose_genes(counts, min_count=9).tolist() == [True, True, False]


def test_genes_that_vary_more_than_counting_are_chosen():
    rng = np.random.default_rng(1)
    level = np.repeat(
        [[0.0], [1.0]], 10, axis=0
    )  # one gene in ten differs between two groups by a factor of 2
    mean = rng.lognormal(4, 1, 200) * 2 ** (level * (np.arange(200) % 10 == 0))
    counts = rng.poisson(mean)
    values = log_cpm(counts, counts.sum(axis=1))
    assert (reliable_genes(counts, values, 20) % 10 == 0).mean() >= 0.9
    assert (np.argsort(-values.var(axis=0))[:20] % 10 == 0).mean() < 0.9, "by variance alone, rare genes are"


def test_counting_variance_is_that_of_poisson_counts():
    counts = np.random.default_rng(2).poisson(50, 100_000)
    assert np.log2(counts + 2).var() == pytest.approx(counting_variance(np.array([50.0]))[0], rel=0.05)


def test_components_are_those_of_the_covariance():
    values = np.random.default_rng(3).normal(size=(12, 5)) * [3, 2, 1, 1, 1]
    scores, shares = principal_components(values, 3)
    own, vectors = np.linalg.eigh(np.cov(values.T))
    assert shares == pytest.approx((own / own.sum())[::-1][:3])
    for k in range(3):
        projected = (values - values.mean(axis=0)) @ vectors[:, -1 - k]
        assert abs(np.corrcoef(projected, scores[:, k])[0, 1]) == pytest.approx(1)
    assert principal_components(values[:, :1], 3)[0].shape == (12, 1)
    assert principal_components(np.ones((4, 3)), 2)[0].shape == (4, 0)


def test_distances_by_hand():
    scores = np.array([[0.0], [1], [2], [3], [10]])
    # median 2, absolute deviations 2, 1, 0, 1, 8 with median 1
    assert robust_distances(scores) == pytest.approx(np.array([2, 1, 0, 1, 8]) / 1.4826)
    alike = np.column_stack([scores, [0, 0, 0, 0, 5]])
    assert robust_distances(alike) == pytest.approx(robust_distances(scores)), "no spread, no distance"


@pytest.mark.parametrize(("samples", "components"), [(8, 2), (20, 5), (100, 3)])
def test_the_limit_holds_its_share_of_cohorts_without_an_outlying_sample(samples, components):
    limit = distance_limit(samples, components, 0.05, 1)
    scores = np.random.default_rng([7, samples]).standard_normal((4000, samples, components))
    share = (robust_distances(scores).max(axis=1) > limit).mean()
    assert share == pytest.approx(0.05, abs=0.012)


def draw_counts(rng, genes=400, samples=24, cells=None, outlying=0.0):
    """Counts of donors that differ by 0.2 log2; a share of another profile in the first sample."""
    base, other = np.exp(rng.normal(0, 1, (2, genes)))
    cells = rng.lognormal(np.log(50), 0.8, samples).clip(10) if cells is None else cells
    mean = base * 2 ** rng.normal(0, 0.2, (samples, genes))
    mean[0] = (1 - outlying) * mean[0] / mean[
        0
    ].sum() * base.sum() + outlying * other / other.sum() * base.sum()
    size = cells[:, None] * 1000 / base.sum() * mean
    return rng.poisson(rng.gamma(cells[:, None] / 0.3, 0.3 / cells[:, None], size.shape) * size)


def farthest(counts, *, is_equal=True):
    """Samples beyond the limit at alpha 0.01, of five components."""
    genes = choose_genes(counts, min_count=10)
    values, counts = log_cpm(counts, counts.sum(axis=1))[:, genes], counts[:, genes]
    own = equalise(values, counts) if is_equal else values
    scores, _ = principal_components(own, 5)
    return np.flatnonzero(robust_distances(scores) > WIDER * distance_limit(*scores.shape, 0.01, 1))


def test_samples_of_few_cells_are_not_outlying_for_that():
    flagged = {is_equal: 0 for is_equal in (True, False)}
    for seed in range(30):
        counts = draw_counts(np.random.default_rng([8, seed]))
        for is_equal in flagged:
            flagged[is_equal] += len(farthest(counts, is_equal=is_equal)) > 0
    assert flagged[True] <= 2
    assert flagged[False] >= 5, "without the expected deviation they are"


def test_a_sample_with_a_fifth_of_another_profile_is_outlying():
    found = [farthest(draw_counts(np.random.default_rng([9, seed]), outlying=0.2)) for seed in range(20)]
    assert sum(0 in rows for rows in found) == 20
    assert sum(len(rows) > 1 for rows in found) <= 2


def test_r2_is_that_of_the_linear_model():
    rng = np.random.default_rng(10)
    scores, age = rng.normal(size=(15, 2)), pd.Series(rng.normal(size=15), name="age")
    donors = np.arange(15).astype(str)
    r2, _, unit = associate(scores, age, donors, is_number=True, permutations=1, rng=rng)
    assert r2 == pytest.approx([stats.pearsonr(age, column).statistic ** 2 for column in scores.T])
    assert unit == "samples"
    level = pd.Series(["a", "b", "c"] * 5, name="level")
    r2, *_ = associate(scores, level, donors, is_number=False, permutations=1, rng=rng)
    f = np.array(
        [stats.f_oneway(*(column[level == name] for name in "abc")).statistic for column in scores.T]
    )
    assert r2 == pytest.approx(f * 2 / (f * 2 + 12))  # F = (R2 / 2) / ((1 - R2) / 12)


def test_a_covariate_that_does_not_vary_or_names_every_sample_has_no_answer():
    rng, scores = np.random.default_rng(11), np.random.default_rng(12).normal(size=(6, 2))
    donors = np.arange(6).astype(str)
    for values in (pd.Series([1.0] * 6, name="x"), pd.Series(donors, name="x")):
        r2, p, _ = associate(scores, values, donors, is_number=values.dtype == float, permutations=9, rng=rng)
        assert np.isnan(r2).all()
        assert np.isnan(p).all()


def test_permutations_stay_within_blocks():
    blocks = np.array([1, 0, 1, 2, 0, 1])
    rng = np.random.default_rng(13)
    orders = np.array([permute(rng, blocks, 6) for _ in range(200)])
    assert (blocks[orders] == blocks).all()
    assert (np.sort(orders, axis=1) == np.arange(6)).all()
    assert len(np.unique(orders, axis=0)) == 12  # 3! x 2!


def test_constant_within_donors():
    donors = np.array(["a", "a", "b"])
    assert is_constant_within(pd.Series([1, 1, 2]), donors)
    assert not is_constant_within(pd.Series([1, 2, 2]), donors)


def repeated(rng, donors=12, visits=3):
    """Scores of donors that differ, each with several samples."""
    names = np.repeat(np.arange(donors), visits)
    scores = rng.normal(size=(donors, 1))[names] * 2 + rng.normal(size=(donors * visits, 1))
    return names.astype(str), scores


@pytest.mark.parametrize("kind", ["donor", "visit"])
def test_p_values_hold_their_level_where_donors_repeat(kind):
    rng, pvalues, units = np.random.default_rng(14), [], set()
    for _ in range(200):
        names, scores = repeated(rng)
        own = (
            rng.permutation([0.0, 1.0] * 6)[names.astype(int)]
            if kind == "donor"
            else np.tile([0.0, 1, 2], 12)
        )
        values = pd.Series(own, name="x")
        _, p, unit = associate(scores, values, names, is_number=True, permutations=39, rng=rng)
        pvalues.append(p[0])
        units.add(unit)
    assert units == {"donors" if kind == "donor" else "samples within donors"}
    share = np.mean(np.array(pvalues) <= 0.05)
    assert stats.binomtest(round(share * 200), 200, 0.05).pvalue > 0.01


def test_samples_as_units_would_not_hold_the_level_where_donors_repeat():
    rng, pvalues = np.random.default_rng(15), []
    for _ in range(100):
        names, scores = repeated(rng)
        values = pd.Series(rng.permutation([0.0, 1.0] * 6)[names.astype(int)], name="x")
        apart = np.arange(len(names)).astype(str)
        pvalues.append(associate(scores, values, apart, is_number=True, permutations=39, rng=rng)[1][0])
    assert np.mean(np.array(pvalues) <= 0.05) > 0.15


def test_a_planted_covariate_is_found():
    rng = np.random.default_rng(16)
    values = pd.Series(rng.normal(size=30), name="x")
    scores = np.column_stack([values + rng.normal(size=30), rng.normal(size=30)])
    r2, p, _ = associate(scores, values, np.arange(30).astype(str), is_number=True, permutations=999, rng=rng)
    assert p[0] <= 0.002
    assert r2[0] > 0.3
    assert p[1] > 0.05


def test_columns_of_a_covariate():
    assert indicator(pd.Series(["b", "a", "c"]), is_number=False).tolist() == [[1, 0], [0, 0], [0, 1]]
    assert indicator(pd.Series([2, 3]), is_number=True).tolist() == [[2], [3]]
