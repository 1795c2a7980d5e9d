"""Targets of two levels: which column has them, how they are coded, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from job import InputError
from prediction._folds import choose_samples
from prediction._target import Levels, bound, code_target, describe_levels, find_levels

UNNAMED = {"level": None, "reference": None}
OBS = pd.DataFrame(
    {
        "sample": list("abcdef"),
        "donor": list("abcdef"),
        "used": [True] * 5 + [False],
        "sex": ["female", "male", "", "male", "female", "other"],
        "dose": [0.0, 10.0, np.nan, 10.0, 0.0, 5.0],  # 5 is not used
        "age": [30.0, 40, 50, 60, 70, 80],
    }
)


def test_a_number_with_two_values_has_levels_and_the_larger_is_predicted():
    levels = find_levels(OBS, target="dose", **UNNAMED)
    assert levels == Levels(10.0, 0.0)
    assert describe_levels(levels) == {"kind": "levels", "level": "10", "reference": "0"}
    np.testing.assert_array_equal(code_target(OBS["dose"], levels), [0, 1, np.nan, 1, 0, np.nan])


def test_a_number_with_more_values_stays_a_number():
    assert find_levels(OBS, target="age", **UNNAMED) is None
    assert describe_levels(None) == {"kind": "number", "level": "", "reference": ""}
    np.testing.assert_array_equal(code_target(OBS["age"], None), OBS["age"])


def test_a_category_has_the_levels_of_the_config_and_not_those_of_the_alphabet():
    for level, reference, coded in (("male", "female", [0, 1]), ("female", "male", [1, 0])):
        levels = find_levels(OBS, target="sex", level=level, reference=reference)
        np.testing.assert_array_equal(code_target(OBS["sex"], levels)[:2], coded)
        assert np.isnan(code_target(OBS["sex"], levels)[[2, 5]]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "height"}, "ridge.target: height is not a column of the samples; .* one of dose, age"),
        ({"target": "sex"}, "ridge.level: None is not a level of sex; set it to one of female, male, or"),
        ({"target": "sex", "level": "male", "reference": "F"}, "ridge.reference: 'F' is not a level of sex"),
        ({"target": "sex", "level": "other", "reference": "male"}, "ridge.level: 'other' is not a level"),
    ],
)
def test_a_target_without_its_levels_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        find_levels(OBS, **UNNAMED | settings)


def test_samples_of_other_levels_are_left_out_and_a_rare_level_has_a_reason():
    obs = pd.concat([OBS] * 4, ignore_index=True)
    names = [f"d{number}" for number in range(len(obs))]
    obs = obs.assign(donor=names, sample=names)
    choice = {"target": "sex", "levels": Levels("male", "female"), "folds": 4, "inner_folds": 2}
    mask, values, facts = choose_samples(obs, **choice)
    assert facts["status"] == "predicted"
    assert [facts["samples"], facts["samples_without_target"], facts["samples_not_used"]] == [16, 4, 4]
    assert values.sum() == 8
    assert mask.sum() == 16
    rare = obs.assign(sex=np.where(np.arange(len(obs)) < 3, "male", "female"))
    facts = choose_samples(rare, **choice)[2]
    assert facts["status"] == "too_few_of_a_level"
    assert facts["reason"] == "3 donors with male are too few for 4 folds (ridge.folds)"


def test_predictions_of_levels_are_probabilities():
    predicted = np.array([-0.2, 0.3, 1.4])
    assert bound(predicted, Levels(1.0, 0.0)).tolist() == [0, 0.3, 1]
    assert bound(predicted, None).tolist() == predicted.tolist()
