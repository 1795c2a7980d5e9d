"""The default run on the demo cohort: what was planted is found, and nothing is lost or run twice."""

import json
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

FDR = 0.05
ROOT = Path(__file__).parent.parent.parent


def tsv(path):
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def results(demo_run):
    return demo_run.folder / "results"


@pytest.fixture(scope="module")
def cells(results):
    return pd.read_parquet(results / "cells/cells.parquet")


@pytest.fixture(scope="module")
def cell_types(results):
    return tsv(results / "pseudobulk/cell_types.tsv")


@pytest.fixture(scope="module")
def tested(cell_types):
    return cell_types[cell_types["tested"] == "True"]


def test_every_input_cell_is_accounted_for(results, cells):
    cohort = ad.read_h5ad(results / "simulate/cohort.h5ad", backed="r")
    assert list(cells["cell"]) == list(cohort.obs_names)
    assert (cells["kept"] == (cells["reason"] == "")).all()
    attrition = tsv(results / "cells/attrition.tsv").astype({"cells": int})
    for _, level in attrition.groupby(["stratum", "level"]):
        by_step = level.groupby("step")["cells"].sum()
        assert by_step["input"] == by_step.drop("input").sum()
    everything = attrition[attrition["stratum"] == "all"].groupby("step")["cells"].sum()
    assert everything["input"] == len(cells)
    assert everything["kept"] == cells["kept"].sum()


def test_counts_are_conserved_from_the_file_to_the_sums(results, cells):
    cohort = ad.read_h5ad(results / "simulate/cohort.h5ad")
    sums = ad.read_h5ad(results / "pseudobulk/sums.h5ad")
    assert sums.X.dtype == np.int64
    kept = cohort[cells.loc[cells["kept"], "cell"].to_numpy()]
    by_gene = np.asarray(kept.X.sum(axis=0, dtype=np.int64)).ravel()
    np.testing.assert_array_equal(np.asarray(sums.X.sum(axis=0)).ravel(), by_gene)
    label, sample = sums.obs["label"].iloc[0], sums.obs["sample"].iloc[0]
    mine = kept[((kept.obs["cell_type"] == label) & (kept.obs["donor_id"].astype(str) == sample)).to_numpy()]
    np.testing.assert_array_equal(sums[0].X.toarray().ravel(), np.asarray(mine.X.sum(axis=0)).ravel())


def test_awkward_labels_have_ids_of_their_own_and_the_rare_type_a_reason(cell_types):
    assert cell_types["id"].str.lower().is_unique
    assert cell_types["id"].str.fullmatch(r"[a-z0-9_-]+").all()
    assert {"CD4-positive, alpha-beta T cell", "platelet/megakaryocyte"} <= set(cell_types["label"])
    untested = cell_types[cell_types["tested"] != "True"]
    assert len(untested) > 0
    assert (untested["reason"] != "").all()


def test_planted_doublets_score_high(results, cells):
    truth = pd.read_parquet(results / "simulate/cells.parquet")
    scored = cells[cells["scored"]].merge(truth[["cell", "doublet"]], on="cell", suffixes=("", "_planted"))
    auroc = roc_auc_score(scored["doublet_planted"], scored["doublet_score"])
    print(f"doublet AUROC {auroc:.3f} over {len(scored)} cells")
    assert auroc >= 0.85


def test_dying_and_red_cells_are_dropped(results, cells):
    truth = pd.read_parquet(results / "simulate/cells.parquet")
    joined = cells.merge(truth[["cell", "dying", "red_cell"]], on="cell")
    assert joined.loc[joined["dying"] | joined["red_cell"], "kept"].mean() < 0.1
    assert joined.loc[~joined["dying"] & ~joined["red_cell"], "kept"].mean() > 0.75


def test_planted_age_genes_are_found_and_false_ones_are_few(results, tested):
    effects = tsv(results / "simulate/effects.tsv").astype({"log2fc_per_decade": float})
    false, called = 0, 0
    found = pd.concat(map(pd.read_parquet, sorted((results / "differential/age").glob("[0-9][0-9].parquet"))))
    assert set(found["cell_type"]) == set(tested["id"])
    for row in tested.itertuples():
        genes = found[found["cell_type"] == row.id].copy()
        mine = effects[effects["cell_type"] == row.label].set_index("gene_id")["log2fc_per_decade"]
        genes["planted"] = genes["gene_id"].map(mine).fillna(0)
        auroc = roc_auc_score(genes["planted"] != 0, genes["stat"].abs().fillna(0))
        hits = genes[genes["padj"] < FDR]
        false, called = false + (hits["planted"] == 0).sum(), called + len(hits)
        print(
            f"{row.label}: AUROC {auroc:.3f}, {len(hits)} genes called, {(hits['planted'] == 0).sum()} false"
        )
        assert auroc > 0.75
        right = hits[hits["planted"] != 0]
        assert (np.sign(right["log2FoldChange"]) == np.sign(right["planted"])).mean() > 0.95
    print(f"observed FDR {false / called:.3f} of {called} genes at nominal {FDR}")
    assert called > 50
    # nominal 5 %; three binomial standard errors above it would still be sampling
    assert false / called < FDR + 3 * np.sqrt(FDR * (1 - FDR) / called)


def test_planted_pathways_have_the_planted_sign_and_most_are_significant(results, tested):
    effects = tsv(results / "simulate/effects.tsv").astype({"log2fc_per_decade": float})
    planted = effects[effects["pathway"] != ""].groupby(["cell_type", "pathway"])["log2fc_per_decade"].mean()
    assert planted.min() < 0 < planted.max()
    significant = []
    everything = pd.read_parquet(results / "gsea/age/terms.parquet")
    assert list(everything["cell_type"].drop_duplicates()) == list(tested["id"])
    for row in tested.itertuples():
        terms = everything[everything["label"] == row.label].set_index("term")
        for pathway, effect in planted.get(row.label, pd.Series(dtype=float)).items():
            assert np.sign(terms.loc[pathway, "nes"]) == np.sign(effect), (row.label, pathway)
            significant.append(terms.loc[pathway, "fdr"] < 0.05)
    print(f"{sum(significant)} of {len(significant)} planted pathways at FDR 5 %")
    assert len(significant) >= 8
    assert np.mean(significant) > 0.75


def test_every_sample_is_predicted_once_per_repeat(results, tested):
    predictions = pd.read_parquet(results / "ridge/predictions.parquet")
    assert set(predictions["cell_type"]) == set(tested["id"])
    by_repeat = predictions.groupby(["cell_type", "repeat"])["sample"]
    assert (by_repeat.nunique() == by_repeat.size()).all()


def test_expression_predicts_age_better_than_any_baseline(results, tested):
    summary = pd.read_csv(results / "ridge/summary.tsv", sep="\t").set_index("label")
    assert sorted(summary.index) == sorted(tested["label"])
    print(
        summary[["mae", "best_baseline", "gain_mae", "gain_mae_low", "gain_mae_high", "pvalue", "supported"]]
    )
    assert (summary["gain_mae"] > 0).all()
    assert summary["supported"].sum() >= 4
    assert summary.loc["CD4-positive, alpha-beta T cell", "supported"]
    scores = pd.read_csv(results / "ridge/scores.tsv", sep="\t")
    baselines = set(scores["model"]) - {"expression"}
    assert baselines == {"mean", "sex", "technical", "composition"}


def test_corrected_gaps_do_not_follow_age(results):
    gaps = pd.read_csv(results / "ridge/gaps.tsv", sep="\t")
    for _, table in gaps.groupby("cell_type"):
        assert abs(table["corrected_gap"].corr(table["observed"])) < 1e-6
        assert table["gap"].corr(table["observed"]) < -0.3


def test_the_final_models_can_be_applied_to_sums(results, tmp_path):
    program, sums = ROOT / "ops" / "predict.py", results / "pseudobulk/sums.h5ad"
    command = [sys.executable, program, "--model", results / "ridge/models", "--sums", sums]
    subprocess.run([*command, "--out", tmp_path / "out.tsv"], check=True)
    found = pd.read_csv(tmp_path / "out.tsv", sep="\t").set_index(["label", "sample"])["predicted"]
    coefficients = pd.read_csv(results / "ridge/models/coefficients.tsv", sep="\t")
    models = json.loads((results / "ridge/models/models.json").read_text())["models"]
    data = ad.read_h5ad(sums)
    for name, model in models.items():
        mine = data[data.obs["cell_type"] == name]
        own = coefficients[coefficients["cell_type"] == name]
        x = np.log1p(1e4 * mine.X.toarray() / mine.X.sum(axis=1).reshape(-1, 1))
        x = pd.DataFrame(np.asarray(x), columns=mine.var_names)[own["gene_id"]].to_numpy()
        z = (x - own["mean"].to_numpy()) / own["sd"].to_numpy()
        expected = model["intercept"] + z @ own["coefficient"].to_numpy()
        np.testing.assert_allclose(found.loc[model["label"]].to_numpy(), expected, rtol=1e-9)


def test_records_and_logs_of_every_job_exist(results):
    records = [json.loads(path.read_text()) for path in (results / "benchmarks").rglob("*.perf.json")]
    benchmarks = list((results / "benchmarks").rglob("*.tsv"))
    logs = list((results / "logs").rglob("*.log"))
    assert len(records) == len(benchmarks) == len(logs)
    assert {record["status"] for record in records} == {"ok"}
    over = [(r["task_name"], r["peak_rss_mb"], r["mem_mb_requested"]) for r in records]
    assert not [job for job in over if job[1] > job[2]], "jobs above their request"


def test_a_run_without_failures_says_so(results):
    assert (results / "run/failures.jsonl").read_text() == ""


def test_no_temporary_or_foreign_format_is_left(results):
    files = [path for path in results.rglob("*") if path.is_file()]
    assert not [path for path in files if path.name.startswith(".")]
    allowed = {".parquet", ".tsv", ".h5ad", ".json", ".png", ".gmt", ".log", ".md", ".txt", ".jsonl", ".html"}
    assert {path.suffix for path in files} <= allowed
