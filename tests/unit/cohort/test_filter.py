"""Which samples and cell types are kept, why the others are not, and the ids of cell types."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cohort import filter as filter_step
from job import InputError

OFF = {
    "min_cells_per_sample": 0,
    "sample_percentile": 0,
    "min_cells_per_type": 0,
    "min_sample_share": 0.0,
    "min_cells_in_type": 1,
    "complete_cases": False,
}


def counted(rows, types="ABC"):
    """Samples x cell types."""
    return pd.DataFrame(rows, index=[f"s{i}" for i in range(len(rows))], columns=list(types))


COHORT = counted([[50, 40, 10], [30, 20, 0], [5, 4, 0], [60, 0, 30]])


# ids


def test_ids_of_awkward_labels():
    labels = ["CD4-positive, alpha-beta T cell", "platelet/megakaryocyte", "CD14+ Monocytes", "NA", "0012"]
    assert filter_step.name_ids(labels) == {
        "CD4-positive, alpha-beta T cell": "cd4_positive_alpha_beta_t_cell",
        "platelet/megakaryocyte": "platelet_megakaryocyte",
        "CD14+ Monocytes": "cd14_monocytes",
        "NA": "na",
        "0012": "0012",
    }


def test_labels_that_share_an_id_all_get_a_digest():
    ids = filter_step.name_ids(["B cell", "B-cell", "NK"])
    # the first six digits of `printf 'B cell' | sha256sum`, and so on
    assert ids == {"B cell": "b_cell-11311d", "B-cell": "b_cell-2b238d", "NK": "nk"}


def test_empty_and_long_labels_get_a_digest():
    ids = filter_step.name_ids(["+++", "x" * 60, "y" * 61])
    assert re.fullmatch(r"-[0-9a-f]{6}", ids["+++"])
    assert ids["x" * 60] == "x" * 60
    assert re.fullmatch(r"y{60}-[0-9a-f]{6}", ids["y" * 61])


labels = st.lists(st.one_of(st.text(max_size=80), st.text("aAbB-_+ ", max_size=4)), min_size=1, unique=True)


@settings(deadline=None)
@given(labels, st.randoms())
@example(["a-b", "a_b", "A B", "a"], None)
@example(["İ", "i", "ß", "SS"], None)
def test_ids_are_one_to_one_path_safe_and_free_of_order(labels, random):
    ids = filter_step.name_ids(labels)
    assert set(ids) == set(labels)
    assert len({slug.casefold() for slug in ids.values()}) == len(labels)
    assert all(re.fullmatch(r"[a-z0-9_-]{1,67}", slug) for slug in ids.values())
    shuffled = list(reversed(labels)) if random is None else random.sample(labels, len(labels))
    assert filter_step.name_ids(shuffled) == ids


def test_the_digest_of_a_label_is_no_other_labels_id():
    digest = filter_step.name_ids(["B cell", "B-cell"])["B cell"]
    assert len(set(filter_step.name_ids(["B cell", "B-cell", digest, digest.upper()]).values())) == 4


def test_labels_that_share_the_digest_too_are_refused():
    # two of 20,000 punctuation-only labels with the same first six digits of their sha256 (birthday)
    alike = [f"{'+' * (i // 100)}{'-' * (i % 100)}" for i in range(20_000)]
    with pytest.raises(InputError, match=r"get the same id; rename one in the column of load\.cell_type"):
        filter_step.name_ids(sorted(set(alike)))


# counting


def test_cross_count_leaves_unusable_cells_out():
    cells = pd.DataFrame(
        {
            "sample": ["b", "a", "b", "b", "", "NA"],
            "cell_type": ["T", "B", "T", "B", "B", ""],
            "reason": ["", "", "", "empty", "missing_sample", "missing_cell_type"],
        }
    )
    for table in (cells, cells.astype("category")):
        counts = filter_step.count_cells(table)
        assert counts.to_dict() == {"B": {"a": 1, "b": 0}, "T": {"a": 0, "b": 2}}


# rules


def test_nothing_is_dropped_when_every_rule_is_off():
    samples, types = filter_step.choose(COHORT, **OFF)
    assert (samples == "").all()
    assert (types["reason"] == "").all()
    assert types["cells"].tolist() == [145, 64, 40]
    assert types["samples"].tolist() == [4, 3, 2]


def test_small_samples_go_and_their_cells_do_not_count_for_types():
    samples, types = filter_step.choose(COHORT, **{**OFF, "min_cells_per_sample": 10})
    assert samples.to_dict() == {"s0": "", "s1": "", "s2": "few_cells_in_sample", "s3": ""}
    assert types["cells"].tolist() == [140, 60, 40]
    assert types["samples"].tolist() == [3, 2, 2]


def test_limits_are_inclusive():
    rules = {**OFF, "min_cells_per_sample": 9, "min_cells_per_type": 40}
    samples, types = filter_step.choose(COHORT, **rules)
    assert (samples == "").all()  # s2 has 9 cells
    assert (types["reason"] == "").all()  # C has 40
    _, types = filter_step.choose(COHORT, **{**rules, "min_cells_per_type": 41})
    assert types["reason"].to_dict() == {"A": "", "B": "", "C": "few_cells_in_type"}


def test_percentile_of_cells_per_sample():
    # totals 100, 50, 9, 90: the 30th percentile lies 0.9 of the way from 9 to 50, at 45.9
    samples, _ = filter_step.choose(COHORT, **{**OFF, "sample_percentile": 30})
    assert samples.to_dict() == {"s0": "", "s1": "", "s2": "below_percentile", "s3": ""}
    samples, _ = filter_step.choose(COHORT, **{**OFF, "sample_percentile": 50})  # 70
    assert (samples != "").sum() == 2


def test_the_absolute_limit_is_named_before_the_percentile():
    samples, _ = filter_step.choose(COHORT, **{**OFF, "sample_percentile": 50, "min_cells_per_sample": 10})
    assert samples["s2"] == "few_cells_in_sample"
    assert samples["s1"] == "below_percentile"


def test_types_found_in_too_small_a_share_of_samples():
    rules = {**OFF, "min_sample_share": 0.5, "min_cells_in_type": 10}
    _, types = filter_step.choose(COHORT, **rules)
    assert types["samples"].tolist() == [3, 2, 2]
    assert (types["reason"] == "").all()
    _, types = filter_step.choose(COHORT, **{**rules, "min_sample_share": 0.51})
    assert types["reason"].to_dict() == {"A": "", "B": "few_samples_with_type", "C": "few_samples_with_type"}


@pytest.mark.parametrize("share", [0.07, 0.14, 0.28, 0.29, 0.55, 0.57])
def test_a_share_reached_exactly_is_enough(share):
    having = round(share * 100)
    counts = counted([[5, 5 * (i < having)] for i in range(100)], types="AB")
    _, types = filter_step.choose(counts, **{**OFF, "min_sample_share": share})
    assert types.loc["B", "reason"] == ""


def test_complete_cases_come_last_and_ask_for_kept_types_only():
    rules = {**OFF, "min_cells_per_type": 41, "min_cells_in_type": 10, "complete_cases": True}
    samples, types = filter_step.choose(COHORT, **rules)
    assert types["reason"].to_dict() == {"A": "", "B": "", "C": "few_cells_in_type"}  # C is not asked for
    assert samples.to_dict() == {"s0": "", "s1": "", "s2": "lacks_a_type", "s3": "lacks_a_type"}
    assert types["cells"].tolist() == [145, 64, 40]  # not judged again


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=1, max_size=8),
    st.integers(0, 20),
    st.integers(0, 100),
    st.integers(0, 40),
    st.floats(0, 1),
    st.integers(1, 10),
    st.booleans(),
)
def test_what_is_kept_satisfies_every_rule(rows, per_sample, percentile, per_type, share, in_type, complete):
    counts = counted(rows)
    try:
        samples, types = filter_step.choose(
            counts,
            min_cells_per_sample=per_sample,
            sample_percentile=percentile,
            min_cells_per_type=per_type,
            min_sample_share=share,
            min_cells_in_type=in_type,
            complete_cases=complete,
        )
    except InputError:
        return
    kept, first = counts[samples == ""], counts[samples.isin(["", "lacks_a_type"])]
    kept_types = types.index[types["reason"] == ""]
    assert (first.sum(axis=1) >= per_sample).all()
    assert (first[kept_types].sum() >= per_type).all()
    assert ((first[kept_types] >= in_type).mean() >= share - 1e-9).all()
    assert types["cells"].equals(first.sum())
    if complete:
        assert (kept[kept_types] >= in_type).all(axis=None)
    else:
        assert len(kept) == len(first)


# nothing left


def test_no_sample_left():
    message = (
        r"none of 4 has enough cells \(the largest has 100\); lower filter\.min_cells_per_sample, now 101"
    )
    with pytest.raises(InputError, match=message):
        filter_step.choose(COHORT, **{**OFF, "min_cells_per_sample": 101})


def test_no_cell_type_left():
    with pytest.raises(InputError, match=r"the largest has 145.*lower filter\.min_cells_per_type, now 146"):
        filter_step.choose(COHORT, **{**OFF, "min_cells_per_type": 146})


def test_no_complete_case():
    counts = counted([[5, 0], [0, 5]], types="AB")
    with pytest.raises(InputError, match=r"none of 2 has all 2 kept.*filter\.complete_cases"):
        filter_step.choose(counts, **{**OFF, "complete_cases": True})


# tables


def test_sample_table_carries_the_covariates_and_nothing_else():
    loaded = pd.DataFrame(
        {
            "sample": ["0012", "NA"],
            "donor": ["d1", "d2"],
            "pool": ["p", "p"],
            "pools": [1, 1],
            "age": [40.5, np.nan],
            "sex": ["female", None],
            "cells": [7, 3],
            "shard": ["00", "01"],
        }
    )
    totals = pd.Series({"NA": 3, "0012": 7})
    reason = pd.Series({"NA": "few_cells_in_sample", "0012": ""})
    table = filter_step.describe_samples(loaded, totals, reason, ["age", "sex"])
    assert table.columns.tolist() == ["sample", "donor", "cells", "kept", "reason", "age", "sex"]
    assert table["cells"].tolist() == [7, 3]
    assert table["kept"].tolist() == [True, False]
    assert table["reason"].tolist() == ["", "few_cells_in_sample"]
    assert table["age"].iloc[0] == 40.5


def test_cell_type_table_lists_every_label_by_id():
    _, types = filter_step.choose(
        counted([[9, 8], [9, 0]], types=["b cell", "A cell"]), **{**OFF, "min_cells_per_type": 9}
    )
    table = filter_step.describe_cell_types(types)
    assert table.columns.tolist() == ["id", "label", "cells", "samples", "kept", "reason"]
    assert table.values.tolist() == [
        ["a_cell", "A cell", 8, 1, False, "few_cells_in_type"],
        ["b_cell", "b cell", 18, 2, True, ""],
    ]
    assert filter_step.summarise(table["kept"], table["reason"]) == "1 of 2 kept (few_cells_in_type 1)"
