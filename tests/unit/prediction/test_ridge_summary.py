"""The choice of alpha, what is compared with what, the null, the final models, by hand and end to end."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from files import count_cells, logit_shares
from job._warnings import collect_warnings
from prediction import ridge as ridge_step
from prediction._final_models import describe_models
from prediction._prediction_figures import draw_alphas, draw_predictions
from prediction._target import find_levels
from prediction.baselines import baselines
from prediction.ridge_summary import (
    SUMMARY,
    adjust_and_judge,
    combine_predictions,
    compare_with_null,
    correct_all_gaps,
    find_edge,
    measure_alphas,
    score_null,
    select_smallest,
    stack_alphas,
    summarise,
    warn_of_few_permutations,
)

ALPHAS = [100.0, 10.0]  # as the config lists them, not sorted
FOLD = ["cell_type", "repeat", "fold"]
PROFILES = pd.DataFrame(
    {"cell_type": ["b_cell", "b_cell", "nk_cell"], "gene_id": ["g1", "g2", "g1"], "mean": 1.0}
)
CORRELATIONS = pd.DataFrame({"cell_type": ["b_cell", "b_cell", "nk_cell"], "correlation": [0.5, 1.0, 0.1]})
CHANCE_ONLY = ["pvalue", "permutations", "padj"]
CHANCE = {"bootstraps": 200, "random_state": 3}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    with threadpool_limits(limits=1):
        yield


def small(cell_type="b_cell"):
    """Two repeats of two folds of two samples; errors such that each repeat chooses both alphas."""
    keys = pd.DataFrame(
        {
            "cell_type": cell_type,
            "repeat": np.repeat([0, 1], 4),
            "fold": [0, 0, 1, 1] * 2,
            "sample": ["a", "b", "c", "d", "a", "d", "b", "c"],
            "donor": ["a", "b", "c", "d", "a", "d", "b", "c"],
            "observed": [1.0, 2.0, 3.0, 4.0, 1.0, 4.0, 2.0, 3.0],
        }
    )
    predictions = [keys.assign(predicted=keys["observed"] + shift) for shift in (1.0, -0.5)]
    folds = pd.DataFrame({"cell_type": cell_type, "repeat": [0, 0, 1, 1], "fold": [0, 1, 0, 1]})
    inner = [folds.assign(inner_mse=[2.0, 5.0, 3.0, 4.0]), folds.assign(inner_mse=[3.0, 4.0, 3.0, 5.0])]
    return predictions, inner, keys.assign(baseline="mean", predicted=2.5)


def status(cell_type="b_cell", **changes):
    facts = {"status": "predicted", "reason": "", "target": "age", "samples": 4, "donors": 4}
    facts |= {"target_low": 1.0, "target_high": 4.0, "kind": "number", "level": "", "reference": ""}
    about = {"cell_type": cell_type, "label": cell_type.upper(), "alpha": ALPHAS}
    return pd.DataFrame(about | facts | changes)


def run(predictions, inner, others, facts, alphas=ALPHAS):
    """Pooled predictions, summary and scores, as the step's main makes them."""
    stacked = stack_alphas(predictions, alphas)
    combined = combine_predictions(stacked, stack_alphas(inner, alphas))
    null = pd.DataFrame({"cell_type": "b_cell", "permutation": range(9), "r2": np.arange(9) / 10 - 0.4})
    return combined, *summarise(facts, stacked, combined, null, others, **CHANCE)


def both(one, other):
    """The tables of two cell types in one."""
    return [
        pd.concat(pair, ignore_index=True)
        if isinstance(pair[0], pd.DataFrame)
        else [pd.concat(tables, ignore_index=True) for tables in zip(*pair, strict=True)]
        for pair in zip(one, other, strict=True)
    ]


# ---- the choice of alpha


def test_alpha_has_the_smallest_inner_error_and_ties_go_to_the_larger():
    chosen = select_smallest(stack_alphas(small()[1], ALPHAS), FOLD, "inner_mse")
    assert chosen["alpha"].tolist() == [100.0, 10.0, 100.0, 100.0]  # the third is a tie
    assert chosen[["repeat", "fold"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_predictions_are_combined_from_the_alphas_of_the_folds():
    combined, summary, scores = run(*small(), status())
    assert list(combined) == [
        "alpha",
        "cell_type",
        "repeat",
        "fold",
        "sample",
        "donor",
        "observed",
        "predicted",
    ]
    assert combined["sample"].tolist() == ["a", "b", "c", "d"] * 2
    assert combined["alpha"].tolist() == [100.0, 100.0, 10.0, 10.0, 100.0, 100.0, 100.0, 100.0]
    assert (combined["predicted"] - combined["observed"]).tolist() == [1, 1, -0.5, -0.5, 1, 1, 1, 1]
    assert scores["model"].tolist() == ["expression"] * 3 + ["mean"]
    assert scores["alpha"].tolist() == ["10.0", "100.0", "chosen", ""]
    # squares about the mean: 5; errors squared: 4 x 0.25 and 4 x 1, chosen 2.5 and 4
    assert scores["r2"].tolist() == pytest.approx([1 - 1 / 5, 1 - 4 / 5, (1 - 2.5 / 5 + 1 - 4 / 5) / 2, 0])
    assert scores["mae"].tolist() == pytest.approx([0.5, 1, (0.75 + 1) / 2, 1])
    row = summary.iloc[0]
    assert [row["mae"], row["r2"]] == pytest.approx([0.875, 0.35])
    assert row["gain_mae"] == pytest.approx(1 - 0.875)
    assert row["gain_r2"] == pytest.approx(0.35)
    assert row[["best_baseline", "alpha", "alpha_edge"]].tolist() == ["mean", 10.0, "lowest"]
    assert row["pvalue"] == pytest.approx((1 + 1) / 10)  # of -0.4 ... 0.4, one reaches 0.35
    assert not row["supported"]


def test_cell_types_do_not_mix():
    one, other = small(), small("nk_cell")
    other = [[table.assign(predicted=0.0) for table in other[0]], *other[1:]]
    other[1] = [table.assign(inner_mse=error) for table, error in zip(other[1], (1.0, 9.0), strict=True)]
    facts = pd.concat([status(), status("nk_cell")], ignore_index=True)
    found = run(*both(one, other), facts)
    for name, single in {"b_cell": one, "nk_cell": other}.items():
        for table, alone in zip(found, run(*single, status(name)), strict=True):
            mine = table[table["cell_type"] == name].reset_index(drop=True)
            chance = [column for column in mine if "null" in column or column in CHANCE_ONLY]
            pd.testing.assert_frame_equal(mine.drop(columns=chance), alone.drop(columns=chance))


def test_the_order_of_alphas_changes_nothing():
    predictions, inner, others = small()
    forwards = run(predictions, inner, others, status())
    backwards = run(predictions[::-1], inner[::-1], others, status().iloc[::-1], ALPHAS[::-1])
    for one, other in zip(forwards, backwards, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_alphas_with_other_folds_are_refused():
    predictions = small()[0]
    predictions[1] = predictions[1].assign(fold=[1, 0, 0, 1] * 2)
    with pytest.raises(ValueError, match="alpha 10 has other folds than alpha 100"):
        stack_alphas(predictions, ALPHAS)


def test_the_final_alpha_has_the_smallest_error_out_of_fold():
    predictions = stack_alphas(small()[0], ALPHAS)
    errors = measure_alphas(predictions)
    assert errors["mse"].tolist() == [0.25, 1]
    assert select_smallest(errors, ["cell_type"], "mse")["alpha"].tolist() == [10.0]
    tied = measure_alphas(predictions.assign(predicted=predictions["observed"] + 1))
    assert select_smallest(tied, ["cell_type"], "mse")["alpha"].tolist() == [100.0]


@pytest.mark.parametrize(("error", "alpha"), [(5.049, 100.0), (5.051, 1.0)])
def test_an_error_within_one_percent_of_the_smallest_is_a_tie(error, alpha):
    errors = pd.DataFrame({"cell_type": "a", "alpha": [1.0, 10.0, 100.0], "mse": [5.0, 6.0, error]})
    assert select_smallest(errors, ["cell_type"], "mse")["alpha"].tolist() == [alpha]


def test_the_end_of_a_sweep_is_reported_where_going_on_helps():
    falls = pd.Series([9.0, 8.0, 7.0], index=[1.0, 10.0, 100.0])
    assert [find_edge(alpha, falls) for alpha in falls.index] == ["", "", "highest"]
    rises = pd.Series([7.0, 8.0, 9.0], index=[1.0, 10.0, 100.0])
    assert [find_edge(alpha, rises) for alpha in rises.index] == ["lowest", "", ""]
    flat = pd.Series([9.0, 7.05, 7.0], index=[1.0, 10.0, 100.0])  # as good as the mean already
    assert find_edge(100.0, flat) == ""
    assert find_edge(5.0, pd.Series([1.0], index=[5.0])) == ""


# ---- the null


def test_each_permutation_chooses_its_own_alphas():
    keys = {"cell_type": "a", "permutation": [1, 1, 2, 2], "repeat": 0, "fold": [0, 1, 0, 1]}
    one = pd.DataFrame({**keys, "inner_mse": [1.0, 9, 9, 9], "sse": [3.0, 9, 9, 9], "sst": 5.0})
    other = pd.DataFrame({**keys, "inner_mse": [9.0, 1, 2, 3], "sse": [9.0, 4, 6, 8], "sst": 5.0})
    found = score_null(stack_alphas([one, other], ALPHAS))
    assert found["r2"].tolist() == pytest.approx([1 - 7 / 10, 1 - 14 / 10])


def test_null_r2_is_the_mean_over_repeats():
    keys = {"cell_type": "a", "permutation": 1, "repeat": [0, 1], "fold": 0, "inner_mse": 1.0}
    table = pd.DataFrame({**keys, "sse": [2.0, 8.0], "sst": 10.0})
    assert score_null(stack_alphas([table], [1.0]))["r2"].tolist() == pytest.approx([0.5])


def test_p_counts_the_permutations_that_reach_the_score_and_the_score_itself():
    null = np.array([0.0, 0.1, 0.2, 0.3])
    assert compare_with_null(0.2, null)["pvalue"] == pytest.approx(3 / 5)
    assert compare_with_null(0.9, null)["pvalue"] == pytest.approx(1 / 5)
    assert compare_with_null(0.9, null)["null_r2"] == pytest.approx(0.15)


GOOD = {"status": "predicted", "kind": "number", "r2_low": 0.1, "gain_mae_low": 0.1, "gain_r2_low": 0.1}
GOOD |= {"pvalue": 0.01, "gain_auroc_low": np.nan}


@pytest.mark.parametrize(
    ("change", "unmet"),
    [
        ({}, ""),
        ({"r2_low": -0.01}, "r2"),
        ({"gain_mae_low": 0.0}, "gain_mae"),
        ({"gain_r2_low": -0.1, "pvalue": 0.06}, "gain_r2, padj"),
        ({"kind": "levels", "gain_auroc_low": 0.1, "gain_mae_low": -1}, ""),
        ({"kind": "levels", "gain_auroc_low": 0.0}, "gain_auroc"),
        ({"kind": "levels", "gain_auroc_low": np.nan}, "gain_auroc"),
    ],
)
def test_support_needs_the_mean_the_baseline_and_chance_beaten(change, unmet):
    judged = adjust_and_judge(pd.DataFrame([GOOD | change]))
    assert judged.loc[0, "supported"] is not bool(unmet)
    assert judged.loc[0, "conditions_not_met"] == unmet


def test_p_is_adjusted_over_the_predicted_types():
    rows = [GOOD | {"pvalue": p} for p in (0.01, 0.04, 0.03)] + [{"status": "too_few_samples"}]
    judged = adjust_and_judge(pd.DataFrame(rows))
    assert judged["padj"].tolist()[:3] == pytest.approx([0.03, 0.04, 0.04])  # 3 p / rank, from the largest
    assert judged["supported"].tolist()[:3] == [True] * 3
    assert judged.iloc[3][["padj", "supported"]].isna().all()
    rows[2] |= {"pvalue": 0.06}
    assert adjust_and_judge(pd.DataFrame(rows))["conditions_not_met"].tolist() == ["", "padj", "padj", ""]


def test_too_few_permutations_for_the_types_are_warned_of():
    rows = pd.DataFrame({"status": ["predicted"] * 6 + ["too_few_samples"], "permutations": 118.0})
    with collect_warnings() as rows_of_job:
        warn_of_few_permutations(rows.assign(permutations=119.0))  # 6 / 120 = 0.05
        assert rows_of_job == []
        warn_of_few_permutations(rows)
    assert rows_of_job[0]["code"] == "permutations_too_few"
    assert "with 118 permutations and 6 cell types" in rows_of_job[0]["message"]
    assert rows_of_job[0]["message"].endswith("119 permutations are needed")


# ---- nothing predicted, figures


def test_tables_and_figures_without_a_prediction():
    predictions, inner, others = small("nk_cell")
    none = [table.iloc[:0] for table in predictions], [table.iloc[:0] for table in inner], others.iloc[:0]
    facts = status("nk_cell", status="too_few_samples", reason="4 donors are too few for 5 folds")
    combined, summary, scores = run(*both(small(), none), pd.concat([status(), facts], ignore_index=True))
    assert set(combined["cell_type"]) == set(scores["cell_type"]) == {"b_cell"}
    row = summary.set_index("cell_type").loc["nk_cell"]
    assert row["status"] == "too_few_samples"
    assert row[["r2", "gain_mae", "pvalue", "alpha"]].isna().all()
    for fig in (draw_alphas(summary, scores), draw_predictions(summary, correct_all_gaps(combined))):
        assert "4 donors are too few" in fig.axes[1].texts[0].get_text()
    combined, summary, scores = run(*none, facts)
    assert combined.empty
    assert scores.empty
    assert list(summary) == SUMMARY
    assert "4 donors are too few" in draw_alphas(summary, scores).axes[0].texts[0].get_text()
    coefficients = pd.DataFrame(columns=["alpha", "cell_type", "gene_id", "coefficient"])
    table, description = describe_models(coefficients, facts, summary, PROFILES, CORRELATIONS)
    assert table.empty
    assert description["models"] == {}


def test_the_figures_show_the_tables_and_are_byte_stable():
    facts = pd.concat([status(), status("nk_cell")], ignore_index=True)
    combined, summary, scores = run(*both(small(), small("nk_cell")), facts)
    left = draw_alphas(summary, scores).axes[0]
    assert left.lines[0].get_xydata().tolist() == [[10.0, scores.loc[0, "r2"]], [100.0, scores.loc[1, "r2"]]]
    gaps = correct_all_gaps(combined)
    dots = draw_predictions(summary, gaps).axes[1].collections[0]
    assert len(dots.get_offsets()) == 4  # a dot per sample
    images = []
    for _ in range(2):
        images.append(io.BytesIO())
        draw_predictions(summary, gaps).savefig(images[-1], format="png", metadata={"Software": None})
    assert images[0].getvalue() == images[1].getvalue()


# ---- final models


def test_the_final_model_is_the_table_of_its_alpha_and_a_description():
    genes = {"cell_type": "b_cell", "gene_id": ["(intercept)", "g2", "g1"], "symbol": ["", "B", "A"]}
    tables = [
        pd.DataFrame({**genes, "coefficient": values, "mean": [np.nan, 1, 2], "sd": [np.nan, 3, 4]})
        for values in ([2.5, 9, 8], [2.25, 7, 6])
    ]
    _, summary, _ = run(*small(), status())
    coefficients = stack_alphas(tables, ALPHAS)
    table, description = describe_models(coefficients, status(), summary, PROFILES, CORRELATIONS)
    assert table["gene_id"].tolist() == ["g2", "g1"]
    assert table["coefficient"].tolist() == [7, 6]  # of alpha 10
    model = json.loads(json.dumps(description, allow_nan=False))["models"]["b_cell"]
    assert [model[key] for key in ("label", "alpha", "intercept", "genes", "donors")] == [
        "B_CELL",
        10,
        2.25,
        2,
        4,
    ]
    assert model["training_range"] == [1, 4]
    assert model["cell_type"] == "b_cell"
    assert model["profile"] == {"genes": 2, "lowest_correlation": 0.5, "median_correlation": 0.75}
    assert [description[key] for key in ("format", "kind", "level")] == [2, "number", ""]
    assert description["target"] == "age"
    assert description["expression"]["counts_per"] == 10000


# ---- end to end: what confounding alone gives is no gain, what genes give is

PEOPLE = {"target": "age", "levels": None, "folds": 5, "repeats": 1, "inner_folds": 3, "random_state": 1}
GENES = {"n_top_genes": 200, "min_share": 0.5, "permutations": 19}
BASELINES = {
    "baselines": [
        {"name": "sex", "columns": ["sex"]},
        {"name": "technical", "columns": ["sex", "log_cells", "log_depth"]},
    ],
    "baseline_alpha": [0.1, 1, 10, 100],
}


SHOWN = ["r2", "mae", "best_baseline", "gain_mae", "gain_mae_low", "gain_mae_high", "pvalue"]


def simulated(seed, effect, donors=100, genes=300, of_cases=0.0):
    """Older donors have fewer cells; `effect` is the log2 fold change per decade of a tenth of the genes.

    old: 1 for the third of the donors above 67 years. case: 1 for a third of the donors, in whom a tenth of
    the genes is higher or lower by `of_cases` in log2; it does not depend on age.
    """
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 90, donors)
    cells = np.maximum(np.round(60 * 0.8 ** ((age - 20) / 10) * rng.lognormal(0, 0.3, donors)), 3).astype(int)
    rate = rng.lognormal(0, 1, genes)
    log2 = rng.normal(0, 0.3, (donors, genes))
    log2[:, : genes // 10] += effect * (age[:, None] - 55) / 10
    case = np.random.default_rng(seed + 100).permutation(np.arange(donors) < donors / 3)
    log2[:, -genes // 10 :] += of_cases * case[:, None] * np.tile([1, -1], genes // 20)
    share = rate / rate.sum() * 2**log2
    counts = csr_array(rng.poisson(cells[:, None] * 300 * share))
    obs = pd.DataFrame(
        {
            "cell_type": "t",
            "label": "T",
            "sample": [f"s{number:03d}" for number in range(donors)],
            "donor": [f"d{number:03d}" for number in range(donors)],
            "age": age,
            "old": (age > 67).astype(float),
            "case": case.astype(float),
            "sex": rng.choice(["F", "M"], donors),
            "cells": cells,
            "log_cells": np.log(cells),
            "log_depth": np.log(counts.sum(axis=1)),
            "used": True,
        }
    )
    names = pd.Series([f"g{number}" for number in range(genes)])
    return counts, obs, pd.DataFrame({"gene_id": names, "symbol": names})


def analyse(counts, obs, genes, alphas=(10.0, 100.0, 1000.0), target="age"):
    """The summary row of one cell type, by all three steps."""
    levels = find_levels(obs, target=target, level=None, reference=None)
    people = PEOPLE | {"target": target, "levels": levels}
    results = [ridge_step.ridge(counts, obs, genes, alpha=alpha, **people, **GENES) for alpha in alphas]
    tables = [[table.assign(cell_type="t") for table in result] for result in results]
    stacked = [stack_alphas([result[number] for result in tables], list(alphas)) for number in (0, 1, 4)]
    predictions, inner, null = stacked
    facts = pd.concat([result[2] for result in tables], ignore_index=True).assign(label="T")
    others = baselines(obs, logit_shares(count_cells(obs)), **people, **BASELINES)[0].assign(cell_type="t")
    combined = combine_predictions(predictions, inner)
    return summarise(facts, predictions, combined, score_null(null), others, **CHANCE)[0].iloc[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cell_numbers_that_fall_with_age_are_no_gain_of_expression(seed):
    row = analyse(*simulated(seed, effect=0))
    print(row[SHOWN].to_dict())
    assert row["best_baseline"] == "technical"
    assert not (row["gain_mae_excludes_0"] and row["gain_mae"] > 0)
    assert not (row["gain_r2_excludes_0"] and row["gain_r2"] > 0)
    assert not row["supported"]


def test_confounding_alone_looks_like_a_finding_without_the_baseline():
    """The raw score and the null cannot tell it from an effect of genes; so the two tests here can fail."""
    rows = [analyse(*simulated(seed, effect=0)) for seed in range(3)]
    assert np.mean([row["r2"] - row["null_r2"] for row in rows]) > 0.08
    assert max(row["pvalue"] for row in rows) <= 0.05


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_effects_of_genes_are_a_gain(seed):
    row = analyse(*simulated(seed, effect=0.3))
    print(row[SHOWN].to_dict())
    assert row["best_baseline"] == "technical"
    assert row["gain_mae_low"] > 0
    assert row["gain_mae_excludes_0"]
    assert row["pvalue"] == pytest.approx(1 / 20)
    assert row["supported"]


# ---- two levels, end to end


def test_a_planted_level_is_a_gain_and_its_probabilities_are_right():
    row = analyse(*simulated(0, effect=0.0, of_cases=0.6), target="case")
    assert row[["kind", "level", "reference"]].tolist() == ["levels", "1", "0"]
    assert row["auroc_low"] > 0.8
    assert row["gain_auroc_low"] > 0.1
    assert row["supported"]
    assert row["calibration_slope"] == pytest.approx(1.3, abs=0.3)  # a line through 0 and 1 is too flat
    assert row["pvalue"] == pytest.approx(1 / 20)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_numbers_of_cells_that_differ_between_levels_are_no_gain(seed):
    row = analyse(*simulated(seed, effect=0), target="old")
    assert row["best_baseline"] == "technical"
    assert row["gain_auroc"] < 0.05
    assert not row["supported"]


def test_a_target_of_levels_that_nothing_predicts_is_at_chance():
    row = analyse(*simulated(3, effect=0.3), target="case")
    assert row["auroc_low"] < 0.5 < row["auroc_high"]
    assert not row["supported"]
    assert "gain_auroc" in row["conditions_not_met"]


def test_the_figure_of_levels_has_a_column_for_each():
    predictions, inner, others = small()
    observed, predicted = {"a": 0.0, "b": 1.0, "c": 0.0, "d": 1.0}, {"a": 0.2, "b": 0.7, "c": 0.4, "d": 0.9}
    observed, predicted = (others["sample"].map(values) for values in (observed, predicted))
    predictions = [table.assign(observed=observed, predicted=predicted) for table in predictions]
    facts = status(kind="levels", level="male", reference="female", target="sex")
    combined, summary, _ = run(predictions, inner, others.assign(observed=observed), facts)
    axes = draw_predictions(summary, correct_all_gaps(combined)).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["sex female", "sex male"]
    assert axes.get_ylabel() == "probability of male"
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[-0.2, 0.2], [0.2, 0.4]])
    np.testing.assert_allclose(axes.collections[2].get_offsets(), [[0.8, 0.7], [1.2, 0.9]])
    assert "AUROC 1.00" in axes.get_title()
