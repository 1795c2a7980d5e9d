"""Comparison of variants with the run on small tables with answers computed by hand."""

import io

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from sweep.stability import (
    compare_cells,
    compare_clusters,
    compare_genes,
    compare_predictions,
    draw,
    select_best,
    stability,
)

SETTINGS = {"fdr": 0.05, "top": [2, 4]}


def effects(label, **genes):
    """Gene -> (statistic, p-value); padj is the p-value."""
    rows = [(gene, label, stat, p, p) for gene, (stat, p) in genes.items()]
    return pd.DataFrame(rows, columns=["gene_id", "label", "stat", "pvalue", "padj"])


RUN = effects("B", a=(4, 0.001), b=(3, 0.01), c=(2, 0.04), d=(1, 0.3), e=(-1, 0.4))
VARIANT = effects(
    "B", a=(5, 0.0001), b=(1.5, 0.1), c=(2.5, 0.02), d=(0.5, 0.6), f=(1, 0.3), e=(np.nan, np.nan)
)


def by_measure(rows):
    return pd.DataFrame(rows).set_index("measure")


def test_genes_by_hand():
    rows = by_measure(compare_genes(RUN, VARIANT, **SETTINGS))
    # in both: a b c d, ranks 4 3 2 1 and 4 2 3 1: 1 - 6 * 2 / (4 * 15)
    assert rows.loc["spearman", ["n", "base", "other"]].tolist() == [4, 5, 5]
    assert rows.loc["spearman", "value"] == pytest.approx(0.8)
    assert rows.loc["overlap_2", "value"] == 0.5  # a b and a c
    assert rows.loc["overlap_4", "value"] == 0.75  # a b c d and a c b f
    assert rows.loc["significant", ["base", "other"]].tolist() == [3, 2]
    assert rows.loc["significant", "value"] == pytest.approx(2 / 3)
    assert (rows["reason"] == "").all()


def test_the_best_genes_have_the_smallest_p_values_ties_by_name():
    genes = effects("B", d=(9, 0.2), c=(-1, 0.1), b=(0, 0.1), a=(5, 0.3))
    genes = genes.set_index("gene_id")
    assert [select_best(genes, k) for k in (1, 2, 3)] == [{"b"}, {"b", "c"}, {"b", "c", "d"}]


def test_the_same_genes_agree_entirely():
    rows = by_measure(compare_genes(RUN, RUN.iloc[::-1], **SETTINGS))
    np.testing.assert_allclose(rows["value"], 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("base", "other", "reason"),
    [
        (RUN, RUN.iloc[:0], "no answer in the variant"),
        (RUN.iloc[:0], RUN, "no answer in the run"),
        (RUN.iloc[:0], RUN.iloc[:0], "no answer in the run and the variant"),
    ],
)
def test_a_missing_answer_has_a_reason(base, other, reason):
    rows = by_measure(compare_genes(base, other, **SETTINGS))
    assert rows["value"].isna().all()
    assert (rows["reason"] == reason).all()


def test_too_few_common_genes_and_no_significant_one_have_a_reason():
    rows = by_measure(compare_genes(RUN.iloc[3:], VARIANT.iloc[:4], **SETTINGS))
    assert rows.loc["spearman", "reason"] == "fewer than 3 genes in both"
    assert rows.loc["significant", "reason"] == "no gene is significant in the run"
    assert rows.loc[["spearman", "significant"], "value"].isna().all()
    assert rows.loc["overlap_4", "value"] == 0.25  # d of d e and a c b d


def test_clusters_are_compared_over_common_cells_whatever_their_names():
    base = pd.DataFrame({"cell": list("abcdefgh"), "cluster": list("00011122")})
    other = pd.DataFrame({"cell": list("hgfedcbx"), "cluster": list("11122003")})
    (row,) = compare_clusters(base, other)
    both = base.merge(other, on="cell")
    assert row["n"] == 7
    assert row["value"] == pytest.approx(adjusted_rand_score(both["cluster_x"], both["cluster_y"]), abs=1e-12)
    renamed = base.assign(cluster=base["cluster"].map({"0": "7", "1": "5", "2": "6"}))
    assert compare_clusters(base, renamed)[0]["value"] == 1
    (row,) = compare_clusters(base, other.assign(cell=list("stuvwxyz")))
    assert np.isnan(row["value"])
    assert row["reason"] == "no cell in both"


def test_predictions_by_hand():
    base = pd.DataFrame({"label": ["B", "T"], "r2": [0.3, 0.1], "samples": 30})
    other = base.assign(r2=[0.25, np.nan], samples=28)
    rows = pd.DataFrame(compare_predictions(base, other)).set_index("label")
    assert rows.loc["B", ["base", "other", "n"]].tolist() == [0.3, 0.25, 28]
    assert rows.loc["B", "value"] == pytest.approx(-0.05)
    assert rows.loc["T", "reason"] == "no answer in the variant"
    assert [row["value"] for row in compare_predictions(base, base)] == [0, 0]


def test_cells_by_hand():
    base = pd.DataFrame({"cell": list("abcdef"), "cell_type": list("TTTTBB"), "kept": [1, 1, 1, 0, 1, 0]})
    other = base.assign(kept=[1, 1, 0, 1, 0, 0])
    base["kept"], other["kept"] = base["kept"].astype(bool), other["kept"].astype(bool)
    rows = pd.DataFrame(compare_cells(base, other)).set_index("label")
    assert rows.loc["", ["base", "other", "n"]].tolist() == [4, 3, 5]
    assert rows["value"].to_dict() == {"": 0.4, "T": 0.5, "B": 0.0}
    foreign = other.assign(cell=list("uvwxyz"))
    apart = pd.DataFrame(compare_cells(base, foreign)).set_index("label")
    assert apart["value"].to_dict() == {"": 0, "B": 0, "T": 0}
    assert apart["n"].to_dict() == {"": 7, "B": 1, "T": 6}


def tables():
    cells = pd.DataFrame({"cell": list("abcd"), "cell_type": "B", "kept": [True, True, False, True]})
    clusters = pd.DataFrame({"cell": list("abd"), "cluster": ["0", "0", "1"]})
    summary = pd.DataFrame({"label": ["B"], "r2": [0.3], "samples": [30]})
    run = {("cells", ""): cells, ("effects", "age"): RUN, ("clusters", "0.5"): clusters}
    run |= {("prediction", ""): summary}
    names = {"": run, "one": run | {("effects", "age"): VARIANT}, "two": {("cells", ""): cells}}
    return {(name, *key): table for name, part in names.items() for key, table in part.items()}


VARIANTS = {"one": {"changes": "x: 1", "note": ""}, "two": {"changes": "y: 2", "note": "another cohort"}}


def test_one_table_holds_every_comparison():
    table = stability(tables(), VARIANTS, **SETTINGS)
    one, two = (table[table["variant"] == name] for name in ("one", "two"))
    assert list(one["measure"]) == [
        "kept",
        "kept",
        "spearman",
        "overlap_2",
        "overlap_4",
        "significant",
        "ari",
        "r2",
    ]
    assert one.set_index("measure").loc["spearman", ["contrast", "label"]].tolist() == ["age", "B"]
    assert one.set_index("measure").loc["ari", ["resolution", "value"]].tolist() == ["0.5", 1.0]
    assert list(two["measure"]) == ["kept", "kept"]
    assert set(two["note"]) == {"another cohort"}
    assert not table.drop(columns="value").isna().any(axis=None)


def test_the_figure_shows_each_variant_and_is_byte_stable():
    table = stability(tables(), VARIANTS, **SETTINGS)
    images = []
    for _ in range(2):
        images.append(io.BytesIO())
        chart = draw(table, SETTINGS["top"])
        chart.savefig(images[-1], format="png", dpi=120, metadata={"Software": None})
    assert images[0].getvalue() == images[1].getvalue()
    titles = [axes.get_title() for axes in chart.axes]
    assert titles[0] == "cells kept by both"
    assert titles[1] == "statistics: rank correlation\nage"
    assert [label.get_text() for label in chart.axes[0].get_yticklabels()] == ["one: x: 1", "two: y: 2"]
    ((x, y),) = chart.axes[1].collections[0].get_offsets()
    assert x == pytest.approx(0.8)
    assert -0.5 < y < 0.5
    empty = draw(table.iloc[:0], SETTINGS["top"])
    assert "nothing to compare" in empty.texts[0].get_text()
