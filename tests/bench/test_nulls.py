"""Permuted ages and split visits by hand."""

import numpy as np
import pandas as pd

import nulls

OBS = pd.DataFrame({"donor": list("abcdef"), "age": [1.0, 2, 3, 4, 5, 6], "sex": ["male", "female"] * 3})


def test_ages_are_permuted_within_sex():
    assert nulls.permute_ages(OBS, 0).equals(OBS)
    orders = set()
    for number in range(1, 8):
        ages = nulls.permute_ages(OBS, number)["age"]
        assert sorted(ages[::2]) == [1, 3, 5]
        assert sorted(ages[1::2]) == [2, 4, 6]
        orders.add(tuple(ages))
    assert len(orders) > 3


def test_visits_add_up_to_the_donor():
    counts = np.arange(24).reshape(6, 4) * 10
    split, rows = nulls.split_visits(counts, OBS, 3)
    assert split.shape == (18, 4)
    np.testing.assert_array_equal(split.reshape(6, 3, 4).sum(axis=1), counts)
    assert rows["donor"].tolist() == list("aaabbbcccdddeeefff")
    assert rows["sample"].is_unique
    same, one = nulls.split_visits(counts, OBS, 1)
    assert same is counts
    assert one["sample"].tolist() == list("abcdef")
