"""Designs with columns that others explain: differences by hand, one answer for each spelling, refusals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from donors import _aliases, _contrast, _design, _gls

LIMITS = {"min_samples": 2, "min_residual_df": 3}
RESPONSE = {"name": "response", "references": {"group": "none", "condition": "ctrl"}}
SPELLINGS = {
    "~ donor + group:condition": "group:condition",
    "~ group + group:donor + group:condition": "group:condition",
    "~ donor + condition + condition:group": "condition:group",
    "~ donor + condition * group": "condition:group",
    "~ group * condition + donor": "condition:group",
    "~ 0 + donor + group:condition": "group:condition",
}


def people(groups=("none", "responder"), donors: int = 12) -> pd.DataFrame:
    """Two samples of each donor, ctrl and stim; a donor is in one group."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "sample": f"D{donor:02d}_{condition}",
                "donor": f"D{donor:02d}",
                "group": groups[donor % len(groups)],
                "age": float(20 + 5 * donor),
                "bmi": rng.normal(25, 4),
                "condition": condition,
            }
            for donor in range(donors)
            for condition in ("ctrl", "stim")
        ]
    )


def build(contrast, obs):
    return _design.build(_contrast.resolve_contrast(contrast, obs), obs, **LIMITS)


def fit(design, y):
    """Effects of the design's hypothesis, (responses, effects)."""
    fits = _gls.fit_models(y, design.matrix.to_numpy())
    return fits, fits.coefficients @ design.hypothesis.T


@pytest.mark.parametrize("formula", SPELLINGS)
def test_the_response_between_groups_is_a_difference_of_mean_differences(formula):
    obs = people()
    y = np.random.default_rng(1).normal(5, 1, (len(obs), 7))
    contrast = RESPONSE | {"design": formula, "test": SPELLINGS[formula]}
    design = build(contrast, obs)
    change = y[1::2] - y[::2]
    responds = (obs["group"] == "responder").to_numpy()[::2]
    expected = change[responds].mean(axis=0) - change[~responds].mean(axis=0)
    _, effects = fit(design, y)
    np.testing.assert_allclose(effects[:, 0], expected, atol=1e-10)
    assert (design.coefficients, design.residual_df, design.joint) == (14, 10, False)
    assert design.donors.nunique() == 12
    words = {
        "group:condition": "responder against none, in stim minus in ctrl",
        "condition:group": "stim against ctrl, in responder minus in none",
    }
    settled = _contrast.resolve_contrast(contrast, obs)
    assert _design.effect(settled, design) == words[SPELLINGS[formula]]


def test_the_statistic_is_that_of_a_comparison_of_the_donors_changes():
    obs = people()
    y = np.random.default_rng(2).normal(5, 1, (len(obs), 1))
    responds = (obs["group"] == "responder").to_numpy()[::2]
    change = (y[1::2] - y[::2])[:, 0]
    t, p = stats.ttest_ind(change[responds], change[~responds])
    for formula, test in SPELLINGS.items():
        design = build(RESPONSE | {"design": formula, "test": test}, obs)
        found = _gls.test_models(_gls.fit_models(y, design.matrix.to_numpy()), design.hypothesis)
        assert (found.t[0], found.pvalues[0]) == (pytest.approx(t, rel=1e-9), pytest.approx(p, rel=1e-9))


def test_three_groups_are_tested_together_by_the_same_f_in_each_spelling():
    obs = people(("a", "b", "c"))
    y = np.random.default_rng(3).normal(5, 1, (len(obs), 1))
    change, group = (y[1::2] - y[::2])[:, 0], obs["group"].to_numpy()[::2]
    f, _ = stats.f_oneway(*(change[group == name] for name in "abc"))
    for formula, test in SPELLINGS.items():
        contrast = {"name": "response", "design": formula, "test": test}
        design = build(contrast, obs)
        assert (design.joint, len(design.hypothesis)) == (True, 2)
        found = _gls.test_models(_gls.fit_models(y, design.matrix.to_numpy()), design.hypothesis)
        assert found.f[0] == pytest.approx(f, rel=1e-9)
        assert _design.effect(_contrast.resolve_contrast(contrast, obs), design).startswith("any change")


def test_a_slope_that_differs_between_conditions_is_estimable_without_the_donors_ages():
    obs = people()
    y = np.random.default_rng(4).normal(5, 1, (len(obs), 3))
    change, age = y[1::2] - y[::2], obs["age"].to_numpy()[::2]
    expected = 10 * np.polyfit(age, change, 1)[0]
    for formula in ("~ donor + condition * age", "~ donor + condition + condition:age"):
        design = build({"name": "slope", "design": formula, "test": "condition:age", "unit": 10}, obs)
        np.testing.assert_allclose(fit(design, y)[1][:, 0], expected, atol=1e-10)


def test_columns_left_out_are_named():
    obs = people()
    said = "left out, since the rest of the design explains it: "
    last = RESPONSE | {"design": "~ donor + condition * group", "test": "condition:group"}
    assert build(last, obs).message == said + "group[T.responder]"
    first = RESPONSE | {"design": "~ group * condition + donor", "test": "condition:group"}
    assert build(first, obs).message == said + "donor[T.D11]"
    nested = RESPONSE | {"design": "~ group + group:donor + group:condition", "test": "group:condition"}
    assert build(nested, obs).message == said + "12 columns of group:donor"
    twice = {"name": "age", "design": "~ age + group + copy", "test": "age"}
    one_each = obs[obs["condition"] == "ctrl"]
    design = build(twice, one_each.assign(copy=one_each["group"]))
    assert (design.reason, design.message) == ("", said + "copy[T.responder]")
    assert build(twice | {"design": "~ age + group"}, one_each).message == ""


def test_what_only_donors_explain_is_refused_by_the_names_of_variables():
    obs = people()
    for formula in ("~ donor + group", "~ group + donor + condition", "~ donor + condition * group"):
        design = build({"name": "group", "design": formula, "test": "group"}, obs)
        assert (design.reason, design.message) == ("confounded", "group cannot be separated from donor")
        assert design.matrix is None
    design = build({"name": "age", "design": "~ bmi + donor + age", "test": "age"}, obs)
    assert design.message == "age cannot be separated from donor"


def test_a_cell_without_samples_is_named():
    obs = people(("a", "b", "c"))
    obs = obs[(obs["group"] != "c") | (obs["condition"] == "ctrl")]
    design = build({"name": "r", "design": "~ donor + condition * group", "test": "condition:group"}, obs)
    assert (design.reason, design.message) == (
        "confounded",
        "condition[T.stim]:group[T.c] is 0 in every sample",
    )


def test_the_model_is_the_same_with_all_parts_of_the_product():
    obs = people(("a", "b", "c"))
    for formula in ("~ group:condition", "~ condition + condition:group", "~ bmi + group:condition"):
        design = build(
            {"name": "r", "design": formula, "test": "group:condition", "block": "donor"}, obs
        ).matrix
        cells = pd.get_dummies(obs["group"] + obs["condition"]).astype(float)
        expected = np.column_stack([cells, obs["bmi"]] if "bmi" in formula else [cells])
        np.testing.assert_allclose(
            design.to_numpy() @ np.linalg.pinv(design.to_numpy()),
            expected @ np.linalg.pinv(expected),
            atol=1e-12,
        )


def test_dependencies_by_hand():
    matrix = np.array([[1, 0, 0, 5], [1, 1, 1, 6], [1, 0, 0, 8], [1, 1, 1, 1]], dtype=float)
    involved, estimable = _aliases.dependencies(matrix, np.array([0, 0, 0, 1.0]))
    assert (involved.tolist(), estimable) == ([False, True, True, False], True)
    assert not _aliases.dependencies(matrix, np.array([0, 0, 1.0, 0]))[1]
    assert _aliases.dependencies(matrix, np.array([0, 1.0, 1, 0]))[1]  # their sum is known


def test_aliased_columns_are_those_of_a_pivoted_decomposition():
    rng = np.random.default_rng(5)
    for _ in range(20):
        x = rng.integers(0, 2, (12, 9)).astype(float)
        x[:, rng.integers(0, 9)] = x[:, rng.integers(0, 9, 3)].sum(axis=1)
        matrix = pd.DataFrame(x, columns=[f"c{place}" for place in range(9)])
        aliased = _aliases.find_aliased(matrix, ["c0"])
        ranks = [np.linalg.matrix_rank(x[:, [*range(1, place + 1)]]) for place in range(9)]
        ranks.append(np.linalg.matrix_rank(x))
        assert [not place for place in [*aliased[1:], aliased[0]]] == (np.diff(ranks) == 1).tolist()
