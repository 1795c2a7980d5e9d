"""Joined decisions about cells, their levels, and attrition that adds up."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cells import cells as cells_step
from job import InputError, collect_warnings

SAMPLES = pd.DataFrame(
    {
        "sample": ["s1", "NA", "s3"],
        "donor": ["d1", "d2", "d3"],
        "cells": ["5", "2", "1"],
        "kept": ["True", "True", "False"],
        "reason": ["", "", "few_cells_in_sample"],
        "age": ["29.5", "30", ""],
        "sex": ["female", "male", "male"],
    }
)
CELL_TYPES = pd.DataFrame({"label": ["T", "B"], "reason": ["", "few_cells_in_type"]})
LOADED = pd.DataFrame(
    [  # cell, sample, donor, cell_type, pool, shard, reason
        ("c0", "s1", "d1", "T", "p", "00", ""),  # kept
        ("c1", "", "", "T", "p", "", "missing_sample"),
        ("c2", "s1", "d1", "T", "p", "00", ""),  # fails qc
        ("c3", "NA", "d2", "T", "p", "01", ""),  # a doublet
        ("c4", "s3", "d3", "B", "p", "01", ""),  # its sample, before its type
        ("c5", "s1", "d1", "B", "p", "00", ""),  # its type, although qc fails too
        ("c6", "NA", "d2", "T", "p", "01", ""),  # kept, not scored
        ("c7", "s4", "d1", "", "p", "", "missing_cell_type"),
    ],
    columns=["cell", "sample", "donor", "cell_type", "pool", "shard", "reason"],
)
QC = pd.DataFrame(
    {
        "cell": ["c3", "c4", "c6", "c0", "c2", "c5"],
        "n_genes_by_counts": [3, 4, 6, 0, 2, 5],
        "total_counts": [30, 40, 60, 0, 20, 50],
        "pct_counts_mt": [0.3, 0.4, 0.6, 0.0, 0.2, 0.5],
        "passed": [True, True, True, True, False, False],
        "reason": ["", "", "", "", "min_genes", "max_pct_mt"],
    }
)
DOUBLETS = pd.DataFrame(
    {
        "cell": ["c0", "c2", "c5", "c3", "c4", "c6"],
        "group": ["d1", "d1", "d1", "d2", "d3", "d2"],
        "doublet_score": [0.1, np.nan, np.nan, 0.9, 0.2, np.nan],
        "doublet": [False, False, False, True, False, False],
        "scored": [True, False, False, True, True, False],
    }
)
TABLES = {
    "loaded": LOADED,
    "samples": SAMPLES,
    "cell_types": CELL_TYPES,
    "qc": QC,
    "doublets": DOUBLETS,
}


def joined(**changes):
    return cells_step.join(**TABLES | changes)


def categorical(table):
    """The table with its labels as categories, as load may write them, one of them unused."""
    labels = ["sample", "donor", "cell_type", "pool"]
    return table.assign(**{name: table[name].astype("category").cat.add_categories("?") for name in labels})


# join


def test_each_cell_leaves_at_the_first_step_that_drops_it():
    cells = joined()
    assert cells[["cell", "step", "reason"]].values.tolist() == [
        ["c0", "", ""],
        ["c1", "load", "missing_sample"],
        ["c2", "qc", "min_genes"],
        ["c3", "doublets", "doublet"],
        ["c4", "filter", "few_cells_in_sample"],
        ["c5", "filter", "few_cells_in_type"],
        ["c6", "", ""],
        ["c7", "load", "missing_cell_type"],
    ]
    assert cells["kept"].tolist() == [True, False, False, False, False, False, True, False]


def test_labels_may_be_categories():
    pd.testing.assert_frame_equal(
        joined(loaded=categorical(LOADED)), joined(), check_dtype=False, check_categorical=False
    )
    levels, plain = (
        cells_step.find_levels(cells, SAMPLES, STRATA, ["age", "sex"])
        for cells in (categorical(joined()), joined())
    )
    assert {name: list(level) for name, level in levels.items()} == {
        name: list(level) for name, level in plain.items()
    }
    table = cells_step.count_attrition(categorical(joined()), levels)
    pd.testing.assert_frame_equal(table, cells_step.count_attrition(joined(), plain))


def test_columns_and_values_stay_with_their_cell():
    cells = joined()
    assert cells.columns.tolist() == [
        "cell",
        "sample",
        "donor",
        "cell_type",
        "pool",
        "shard",
        "n_genes_by_counts",
        "total_counts",
        "pct_counts_mt",
        "doublet_score",
        "doublet",
        "scored",
        "kept",
        "step",
        "reason",
    ]
    np.testing.assert_array_equal(cells["n_genes_by_counts"], [0, np.nan, 2, 3, 4, 5, 6, np.nan])
    np.testing.assert_array_equal(
        cells["doublet_score"], [0.1, np.nan, np.nan, 0.9, 0.2, np.nan, np.nan, np.nan]
    )
    assert cells["scored"].tolist() == [True, False, False, True, True, False, False, False]
    assert cells["cell_type"].tolist() == LOADED["cell_type"].tolist()


def test_types_survive_parquet(tmp_path):
    joined().to_parquet(tmp_path / "cells.parquet", index=False)
    back = pd.read_parquet(tmp_path / "cells.parquet")
    assert back[["doublet", "scored", "kept"]].dtypes.eq(bool).all()
    assert back["total_counts"].dtype == float
    assert back.loc[3, "sample"] == "NA"
    assert back.loc[0, "reason"] == ""


def test_the_inputs_are_not_modified():
    before = {name: table.copy(deep=True) for name, table in TABLES.items()}
    joined()
    for name, table in TABLES.items():
        pd.testing.assert_frame_equal(table, before[name])


def test_a_cell_that_was_not_measured_stops():
    with pytest.raises(ValueError, match="qc: 5 cells where 6 are usable"):
        joined(qc=QC.iloc[1:])
    with pytest.raises(ValueError, match="cell 'c3' is usable but neither measured nor scored"):
        joined(qc=QC.replace({"cell": {"c3": "c1"}}))
    with pytest.raises(ValueError, match="doublets: 6 cells where 6"):
        joined(doublets=DOUBLETS.replace({"cell": {"c3": "c0"}}))


def test_a_sample_that_filter_never_saw_stops():
    with pytest.raises(ValueError, match="cell 'c4' has a sample or type that filter never saw"):
        joined(samples=SAMPLES.iloc[:2])
    with pytest.raises(ValueError, match="cell 'c4' has a sample or type that filter never saw"):
        joined(cell_types=CELL_TYPES.iloc[:1])


# levels

STRATA = [{"column": "cell_type"}, {"column": "age", "breaks": [45, 30]}, {"column": "sex"}]


def test_levels_of_labels_bins_and_covariates():
    levels = cells_step.find_levels(joined(), SAMPLES, STRATA, ["age", "sex"])
    assert {name: list(level) for name, level in levels.items()} == {
        "cell_type": ["T", "T", "T", "T", "B", "B", "T", ""],
        "age": ["<30", "", "<30", "30 to <45", "", "<30", "30 to <45", ""],
        "sex": ["female", "", "female", "male", "male", "female", "male", ""],
    }


def test_bins_are_closed_on_the_left_and_in_the_order_of_numbers():
    values = pd.Series(["9", "10", "99.9", "100", "1e3", ""], name="age")
    bins = cells_step.bin_numbers(values, [10, 100])
    assert bins.astype(object).where(bins.notna(), "").tolist() == [
        "<10",
        "10 to <100",
        "10 to <100",
        ">=100",
        ">=100",
        "",
    ]
    assert bins.cat.categories.tolist() == ["<10", "10 to <100", ">=100"]


@pytest.mark.parametrize(
    ("strata", "message"),
    [
        (
            [{"column": "agee"}],
            "cells.strata: there is no column 'agee'; choose from sample, donor, cell_type, pool, age, sex",
        ),
        ([{"column": "kept"}], "cells.strata: there is no column 'kept'"),
        (
            [{"column": "sex", "breaks": [1]}],
            "cells.strata: 'sex' has breaks but holds 'female', which is not a number",
        ),
        ([{"column": "sex"}, {"column": "sex"}], "cells.strata: 'sex' is listed twice"),
    ],
)
def test_strata_that_cannot_be(strata, message):
    with pytest.raises(InputError, match=message):
        cells_step.find_levels(joined(), SAMPLES, strata, ["age", "sex"])


# attrition


def rows(table, stratum, level):
    chosen = table[(table["stratum"] == stratum) & (table["level"] == level)]
    return chosen[["step", "reason", "cells", "samples", "samples_lost"]].values.tolist()


def test_attrition_by_hand():
    cells = joined()
    table = cells_step.count_attrition(cells, cells_step.find_levels(cells, SAMPLES, STRATA, ["age", "sex"]))
    assert table.columns.tolist() == [
        "step",
        "reason",
        "stratum",
        "level",
        "cells",
        "samples",
        "samples_lost",
    ]
    assert rows(table, "all", "all") == [
        ["input", "", 8, 4, 0],
        ["load", "missing_cell_type", 1, 1, 1],  # s4 has no other cell
        ["load", "missing_sample", 1, 0, 0],
        ["filter", "few_cells_in_sample", 1, 1, 1],
        ["filter", "few_cells_in_type", 1, 1, 0],
        ["qc", "min_genes", 1, 1, 0],
        ["doublets", "doublet", 1, 1, 0],
        ["kept", "", 2, 2, 0],
    ]
    assert rows(table, "age", "30 to <45") == [
        ["input", "", 2, 1, 0],
        ["doublets", "doublet", 1, 1, 0],
        ["kept", "", 1, 1, 0],
    ]
    assert rows(table, "cell_type", "B") == [
        ["input", "", 2, 2, 0],
        ["filter", "few_cells_in_sample", 1, 1, 1],
        ["filter", "few_cells_in_type", 1, 1, 1],
        ["kept", "", 0, 0, 0],
    ]
    assert table["level"][table["stratum"] == "age"].unique().tolist() == ["<30", "30 to <45", ""]


def test_a_lost_sample_counts_once_for_the_reason_that_took_most():
    cells = pd.DataFrame(
        {
            "sample": ["a"] * 4 + ["b"] * 3,
            "step": ["load", "qc", "qc", "qc", "qc", "qc", "filter"],
            "reason": ["empty", "min_genes", "max_pct_mt", "min_genes", "min_genes", "max_pct_mt", "x"],
        }
    )
    table = cells_step.count_attrition(cells, {})
    lost = table.set_index("reason")["samples_lost"]
    assert lost["min_genes"] == 1  # a: 2 of 3 at its last step
    assert lost["max_pct_mt"] == 1  # b: one each, the first by name
    assert lost.sum() == 2


FATES = [("load", "empty"), ("filter", "x"), ("filter", "y"), ("qc", "x"), ("doublets", "doublet"), ("", "")]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from(FATES), st.sampled_from(["", "s1", "s2", "NA"]), st.sampled_from("ABC")),
        min_size=1,
        max_size=40,
    )
)
def test_attrition_adds_up_in_every_level(drawn):
    cells = pd.DataFrame(
        [(step, reason, sample, level) for (step, reason), sample, level in drawn],
        columns=["step", "reason", "sample", "level"],
    )
    table = cells_step.count_attrition(cells, {"type": pd.Categorical(cells["level"])})
    assert not table.duplicated(["stratum", "level", "step", "reason"]).any()
    assert set(zip(table["stratum"], table["level"], strict=True)) == {
        ("all", "all"),
        *(("type", level) for level in cells["level"]),
    }
    for (stratum, level), part in table.groupby(["stratum", "level"]):
        mine = cells if stratum == "all" else cells[cells["level"] == level]
        (entered,), (kept,) = (part[part["step"] == step].to_dict("records") for step in ("input", "kept"))
        dropped = part[~part["step"].isin(["input", "kept"])]
        assert entered["cells"] == len(mine)
        assert kept["cells"] == (mine["step"] == "").sum()
        assert entered["cells"] == dropped["cells"].sum() + kept["cells"]
        assert entered["samples"] == mine.loc[mine["sample"] != "", "sample"].nunique()
        assert kept["samples"] == mine.loc[(mine["step"] == "") & (mine["sample"] != ""), "sample"].nunique()
        assert entered["samples"] == dropped["samples_lost"].sum() + kept["samples"]
        for row in dropped.to_dict("records"):
            there = mine[(mine["step"] == row["step"]) & (mine["reason"] == row["reason"])]
            assert row["cells"] == len(there)
            assert row["samples"] == there.loc[there["sample"] != "", "sample"].nunique()
            assert row["samples_lost"] <= row["samples"]
    everything = table[table["stratum"] == "all"].groupby(["step", "reason"])["cells"].sum()
    by_type = table[table["stratum"] == "type"].groupby(["step", "reason"])["cells"].sum()
    pd.testing.assert_series_equal(everything, by_type)


# warnings


def judged(failed, sample=None, reason="max_pct_mt"):
    """Cells of which some fail qc, in the columns that the warnings look at."""
    failed = np.asarray(failed)
    return pd.DataFrame(
        {
            "sample": "s" if sample is None else sample,
            "step": np.where(failed, "qc", ""),
            "reason": np.where(failed, reason, ""),
        }
    )


def warned_of(cells):
    with collect_warnings() as warned:
        cells_step.warn_of_losses(cells)
    return [(row["code"], row["message"], row["number"], row["setting"]) for row in warned]


def test_a_run_that_loses_most_cells_to_qc_is_warned_of_with_its_first_limit():
    cells = judged([True] * 6 + [False] * 4)
    cells.loc[5, "reason"] = "min_counts"
    assert warned_of(cells) == [
        (
            "most_cells_dropped",
            "qc drops 6 of 10 cells (60%), 5 of them by max_pct_mt",
            6,
            "qc.max_pct_mt",
        )
    ]
    assert warned_of(judged([True] * 2 + [False], reason="mad_high_mt"))[0][3] == "qc.nmads"
    assert warned_of(judged([True] * 5 + [False] * 5)) == []


def test_cells_that_left_before_qc_do_not_count_and_doublets_passed_it():
    early = judged([False] * 20).assign(step="filter", reason="few_cells_in_type")
    assert len(warned_of(pd.concat([early, judged([True, True, False])]))) == 1
    doublets = judged([False] * 3).assign(step="doublets", reason="doublet")
    assert warned_of(pd.concat([doublets, judged([True] * 2)]).assign(sample="s")) == []
    assert warned_of(early) == []


def test_samples_that_lose_most_cells_are_one_warning_with_the_worst_first():
    samples = np.repeat([f"s{number}" for number in range(10)], 10)
    failed = np.concatenate([np.arange(10) < (10 - i if i < 4 else 0) for i in range(10)])
    assert warned_of(judged(failed, samples)) == [
        (
            "most_cells_of_samples_dropped",
            "qc drops most cells of 4 of 10 samples: s0 (100%), s1 (90%), s2 (80%), s3 (70%)",
            4,
            "qc",
        )
    ]
    failed = np.concatenate([np.arange(10) < (6 if i < 7 else 0) for i in range(10)])
    message = warned_of(judged(failed, samples))[0][1]
    assert message.endswith("s0 (60%), s1 (60%), s2 (60%), s3 (60%), s4 (60%) and 2 more")


def test_thresholds_that_were_replaced_are_one_warning_of_the_run():
    status = pd.DataFrame(
        {
            "status": ["scored", "scored", "scored", "not_run"],
            "threshold_from": ["automatic", "expected_rate", "expected_rate", None],
            "cells": [500, 100, 300, 12],
            "called_share": [0.05, 0.05, 0.07, None],
            "expected_doublet_rate": [0.06, 0.08, 0.04, 0.06],
        }
    )
    with collect_warnings() as warned:
        cells_step.warn_of_thresholds(status[:1])
        cells_step.warn_of_thresholds(status[3:])
        assert warned == []
        cells_step.warn_of_thresholds(status)
    (row,) = warned
    assert (row["code"], row["number"]) == ("doublet_threshold_replaced", 2)
    assert row["message"] == (
        "the thresholds of 2 of 3 groups are those of the expected rate, as Scrublet's own are far from it; "
        "6.5% of the cells are called, 5.0% are expected"
    )
