"""The choice of alpha, the pooled predictions and their scores, by hand and against scikit-learn."""

import io

import numpy as np
import pandas as pd
import pytest
from ridge_summary import SCORES, choose_alpha, figure, scores_by_repeat, stack, summarise

ALPHAS = [100.0, 10.0]  # as the config lists them, not sorted


def small():
    """Two repeats of two folds of two samples; errors such that each repeat chooses both alphas."""
    keys = pd.DataFrame(
        {
            "repeat": np.repeat([0, 1], 4),
            "fold": [0, 0, 1, 1] * 2,
            "sample": ["a", "b", "c", "d", "a", "d", "b", "c"],
            "observed": [1.0, 2.0, 3.0, 4.0, 1.0, 4.0, 2.0, 3.0],
        }
    )
    predictions = [keys.assign(predicted=keys["observed"] + shift) for shift in (1.0, -0.5)]
    folds = pd.DataFrame({"repeat": [0, 0, 1, 1], "fold": [0, 1, 0, 1]})
    inner = [folds.assign(inner_mse=[2.0, 5.0, 3.0, 4.0]), folds.assign(inner_mse=[3.0, 4.0, 3.0, 5.0])]
    scores = pd.DataFrame(
        {
            "cell_type": "b_cell",
            "alpha": ALPHAS,
            "status": "predicted",
            "reason": "",
            "target": "age",
            "samples": 4,
            "donors": 4,
        }
    )
    return predictions, inner, scores


def test_alpha_has_the_smallest_inner_error_and_ties_go_to_the_larger():
    _, inner, _ = small()
    chosen = choose_alpha(stack(inner, ALPHAS))
    assert chosen["alpha"].tolist() == [100.0, 10.0, 100.0, 100.0]  # the third is a tie
    assert chosen[["repeat", "fold"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_predictions_are_pooled_from_the_chosen_alphas():
    predictions, inner, scores = small()
    pooled, summary = summarise(stack(predictions, ALPHAS), stack(inner, ALPHAS), scores)
    assert list(pooled) == ["alpha", "repeat", "fold", "sample", "observed", "predicted"]
    assert pooled["sample"].tolist() == ["a", "b", "c", "d"] * 2
    assert pooled["alpha"].tolist() == [100.0, 100.0, 10.0, 10.0, 100.0, 100.0, 100.0, 100.0]
    assert (pooled["predicted"] - pooled["observed"]).tolist() == [1, 1, -0.5, -0.5, 1, 1, 1, 1]
    assert summary["alpha"].tolist() == ["10.0", "100.0", "chosen"]
    assert summary["folds_chosen"].tolist() == [1, 3, 4]
    summary = summary.set_index("alpha")
    # squares about the mean: 5; errors squared: 4 x 0.25 and 4 x 1, chosen 2.5 and 4
    assert summary["r2"].tolist() == pytest.approx([1 - 1 / 5, 1 - 4 / 5, (1 - 2.5 / 5 + 1 - 4 / 5) / 2])
    assert summary["mae"].tolist() == pytest.approx([0.5, 1, (0.75 + 1) / 2])
    assert summary["rmse"].tolist() == pytest.approx([0.5, 1, (np.sqrt(2.5 / 4) + 1) / 2])
    assert summary.loc["chosen", "mae_sd"] == pytest.approx(0.25 / np.sqrt(2))
    assert summary.loc["10.0", ["r2_sd", "mae_sd", "rmse_sd", "pearson_sd"]].tolist() == pytest.approx(
        [0] * 4
    )
    assert summary.loc["10.0", "pearson"] == pytest.approx(1)


def test_scores_are_those_of_scikit_learn_and_of_rule_ridge():
    from ridge import score
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    rng = np.random.default_rng(0)
    table = pd.DataFrame({"repeat": np.repeat([0, 1, 2], 30), "observed": rng.normal(50, 10, 90)})
    table["predicted"] = table["observed"] + rng.normal(0, 8, 90)
    found = scores_by_repeat(table)
    for repeat, one in table.groupby("repeat"):
        pair = one["observed"], one["predicted"]
        expected = [function(*pair) for function in (r2_score, mean_absolute_error, root_mean_squared_error)]
        assert found.loc[repeat].tolist() == pytest.approx(
            [*expected, one["observed"].corr(one["predicted"])]
        )
    assert found.mean().to_dict() == pytest.approx(score(table))


def test_constant_predictions_have_no_correlation():
    table = pd.DataFrame({"repeat": 0, "observed": [1.0, 2.0, 3.0], "predicted": 2.0})
    assert scores_by_repeat(table).iloc[0].tolist() == pytest.approx(
        [0, 2 / 3, np.sqrt(2 / 3), np.nan], nan_ok=True
    )


def test_one_repeat_has_no_spread():
    predictions, inner, scores = small()
    first = [[table[table["repeat"] == 0] for table in tables] for tables in (predictions, inner)]
    _, summary = summarise(*(stack(tables, ALPHAS) for tables in first), scores)
    assert summary["r2"].notna().all()
    assert summary["r2_sd"].isna().all()


def test_the_order_of_alphas_changes_nothing():
    predictions, inner, scores = small()
    forwards = summarise(stack(predictions, ALPHAS), stack(inner, ALPHAS), scores)
    backwards = summarise(
        stack(predictions[::-1], ALPHAS[::-1]), stack(inner[::-1], ALPHAS[::-1]), scores.iloc[::-1]
    )
    for one, other in zip(forwards, backwards, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_alphas_with_other_folds_are_refused():
    predictions, _, _ = small()
    predictions[1] = predictions[1].assign(fold=[1, 0, 0, 1] * 2)
    with pytest.raises(ValueError, match="alpha 10 has other folds than alpha 100"):
        stack(predictions, ALPHAS)


def test_nothing_predicted_is_said_in_tables_and_figure():
    predictions, inner, scores = small()
    scores = scores.assign(status="too_few_samples", reason="4 donors are too few for 5 folds")
    pooled, summary = summarise(
        stack([table.iloc[:0] for table in predictions], ALPHAS),
        stack([table.iloc[:0] for table in inner], ALPHAS),
        scores,
    )
    full = summarise(stack(predictions, ALPHAS), stack(inner, ALPHAS), scores)
    assert pooled.empty
    pd.testing.assert_series_equal(pooled.dtypes, full[0].dtypes)
    assert list(summary) == list(full[1])
    assert summary[SCORES].isna().all(axis=None)
    assert (summary["status"] == "too_few_samples").all()
    assert "4 donors are too few" in figure(summary, pooled).texts[0].get_text()


def test_the_figure_shows_the_table_and_is_byte_stable():
    predictions, inner, scores = small()
    pooled, summary = summarise(stack(predictions, ALPHAS), stack(inner, ALPHAS), scores)
    left, _, right = figure(summary, pooled).axes
    assert left.lines[0].get_xydata().tolist() == [
        [10.0, summary.loc[0, "r2"]],
        [100.0, summary.loc[1, "r2"]],
    ]
    assert len(right.collections[0].get_offsets()) == 4  # a dot per sample
    images = []
    for _ in range(2):
        images.append(io.BytesIO())
        figure(summary, pooled).savefig(images[-1], format="png", dpi=120, metadata={"Software": None})
    assert images[0].getvalue() == images[1].getvalue()
