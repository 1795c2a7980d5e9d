"""The filter of genes by hand, by groups, for every design, and the reason of each gene that is left out."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from donors import _gene_filter
from donors._contrast import resolve_contrast
from donors._design import build

SETTINGS = {
    "gene_filter": "filterByExpr", "min_count": 10, "min_count_samples": 0.3, "min_total_count": 15,
    "large_n": 10, "min_prop": 0.7,
}  # fmt: skip
CASE = {"name": "case", "design": "~ state", "test": "state", "level": "case", "reference": "control"}


def people(cases: int = 4, controls: int = 20) -> pd.DataFrame:
    """Cases, then controls; ages, sexes and three stages do not follow them."""
    number = np.arange(cases + controls)
    return pd.DataFrame(
        {
            "state": np.repeat(["case", "control"], [cases, controls]),
            "sex": np.array(["F", "M"])[number % 2],
            "stage": np.array(["early", "late", "middle"])[number % 3],
            "age": 20.0 + 7 * number % 60,
        }
    )


def needed(obs: pd.DataFrame, contrast: dict) -> float:
    """Samples that a gene needs by the rule of groups, before large ones are asked for less."""
    design = build(resolve_contrast(contrast, obs), obs, min_samples=2, min_residual_df=1)
    assert design.reason == ""
    return 1 / _gene_filter.largest_leverage(design.of_tested)


@pytest.mark.parametrize(
    "design", ["~ state", "~ state + sex", "~ sex + age + stage + state", "~ 0 + state", "~ 0 + sex + state"]
)
def test_a_gene_needs_the_samples_of_the_smaller_group_whatever_is_adjusted_for(design):
    assert needed(people(), {**CASE, "design": design}) == pytest.approx(4)
    assert needed(people(9, 7), {**CASE, "design": design}) == pytest.approx(7)


def test_of_pairs_as_many_as_there_are():
    obs = people(12, 12).assign(donor=[f"d{i}" for i in [*range(12), *range(12)]])
    assert needed(obs, {**CASE, "design": "~ donor + state"}) == pytest.approx(12)


def test_of_several_levels_the_smallest():
    obs = people(6, 12)  # 6 of each stage
    assert needed(obs[2:], {"name": "any", "design": "~ stage + age", "test": "stage"}) == pytest.approx(5)


def test_of_a_product_the_smallest_cell():
    obs = people(8, 16)
    for test in ("state", "state:sex"):
        contrast = {"name": "both", "design": "~ state * sex + age", "test": test}
        contrast |= {"level": "case", "reference": "control"} if test == "state" else {}
        assert needed(obs, contrast) == pytest.approx(4)


def test_of_a_number_by_its_leverage():
    obs = pd.DataFrame({"age": np.arange(20.0), "sex": ["F", "M"] * 10})
    age = {"name": "age", "design": "~ age + sex", "test": "age", "unit": 10}
    largest = 1 / 20 + 9.5**2 / ((obs["age"] - 9.5) ** 2).sum()  # of a straight line, at its ends
    assert needed(obs, age) == pytest.approx(1 / largest)
    assert needed(obs, age) == pytest.approx(5.4, abs=0.1)


def judge(counts, matrix=None, **settings) -> pd.DataFrame:
    counts = np.asarray(counts)
    matrix = np.ones((len(counts), 1)) if matrix is None else matrix
    return _gene_filter.judge_genes(sparse.csr_array(counts), matrix, **(SETTINGS | settings))


def test_genes_of_few_cases_are_judged_by_groups_but_not_by_a_share():
    counts = np.full((24, 4), 200)
    counts[4:, 0] = 0  # in all cases
    counts[3:, 1] = 0  # in three of them
    counts[:, 2] = 0
    two_groups = np.column_stack([np.ones(24), np.repeat([1, 0], [4, 20])])
    genes = judge(counts, two_groups)
    assert genes["reason"].tolist() == ["", "few_samples_with_count", "no_counts", ""]
    assert genes["samples_with_count"].tolist() == [4, 3, 0, 24]
    np.testing.assert_allclose(genes["samples_needed"], 4)
    genes = judge(counts, two_groups, gene_filter="share")
    assert genes["reason"].tolist() == ["few_samples_with_count"] * 2 + ["no_counts", ""]
    assert genes["samples_needed"].tolist() == [8] * 4  # 0.3 x 24, rounded up
    assert genes["threshold"].tolist() == [10] * 4


def test_reasons_by_hand():
    counts = np.array([[10, 9, 0, 14, 67], [10, 9, 0, 0, 81], [0, 9, 0, 0, 91], [0, 9, 0, 0, 91]])
    genes = judge(counts, gene_filter="share", min_count_samples=0.5)
    few = "few_samples_with_count"
    assert genes["reason"].tolist() == ["", few, "no_counts", few, ""]
    assert genes["counts"].tolist() == [20, 36, 0, 14, 330]
    assert genes["samples_with_count"].tolist() == [2, 0, 0, 1, 4]
    assert judge(counts, gene_filter="share", min_count_samples=0.6)["samples_needed"][0] == 3  # 2.4
    # a gene without counts is never tested
    assert judge(counts, gene_filter="share", min_count=0, min_count_samples=0)["reason"][2] == "no_counts"
    assert judge(counts, min_count=0, min_total_count=0)["reason"][2] == "no_counts"
    alone = np.eye(4)  # every sample is a group
    genes = judge(counts, alone)
    assert genes["reason"].tolist() == ["", few, "no_counts", "few_counts_in_all", ""]
    assert genes["threshold"][0] == 10 / 100 * 1e6  # libraries of 100 counts, the last two of 100


def test_a_share_is_rounded_up_but_not_by_floating_point():
    assert 0.07 * 100 > 7
    genes = judge(
        np.repeat([[1], [0]], [7, 93], axis=0), gene_filter="share", min_count=1, min_count_samples=0.07
    )
    assert genes["reason"].tolist() == [""]


def test_leverage_of_columns_that_depend_on_each_other():
    group = np.repeat([0.0, 1.0], [3, 9])
    matrix = np.column_stack([np.ones(12), group, 1 - group])
    assert _gene_filter.largest_leverage(matrix) == pytest.approx(1 / 3)
