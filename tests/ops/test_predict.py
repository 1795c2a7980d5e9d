"""A trained model applied to another cohort: the same numbers on the same sums, and what is missing."""

import json
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array, csr_matrix

import predict
from prediction import ridge as step
from prediction._final_models import describe_models
from prediction.profiles import measure_profile
from prediction.ridge_summary import stack_alphas

ROOT = Path(__file__).parent.parent.parent
# anndata asks pandas for an option that pandas 4 drops, when text is no object
pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'future.infer_string' option:pandas.errors.Pandas4Warning"
)
SETTINGS = {"target": "age", "alpha": 10.0, "n_top_genes": 60, "min_share": 0.5, "folds": 4, "repeats": 1}
SETTINGS |= {"levels": None, "inner_folds": 2, "permutations": 1, "random_state": 0}
TYPES = {"b_cell": "B cell", "nk-1": "NK, bright/dim"}


def sums(seed=0, samples=24, genes=200):
    """Counts (2 x samples, genes) and obs of the sums of two cell types."""
    rng = np.random.default_rng(seed)
    names = [f"s{number:02d}" for number in range(samples)]
    age = rng.uniform(20, 90, samples)
    rate = rng.lognormal(1.5, 1, genes) * np.exp(0.01 * (age[:, None] - 55) * rng.choice([-1, 0, 1], genes))
    other = rate * rng.lognormal(0, 0.7, genes)  # another cell type
    obs = pd.concat(
        [
            pd.DataFrame(
                {"cell_type": key, "label": label, "sample": names, "donor": names, "age": age, "cells": 20}
            )
            for key, label in TYPES.items()
        ],
        ignore_index=True,
    ).assign(used=True)
    return rng.poisson(np.vstack([rate, other * 2])), obs, [f"ENSG{number:03d}" for number in range(genes)]


def write_sums(path, counts, obs, gene_ids):
    """As pseudobulk writes them."""
    obs = obs.astype(dict.fromkeys(["cell_type", "label", "sample", "donor"], "category"))
    obs.index = pd.Index(
        (obs["cell_type"].astype(str) + "::" + obs["sample"].astype(str)).to_numpy(), dtype=object
    )
    index = pd.Index(gene_ids, dtype=object)
    var = pd.DataFrame({"symbol": pd.Series(gene_ids, index=index, dtype=object)})
    ad.AnnData(csr_matrix(counts.astype(np.int64)), obs=obs, var=var).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with models, the sums that they were trained on, and scikit-learn's own fitted values."""
    folder = tmp_path_factory.mktemp("trained")
    counts, obs, gene_ids = sums()
    genes = pd.DataFrame({"gene_id": gene_ids, "symbol": gene_ids})
    tables, facts, fitted, profiles = [], [], [], []
    for key, label in TYPES.items():
        rows = np.flatnonzero(obs["cell_type"] == key)
        own = csr_array(counts[rows])
        result = step.ridge(own, obs.iloc[rows].reset_index(drop=True), genes, **SETTINGS)
        choice = {"target": "age", "levels": None, "min_share": SETTINGS["min_share"]}
        profile = measure_profile(own, obs.iloc[rows].reset_index(drop=True), genes, **choice)
        profiles.append([table.assign(cell_type=key) for table in profile])
        tables.append(result[3].assign(cell_type=key))
        facts.append(result[2].assign(cell_type=key, label=label))
        chosen = [gene_ids.index(gene) for gene in result[3]["gene_id"][1:]]
        expression = step.log_expression(own).toarray()[:, sorted(chosen)]
        model = step.fit(expression, obs["age"].to_numpy()[rows], SETTINGS["alpha"])
        fitted.append(model.predict(expression))
    status = pd.concat(facts, ignore_index=True)
    scores = {"r2": 0.5, "mae": 5.0, "gain_mae": 1.0, "auroc": np.nan, "gain_auroc": np.nan}
    summary = status.assign(**scores, best_baseline="mean", supported=True)
    profiles, correlations = (pd.concat(tables, ignore_index=True) for tables in zip(*profiles, strict=True))
    coefficients = stack_alphas([pd.concat(tables, ignore_index=True)], [SETTINGS["alpha"]])
    table, description = describe_models(coefficients, status, summary, profiles, correlations)
    profiles.to_parquet(folder / "profiles.parquet", index=False)
    table.to_csv(folder / "coefficients.tsv", sep="\t", index=False)
    (folder / "models.json").write_text(json.dumps(description))
    write_sums(folder / "sums.h5ad", counts, obs, gene_ids)
    return folder, np.concatenate(fitted)


def run(model, path, out, *arguments, monkeypatch):
    """The program's table, run as from the command line."""
    options = ["--model", str(model), "--sums", str(path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["predict.py", *options, *arguments])
    predict.main()
    return pd.read_csv(out, sep="\t")


def test_the_training_sums_give_the_fitted_values_of_the_model(trained, tmp_path, monkeypatch):
    folder, fitted = trained
    table = run(folder, folder / "sums.h5ad", tmp_path / "out.tsv", monkeypatch=monkeypatch)
    assert table["label"].tolist() == [label for label in TYPES.values() for _ in range(24)]
    np.testing.assert_allclose(table["predicted"], fitted, rtol=1e-12)
    assert (table["share_weight"] == 1).all()
    assert np.corrcoef(table["predicted"], np.tile(sums()[1]["age"][:24], 2))[0, 1] > 0.8


def test_order_and_further_genes_change_nothing_but_depth(trained, tmp_path, monkeypatch):
    folder, fitted = trained
    counts, obs, gene_ids = sums()
    order = np.random.default_rng(1).permutation(len(gene_ids))
    silent = np.zeros((len(counts), 5), dtype=int)
    changed = np.hstack([counts[:, order], silent])
    names = [*(gene_ids[gene] for gene in order), *(f"X{number}" for number in range(5))]
    path = write_sums(tmp_path / "sums.h5ad", changed, obs, names)
    table = run(folder, path, tmp_path / "out.tsv", monkeypatch=monkeypatch)
    np.testing.assert_allclose(table["predicted"], fitted, rtol=1e-12)


def test_a_missing_gene_enters_at_its_training_mean(trained, tmp_path, monkeypatch):
    folder, fitted = trained
    counts, obs, gene_ids = sums()
    coefficients = pd.read_csv(folder / "coefficients.tsv", sep="\t")
    own = coefficients[coefficients["cell_type"] == "b_cell"]
    lost = own.iloc[0]  # the largest coefficient
    column = gene_ids.index(lost["gene_id"])
    kept = [gene for gene in range(len(gene_ids)) if gene != column]
    totals = counts.sum(axis=1)
    # one more gene holds its counts, so that totals stay
    moved = np.hstack([counts[:, kept], counts[:, [column]]])
    path = write_sums(tmp_path / "sums.h5ad", moved, obs, [*(gene_ids[gene] for gene in kept), "other"])
    options = ["--cell-type", "B cell", "--min-weight", "0.5"]
    table = run(folder, path, tmp_path / "out.tsv", *options, monkeypatch=monkeypatch)
    assert set(table["label"]) == {"B cell"}
    x = np.log1p(1e4 * counts[:24, column] / totals[:24])
    without = lost["coefficient"] * (x - lost["mean"]) / lost["sd"]
    np.testing.assert_allclose(table["predicted"], fitted[:24] - without, rtol=1e-9)
    assert (table["genes_present"] == 59).all()
    share = 1 - abs(lost["coefficient"]) / own["coefficient"].abs().sum()
    np.testing.assert_allclose(table["share_weight"], share)
    np.testing.assert_allclose(table["share_genes"], 59 / 60)


def test_a_cohort_that_lacks_too_much_of_a_model_is_refused_in_one_line(trained, tmp_path, monkeypatch):
    folder, _ = trained
    counts, obs, gene_ids = sums()
    path = write_sums(tmp_path / "sums.h5ad", counts[:, :100], obs, gene_ids[:100])
    with pytest.raises(SystemExit) as refused:
        run(folder, path, tmp_path / "out.tsv", monkeypatch=monkeypatch)
    message = str(refused.value)
    assert message.startswith("error: B cell: ")
    assert "of 60 genes of its model are there" in message
    assert message.endswith("--min-weight asks for 80%")
    assert "\n" not in message
    assert not (tmp_path / "out.tsv").exists()


def test_a_gene_that_is_there_twice_is_refused(trained, tmp_path, monkeypatch):
    folder, _ = trained
    counts, obs, gene_ids = sums()
    with pytest.warns(UserWarning, match="not unique"):
        path = write_sums(tmp_path / "sums.h5ad", counts, obs, [gene_ids[1], *gene_ids[1:]])
    with pytest.raises(SystemExit, match="gene ENSG001 is in the sums twice"):
        run(folder, path, tmp_path / "out.tsv", monkeypatch=monkeypatch)


def test_types_without_a_model_are_named_and_none_at_all_is_refused(trained, tmp_path, monkeypatch, capsys):
    folder, _ = trained
    counts, obs, gene_ids = sums()
    renamed = obs.replace({"label": {"NK, bright/dim": "T cell"}})
    path = write_sums(tmp_path / "sums.h5ad", counts, renamed, gene_ids)
    table = run(folder, path, tmp_path / "out.tsv", monkeypatch=monkeypatch)
    assert set(table["label"]) == {"B cell"}
    assert "predict: T cell: no model" in capsys.readouterr().err
    arguments = ["--cell-type", "NK, bright/dim"]
    with pytest.raises(SystemExit, match="there is no sum of 'NK, bright/dim'; --cell-type is one of B cell"):
        run(folder, path, tmp_path / "out.tsv", *arguments, monkeypatch=monkeypatch)
    path = write_sums(tmp_path / "none.h5ad", counts[:24], obs[:24].assign(label="T cell"), gene_ids)
    with pytest.raises(SystemExit, match="none of the cell types of the models"):
        run(folder, path, tmp_path / "out.tsv", monkeypatch=monkeypatch)


def test_a_sample_without_counts_has_no_prediction_and_extrapolation_is_said(trained, tmp_path, monkeypatch):
    folder, fitted = trained
    counts, obs, gene_ids = sums()
    counts[3] = 0
    path = write_sums(tmp_path / "sums.h5ad", counts, obs, gene_ids)
    table = run(folder, path, tmp_path / "out.tsv", monkeypatch=monkeypatch)
    assert np.flatnonzero(table["predicted"].isna()).tolist() == [3]
    age = obs["age"]
    beyond = (fitted < age.min()) | (fitted > age.max())
    assert table["extrapolated"].drop(3).tolist() == np.delete(beyond, 3).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("coefficients.tsv", "coefficients.tsv does not exist"),
        ("profiles.parquet", "profiles.parquet does not exist"),
        ("format", "has format 1, this program reads 2; run the cohort of the model again"),
    ],
)
def test_a_model_that_cannot_be_read_is_refused(trained, tmp_path, monkeypatch, change, message):
    folder, _ = trained
    for name in ("models.json", "coefficients.tsv"):
        if name != change:
            text = (folder / name).read_text()
            (tmp_path / name).write_text(text.replace('"format": 2', f'"format": {1 + (change != "format")}'))
    if change != "profiles.parquet":
        (tmp_path / "profiles.parquet").write_bytes((folder / "profiles.parquet").read_bytes())
    with pytest.raises(SystemExit, match=message):
        run(tmp_path, folder / "sums.h5ad", tmp_path / "out.tsv", monkeypatch=monkeypatch)


# ---- another cell type, another range


def test_training_samples_are_like_their_model(trained, tmp_path, monkeypatch, capsys):
    folder, _ = trained
    table = run(folder, folder / "sums.h5ad", tmp_path / "out.tsv", monkeypatch=monkeypatch)
    assert (table["profile_correlation"] > table["profile_lowest"]).all()  # the mean has the sample itself
    assert (table["nearest_model"] == table["label"]).all()
    assert (table["model"] == table["label"]).all()
    codes = table["warnings"].astype(object).fillna("")
    assert codes.tolist() == np.where(table["extrapolated"], "extrapolated", "").tolist()
    said = capsys.readouterr().err
    assert ("warning: extrapolated: " in said) == table["extrapolated"].any()
    assert "profile_mismatch" not in said


def test_the_correlation_is_that_of_numpy_and_needs_half_of_the_profile(trained, tmp_path, monkeypatch):
    folder, _ = trained
    counts, _, gene_ids = sums()
    profile = pd.read_parquet(folder / "profiles.parquet").query("cell_type == 'b_cell'")
    order = [gene_ids.index(gene) for gene in profile["gene_id"]]
    x = np.log1p(1e4 * counts[:24] / counts[:24].sum(axis=1, keepdims=True))[:, order]
    found = predict.correlate(csr_array(counts[:24]), pd.Series(gene_ids), profile, 1e4)
    np.testing.assert_allclose(found, [np.corrcoef(row, profile["mean"])[0, 1] for row in x])
    few = csr_array(counts[:24, :80])
    assert np.isnan(predict.correlate(few, pd.Series(gene_ids[:80]), profile, 1e4)).all()


def swapped():
    """The sums with the labels of the two cell types exchanged."""
    counts, obs, gene_ids = sums()
    label = obs["label"].map(dict(zip(TYPES.values(), reversed(TYPES.values()), strict=True)))
    return counts, obs.assign(label=label), gene_ids


def test_sums_that_look_like_another_cell_type_are_refused_unless_asked(
    trained, tmp_path, monkeypatch, capsys
):
    folder, _ = trained
    path = write_sums(tmp_path / "sums.h5ad", *swapped())
    with pytest.raises(SystemExit) as refused:
        run(folder, path, tmp_path / "out.tsv", monkeypatch=monkeypatch)
    message = str(refused.value)
    assert message.startswith(
        "error: NK, bright/dim: 24 of 24 samples are nearer to the model of 'B cell' than"
    )
    assert message.endswith("with --cell-type 'NK, bright/dim' --with-model 'NK, bright/dim'")
    assert "\n" not in message
    assert not (tmp_path / "out.tsv").exists()
    capsys.readouterr()
    asked = ["--cell-type", "NK, bright/dim", "--with-model", "NK, bright/dim"]
    table = run(folder, path, tmp_path / "out.tsv", *asked, monkeypatch=monkeypatch)
    assert table["warnings"].str.contains("profile_mismatch,nearer_to_another_model").all()
    said = capsys.readouterr().err
    assert "profile_mismatch: NK, bright/dim: 24 of 24 samples correlate less with the training" in said
    assert "warning: nearer_to_another_model: NK, bright/dim: 24 of 24" in said


def test_another_label_gets_a_model_only_when_asked(trained, tmp_path, monkeypatch):
    folder, fitted = trained
    counts, obs, gene_ids = sums()
    path = write_sums(tmp_path / "sums.h5ad", counts, obs.replace({"label": {"B cell": "B"}}), gene_ids)
    arguments = ["--cell-type", "B"]
    with pytest.raises(
        SystemExit, match="there is no model of 'B', only of B cell, NK, bright/dim; --with-model"
    ):
        run(folder, path, tmp_path / "out.tsv", *arguments, monkeypatch=monkeypatch)
    arguments += ["--with-model", "B cell"]
    table = run(folder, path, tmp_path / "out.tsv", *arguments, monkeypatch=monkeypatch)
    np.testing.assert_allclose(table["predicted"], fitted[:24])
    assert set(table["model"]) == {"B cell"}
    for wrong, message in (
        (["--with-model", "B cell"], "'B cell' needs --cell-type"),
        (
            ["--cell-type", "B", "--with-model", "T cell"],
            "no model of 'T cell'; --with-model is one of B cell",
        ),
    ):
        with pytest.raises(SystemExit, match=message):
            run(folder, path, tmp_path / "out.tsv", *wrong, monkeypatch=monkeypatch)


def test_predictions_beyond_the_training_samples_have_a_code(trained, tmp_path, monkeypatch, capsys):
    folder, fitted = trained
    target = json.loads((folder / "models.json").read_text())
    target["models"]["b_cell"]["training_range"] = [0, float(np.sort(fitted[:24])[-3]) - 1e-6]
    model = tmp_path / "model"
    model.mkdir()
    for name in ("coefficients.tsv", "profiles.parquet"):
        (model / name).write_bytes((folder / name).read_bytes())
    (model / "models.json").write_text(json.dumps(target))
    table = run(
        model, folder / "sums.h5ad", tmp_path / "out.tsv", "--cell-type", "B cell", monkeypatch=monkeypatch
    )
    assert (table["warnings"] == "extrapolated").sum() == 3
    assert "warning: extrapolated: B cell: 3 of 24 samples are predicted outside" in capsys.readouterr().err


def test_predictions_of_a_level_are_probabilities(trained, tmp_path, monkeypatch):
    folder, fitted = trained
    target = json.loads((folder / "models.json").read_text()) | {
        "kind": "levels",
        "level": "old",
        "reference": "young",
    }
    for name in ("coefficients.tsv", "profiles.parquet"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "models.json").write_text(json.dumps(target))
    table = run(tmp_path, folder / "sums.h5ad", tmp_path / "out.tsv", monkeypatch=monkeypatch)
    np.testing.assert_allclose(table["predicted"], np.clip(fitted, 0, 1))
    assert set(table["level"]) == {"old"}
