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
from prediction.ridge_summary import describe_models, stack_alphas

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
    obs = pd.concat(
        [
            pd.DataFrame(
                {"cell_type": key, "label": label, "sample": names, "donor": names, "age": age, "cells": 20}
            )
            for key, label in TYPES.items()
        ],
        ignore_index=True,
    ).assign(used=True)
    return rng.poisson(np.vstack([rate, rate * 2])), obs, [f"ENSG{number:03d}" for number in range(genes)]


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
    tables, facts, fitted = [], [], []
    for key, label in TYPES.items():
        rows = np.flatnonzero(obs["cell_type"] == key)
        own = csr_array(counts[rows])
        result = step.ridge(own, obs.iloc[rows].reset_index(drop=True), genes, **SETTINGS)
        tables.append(result[3].assign(cell_type=key))
        facts.append(result[2].assign(cell_type=key, label=label))
        chosen = [gene_ids.index(gene) for gene in result[3]["gene_id"][1:]]
        expression = step.log_expression(own).toarray()[:, sorted(chosen)]
        model = step.fit(expression, obs["age"].to_numpy()[rows], SETTINGS["alpha"])
        fitted.append(model.predict(expression))
    status = pd.concat(facts, ignore_index=True)
    summary = status.assign(r2=0.5, mae=5.0, gain_mae=1.0, best_baseline="mean")
    coefficients = stack_alphas([pd.concat(tables, ignore_index=True)], [SETTINGS["alpha"]])
    table, description = describe_models(coefficients, status, summary)
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
    with pytest.raises(SystemExit, match="there is no sum of 'NK, bright/dim'"):
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
        ("format", "has format 2, this program reads 1"),
    ],
)
def test_a_model_that_cannot_be_read_is_refused(trained, tmp_path, monkeypatch, change, message):
    folder, _ = trained
    for name in ("models.json", "coefficients.tsv"):
        if name != change:
            (tmp_path / name).write_text((folder / name).read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(SystemExit, match=message):
        run(tmp_path, folder / "sums.h5ad", tmp_path / "out.tsv", monkeypatch=monkeypatch)
