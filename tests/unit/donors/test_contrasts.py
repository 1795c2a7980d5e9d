"""Verdicts by hand, subsets, variance inflation against statsmodels, one clear line."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.outliers_influence import variance_inflation_factor

from donors import _contrast, _design, contrasts
from job import InputError

AGE = {"name": "age", "design": "~ age + sex", "test": "age", "unit": 10}
LIMITS = {"min_samples": 8, "min_residual_df": 3}
TYPES = pd.DataFrame(
    {
        "id": ["b", "nk", "rare", "t"],
        "label": ["B", "NK", "rare", "T CD4+"],
        "tested": [True, True, False, True],
        "reason": ["", "", "few_cells_in_type", ""],
    }
)


@pytest.fixture
def obs():
    """Sums of three types in 12 donors: NK of women only, T where four donors have no age."""
    rng = np.random.default_rng(0)
    donors = pd.DataFrame(
        {
            "sample": [f"d{i:02d}" for i in range(12)],
            "age": rng.uniform(20, 90, 12).round(),
            "bmi": rng.normal(25, 4, 12),
            "sex": ["F", "M"] * 6,
            "pool": list("abc") * 4,
            "reason": "",
        }
    )
    parts = [donors.assign(cell_type=name) for name in ("b", "nk", "t")]
    parts[1].loc[parts[1]["sex"] == "M", "reason"] = "too_few_cells"
    parts[1] = pd.concat([parts[1], parts[1].assign(sample=parts[1]["sample"] + "x")])
    parts[2].loc[:4, "age"] = np.nan
    return pd.concat(parts, ignore_index=True)


def judged(contrast, obs, **limits):
    return contrasts.judge(_contrast.resolve_contrast(contrast, obs), obs, TYPES, **(LIMITS | limits))


def test_every_type_has_a_verdict(obs):
    table = judged(AGE, obs).set_index("cell_type")
    assert table["reason"].to_dict() == {
        "b": "", "nk": "single_level", "rare": "few_cells_in_type", "t": "too_few_samples",
    }  # fmt: skip
    assert table.loc["b", ["samples", "samples_used", "coefficients", "residual_df"]].tolist() == [
        12,
        12,
        3,
        9,
    ]
    few = "7 of 12 samples can be used (missing_age 5); pseudobulk.min_samples is 8"
    assert table.loc["t", "message"] == few
    assert judged(AGE, obs, min_samples=7).set_index("cell_type").loc["t", "reason"] == ""


def test_a_subset_leaves_samples_out_and_settles_what_is_compared(obs):
    contrast = {"name": "pool", "design": "~ pool", "test": "pool", "level": "c", "reference": "b"}
    contrast |= {"subset": {"pool": ["b", "c"], "sex": ["F", "M"]}}
    settled = _contrast.resolve_contrast(contrast, obs)
    assert settled.references == {"pool": "b"}
    design = _design.build(settled, obs[obs["cell_type"] == "b"], **LIMITS)
    assert design.samples["reason"].tolist() == ["not_in_subset", "", ""] * 4
    assert list(design.matrix) == ["Intercept", "pool[T.c]"]
    numbers = _contrast.resolve_contrast(
        AGE | {"subset": {"age": obs["age"].dropna().iloc[:3].tolist()}}, obs
    )
    assert (_design.choose_samples(obs, numbers)["reason"] == "").sum() >= 3


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        ({"pools": ["a"]}, r"contrasts\.age\.subset: 'pools' is not a column"),
        ({"pool": ["a", "z"]}, r"contrasts\.age\.subset: pool is never 'z' \(it is: a, b, c\)"),
    ],
)
def test_a_subset_that_does_not_exist_is_named(obs, subset, message):
    with pytest.raises(InputError, match=message):
        _contrast.resolve_contrast(AGE | {"subset": subset}, obs)


def test_variance_inflation_is_that_of_statsmodels(obs):
    obs = obs[obs["cell_type"] == "b"].assign(bmi=lambda t: t["age"] / 5 + t["bmi"])
    contrast = AGE | {"design": "~ age + bmi + sex + pool"}
    design = _design.build(_contrast.resolve_contrast(contrast, obs), obs, **LIMITS)
    place = list(design.matrix).index("age")
    assert design.vif == pytest.approx(variance_inflation_factor(design.matrix.to_numpy(), place), rel=1e-9)
    assert design.vif > 1.5
    assert design.correlate == "bmi"
    assert design.correlation == pytest.approx(np.corrcoef(obs["age"], obs["bmi"])[0, 1])


def test_variance_inflation_does_not_depend_on_coding(obs):
    obs = obs[obs["cell_type"] == "b"].assign(age=lambda t: t["age"] + 30 * (t["sex"] == "M"))
    contrast = {"name": "sex", "test": "sex", "level": "M", "reference": "F"}
    one, other = (
        _design.build(_contrast.resolve_contrast(contrast | {"design": design}, obs), obs, **LIMITS)
        for design in ("~ sex + age", "~ 0 + sex + age")
    )
    assert one.vif == pytest.approx(other.vif)
    assert (one.correlate, one.correlation) == (other.correlate, pytest.approx(other.correlation))


def test_a_term_that_the_rest_explains_has_infinite_inflation(obs):
    obs = obs[obs["cell_type"] == "b"].assign(bmi=lambda t: 2 * t["age"] + 1)
    design = _design.build(_contrast.resolve_contrast(AGE | {"design": "~ age + bmi"}, obs), obs, **LIMITS)
    assert (design.reason, design.vif) == ("confounded", np.inf)


def test_the_model_without_a_term_spans_what_is_left(obs):
    obs = obs[obs["cell_type"] == "b"]
    fitted = []
    for formula in ("~ pool + sex", "~ 0 + pool + sex"):
        contrast = {"name": "pool", "design": formula, "test": "pool"}
        design = _design.build(_contrast.resolve_contrast(contrast, obs), obs, **LIMITS)
        assert design.joint
        assert design.hypothesis.shape == (2, 4)
        fitted.append(design.reduced @ np.linalg.pinv(design.reduced))
    expected = np.column_stack([np.ones(12), obs["sex"] == "M"])
    for projection in fitted:
        np.testing.assert_allclose(projection, expected @ np.linalg.pinv(expected), atol=1e-12)


def test_a_contrast_that_no_type_can_have_is_one_clear_line(obs):
    tested = TYPES["tested"]
    contrasts.check_any(judged(AGE, obs), tested)
    obs = obs.assign(bmi=2 * obs["age"])
    with pytest.raises(InputError) as error:
        contrasts.check_any(judged(AGE | {"design": "~ age + bmi"}, obs), tested)
    line = str(error.value)
    assert line.startswith(
        "contrasts.age: can be tested in none of 3 cell types (confounded 2, too_few_samples 1)"
    )
    assert "\n" not in line
    contrasts.check_any(judged(AGE, obs), tested & False)  # nothing is to be tested, so nothing is wrong


def test_the_line_of_the_log(obs):
    line = contrasts.summary(judged(AGE, obs))
    assert line.startswith("age can be tested in 1 of 4 types (")
    assert "; largest variance inflation 1." in line
    assert line.endswith("with sex[T.M]")
