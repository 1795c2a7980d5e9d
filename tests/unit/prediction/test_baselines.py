"""Predictions without genes: features by hand, folds and fits against scikit-learn, columns without use."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from files import count_cells, logit_shares
from prediction._folds import make_splits
from prediction.baselines import MEAN, baselines, design

ALPHAS = [0.1, 1, 10, 100]
SETTINGS = {
    "target": "age",
    "levels": None,
    "baselines": [
        {"name": "sex", "columns": ["sex"]},
        {"name": "technical", "columns": ["sex", "pool", "log_cells"]},
        {"name": "composition", "columns": ["composition"]},
    ],
    "baseline_alpha": ALPHAS,
    "folds": 5,
    "repeats": 2,
    "inner_folds": 3,
    "random_state": 5,
}


def cohort(samples=60, confounded=0.5, seed=0):
    """Sums of two cell types; age is a function of log_cells of type a and of the sex, with noise."""
    rng = np.random.default_rng(seed)
    names = [f"s{number:03d}" for number in range(samples)]
    age = rng.uniform(20, 90, samples)
    cells = np.round(np.exp(5 - confounded * (age - 55) / 20 + rng.normal(0, 0.1, samples))).astype(int)
    one = pd.DataFrame(
        {
            "cell_type": "a",
            "label": "type A",
            "sample": names,
            "donor": names,
            "age": age,
            "sex": np.where(np.arange(samples) % 2, "F", "M"),
            "pool": [f"{number % 3}" for number in range(samples)],
            "cells": cells,
            "log_cells": np.log(cells),
            "used": True,
        }
    )
    other = one.assign(cell_type="b", label="type B", cells=rng.poisson(80, samples) + 1)
    return pd.concat([one, other.assign(log_cells=np.log(other["cells"]))], ignore_index=True)


def predicted(table, name):
    return table[table["baseline"] == name].reset_index(drop=True)


def test_composition_by_hand():
    rows = pd.DataFrame(
        {"sample": ["s1", "s1", "s2"], "label": ["A", "B", "A"], "cells": [3, 1, 5], "used": True}
    )
    found = logit_shares(count_cells(rows))
    expected = [[np.log(3.5 / 1.5), np.log(1.5 / 3.5)], [np.log(5.5 / 0.5), np.log(0.5 / 5.5)]]
    np.testing.assert_allclose(found.loc[["s1", "s2"], ["A", "B"]], expected)


def test_the_mean_is_that_of_the_training_samples():
    rows = cohort()
    obs = rows[rows["cell_type"] == "a"].reset_index(drop=True)
    table, _ = baselines(obs, logit_shares(count_cells(rows)), **SETTINGS)
    found = predicted(table, MEAN)
    splits = make_splits(obs["donor"].to_numpy(), folds=5, repeats=2, inner_folds=3, random_state=5)
    for split in splits:
        here = found[(found["repeat"] == split.repeat) & (found["fold"] == split.fold)]
        assert here["sample"].tolist() == obs["sample"].iloc[split.test].tolist()
        np.testing.assert_allclose(here["predicted"], obs["age"].iloc[split.train].mean())


def test_a_baseline_is_scikit_learn_in_the_same_folds():
    rows = cohort()
    obs = rows[rows["cell_type"] == "a"].reset_index(drop=True)
    found = predicted(baselines(obs, logit_shares(count_cells(rows)), **SETTINGS)[0], "technical")
    encode = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["sex", "pool"]), ("passthrough", ["log_cells"])
    )
    for split in make_splits(obs["donor"].to_numpy(), folds=5, repeats=2, inner_folds=3, random_state=5):
        model = make_pipeline(encode, StandardScaler(), RidgeCV(alphas=ALPHAS))
        model.fit(obs.iloc[split.train], obs["age"].iloc[split.train])
        here = found[(found["repeat"] == split.repeat) & (found["fold"] == split.fold)]
        np.testing.assert_allclose(here["predicted"], model.predict(obs.iloc[split.test]))
        np.testing.assert_allclose(here["observed"], obs["age"].iloc[split.test])


def test_cell_numbers_tell_age_where_they_are_confounded_and_sex_does_not():
    rows = cohort()
    obs = rows[rows["cell_type"] == "a"].reset_index(drop=True)
    table, _ = baselines(obs, logit_shares(count_cells(rows)), **SETTINGS)
    error = (table["observed"] - table["predicted"]).abs().groupby(table["baseline"]).mean()
    assert error["technical"] < error["mean"] / 3
    assert error["composition"] < error["mean"] / 2
    assert error["sex"] > 0.95 * error["mean"]


def test_a_test_sample_does_not_change_its_own_prediction():
    """Its target, that is; a leak of the target would move the prediction."""
    rows = cohort()
    obs = rows[rows["cell_type"] == "a"].reset_index(drop=True)
    one, _ = baselines(obs, logit_shares(count_cells(rows)), **SETTINGS)
    changed = obs.assign(age=obs["age"].where(obs["sample"] != "s007", 500.0))
    other, _ = baselines(changed, logit_shares(count_cells(rows)), **SETTINGS)
    mine = one["sample"] == "s007"
    np.testing.assert_allclose(one.loc[mine, "predicted"], other.loc[mine, "predicted"])
    assert not np.allclose(one.loc[~mine, "predicted"], other.loc[~mine, "predicted"])


def test_columns_that_are_constant_or_missing_are_recorded():
    rows = cohort()
    obs = rows[rows["cell_type"] == "a"].reset_index(drop=True)
    obs = obs.assign(pool="", log_cells=obs["log_cells"].where(np.arange(60) > 3))
    obs.loc[[0, 9], "sex"] = ""
    table, features = baselines(obs, logit_shares(count_cells(rows)), **SETTINGS)
    assert table["predicted"].notna().all()
    technical = features[features["baseline"] == "technical"].set_index("column")
    assert technical["kind"].to_dict() == {"sex": "category", "pool": "category", "log_cells": "number"}
    assert technical["features"].to_dict() == {"sex": 3, "pool": 0, "log_cells": 1}
    assert technical["missing"].to_dict() == {"sex": 2, "pool": 60, "log_cells": 4}
    assert technical["constant"].to_dict() == {"sex": False, "pool": True, "log_cells": False}


def test_a_baseline_of_constant_columns_is_the_mean():
    rows = cohort().assign(sex="F")
    obs = rows[rows["cell_type"] == "a"].reset_index(drop=True)
    table, features = baselines(obs, logit_shares(count_cells(rows)), **SETTINGS)
    assert features.loc[features["baseline"] == "sex", "constant"].all()
    same = [predicted(table, name)["predicted"] for name in (MEAN, "sex")]
    np.testing.assert_array_equal(*same)


def test_a_number_missing_in_a_training_set_altogether_is_no_failure():
    rows = cohort()
    obs = rows[rows["cell_type"] == "a"].reset_index(drop=True)
    split = make_splits(obs["donor"].to_numpy(), folds=5, repeats=1, inner_folds=3, random_state=5)[0]
    obs.loc[split.train, "log_cells"] = np.nan
    table, _ = baselines(obs, logit_shares(count_cells(rows)), **SETTINGS)
    assert table["predicted"].notna().all()


@pytest.mark.parametrize("change", [{"age": 40.0}, {"used": False}, {"age": np.nan}])
def test_nothing_predicted_gives_empty_tables(change):
    rows = cohort().assign(**change)
    obs = rows[rows["cell_type"] == "a"].reset_index(drop=True)
    table, features = baselines(obs, logit_shares(count_cells(rows)), **SETTINGS)
    assert table.empty
    assert features.empty


def test_a_column_of_text_is_a_category_whatever_pandas_calls_it():
    rows = cohort(samples=6)
    for dtype in (object, "str"):
        table, record = design(rows[:6].astype({"sex": dtype}), "sex", logit_shares(count_cells(rows)))
        assert record["kind"] == "category"
        assert table.columns.tolist() == ["F", "M"]
