"""Profiles: means and correlations by hand and by numpy, and the samples and genes that count."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from prediction._target import Levels
from prediction.profiles import correlate_with_others, measure_profile

COUNTS = csr_array(np.array([[10, 0, 90, 0], [20, 1, 79, 0], [0, 30, 70, 0], [50, 50, 0, 0], [1, 2, 3, 4]]))
OBS = pd.DataFrame(
    {"sample": list("abcde"), "age": [20.0, 30, 40, np.nan, 50], "sex": list("fmfmm"), "used": True}
)
GENES = pd.DataFrame({"gene_id": ["g1", "g2", "g3", "g4"], "symbol": list("ABCD")})
AGE = {"target": "age", "levels": None}


def test_a_profile_by_hand():
    obs = OBS.assign(used=[True, True, True, True, False])
    profile, correlations = measure_profile(COUNTS, obs, GENES, **AGE, min_share=0.5)
    assert profile["gene_id"].tolist() == ["g1", "g2", "g3"]  # g4 is counted in none of a, b, c
    x = np.log(1 + np.array([[1000, 0, 9000], [2000, 100, 7900], [0, 3000, 7000]]))
    np.testing.assert_allclose(profile["mean"], x.mean(axis=0))
    assert correlations["sample"].tolist() == ["a", "b", "c"]
    expected = np.corrcoef(x[1], (x[0] + x[2]) / 2)[0, 1]
    assert correlations["correlation"].tolist()[1] == pytest.approx(expected)


def test_rare_genes_do_not_count():
    profile, _ = measure_profile(COUNTS, OBS.assign(age=30.0), GENES, **AGE, min_share=0.7)
    assert profile["gene_id"].tolist() == ["g1", "g2", "g3"]  # counted in 4 of 5 samples
    profile, _ = measure_profile(COUNTS, OBS.assign(age=30.0), GENES, **AGE, min_share=0.2)
    assert profile["gene_id"].tolist() == ["g1", "g2", "g3", "g4"]


def test_samples_without_one_of_the_levels_do_not_count():
    levels = {"target": "sex", "levels": Levels("m", "x")}
    _, correlations = measure_profile(COUNTS, OBS, GENES, **levels, min_share=0.1)
    assert correlations["sample"].tolist() == ["b", "d", "e"]


@pytest.mark.parametrize(("samples", "min_share"), [(2, 0.5), (3, 0.9), (0, 0.5)])
def test_fewer_than_three_samples_or_genes_have_no_profile(samples, min_share):
    for table in measure_profile(COUNTS[:samples], OBS[:samples], GENES, **AGE, min_share=min_share):
        assert table.empty


def test_a_sample_does_not_count_in_the_mean_it_is_compared_with():
    rng = np.random.default_rng(0)
    expression = rng.normal(size=(3, 500))
    assert np.abs(correlate_with_others(expression)).max() < 0.2  # with the mean of all: about 0.58
