"""Preranked enrichment: gseapy's own numbers, hand-computed scores, honest bounds, every reason."""

import io

import gseapy
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from files._cell_types import CellType
from pathways._gene_sets import Collection, rank_symbols, read_gmt, run_per_cell_type
from pathways.gsea import (
    choose_sets,
    draw_terms,
    group_terms,
    gsea,
    match_sets,
    prerank,
    smallest_values,
    sort_by_significance,
)

SETTINGS = {
    "min_size": 5,
    "max_size": 500,
    "permutation_num": 200,
    "fdr": 0.05,
    "group_overlap": 0.5,
    "random_state": 7,
    "threads": 1,
}


def differential(stat, symbols=None):
    stat = np.asarray(stat, float)
    ids = [f"E{number:05d}" for number in range(len(stat))]
    return pd.DataFrame(
        {
            "gene_id": ids,
            "symbol": symbols if symbols is not None else [f"G{number}" for number in range(len(stat))],
            "baseMean": 10.0,
            "log2FoldChange": stat / 4,
            "lfcSE": 0.25,
            "stat": stat,
            "pvalue": 2 * stats.norm.sf(np.abs(stat)),
            "padj": 1.0,
        }
    )


@pytest.fixture(scope="module")
def planted():
    """600 genes; UP is raised, DOWN lowered, twenty other sets are drawn at random; two of them overlap."""
    rng = np.random.default_rng(3)
    stat = rng.normal(size=600)
    stat[:30] += 2
    stat[30:60] -= 2
    sets = {"UP": [f"G{n}" for n in range(30)], "DOWN": [f"G{n}" for n in range(30, 60)] + ["UNKNOWN"]}
    for number in range(20):
        sets[f"RANDOM_{number:02d}"] = [f"G{n}" for n in rng.choice(600, 15 + number, replace=False)]
    return differential(stat), Collection("planted", "0" * 64, sets)


def by_gseapy(genes, sets, **changes):
    """The same call through gseapy's public function, with ties in our order."""
    ranked = rank_symbols(genes)
    settings = {
        key: SETTINGS[key] for key in ("min_size", "max_size", "permutation_num", "threads")
    } | changes
    result = gseapy.prerank(
        ranked[["symbol", "stat"]], sets, outdir=None, no_plot=True, ascending=None, seed=7, **settings
    )
    return result.res2d.set_index("Term").sort_index()


def assert_equal_to_gseapy(terms, expected):
    terms = terms.set_index("term").sort_index()
    assert list(terms.index) == list(expected.index)
    own = {
        "ES": terms["es"],
        "NES": terms["nes"],
        "NOM p-val": terms["pvalue"].mask(terms["pvalue_is_bound"], 0),
        "FDR q-val": terms["fdr"].mask(terms["fdr_is_bound"], 0),
    }
    for name, values in own.items():
        np.testing.assert_allclose(values, expected[name].astype(float), rtol=0, atol=1e-12, err_msg=name)
    assert list(terms["leading_edge"]) == list(expected["Lead_genes"])


# gseapy's wrapper, which the step itself does not call, uses words that pandas 4 drops
PANDAS = pytest.mark.filterwarnings("ignore:The inplace keyword:pandas.errors.Pandas4Warning")


@PANDAS
def test_results_are_gseapys(planted):
    genes, collection = planted
    terms, _ = gsea(genes, [collection], **SETTINGS)
    assert_equal_to_gseapy(terms, by_gseapy(genes, collection.sets))


@PANDAS
def test_results_are_gseapys_with_the_file_it_reads_itself(shared_data):
    path = str(shared_data / "hallmark_v2026.1.gmt")
    symbols = sorted({gene for genes in read_gmt(path).sets.values() for gene in genes})
    stat = np.random.default_rng(1).normal(size=len(symbols)).round(2)  # with ties
    genes = differential(stat, symbols)
    terms, status = gsea(genes, [read_gmt(path)], **SETTINGS)
    assert_equal_to_gseapy(terms, by_gseapy(genes, path))
    assert status.loc[0, "overlap"] == 1
    assert status.loc[0, "tied_share"] == pytest.approx(pd.Series(stat).duplicated(keep=False).mean())


def test_a_score_by_hand():
    sets = {"S": ["G0", "G3"], "T": ["G4", "G2"]}
    ranked = rank_symbols(differential([3, 2, 1, -1, -2]))
    terms, running = prerank(ranked, sets, permutation_num=50, random_state=1, threads=1)
    # S: hits weigh 3/4 and 1/4, a miss 1/3
    np.testing.assert_allclose(running["S"], [3 / 4, 5 / 12, 1 / 12, 1 / 3, 0], atol=1e-12)
    # T: hits weigh 1/3 and 2/3
    np.testing.assert_allclose(running["T"], [-1 / 3, -2 / 3, -1 / 3, -2 / 3, 0], atol=1e-12)
    terms = terms.set_index("term")
    assert terms.loc["S", "es"] == pytest.approx(3 / 4)
    assert terms.loc["S", "leading_edge"] == "G0"
    assert terms.loc["T", "es"] == pytest.approx(-2 / 3)


def test_planted_sets_lead_with_the_right_sign(planted):
    genes, collection = planted
    terms, status = gsea(genes, [collection], **SETTINGS)
    assert set(terms["term"][:2]) == {"UP", "DOWN"}
    nes = terms.set_index("term")["nes"]
    assert nes["UP"] > 2
    assert nes["DOWN"] < -2
    assert terms.set_index("term").loc["DOWN", ["size", "matched"]].tolist() == [31, 30]
    assert status.loc[0, ["status", "reason", "sets", "sets_tested"]].tolist() == ["tested", "", 22, 22]


def test_threads_and_orders_change_nothing(planted):
    genes, collection = planted
    expected = gsea(genes, [collection], **SETTINGS)
    backwards = collection._replace(
        sets={name: genes[::-1] for name, genes in reversed(collection.sets.items())}
    )
    for found in (
        gsea(genes, [collection], **SETTINGS | {"threads": 2}),
        gsea(genes, [collection], **SETTINGS | {"threads": 3}),
        gsea(genes.sample(frac=1, random_state=1), [backwards], **SETTINGS),
    ):
        for table, reference in zip(found, expected, strict=True):
            pd.testing.assert_frame_equal(table, reference)


def test_the_seed_matters(planted):
    genes, collection = planted
    one, other = (gsea(genes, [collection], **SETTINGS | {"random_state": seed})[0] for seed in (1, 2))
    assert not one["nes"].equals(other["nes"])


def test_permutations_never_show_a_zero(planted):
    genes, collection = planted
    terms, _ = gsea(genes, [collection], **SETTINGS)
    assert terms["pvalue_is_bound"].any()
    assert terms["fdr_is_bound"].any()
    assert not terms["pvalue_is_bound"].all()
    assert (terms[["pvalue", "fdr"]] > 0).all(axis=None)
    # a bound is 1 / (permutations of the same sign + 1): more than with all 200, less than with a quarter
    bounds = terms["pvalue"][terms["pvalue_is_bound"]]
    assert bounds.between(1 / 201, 1 / 50).all()


def test_bounds_by_hand():
    nes = np.array([3.0, 2.0, -1.5])
    up = np.array([True, True, False])
    pvalue, fdr = smallest_values(nes, up, raised=np.array([60, 40, 50]), lowered=np.array([40, 60, 50]))
    np.testing.assert_allclose(pvalue, [1 / 61, 1 / 41, 1 / 51])
    # 150 raised and 150 lowered permuted scores in all; of two raised sets one is as extreme as 3, both as 2
    np.testing.assert_allclose(fdr, [(1 / 151) / (1 / 2), (1 / 151) / (2 / 2), (1 / 151) / (1 / 1)])


def test_bounds_come_first_and_are_ordered_by_nes():
    terms = pd.DataFrame(
        {
            "term": ["a", "b", "c", "d", "e"],
            "nes": [1.5, -2.5, 3.0, -1.0, 1.5],
            "pvalue": [0.01, 0.002, 0.004, 0.003, 0.01],
            "pvalue_is_bound": [False, True, True, False, False],
        }
    )
    assert sort_by_significance(terms.iloc[::-1])["term"].tolist() == ["c", "b", "d", "a", "e"]


def test_names_with_underscores_share_one_fdr(planted):
    """Gseapy takes what stands before "__" for a library with an FDR of its own."""
    genes, collection = planted
    renamed = collection._replace(
        sets={f"{n % 3}__{name}": symbols for n, (name, symbols) in enumerate(collection.sets.items())}
    )
    plain, underscored = (gsea(genes, [each], **SETTINGS)[0] for each in (collection, renamed))
    underscored["term"] = underscored["term"].str.split("__").str[1].astype("str")
    pd.testing.assert_frame_equal(
        plain.sort_values("term", ignore_index=True), underscored.sort_values("term", ignore_index=True)
    )


def test_collections_are_tested_apart(planted):
    genes, collection = planted
    names = list(collection.sets)
    parts = [
        Collection(name, "", {term: collection.sets[term] for term in terms})
        for name, terms in (("one", names[:8]), ("two", names[8:]))
    ]
    terms, status = gsea(genes, parts, **SETTINGS)
    apart = pd.concat([gsea(genes, [part], **SETTINGS)[0] for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(terms, apart)
    assert list(status["collection"]) == ["one", "two"]


def test_sets_are_tested_by_their_ranked_genes():
    ranked = rank_symbols(differential(np.arange(6.0)))
    sets = {
        "LOW": ["G0", "X", "Y"],
        "FIT": ["G0", "G1", "X"],
        "HIGH": [f"G{n}" for n in range(4)],
        "g": ["g0", "g1"],
    }
    assert match_sets(sets, ranked, min_size=2, max_size=3) == {"FIT": ["G0", "G1"]}
    everything = {"ALL": [f"G{n}" for n in range(6)]}
    assert match_sets(everything, ranked, min_size=2, max_size=10) == {}


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"genes": 0}, "not_tested", "no gene of this cell type was tested"),
        ({"sets": {"S": ["g1", "g2", "g3", "g4", "g5"]}}, "no_overlap", "load.symbols"),
        ({"sets": {"S": ["G1", "G2"]}}, "too_few_sets", "no set has 5 to 500 tested genes"),
        ({"columns": {"log2FoldChange": np.nan}}, "no_sign", "neither raised nor lowered"),
        ({"columns": {"stat": np.nan}}, "no_sign", "several coefficients at once"),
    ],
)
def test_nothing_tested_has_a_reason_and_valid_tables(planted, change, status, reason, tmp_path):
    genes, collection = planted
    genes = genes.iloc[: change.get("genes", len(genes))].assign(**change.get("columns", {}))
    collection = collection._replace(sets=change.get("sets", collection.sets))
    terms, rows = run_per_cell_type(
        [CellType("b_cell", "B cell", genes)], lambda table: gsea(table, [collection], **SETTINGS)
    )
    assert rows.loc[0, ["cell_type", "label", "status"]].tolist() == ["b_cell", "B cell", status]
    assert reason in rows.loc[0, "reason"]
    assert rows.loc[0, "sets_tested"] == 0
    assert terms.empty
    words = " ".join(draw_terms(choose_sets(terms, 5), terms, rows, fdr=0.05).texts[0].get_text().split())
    assert reason.split()[-1] in words
    full, _ = stacked(planted, {"a": 1.0})
    terms.to_parquet(tmp_path / "empty.parquet", index=False)
    full.to_parquet(tmp_path / "full.parquet", index=False)
    dtypes = [pd.read_parquet(tmp_path / f"{name}.parquet").dtypes for name in ("empty", "full")]
    pd.testing.assert_series_equal(*dtypes)


def test_one_usable_collection_is_enough(planted):
    genes, collection = planted
    other = Collection("mouse", "", {"S": ["Isg15", "Ifit1"]})
    terms, status = gsea(genes, [other, collection], **SETTINGS)
    assert list(status["status"]) == ["no_overlap", "tested"]
    assert set(terms["collection"]) == {"planted"}


def stacked(planted, signs, parts=1):
    """Terms and status over cell types whose statistics are those planted times a sign; 0: no gene tested."""
    genes, collection = planted
    tables = []
    for name, sign in signs.items():
        table = differential(sign * genes["stat"].to_numpy()).iloc[: 600 if sign else 0]
        tables.append(CellType(name, name.upper(), table))
    sets = list(collection.sets.items())
    collections = [Collection(f"part{n}", "", dict(sets[n::parts])) for n in range(parts)]
    return run_per_cell_type(tables, lambda table: gsea(table, collections, **SETTINGS))


def test_each_cell_type_gets_what_it_would_get_alone(planted):
    terms, status = stacked(planted, {"a": 1.0, "empty": 0.0, "b": -1.0})
    assert list(terms["cell_type"].drop_duplicates()) == ["a", "b"]
    assert list(status["label"]) == ["A", "EMPTY", "B"]
    assert list(status["status"]) == ["tested", "not_tested", "tested"]
    alone, _ = stacked(planted, {"b": -1.0})
    own = terms[terms["cell_type"] == "b"].drop(columns="fdr_all").reset_index(drop=True)
    pd.testing.assert_frame_equal(own, alone.drop(columns="fdr_all"))
    assert not own["fdr"].equals(alone["fdr_all"])


def test_fdr_all_is_benjamini_hochberg_by_hand_over_types_and_collections(planted):
    terms, _ = stacked(planted, {"a": 1.0, "b": -1.0}, parts=2)
    assert terms.groupby(["cell_type", "collection"]).ngroups == 4
    p = np.sort(terms["pvalue"].to_numpy())
    by_hand = np.minimum.accumulate((p * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    np.testing.assert_allclose(np.sort(terms["fdr_all"]), np.minimum(by_hand, 1), rtol=1e-12)


def terms_of_a_type():
    """Two raised sets with one core, a chain of three lowered ones of which neighbours overlap by half."""
    rows = [
        ("A", 2.5, 0.001, 0.01, "a;b;c;d"),
        ("A_PART", 2.4, 0.002, 0.01, "c;d"),  # all of it in A
        ("OTHER", 2.0, 0.004, 0.02, "x;y;c;z"),  # overlaps A by a quarter, A_PART by a half: 0.375 on average
        ("DOWN_1", -2.2, 0.003, 0.01, "k;l;m;n"),
        ("DOWN_2", -2.1, 0.005, 0.02, "m;n;o;p"),  # half of DOWN_1
        ("DOWN_3", -2.0, 0.006, 0.02, "o;p;q;r"),  # half of DOWN_2, none of DOWN_1: 0.25 on average
        ("SAME_GENES", -1.9, 0.007, 0.03, "a;b;c;d"),  # of the other sign
        ("LATE", 1.0, 0.2, 0.5, "a;b;c;d"),  # not significant
    ]
    terms = pd.DataFrame(rows, columns=["term", "nes", "pvalue", "fdr", "leading_edge"])
    return terms.assign(es=terms["nes"] / 5, pvalue_is_bound=False)


def test_groups_by_hand():
    found = group_terms(terms_of_a_type(), fdr=0.05, group_overlap=0.5).set_index("term")
    assert found["group"].to_dict() == {
        "A": 1,
        "A_PART": 1,
        "DOWN_1": 2,
        "OTHER": 3,
        "DOWN_2": 2,
        "DOWN_3": 4,
        "SAME_GENES": 5,
        "LATE": 0,
    }
    assert list(found.index[found["representative"]]) == ["A", "OTHER", "DOWN_1", "DOWN_3", "SAME_GENES"]
    wider = group_terms(terms_of_a_type(), fdr=0.05, group_overlap=0.25).set_index("term")["group"]
    assert wider["OTHER"] == wider["A"]
    assert wider["DOWN_3"] == wider["DOWN_1"]
    assert wider["SAME_GENES"] != wider["A"]


def test_groups_do_not_depend_on_the_order_of_rows():
    expected = group_terms(terms_of_a_type(), fdr=0.05, group_overlap=0.5)
    for seed in range(5):
        shuffled = terms_of_a_type().sample(frac=1, random_state=seed)
        found = group_terms(shuffled, fdr=0.05, group_overlap=0.5)
        assert list(found["term"]) == list(shuffled["term"])
        pd.testing.assert_frame_equal(found.sort_index(), expected)


def test_the_representative_has_the_smallest_p_value_of_its_group(planted):
    genes, collection = planted
    copies = collection._replace(name="copies", sets={f"{k}_2": v[1:] for k, v in collection.sets.items()})
    terms, _ = gsea(genes, [collection, copies], **SETTINGS)
    assert (terms["group"] > 0).equals(terms["fdr"] < SETTINGS["fdr"])
    grouped = terms[terms["group"] > 0]
    assert (grouped.groupby("group")["representative"].sum() == 1).all()
    numbers = grouped.set_index("term")["group"]
    assert numbers["UP"] == numbers["UP_2"] != numbers["DOWN"] == numbers["DOWN_2"]
    for _, rows in grouped.groupby("group"):
        best = sort_by_significance(rows).iloc[0]
        assert rows.loc[rows["representative"], "term"].item() == best["term"]
    assert set(choose_sets(terms.assign(fdr_all=0.5), 2)["term"]) <= set(
        terms["term"][terms["representative"]]
    )


def test_no_cell_type_gives_empty_tables(planted):
    terms, status = run_per_cell_type([], lambda table: gsea(table, [planted[1]], **SETTINGS))
    assert len(terms) == len(status) == 0
    full, _ = stacked(planted, {"a": 1.0})
    assert list(terms.columns) == list(full.columns)
    assert "no cell type" in draw_terms(choose_sets(terms, 5), terms, status, fdr=0.05).texts[0].get_text()


def test_the_figure_shows_the_chosen_sets_in_every_type_and_is_byte_stable(planted):
    terms, status = stacked(planted, {"a": 1.0, "empty": 0.0, "b": 1.0})
    drawn = choose_sets(terms, 2)
    assert drawn[["term", "cell_type"]].to_numpy().tolist() == [
        ["UP", "a"],
        ["UP", "b"],
        ["DOWN", "a"],
        ["DOWN", "b"],
    ]
    axes = draw_terms(drawn, terms, status, fdr=0.05).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["UP", "DOWN"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["A", "EMPTY", "B"]
    points = axes.collections[0]
    np.testing.assert_array_equal(points.get_offsets(), [[0, 0], [2, 0], [0, 1], [2, 1]])
    np.testing.assert_allclose(points.get_array(), drawn["nes"])
    images = []
    for _ in range(2):
        images.append(io.BytesIO())
        chart = draw_terms(drawn, terms, status, fdr=0.05)
        chart.savefig(images[-1], format="png", dpi=120, metadata={"Software": None})
    assert images[0].getvalue() == images[1].getvalue()
