"""Hypergeometric tests: by hand, against Fisher's exact test and gseapy, and every reason."""

import io
from math import comb

import gseapy
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from files._cell_types import CellType
from pathways._gene_sets import Collection, rank_symbols, run_per_cell_type
from pathways.overrepresentation import choose_sets, draw_terms, enrich, overrepresentation, select_genes

SETTINGS = {"fdr": 0.05, "min_log2fc": 0.0, "min_genes": 5}


def differential(rows):
    table = pd.DataFrame(rows, columns=["symbol", "log2FoldChange", "stat", "pvalue", "padj"])
    return table.assign(gene_id=[f"E{number:04d}" for number in range(len(table))])


@pytest.fixture(scope="module")
def planted():
    """400 genes, 40 raised and 20 lowered; UP holds 15 of the raised, DOWN 8 of the lowered."""
    rng = np.random.default_rng(5)
    stat = rng.uniform(-1.5, 1.5, size=400)
    stat[:40] = rng.uniform(5, 8, 40)
    stat[40:60] = -rng.uniform(5, 8, 20)
    pvalue = 2 * stats.norm.sf(np.abs(stat))
    symbols = [f"G{number}" for number in range(400)]
    rows = zip(symbols, stat / 4, stat, pvalue, stats.false_discovery_control(pvalue), strict=True)
    sets = {"UP": symbols[:15] + symbols[100:110] + ["UNKNOWN"], "DOWN": symbols[50:58] + symbols[200:220]}
    for number in range(10):
        sets[f"RANDOM_{number}"] = [symbols[n] for n in rng.choice(400, 20 + number, replace=False)]
    return differential(rows), Collection(
        "planted", "0" * 64, sets | {"NOWHERE": ["X", "Y"], "LAST": symbols[390:]}
    )


def test_a_p_value_by_hand():
    background = [f"G{number}" for number in range(20)]
    terms = enrich(background[:5], {"S": background[1:7], "NONE": background[10:13]}, background)
    row = terms.set_index("term").loc["S"]
    assert row[["overlap", "size", "background", "list_size"]].tolist() == [4, 6, 20, 5]
    # at least 4 of 5 drawn from 20 of which 6 are in the set
    assert row["pvalue"] == pytest.approx((comb(6, 4) * comb(14, 1) + comb(6, 5)) / comb(20, 5), abs=1e-15)
    assert row["odds_ratio"] == pytest.approx((4.5 * 13.5) / (2.5 * 1.5))
    assert row["fdr"] == pytest.approx(2 * row["pvalue"])  # of two sets, also the one without overlap
    assert row["genes"] == "G1;G2;G3;G4"
    none = terms.set_index("term").loc["NONE"]
    assert none[["overlap", "pvalue", "fdr", "genes"]].tolist() == [0, 1.0, 1.0, ""]
    assert np.isnan(none["odds_ratio"])


def test_p_values_are_fishers(planted):
    genes, collection = planted
    terms, _ = overrepresentation(genes, [collection], **SETTINGS)
    assert len(terms) == 2 * 13
    for row in terms.itertuples():
        inside, listed = row.size - row.overlap, row.list_size - row.overlap
        table = [[row.overlap, inside], [listed, row.background - row.overlap - inside - listed]]
        assert row.pvalue == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue, rel=1e-9)


def test_results_are_gseapys(planted):
    genes, collection = planted
    terms, _ = overrepresentation(genes, [collection], **SETTINGS)
    listed = select_genes(rank_symbols(genes), signed=True, fdr=0.05, min_log2fc=0)
    for direction, table in terms.groupby("direction"):
        expected = gseapy.enrich(
            listed[direction], collection.sets, background=genes["symbol"].tolist(), outdir=None, no_plot=True
        ).results.set_index("Term")
        table = table[table["overlap"] > 0].set_index("term").loc[expected.index]
        np.testing.assert_allclose(table["pvalue"], expected["P-value"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(table["odds_ratio"], expected["Odds Ratio"], rtol=1e-12)
        assert list(table["overlap"].astype(str) + "/" + table["size"].astype(str)) == list(
            expected["Overlap"]
        )


def test_fdr_counts_every_set_that_has_a_tested_gene(planted):
    genes, collection = planted
    terms, status = overrepresentation(genes, [collection], **SETTINGS)
    for direction, table in terms.groupby("direction"):
        np.testing.assert_allclose(table["fdr"], stats.false_discovery_control(table["pvalue"]))
        tested = status.set_index("direction").loc[direction, "sets_tested"]
        assert tested == len(table) == len(collection.sets) - 1  # NOWHERE has none
        assert (table["overlap"] == 0).any()


def test_planted_sets_lead_in_their_direction(planted):
    terms, status = overrepresentation(planted[0], [planted[1]], **SETTINGS)
    leaders = terms.drop_duplicates("direction").set_index("direction")
    assert leaders["term"].to_dict() == {"up": "UP", "down": "DOWN"}
    assert leaders["overlap"].to_dict() == {"up": 15, "down": 8}
    assert leaders["size"].to_dict() == {"up": 25, "down": 28}  # in the background: without UNKNOWN
    assert (terms["background"] == 400).all()
    assert status["list_size"].tolist() == [40, 20]
    assert status["status"].tolist() == ["tested", "tested"]


def test_lists_hold_significant_changes_the_strongest_first():
    rows = [
        ("A", 1.0, 4.0, 1e-5, 0.01),
        ("B", 2.0, 6.0, 1e-9, 0.001),
        ("C", 0.2, 5.0, 1e-7, 0.001),  # a small change
        ("D", -1.0, -4.0, 1e-5, 0.01),
        ("E", -3.0, -5.0, 1e-7, 0.001),
        ("F", 3.0, 3.0, 1e-3, 0.05),  # not below 0.05
        ("H", 3.0, 7.0, 1e-3, np.nan),  # filtered by mean count
    ]
    ranked = rank_symbols(differential(rows))
    assert select_genes(ranked, signed=True, fdr=0.05, min_log2fc=0) == {
        "up": ["B", "C", "A"],
        "down": ["E", "D"],
    }
    assert select_genes(ranked, signed=True, fdr=0.05, min_log2fc=1.0) == {
        "up": ["B", "A"],
        "down": ["E", "D"],
    }
    assert select_genes(ranked, signed=True, fdr=0.05, min_log2fc=2.0) == {"up": ["B"], "down": ["E"]}
    assert select_genes(ranked, signed=False, fdr=0.05, min_log2fc=9) == {"any": ["B", "C", "A", "D", "E"]}
    assert len(ranked) == 7  # all are background


def test_symbols_keep_their_case():
    """Gseapy would look for C1ORF43, in no set, when the sets are mostly upper case and the list is not."""
    background = [f"C{number}orf{number}" for number in range(5)] + [f"G{number}" for number in range(55)]
    terms = enrich(background[:5], {"S": background[:3] + background[20:]}, background)
    assert terms.loc[0, ["overlap", "size"]].tolist() == [3, 43]
    assert terms.loc[0, "genes"] == "C0orf0;C1orf1;C2orf2"
    table = [[3, 40], [2, 15]]
    assert terms.loc[0, "pvalue"] == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue)


def test_a_list_that_meets_no_set_is_tested_all_the_same():
    background = [f"G{number}" for number in range(20)]
    terms = enrich(background[:5], {"S": background[10:], "T": background[6:8]}, background)
    assert terms["pvalue"].tolist() == [1.0, 1.0]
    assert terms["overlap"].tolist() == [0, 0]


def test_a_short_list_is_not_tested(planted):
    genes, collection = planted
    terms, status = overrepresentation(genes, [collection], **SETTINGS | {"min_genes": 21})
    status = status.set_index("direction")
    assert status["status"].to_dict() == {"up": "tested", "down": "too_few_genes"}
    assert status.loc["down", "reason"] == (
        "genes down at FDR 0.05: 20, needed: 21 (overrepresentation.min_genes)"
    )
    assert set(terms["direction"]) == {"up"}


@pytest.mark.parametrize(
    ("rows", "sets", "status"),
    [(0, None, "not_tested"), (400, {"MOUSE": ["Isg15", "g1"]}, "no_overlap")],
)
def test_nothing_tested_has_a_reason_and_valid_tables(planted, rows, sets, status, tmp_path):
    genes, collection = planted
    collection = collection._replace(sets=sets or collection.sets)
    terms, table = stacked({"a": genes.iloc[:rows]}, collection)
    assert table["status"].tolist() == [status, status]
    assert (table["reason"] != "").all()
    full, _ = stacked({"a": genes}, planted[1])
    terms.to_parquet(tmp_path / "empty.parquet", index=False)
    full.to_parquet(tmp_path / "full.parquet", index=False)
    dtypes = [pd.read_parquet(tmp_path / f"{name}.parquet").dtypes for name in ("empty", "full")]
    pd.testing.assert_series_equal(*dtypes)
    text = draw_terms(choose_sets(terms, 5), terms, table, fdr=0.05).texts[0].get_text()
    assert text.startswith("A, planted up: no gene")


def stacked(tables, *collections):
    tested = [CellType(name, name.upper(), genes) for name, genes in tables.items()]
    return run_per_cell_type(tested, lambda genes: overrepresentation(genes, list(collections), **SETTINGS))


def test_genes_without_a_sign_make_one_list(planted):
    """A contrast that tests several coefficients at once has no fold change."""
    genes, collection = planted
    joint = genes.assign(log2FoldChange=np.nan, stat=genes["stat"] ** 2)
    terms, status = overrepresentation(joint, [collection], **SETTINGS)
    assert status[["direction", "status", "list_size"]].to_numpy().tolist() == [["any", "tested", 60]]
    assert set(terms["direction"]) == {"any"}
    assert set(terms["term"][:2]) == {"UP", "DOWN"}
    up = terms.set_index("term").loc["UP"]
    assert up["pvalue"] == pytest.approx(stats.hypergeom.sf(14, 400, 25, 60))


def test_fdr_all_counts_every_row_of_the_contrast(planted):
    genes, collection = planted
    other = Collection("other", "", {"S": collection.sets["UP"], "T": collection.sets["RANDOM_1"]})
    mirrored = genes.assign(stat=-genes["stat"], log2FoldChange=-genes["log2FoldChange"])
    terms, status = stacked({"a": genes, "none": genes.iloc[:0], "b": mirrored}, collection, other)
    assert len(terms) == 2 * 2 * (13 + 2)
    p = np.sort(terms["pvalue"].to_numpy())
    by_hand = np.minimum.accumulate((p * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    np.testing.assert_allclose(np.sort(terms["fdr_all"]), np.minimum(by_hand, 1), rtol=1e-12)
    assert list(status["cell_type"].drop_duplicates()) == ["a", "none", "b"]
    alone, _ = stacked({"b": mirrored}, collection, other)
    own = terms[terms["cell_type"] == "b"].drop(columns="fdr_all").reset_index(drop=True)
    pd.testing.assert_frame_equal(own, alone.drop(columns="fdr_all"))


def test_collections_are_tested_apart(planted):
    genes, collection = planted
    other = Collection("other", "1" * 64, {"S": collection.sets["UP"]})
    terms, status = overrepresentation(genes, [collection, other], **SETTINGS)
    alone, _ = overrepresentation(genes, [other], **SETTINGS)
    pd.testing.assert_frame_equal(terms[terms["collection"] == "other"].reset_index(drop=True), alone)
    assert list(zip(status["collection"], status["direction"], strict=True)) == [
        ("planted", "up"),
        ("planted", "down"),
        ("other", "up"),
        ("other", "down"),
    ]


def test_the_figure_shows_each_direction_and_is_byte_stable(planted):
    genes, collection = planted
    terms, status = stacked({"a": genes, "b": genes}, collection)
    drawn = choose_sets(terms, 2)
    assert list(drawn["term"].drop_duplicates()) == ["UP", "DOWN"]  # the most significant on top
    images = []
    for _ in range(2):
        images.append(io.BytesIO())
        chart = draw_terms(drawn, terms, status, fdr=0.05)
        chart.savefig(images[-1], format="png", dpi=120, metadata={"Software": None})
    assert images[0].getvalue() == images[1].getvalue()
    up, down, _ = chart.axes
    assert [axes.get_title() for axes in (up, down)] == ["sets of raised genes", "sets of lowered genes"]
    assert [label.get_text() for label in up.get_yticklabels()] == ["UP", "DOWN"]
    assert up.get_ylim()[0] > up.get_ylim()[1]  # the first row on top
    dots = drawn[drawn["direction"] == "up"]
    expected = np.log2(dots["odds_ratio"]).clip(lower=0)
    np.testing.assert_allclose(up.collections[0].get_array(), expected)
