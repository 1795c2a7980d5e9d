"""Samples of one donor are not donors: what is refused, and what is taken."""

import numpy as np
import pandas as pd
import pytest

from donors import _contrast, _design, _replication, composition
from job import InputError

LIMITS = {"min_samples": 2, "min_residual_df": 3}
AGE = {"name": "age", "design": "~ age", "test": "age", "unit": 10}
STIM = {"name": "stim", "design": "~ condition", "test": "condition", "level": "stim", "reference": "ctrl"}


def people(donors: int, visits: int, seed: int = 0) -> pd.DataFrame:
    """A row per sample: age and sex belong to the donor, condition to the visit."""
    rng = np.random.default_rng(seed)
    age = rng.integers(20, 80, donors)
    return pd.DataFrame(
        [
            {
                "sample": f"D{donor:02d}_v{visit}",
                "donor": f"D{donor:02d}",
                "pool": f"p{(donor + visit) % 3}",
                "age": float(age[donor]),
                "sex": ("female", "male")[donor % 2],
                "condition": ("ctrl", "stim")[visit % 2],
            }
            for donor in range(donors)
            for visit in range(visits)
        ]
    )


def build(contrast, obs):
    return _design.build(_contrast.resolve_contrast(contrast, obs), obs, **LIMITS)


def test_visits_that_would_count_as_donors_are_refused_with_the_ways_out():
    obs = people(20, 3)
    with pytest.raises(InputError) as error:
        build(AGE, obs)
    line = str(error.value)
    assert line.startswith("contrasts.age: 60 samples of 20 donors would count as 60 donors; age is the same")
    assert "\n" not in line
    for way in (
        "contrasts.age.aggregate: donor",
        "contrasts.age.block: donor",
        "donor in contrasts.age.design",
    ):
        assert way in line


def test_a_question_within_donors_is_sent_to_the_design():
    with pytest.raises(
        InputError, match=r"condition differs within donors: add donor to contrasts\.stim\.des"
    ):
        build(STIM, people(12, 2))
    assert build(STIM | {"design": "~ donor + condition"}, people(12, 2)).reason == ""


def test_a_column_with_one_donor_in_each_level_is_the_donor_in_a_design():
    obs = people(12, 2).assign(patient=lambda table: "patient " + table["donor"])
    assert build(STIM | {"design": "~ patient + condition"}, obs).reason == ""
    with pytest.raises(InputError, match="would count as"):
        build(STIM | {"design": "~ pool + condition"}, obs)


def test_one_repeated_donor_is_enough():
    obs = people(20, 1)
    assert build(AGE, obs).reason == ""
    obs.loc[19, "donor"] = "D18"
    with pytest.raises(InputError, match="20 samples of 19 donors"):
        build(AGE, obs)


def test_only_samples_that_take_part_count():
    obs = people(20, 2)
    assert build(AGE | {"subset": {"condition": ["ctrl"]}}, obs).reason == ""
    assert (
        build(AGE, obs.assign(reason=np.where(obs["condition"] == "stim", "too_few_cells", ""))).reason == ""
    )


def test_a_table_without_donors_has_one_sample_of_each():
    assert build(AGE, people(20, 1).drop(columns="donor")).reason == ""


# sums of donors


def test_a_question_within_donors_cannot_be_summed():
    with pytest.raises(
        InputError, match=r"contrasts\.stim\.aggregate: condition differs between samples of one"
    ):
        build(STIM | {"aggregate": "donor"}, people(12, 2))
    with pytest.raises(InputError, match=r"contrasts\.age\.aggregate: pool differs"):
        build(AGE | {"design": "~ age + pool", "aggregate": "donor"}, people(12, 2))


def test_numbers_that_differ_between_visits_are_averaged_and_those_of_sums_are_summed():
    obs = people(10, 2).assign(bmi=np.arange(20.0), log_cells=np.log(np.arange(1, 21)), pct_counts_mt=1.0)
    obs["log_depth"] = np.log(np.where(np.arange(20) % 2, 300.0, 100.0))
    obs.loc[1, "pct_counts_mt"] = 5.0
    contrast = AGE | {"design": "~ age + bmi + log_cells + pct_counts_mt", "aggregate": "donor"}
    settled = _contrast.resolve_contrast(contrast, obs)
    values, rows = _replication.sum_variables(settled, obs)
    assert rows.tolist() == np.repeat(np.arange(10), 2).tolist()
    np.testing.assert_allclose(values["bmi"], np.arange(0.5, 20, 2))
    np.testing.assert_allclose(np.exp(values["log_cells"]), np.arange(3, 40, 4))
    assert values["pct_counts_mt"].iloc[0] == pytest.approx((100 * 1 + 300 * 5) / 400)
    design = build(contrast, obs)
    assert list(design.matrix.index) == [f"D{donor:02d}" for donor in range(10)]
    assert (design.residual_df, len(design.samples)) == (5, 20)


def test_donors_are_counted_where_samples_are_summed():
    settled = _contrast.resolve_contrast(AGE | {"aggregate": "donor"}, people(6, 2))
    design = _design.build(settled, people(6, 2), min_samples=8, min_residual_df=3)
    assert (design.reason, design.message[:33]) == ("too_few_samples", "6 donors have samples that can be")


def test_cells_of_a_donor_are_counted_together():
    obs = people(10, 2).set_index("sample", drop=False)
    cells = pd.DataFrame({"T": np.arange(20), "B": 5}, index=obs.index)
    design = build(AGE | {"aggregate": "donor"}, obs)
    summed = composition.cells_of(design, cells)
    assert summed["T"].tolist() == list(range(1, 40, 4))
    assert list(summed.index) == list(design.matrix.index)
    single = build(AGE | {"block": "donor"}, obs)
    pd.testing.assert_frame_equal(composition.cells_of(single, cells), cells)
