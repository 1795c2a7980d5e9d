"""Nested cross-validation: folds, closed-form solutions, planted signal, and leaks that must be seen."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, csr_matrix
from threadpoolctl import threadpool_limits

from files._sums import read_types
from job import InputError
from prediction import ridge as step
from prediction._folds import Split, make_splits, permute, read_tested_types, training_sets
from prediction.ridge import choose_genes, coefficients, log_expression

SETTINGS = {
    "target": "age",
    "levels": None,
    "alpha": 30.0,
    "n_top_genes": 40,
    "min_share": 0.5,
    "folds": 5,
    "repeats": 2,
    "inner_folds": 3,
    "permutations": 3,
    "random_state": 11,
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """As in a job: many small products cost more threads than they are worth."""
    with threadpool_limits(limits=1):
        yield


def cohort(seed, samples=60, genes=400, signal=0.0, per_donor=1, donor_sd=0.0):
    """Poisson counts of donors with an age: `signal` shifts 40 genes by age, `donor_sd` all by donor."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(samples // per_donor), per_donor)
    age = rng.uniform(20, 90, donor[-1] + 1)
    log_rate = rng.normal(2, 1, genes) + donor_sd * rng.normal(size=(len(age), genes))
    log_rate[:, :40] += signal * ((age - 55) / 20)[:, None] * rng.choice([-1, 1], 40)
    depth = rng.lognormal(0, 0.4, samples)
    counts = csr_array(rng.poisson(np.exp(log_rate[donor]) * depth[:, None]))
    obs = pd.DataFrame(
        {
            "cell_type": "b_cell",
            "sample": [f"s{number:03d}" for number in range(samples)],
            "donor": [f"d{number:03d}" for number in donor],
            "sex": np.where(donor % 2, "M", "F"),
            "age": age[donor],
            "used": True,
        }
    )
    names = [f"E{number:04d}" for number in range(genes)]
    return counts, obs, pd.DataFrame({"gene_id": names, "symbol": [name.replace("E", "G") for name in names]})


def r2(predictions):
    """R2 of the first repeat."""
    one = predictions[predictions["repeat"] == 0]
    return 1 - ((one.observed - one.predicted) ** 2).sum() / ((one.observed - one.observed.mean()) ** 2).sum()


# ---- reading


def write_sums(path, labels=object, order=slice(None)):
    """A file of sums by anndata, as its obs and matrix; labels: how pandas holds text."""
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(["a", "a", "b", "b", "b"]),
            "sample": pd.Series(["NA", "0012", "NA", "s3", "s4"], dtype=labels),
            "sex": pd.Categorical(["M", None, "F", "F", "M"]),
            "age": [20.0, 30.0, np.nan, 50.0, 60.0],
            "cells": [10, 20, 30, 40, 50],
            "used": [True, True, True, False, True],
        },
    ).set_axis(pd.Index([f"row{number}" for number in range(5)], dtype=labels))
    symbols = pd.Series(["A", "B", ""], index=pd.Index(["g1", "g2", "g3"], dtype=labels), dtype=labels)
    x = csr_matrix(np.array([[1, 0, 2], [0, 0, 0], [0, 5, 0], [7, 0, 0], [0, 8, 9]], dtype=np.int64))
    sums = ad.AnnData(x[order], obs=obs.iloc[order], var=symbols.to_frame("symbol"))
    sums.write_h5ad(path, convert_strings_to_categoricals=False)
    return obs, x.toarray()


# anndata asks pandas for an option that pandas 4 drops, when text is no object
PANDAS = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:pandas.errors.Pandas4Warning")


@PANDAS
@pytest.mark.parametrize("labels", [object, "str"])
def test_rows_are_read_as_anndata_reads_them(tmp_path, labels):
    expected, x = write_sums(tmp_path / "sums.h5ad", labels)
    [(counts, obs, genes)] = read_types(str(tmp_path / "sums.h5ad"), ["b"])
    assert np.array_equal(counts.toarray(), x[2:])
    assert list(obs) == list(expected)
    for name in ("cell_type", "sample", "sex", "cells", "used"):
        assert obs[name].tolist() == expected[name].iloc[2:].tolist(), name
    np.testing.assert_array_equal(obs["age"], expected["age"].iloc[2:])
    assert genes["gene_id"].tolist() == ["g1", "g2", "g3"]
    assert genes["symbol"].tolist() == ["A", "B", ""]
    [(counts, obs, _)] = read_types(str(tmp_path / "sums.h5ad"), ["a"])
    assert counts.toarray().tolist() == [[1, 0, 2], [0, 0, 0]]
    assert obs["sample"].tolist() == ["NA", "0012"]
    assert obs["sex"].tolist() == ["M", ""]


@PANDAS
def test_types_are_read_in_the_order_asked(tmp_path):
    _, x = write_sums(tmp_path / "sums.h5ad")
    found = [counts.toarray() for counts, _, _ in read_types(str(tmp_path / "sums.h5ad"), ["b", "a"])]
    assert np.array_equal(found[0], x[2:])
    assert np.array_equal(found[1], x[:2])


def test_a_type_without_rows_is_empty(tmp_path):
    write_sums(tmp_path / "sums.h5ad")
    [(counts, obs, genes)] = read_types(str(tmp_path / "sums.h5ad"), ["c"])
    assert counts.shape == (0, 3)
    assert obs.empty
    assert len(genes) == 3


def test_scattered_rows_are_refused(tmp_path):
    write_sums(tmp_path / "scattered.h5ad", order=[0, 2, 1, 3, 4])
    with pytest.raises(ValueError, match="rows of a are not contiguous"):
        list(read_types(str(tmp_path / "scattered.h5ad"), ["a"]))


# ---- expression and genes


def test_expression_by_hand():
    logged = log_expression(csr_array(np.array([[1, 0, 3], [0, 50, 50]]))).toarray()
    np.testing.assert_allclose(logged, np.log([[2501, 1, 7501], [1, 5001, 5001]]))


def test_expression_does_not_change_with_depth():
    counts = cohort(0)[0]
    np.testing.assert_allclose(log_expression(counts * 7).toarray(), log_expression(counts).toarray())


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.floats(0, 1))
def test_genes_are_chosen_as_by_a_plain_loop(seed, n_top_genes, min_share):
    rng = np.random.default_rng(seed)
    expression = rng.poisson(0.8, (20, 25)) * rng.uniform(0.5, 2, (20, 25))
    training = [np.sort(rng.choice(20, size, replace=False)) for size in (5, 12, 20)]
    found = choose_genes(expression, training, n_top_genes=n_top_genes, min_share=min_share)
    for rows, chosen in zip(training, found, strict=True):
        table = expression[rows]
        share = (table > 0).sum(axis=0) / len(rows)
        variance = np.where(share >= min_share, table.var(axis=0), -1)
        expected = np.sort(np.argsort(-variance.round(12), kind="stable")[:n_top_genes])
        assert chosen.tolist() == [gene for gene in expected if share[gene] >= min_share]


def test_genes_do_not_depend_on_rows_outside_the_training_set():
    rng = np.random.default_rng(1)
    expression = rng.uniform(0, 5, (30, 100))
    changed = expression.copy()
    changed[20:] = rng.uniform(0, 500, (10, 100))
    first = [np.arange(20)]
    one, other = (choose_genes(x, first, n_top_genes=10, min_share=0.5)[0] for x in (expression, changed))
    assert one.tolist() == other.tolist()


# ---- folds


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(10, 15),
    st.integers(2, 5),
    st.integers(2, 4),
)
def test_folds_hold_whole_donors_and_every_sample_once(seed, number, folds, inner_folds):
    donors = np.random.default_rng(seed).permutation([f"d{n % number}" for n in range(2 * number + seed % 9)])
    splits = make_splits(donors, folds=folds, repeats=2, inner_folds=inner_folds, random_state=seed)
    assert [(split.repeat, split.fold) for split in splits] == [
        (r, f) for r in range(2) for f in range(folds)
    ]
    everyone = np.arange(len(donors))
    for repeat in range(2):
        tested = np.concatenate([split.test for split in splits if split.repeat == repeat])
        assert np.array_equal(np.sort(tested), everyone)
    for split in splits:
        assert np.array_equal(np.sort(np.concatenate([split.train, split.test])), everyone)
        assert not set(donors[split.train]) & set(donors[split.test])
        assert np.array_equal(np.sort(np.concatenate([test for _, test in split.inner])), split.train)
        for train, test in split.inner:
            assert set(train) | set(test) == set(split.train)
            assert not set(donors[train]) & set(donors[test])
    sizes = [len(set(donors[split.test])) for split in splits]
    assert max(sizes) - min(sizes) <= 1


def test_folds_are_the_same_for_every_alpha_and_differ_by_repeat_and_seed():
    data = cohort(0)
    keys = ["repeat", "fold", "sample", "observed"]
    one = step.ridge(*data, **SETTINGS)[0]
    other = step.ridge(*data, **SETTINGS | {"alpha": 1e5})[0]
    pd.testing.assert_frame_equal(one[keys], other[keys])
    assert not one["predicted"].equals(other["predicted"])
    folds = one.sort_values("sample").groupby("repeat")["fold"].apply(list)
    assert folds[0] != folds[1]
    seeded = step.ridge(*data, **SETTINGS | {"random_state": 12})[0].sort_values("sample")
    assert seeded.groupby("repeat")["fold"].apply(list)[0] != folds[0]
    more = step.ridge(*data, **SETTINGS | {"repeats": 3})[0]
    pd.testing.assert_frame_equal(more[more["repeat"] < 2], one)


# ---- the model, against the closed form


def closed_form(train, target, test, alpha):
    """Ridge by its normal equations on standardised columns, the intercept not penalised."""
    mean, sd = train.mean(axis=0), train.std(axis=0)
    z = (train - mean) / sd
    beta = np.linalg.solve(z.T @ z + alpha * np.eye(z.shape[1]), z.T @ (target - target.mean()))
    return target.mean() + (test - mean) / sd @ beta, beta


@pytest.mark.parametrize("n_top_genes", [20, 150])  # fewer and more genes than training samples
def test_predictions_and_inner_errors_are_the_closed_form(n_top_genes):
    counts, obs, genes = cohort(4, signal=0.3)
    changes = {"n_top_genes": n_top_genes, "repeats": 1}
    predictions, inner, *_ = step.ridge(counts, obs, genes, **SETTINGS | changes)
    raw = counts.toarray()
    expression = np.log1p(raw / raw.sum(axis=1, keepdims=True) * 1e4)
    age = obs["age"].to_numpy()

    def choose(rows):
        eligible = np.flatnonzero((raw[rows] > 0).mean(axis=0) >= 0.5)
        return eligible[np.argsort(-expression[np.ix_(rows, eligible)].var(axis=0))[:n_top_genes]]

    splits = make_splits(obs["donor"].to_numpy(), folds=5, repeats=1, inner_folds=3, random_state=11)
    for split in splits:
        chosen = expression[:, choose(split.train)]
        expected, _ = closed_form(chosen[split.train], age[split.train], chosen[split.test], 30.0)
        found = predictions[predictions["fold"] == split.fold]
        assert found["sample"].tolist() == obs["sample"].iloc[split.test].tolist()
        np.testing.assert_allclose(found["observed"], age[split.test])
        np.testing.assert_allclose(found["predicted"], expected, rtol=1e-9)
        errors = []
        for train, test in split.inner:
            chosen = expression[:, choose(train)]
            errors.extend(closed_form(chosen[train], age[train], chosen[test], 30.0)[0] - age[test])
        assert inner.loc[split.fold, "inner_mse"] == pytest.approx(np.mean(np.square(errors)), rel=1e-9)


def test_the_coefficients_are_the_model_on_all_samples():
    counts, obs, genes = cohort(4, signal=0.3)
    _, _, status, table, _ = step.ridge(counts, obs, genes, **SETTINGS)
    assert status.loc[0, "genes"] == 40 == len(table) - 1
    assert table.loc[0, ["gene_id", "symbol"]].tolist() == ["(intercept)", ""]
    assert table.loc[1:, "coefficient"].abs().is_monotonic_decreasing
    expression = pd.DataFrame(log_expression(counts).toarray(), columns=genes["gene_id"])
    chosen = expression[table.loc[1:, "gene_id"]]
    assert expression.var().nlargest(40).index.isin(chosen.columns).all()
    z = (chosen.to_numpy() - table.loc[1:, "mean"].to_numpy()) / table.loc[1:, "sd"].to_numpy()
    applied = table.loc[0, "coefficient"] + z @ table.loc[1:, "coefficient"].to_numpy()
    expected, beta = closed_form(chosen.to_numpy(), obs["age"].to_numpy(), chosen.to_numpy(), 30.0)
    np.testing.assert_allclose(applied, expected, rtol=1e-9)
    np.testing.assert_allclose(table.loc[1:, "coefficient"], beta, rtol=1e-7)
    assert table.loc[0, "coefficient"] == pytest.approx(obs["age"].mean())
    symbols = dict(zip(genes["gene_id"], genes["symbol"], strict=True))
    assert table.loc[1:, "symbol"].tolist() == [symbols[gene] for gene in table.loc[1:, "gene_id"]]


# ---- signal and leaks


def test_planted_signal_is_recovered():
    predictions, _, status, table, _ = step.ridge(*cohort(1, signal=0.4), **SETTINGS)
    assert status.loc[0, "status"] == "predicted"
    assert r2(predictions) > 0.5
    planted = [f"E{number:04d}" for number in range(40)]
    assert table.loc[1:5, "gene_id"].isin(planted).all()


NOISE = SETTINGS | {"repeats": 1, "inner_folds": 2}
# donors with two samples each; more genes than samples, so that a model could know a donor again
PAIRED = {"samples": 100, "per_donor": 2, "donor_sd": 0.5}
PAIRED_NOISE = NOISE | {"n_top_genes": 300, "alpha": 10.0}


def noise_r2(settings, **changes):
    """R2 of out-of-fold predictions where nothing can be predicted, mean over four cohorts."""
    return np.mean([r2(step.ridge(*cohort(seed, **changes), **settings)[0]) for seed in range(4)])


def test_noise_predicts_nothing():
    assert noise_r2(NOISE) < 0


def test_the_noise_test_sees_genes_chosen_on_all_samples(monkeypatch):
    def leak(expression, training, *, n_top_genes, min_share):
        z = (expression - expression.mean(axis=0)) / expression.std(axis=0)
        strength = np.abs(z.T @ (age - age.mean()))
        return [np.sort(np.argsort(-strength)[:n_top_genes])] * len(training)

    monkeypatch.setattr(step, "choose_genes", leak)
    found = []
    for seed in range(4):
        data = cohort(seed)
        age = data[1]["age"].to_numpy()
        found.append(r2(step.ridge(*data, **NOISE)[0]))
    assert np.mean(found) > 0.2


def test_donors_with_two_samples_predict_nothing_of_themselves():
    assert noise_r2(PAIRED_NOISE, **PAIRED) < 0


def test_the_donor_test_sees_donors_on_both_sides(monkeypatch):
    def leak(donors, **settings):
        return make_splits(np.arange(len(donors)), **settings)

    monkeypatch.setattr(step, "make_splits", leak)
    assert noise_r2(PAIRED_NOISE, **PAIRED) > 0.2


def test_rows_outside_a_training_set_change_nothing_in_it():
    assert not rows_leak(step)


def rows_leak(module):
    """Whether the inner error of the first outer fold depends on that fold's own samples."""
    counts, obs, genes = cohort(3)
    errors = []
    for factor in (1, 0):
        split = make_splits(obs["donor"].to_numpy(), folds=5, repeats=1, inner_folds=3, random_state=11)[0]
        dense = counts.toarray()
        noise = np.random.default_rng(0).poisson(50, (len(split.test), 200)) if factor == 0 else 0
        dense[np.ix_(split.test, np.arange(200, 400))] += noise
        _, inner, *_ = module.ridge(csr_array(dense), obs, genes, **SETTINGS | {"repeats": 1})
        errors.append(inner.loc[0, "inner_mse"])
    return errors[0] != errors[1]


def test_the_leak_test_sees_variable_genes_chosen_on_all_samples(monkeypatch):
    def leak(expression, training, **settings):
        everyone = choose_genes(expression, [np.arange(len(expression))], **settings)
        return everyone * len(training)

    monkeypatch.setattr(step, "choose_genes", leak)
    assert rows_leak(step)


# ---- the null


@pytest.mark.parametrize("per_donor", [1, 2])
def test_permutations_give_whole_donors_the_target_of_another(per_donor):
    _, obs, _ = cohort(0, samples=24, per_donor=per_donor)
    values, donors = obs["age"].to_numpy(), obs["donor"].to_numpy(object)
    shuffled = permute(values, donors, permutations=50, random_state=1)
    assert shuffled.shape == (24, 50)
    for column in shuffled.T:
        assert np.array_equal(np.sort(column), np.sort(values))
        assert (pd.Series(column).groupby(donors).agg(np.ptp) == 0).all()
    assert np.abs(np.corrcoef(values, shuffled.T)[0, 1:]).mean() < 0.4
    assert np.array_equal(shuffled, permute(values, donors, permutations=50, random_state=1))


def test_a_target_that_varies_within_donors_moves_in_blocks_of_the_same_size():
    donors = np.array(["a", "a", "b", "c", "c", "d", "e", "e"])
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    shuffled = permute(values, donors, permutations=60, random_state=0)
    pairs = {tuple(column[[0, 1]]) for column in shuffled.T}
    assert pairs == {(1, 2), (4, 5), (7, 8)}
    assert {column[2] for column in shuffled.T} == {3, 6}


def test_the_null_is_that_of_a_permuted_target():
    counts, obs, genes = cohort(4, signal=0.3)
    donors = obs["donor"].to_numpy(object)
    shuffled = permute(obs["age"].to_numpy(), donors, permutations=3, random_state=11)
    *_, null = step.ridge(counts, obs, genes, **SETTINGS)
    assert len(null) == 3 * 2 * 5
    for number in (1, 3):
        changed = obs.assign(age=shuffled[:, number - 1])
        predictions, inner, *_ = step.ridge(counts, changed, genes, **SETTINGS)
        found = null[null["permutation"] == number].reset_index(drop=True)
        np.testing.assert_allclose(found["inner_mse"], inner["inner_mse"])
        squares = (predictions["observed"] - predictions["predicted"]) ** 2
        expected = squares.groupby([predictions["repeat"], predictions["fold"]]).sum()
        np.testing.assert_allclose(found["sse"], expected)
        assert found.loc[found["repeat"] == 0, "sst"].sum() == pytest.approx(obs["age"].var() * 59)


def test_more_permutations_change_no_prediction():
    data = cohort(2)
    one, more = (step.ridge(*data, **SETTINGS | {"permutations": number}) for number in (1, 20))
    np.testing.assert_allclose(one[0]["predicted"], more[0]["predicted"], rtol=1e-10)
    pd.testing.assert_frame_equal(one[3], more[3])


def test_inner_errors_choose_the_better_alpha():
    data = cohort(1, signal=0.4)
    errors = [
        step.ridge(*data, **SETTINGS | {"alpha": alpha})[1]["inner_mse"].mean() for alpha in (30.0, 1e6)
    ]
    assert errors[0] < errors[1] / 2


def test_results_are_the_same_twice():
    for one, other in zip(*(step.ridge(*cohort(2), **SETTINGS) for _ in range(2)), strict=True):
        pd.testing.assert_frame_equal(one, other)


# ---- what is left out, and why nothing is predicted


def test_samples_without_target_or_use_are_left_out_and_counted():
    counts, obs, genes = cohort(1, signal=0.4)
    obs.loc[[3, 4], "used"] = False
    obs.loc[[4, 10, 20, 30], "age"] = np.nan
    predictions, _, status, *_ = step.ridge(counts, obs, genes, **SETTINGS)
    kept = obs.drop(index=[3, 4, 10, 20, 30])
    assert status.loc[0, ["samples", "samples_not_used", "samples_without_target"]].tolist() == [55, 2, 3]
    assert sorted(predictions.loc[predictions["repeat"] == 1, "sample"]) == kept["sample"].tolist()
    rows = kept.index.to_numpy()
    expected = step.ridge(counts[rows], kept.reset_index(drop=True), genes, **SETTINGS)
    pd.testing.assert_frame_equal(predictions, expected[0])


def test_no_tested_type_is_refused_and_untested_ones_are_left_out(tmp_path):
    path = tmp_path / "cell_types.tsv"
    path.write_text("id\tlabel\ttested\na\tNA\tTrue\nb\tB\tFalse\n")
    assert read_tested_types(path) == ["a"]
    path.write_text("id\tlabel\ttested\nb\tB\tFalse\n")
    with pytest.raises(InputError, match=r"no cell type is tested, .* set ridge.target to null"):
        read_tested_types(path)


def constant(counts, obs, genes):
    return counts, obs.assign(age=40.0), genes


def none(counts, obs, genes):
    return counts[:0], obs[:0], genes


def few(counts, obs, genes):
    return counts[:18], obs[:18].assign(donor=np.repeat([f"d{n}" for n in range(9)], 2)), genes


def sparse(counts, obs, genes):
    return csr_array(np.eye(counts.shape[0], len(genes), dtype=np.int64)), obs, genes


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        (none, "too_few_samples", "0 donors are too few"),
        (few, "too_few_samples", "9 donors are too few for 5 folds with 3 inner folds"),
        (constant, "constant_target", "all samples have the value 40"),
        (sparse, "no_eligible_genes", "no gene is counted in 0.5 of the samples"),
    ],
)
def test_nothing_predicted_has_a_reason_and_valid_tables(change, status, reason, tmp_path):
    tables = step.ridge(*change(*cohort(0)), **SETTINGS)
    full = step.ridge(*cohort(0), **SETTINGS)
    found = tables[2]
    assert found.loc[0, "status"] == status
    assert reason in found.loc[0, "reason"]
    assert list(found) == list(full[2])
    for number in (0, 1, 3, 4):
        assert tables[number].empty
        dtypes = []
        for table in (tables[number], full[number]):
            table.to_parquet(tmp_path / "table.parquet", index=False)
            dtypes.append(pd.read_parquet(tmp_path / "table.parquet").dtypes)
        pd.testing.assert_series_equal(*dtypes)


def test_inner_folds_need_donors_too():
    counts, obs, genes = cohort(0)
    changes = {"folds": 2, "inner_folds": 4}
    status = step.ridge(counts[:6], obs[:6], genes, **SETTINGS | changes)[2]
    assert status.loc[0, "status"] == "too_few_samples"
    status = step.ridge(counts[:8], obs[:8], genes, **SETTINGS | changes)[2]
    assert status.loc[0, "status"] == "predicted"


def test_training_sets_are_in_the_order_that_cross_validation_reads():
    rows = [np.array([number]) for number in range(6)]
    splits = [
        Split(0, 0, rows[0], rows[5], [(rows[1], rows[2])]),
        Split(0, 1, rows[3], rows[5], [(rows[4], rows[2])]),
    ]
    assert [each.tolist() for each in training_sets(splits)] == [[0], [1], [3], [4]]


def test_a_constant_gene_does_no_harm():
    expression = np.column_stack([np.ones(10), np.arange(10.0)])
    model = step.fit(expression, np.arange(10.0), 1.0)
    table = coefficients(model, pd.DataFrame({"gene_id": ["a", "b"], "symbol": ["A", "B"]}))
    assert table["gene_id"].tolist() == ["(intercept)", "b", "a"]
    assert table.loc[2, ["coefficient", "sd"]].tolist() == [0, 1]


def test_real_sums_tell_age(shared_data):
    """Naive CD4 T cells of 100 donors of OneK1K: their expression tells age, well beyond noise."""
    sums = ad.read_h5ad(shared_data / "onek1k_naive_cd4_sums_100donors.h5ad")
    obs = pd.DataFrame(
        {
            "sample": sums.obs_names,
            "donor": sums.obs_names,
            "age": sums.obs["age"].to_numpy(float),
            "used": True,
        }
    )
    genes = pd.DataFrame({"gene_id": sums.var_names, "symbol": sums.var["feature_name"].to_numpy()})
    changes = {"n_top_genes": 500, "alpha": 1000.0, "repeats": 1}
    predictions, _, status, table, _ = step.ridge(csr_array(sums.X), obs, genes, **SETTINGS | changes)
    assert status.loc[0, "samples"] == 100
    assert r2(predictions) > 0.25
    error = (predictions["observed"] - predictions["predicted"]).abs().mean()
    assert error < 0.9 * (obs["age"] - obs["age"].mean()).abs().mean()
    assert table.set_index("symbol").loc["LRRN3", "coefficient"] < 0
