"""Samples of one donor are not donors: what is refused, and what is taken."""

import numpy as np
import pandas as pd
import pytest

from donors import _contrast, _design
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
    return _design.build(_contrast.settle(contrast, obs), obs, **LIMITS)


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
