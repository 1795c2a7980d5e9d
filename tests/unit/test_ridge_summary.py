"""The choice of alpha, the pooled predictions and their scores, by hand and against scikit-learn."""

import io

import numpy as np
import pandas as pd
import pytest
from ridge_summary import (
    SCORES,
    choose_alpha,
    draw_alphas,
    draw_predictions,
    pool,
    score,
    scores_by_repeat,
    stack,
)

ALPHAS = [100.0, 10.0]  # as the config lists them, not sorted


def small(cell_type="b_cell"):
    """Two repeats of two folds of two samples; errors such that each repeat chooses both alphas."""
    keys = pd.DataFrame(
        {
            "cell_type": cell_type,
            "repeat": np.repeat([0, 1], 4),
            "fold": [0, 0, 1, 1] * 2,
            "sample": ["a", "b", "c", "d", "a", "d", "b", "c"],
            "observed": [1.0, 2.0, 3.0, 4.0, 1.0, 4.0, 2.0, 3.0],
        }
    )
    predictions = [keys.assign(predicted=keys["observed"] + shift) for shift in (1.0, -0.5)]
    folds = pd.DataFrame({"cell_type": cell_type, "repeat": [0, 0, 1, 1], "fold": [0, 1, 0, 1]})
    inner = [folds.assign(inner_mse=[2.0, 5.0, 3.0, 4.0]), folds.assign(inner_mse=[3.0, 4.0, 3.0, 5.0])]
    status = pd.DataFrame(
        {
            "cell_type": cell_type,
            "alpha": ALPHAS,
            "status": "predicted",
            "reason": "",
            "target": "age",
            "samples": 4,
            "donors": 4,
        }
    )
    return predictions, inner, status


def summarise(predictions, inner, status, alphas=ALPHAS):
    """Pooled predictions and scores, as the step's main makes them."""
    chosen = choose_alpha(stack(inner, alphas))
    stacked = stack(predictions, alphas)
    pooled = pool(stacked, chosen)
    return pooled, score(stacked, pooled, chosen, status)


def both(one, other):
    """The tables of two cell types in one."""
    return [
        pd.concat(pair, ignore_index=True)
        if isinstance(pair[0], pd.DataFrame)
        else [pd.concat(tables, ignore_index=True) for tables in zip(*pair, strict=True)]
        for pair in zip(one, other, strict=True)
    ]


def test_alpha_has_the_smallest_inner_error_and_ties_go_to_the_larger():
    _, inner, _ = small()
    chosen = choose_alpha(stack(inner, ALPHAS))
    assert chosen["alpha"].tolist() == [100.0, 10.0, 100.0, 100.0]  # the third is a tie
    assert chosen[["repeat", "fold"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_predictions_are_pooled_from_the_chosen_alphas():
    pooled, scores = summarise(*small())
    assert list(pooled) == ["alpha", "cell_type", "repeat", "fold", "sample", "observed", "predicted"]
    assert pooled["sample"].tolist() == ["a", "b", "c", "d"] * 2
    assert pooled["alpha"].tolist() == [100.0, 100.0, 10.0, 10.0, 100.0, 100.0, 100.0, 100.0]
    assert (pooled["predicted"] - pooled["observed"]).tolist() == [1, 1, -0.5, -0.5, 1, 1, 1, 1]
    assert scores["alpha"].tolist() == ["10.0", "100.0", "chosen"]
    assert scores["folds_chosen"].tolist() == [1, 3, 4]
    scores = scores.set_index("alpha")
    # squares about the mean: 5; errors squared: 4 x 0.25 and 4 x 1, chosen 2.5 and 4
    assert scores["r2"].tolist() == pytest.approx([1 - 1 / 5, 1 - 4 / 5, (1 - 2.5 / 5 + 1 - 4 / 5) / 2])
    assert scores["mae"].tolist() == pytest.approx([0.5, 1, (0.75 + 1) / 2])
    assert scores["rmse"].tolist() == pytest.approx([0.5, 1, (np.sqrt(2.5 / 4) + 1) / 2])
    assert scores.loc["chosen", "mae_sd"] == pytest.approx(0.25 / np.sqrt(2))
    spread = scores.loc["10.0", ["r2_sd", "mae_sd", "rmse_sd", "pearson_sd"]].tolist()
    assert spread == pytest.approx([0] * 4)
    assert scores.loc["10.0", "pearson"] == pytest.approx(1)


def test_cell_types_do_not_mix():
    one, other = small(), small("nk_cell")
    other = [[table.assign(predicted=0.0) for table in other[0]], *other[1:]]
    other[1] = [table.assign(inner_mse=error) for table, error in zip(other[1], (1.0, 9.0), strict=True)]
    pooled, scores = summarise(*both(one, other))
    for name, single in {"b_cell": one, "nk_cell": other}.items():
        expected = summarise(*single)
        for found, alone in zip((pooled, scores), expected, strict=True):
            mine = found[found["cell_type"] == name].reset_index(drop=True)
            pd.testing.assert_frame_equal(mine, alone)


def test_scores_are_those_of_scikit_learn():
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


def test_constant_predictions_have_no_correlation():
    table = pd.DataFrame({"repeat": 0, "observed": [1.0, 2.0, 3.0], "predicted": 2.0})
    assert scores_by_repeat(table).iloc[0].tolist() == pytest.approx(
        [0, 2 / 3, np.sqrt(2 / 3), np.nan], nan_ok=True
    )


def test_one_repeat_has_no_spread():
    predictions, inner, status = small()
    first = [[table[table["repeat"] == 0] for table in tables] for tables in (predictions, inner)]
    _, scores = summarise(*first, status)
    assert scores["r2"].notna().all()
    assert scores["r2_sd"].isna().all()


def test_the_order_of_alphas_changes_nothing():
    predictions, inner, status = small()
    forwards = summarise(predictions, inner, status)
    backwards = summarise(predictions[::-1], inner[::-1], status.iloc[::-1], ALPHAS[::-1])
    for one, other in zip(forwards, backwards, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_alphas_with_other_folds_are_refused():
    predictions, _, _ = small()
    predictions[1] = predictions[1].assign(fold=[1, 0, 0, 1] * 2)
    with pytest.raises(ValueError, match="alpha 10 has other folds than alpha 100"):
        stack(predictions, ALPHAS)


def test_nothing_predicted_is_said_in_tables_and_figures():
    predictions, inner, status = small("nk_cell")
    none = (
        [table.iloc[:0] for table in predictions],
        [table.iloc[:0] for table in inner],
        status.assign(status="too_few_samples", reason="4 donors are too few for 5 folds"),
    )
    pooled, scores = summarise(*both(small(), none))
    assert set(pooled["cell_type"]) == {"b_cell"}
    mine = scores[scores["cell_type"] == "nk_cell"]
    assert mine[SCORES].isna().all(axis=None)
    assert (mine["status"] == "too_few_samples").all()
    for fig in (draw_alphas(scores), draw_predictions(scores, pooled)):
        assert "4 donors are too few" in fig.axes[1].texts[0].get_text()
    pooled, scores = summarise(*none)
    assert pooled.empty
    assert "4 donors are too few" in draw_predictions(scores, pooled).axes[0].texts[0].get_text()


def test_the_figures_show_the_tables_and_are_byte_stable():
    pooled, scores = summarise(*both(small(), small("nk_cell")))
    left = draw_alphas(scores).axes[0]
    assert left.lines[0].get_xydata().tolist() == [[10.0, scores.loc[0, "r2"]], [100.0, scores.loc[1, "r2"]]]
    dots = draw_predictions(scores, pooled).axes[1].collections[0]
    assert len(dots.get_offsets()) == 4  # a dot per sample
    images = []
    for _ in range(2):
        images.append(io.BytesIO())
        fig = draw_predictions(scores, pooled)
        fig.savefig(images[-1], format="png", dpi=120, metadata={"Software": None})
    assert images[0].getvalue() == images[1].getvalue()
