"""Rule samples as a whole, on sums with planted facts: tables, warnings, figures."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from donors import _sums, samples
from donors._sample_table import Totals, describe_samples, whole_samples
from donors._samples_figures import (
    draw_associations,
    draw_components,
    draw_pairs,
    draw_sex,
    draw_variance,
)
from files import write_sums
from job import collect_warnings

TYPES = {"b_cell": "B cell", "t_cell": "T cell"}
SYMBOLS = ["XIST", "RPS4Y1", "DDX3Y", *(f"GENE{number}" for number in range(597))]
COVARIATES = {"age": "numeric", "sex": "categorical"}


def draw_sums(rng, donors=16, outlying=0.6):
    """Rows and counts of two cell types, with planted facts.

    The last donor is the first one under another name, the second one's sex is wrong, B cells of the third
    one have a share of the T cells' profile; age moves a fifth of the genes.
    """
    names = np.array([f"d{number:02d}" for number in range(donors)])
    person = np.r_[np.arange(donors - 1), 0]
    is_female = (np.arange(donors) % 2 == 0)[person]
    age = np.linspace(20, 80, donors)[person]
    own = rng.normal(0, 0.2, (donors, 600))[person]
    own[:, :120] += 0.3 * ((age - 50) / 10)[:, None]
    profiles = np.exp(rng.normal(0, 1, (2, 600)))
    rows, counts = [], []
    for kind, (cell_type, label) in enumerate(TYPES.items()):
        for donor in range(donors):
            profile = profiles[kind] * 2 ** own[donor]
            if donor == 2 and kind == 0:
                profile = (1 - outlying) * profile + outlying * profiles[1] * profile.sum() / profiles[
                    1
                ].sum()
            profile[0] = 3 * is_female[donor]
            profile[1:3] = 2 * ~is_female[donor]
            cells = int(rng.integers(40, 90))
            drawn = rng.poisson(
                rng.gamma(cells / 0.3, 0.3 / cells, 600) * profile / profile.sum() * cells * 1000
            )
            counts.append(drawn)
            rows.append((cell_type, label, names[donor], cells, drawn.sum()))
    obs = pd.DataFrame(rows, columns=["cell_type", "label", "sample", "cells", "counts"])
    obs["donor"], obs["pool"] = obs["sample"], ""
    sex = np.where(is_female, "Female", "Male")
    sex[1] = "Female"
    known = pd.DataFrame({"age": age, "sex": sex}, index=names)
    obs = obs.join(known, on="sample")
    obs["log_cells"], obs["log_depth"], obs["pct_counts_mt"] = (
        np.log(obs["cells"]),
        np.log(obs["counts"]),
        3.0,
    )
    return obs.assign(used=True, reason=""), sparse.csr_array(np.array(counts))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """obs, and the path of the sums."""
    obs, counts = draw_sums(np.random.default_rng(1))
    path = tmp_path_factory.mktemp("sums") / "sums.h5ad"
    text = [name for name in obs if not pd.api.types.is_numeric_dtype(obs[name])]
    genes = pd.DataFrame({"gene_id": [f"G{number}" for number in range(600)], "symbol": SYMBOLS})
    table = obs.astype(dict.fromkeys(text, "category")).set_index(pd.Index(range(len(obs))).astype(str))
    write_sums(str(path), counts, table, genes)
    return obs, str(path)


@pytest.fixture
def seen(drawn, settings):
    """All tables of the rule and its warnings, through the functions of its main."""
    obs, path = drawn
    whole = whole_samples(obs, list(COVARIATES))
    genes = samples.find_sex_genes(pd.Series(SYMBOLS), settings["sex_genes"], "human")
    prepared, totals = samples.gather_sums(
        path, list(TYPES), list(TYPES), whole, genes["female"] | genes["male"], settings["min_count"]
    )
    sexes = samples.check_sex(
        totals, genes, whole["sex"], settings["sex_levels"], margin=settings["sex_margin"]
    )
    limits = {"alpha": 0.01, "random_state": 1, "n_top_genes": settings["n_top_genes"]}
    tables = samples.examine(prepared, COVARIATES, n_comps=5, permutations=199, **limits)
    pairs = samples.pair_samples(prepared, COVARIATES, whole, **limits)
    cells = pd.DataFrame({"sample": whole["sample"], "kept": True, "doublet": False, "total_counts": 5})
    table = describe_samples(cells.assign(pct_counts_mt=2.0), obs, whole[["sample", "donor"]])
    table = samples.join_tables(table, sexes, pairs, tables["distances"])
    with collect_warnings() as warnings:
        samples.warn_of_samples(table, pairs, tables["distances"])
    return SimpleNamespace(
        whole=whole, table=table, pairs=pairs, warnings=warnings, prepared=prepared, **tables
    )


def test_what_is_planted_is_found_and_warned_of(seen):
    table = seen.table.set_index("sample")
    assert table.index[table["sex_check"] == "contradicts"].tolist() == ["d01"]
    assert (table["sex_check"].drop("d01") == "agrees").all()
    alike = seen.pairs[seen.pairs["check"] == "alike"]
    assert alike[["sample", "other"]].to_numpy().tolist() == [["d00", "d15"]]
    assert table.loc["d00", "nearest"] == "d15"
    assert table.index[table["outlying_in"] != ""].tolist() == ["d02"]
    assert "b_cell" in table.loc["d02", "outlying_in"]
    assert "t_cell" not in table.loc["d02", "outlying_in"]
    by_code = {row["code"]: row for row in seen.warnings}
    assert sorted(by_code) == ["donors_look_like_one", "samples_outlying", "sex_contradicts_expression"]
    assert "d01 (stated female, shows male)" in by_code["sex_contradicts_expression"]["message"]
    assert "d00 and d15" in by_code["donors_look_like_one"]["message"]
    assert "d02 (b_cell" in by_code["samples_outlying"]["message"]
    assert {row["number"] for row in seen.warnings} == {1}


def test_age_goes_with_a_component_and_with_the_genes_that_it_moves(seen):
    own = seen.associations[(seen.associations["cell_type"] == "t_cell")]
    best = own[own["covariate"] == "age"].sort_values("r2").iloc[-1]
    assert best["r2"] > 0.7
    assert best["pvalue"] == pytest.approx(1 / 200)
    assert best["component"] == 1
    shares = seen.variance[seen.variance["cell_type"] == "t_cell"].set_index("covariate")
    assert shares.loc["age", "mean"] > 3 * shares.loc["age", "expected"]
    assert shares.loc["sex", "mean"] == pytest.approx(shares.loc["sex", "expected"], rel=0.5)
    assert shares["mean"].sum() == pytest.approx(1)
    assert shares["df"].to_dict() == {"age": 1, "sex": 1, "residual": 13}


def test_all_cell_types_together_come_last(seen):
    assert [sums.cell_type for sums in seen.prepared] == ["b_cell", "t_cell", ""]
    for name in ("components", "distances", "associations", "variance"):
        assert list(dict.fromkeys(getattr(seen, name)["cell_type"])) == ["b_cell", "t_cell", ""]


def test_sums_over_types_are_those_of_all_rows():
    totals = Totals(["a", "b", "c"])
    totals.add_(sparse.csr_array(np.array([[1, 0, 5], [0, 2, 0]])), pd.Series(["c", "a"]))
    totals.add_(sparse.csr_array(np.array([[1, 1, 1]])), pd.Series(["c"]))
    assert totals.counts.toarray().tolist() == [[0, 2, 0], [0, 0, 0], [2, 1, 6]]
    assert totals.genes().tolist() == [1, 0, 3]
    assert totals.column_sums(np.array([True, False, True])).tolist() == [0, 0, 8]


def test_the_table_of_samples_by_hand():
    cells = pd.DataFrame(
        {
            "sample": ["a", "a", "a", "b", "c"],
            "total_counts": [10.0, 30, np.nan, 8, 8],
            "pct_counts_mt": [10.0, 2, np.nan, 1, 1],
            "doublet": [False, False, False, False, True],
            "kept": [True, True, False, True, False],
        }
    )
    sums = pd.DataFrame({"sample": ["a", "a", "b"], "label": ["T", "B", "T"], "used": [True, True, False]})
    listed = pd.DataFrame({"sample": ["a", "b", "c", "d"], "donor": ["a", "b", "c", "d"]})
    table = describe_samples(cells, sums, listed).set_index("sample")
    assert table["cells_in"].tolist() == [3, 1, 1, 0]
    assert table["cells"].tolist() == [2, 1, 0, 0]
    assert table["counts"].tolist() == [40, 8, 0, 0]
    assert table["doublets"].tolist() == [0, 0, 1, 0]
    assert table["share_lost"].tolist()[:3] == pytest.approx([1 / 3, 0, 1])
    assert np.isnan(table.loc["d", "share_lost"])
    assert table.loc["a", "pct_counts_mt"] == pytest.approx((10 * 10 + 30 * 2) / 40)
    assert table["used_in"].tolist() == ["B; T", "", "", ""]
    assert table["types_used"].tolist() == [2, 0, 0, 0]


def test_a_type_with_few_samples_or_genes_has_no_components():
    obs = pd.DataFrame({"sample": ["a", "b", "c"], "donor": ["a", "b", "c"], "pool": ""})
    obs = obs.assign(log_cells=[1.0, 2, 3], log_depth=1.0, pct_counts_mt=1.0)
    counts = sparse.csr_array(np.full((3, 50), 20))
    sums = _sums.prepare_sums("x", counts, obs, np.zeros(50, bool), 10)
    tables = samples.examine(
        [sums], {}, alpha=0.01, random_state=1, n_top_genes=100, n_comps=5, permutations=9
    )
    assert [len(tables[name]) for name in ("components", "associations", "variance")] == [0, 0, 0]
    assert tables["distances"]["distance"].isna().all()
    assert not tables["distances"]["outlying"].any()
    pairs = samples.pair_samples([sums, sums], {}, obs, alpha=0.01, random_state=1, n_top_genes=100)
    assert pairs.empty


def test_figures_are_drawn_and_without_data_say_why(seen):
    labels = TYPES | {"": "all cell types"}
    tables = {name: getattr(seen, name) for name in ("components", "distances", "associations", "variance")}
    values = seen.whole.set_index("sample")[list(COVARIATES)]
    kinds = {"age": True, "sex": False}
    figure = draw_components(tables, values, kinds, labels)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert [title.split(",")[0] for title in titles] == ["B cell", "T cell", "all cell types"]
    assert len(draw_associations(tables["associations"], labels).axes) >= 3
    assert draw_variance(tables["variance"], labels).axes[0].get_yticklabels()[0].get_text() == "age"
    texts = [text.get_text() for text in draw_sex(seen.table).axes[0].texts]
    assert texts == ["d01"]
    assert [text.get_text() for text in draw_pairs(seen.pairs).axes[0].texts] == ["d00 and d15"]
    empty = {name: table.iloc[:0] for name, table in tables.items()}
    for figure, word in (
        (draw_components(empty, values, kinds, labels), "components"),
        (draw_associations(empty["associations"], labels), "components"),
        (draw_variance(empty["variance"], labels), "variance"),
        (draw_sex(seen.table.assign(log2_ratio=np.nan)), "sex"),
        (draw_pairs(seen.pairs.iloc[:0]), "persons"),
    ):
        assert word in figure.axes[0].texts[0].get_text()


def test_missing_values_leave_a_sample_out_of_its_covariate_only(seen):
    sums = seen.prepared[0]
    obs = sums.obs.assign(age=sums.obs["age"].mask(sums.obs.index == 3))
    sums = sums._replace(obs=obs)
    kinds = _sums.list_covariates(obs, COVARIATES)
    scores, _ = _sums.find_components(sums, n_top_genes=500, n_comps=2)
    table = _sums.tabulate_associations(sums, scores, kinds, permutations=9, random_state=1)
    assert table.groupby("covariate")["samples"].first()[["age", "sex"]].tolist() == [15, 16]
    assert (_sums.tabulate_variance(sums, kinds)["samples"] == 15).all()


def test_the_order_of_samples_does_not_change_what_is_said(seen):
    sums = seen.prepared[1]
    order = np.random.default_rng(3).permutation(len(sums.obs))
    mixed = sums._replace(
        counts=sums.counts[order], values=sums.values[order], obs=sums.obs.iloc[order].reset_index(drop=True)
    )
    one, _ = _sums.find_components(sums, n_top_genes=500, n_comps=2)
    two, _ = _sums.find_components(mixed, n_top_genes=500, n_comps=2)
    assert two == pytest.approx(one[order], abs=1e-8)
    kinds = _sums.list_covariates(sums.obs, COVARIATES)
    assert _sums.correlate_samples(mixed, kinds, 500) == pytest.approx(
        _sums.correlate_samples(sums, kinds, 500)[np.ix_(order, order)], abs=1e-8
    )
