"""Real input, paired design: Kang et al. 2018, interferon-beta against control (shared/data/README.md)."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml

TESTED = ["CD14+ Monocytes", "CD4 T cells"]
INTERFERON = {"HALLMARK_INTERFERON_ALPHA_RESPONSE", "HALLMARK_INTERFERON_GAMMA_RESPONSE"}


@pytest.fixture(scope="module")
def results(tmp_path_factory, new_checkout, shared_data):
    run = new_checkout(tmp_path_factory.mktemp("kang") / "scohort")
    places = {
        "cohort": {"path": str(shared_data / "kang_pbmc_ifnb_16samples.h5ad")},
        "gene_sets": [str(shared_data / "hallmark_v2026.1.gmt")],
    }
    (run.folder / "places.yaml").write_text(yaml.safe_dump(places))
    run.snakemake("--profile", "profiles/ci", "--configfile", "config/kang.yaml", "places.yaml")
    return run.folder / "results"


@pytest.fixture(scope="module")
def ids(results):
    types = pd.read_csv(results / "pseudobulk/cell_types.tsv", sep="\t", dtype=str, keep_default_na=False)
    return types.set_index("label")


def test_both_large_types_are_tested_and_the_others_have_a_reason(ids):
    assert (ids.loc[TESTED, "tested"] == "True").all()
    assert (ids.loc[ids["tested"] != "True", "reason"] != "").all()


@pytest.mark.parametrize("label", TESTED)
def test_interferon_genes_lead(results, ids, label):
    genes = pd.concat(
        map(pd.read_parquet, sorted((results / "differential/stim").glob("[0-9][0-9].parquet")))
    )
    top = genes[genes["cell_type"] == ids.loc[label, "id"]].nsmallest(10, "pvalue")
    print(label, list(top["symbol"]))
    assert {"ISG15", "ISG20"} <= set(top["symbol"])
    assert (top.set_index("symbol").loc[["ISG15", "ISG20"], "log2FoldChange"] > 0).all()


@pytest.mark.parametrize("label", TESTED)
def test_interferon_responses_have_the_highest_scores(results, ids, label):
    terms = pd.read_parquet(results / "gsea/stim/terms.parquet")
    terms = terms[terms["cell_type"] == ids.loc[label, "id"]]
    assert set(terms.nlargest(2, "nes")["term"]) == INTERFERON


def test_unusable_cells_are_counted_with_their_reason(results, shared_data):
    cells = pd.read_parquet(results / "cells/cells.parquet")
    obs = ad.read_h5ad(shared_data / "kang_pbmc_ifnb_16samples.h5ad", backed="r").obs
    unassigned = (obs["donor_id"] == "unassigned").to_numpy()
    unlabelled = (obs["cell_type"] == "unlabelled").to_numpy()
    assert len(cells) == 2000
    assert ((cells["step"] == "load").to_numpy() == (unassigned | unlabelled)).all()
    assert set(cells.loc[cells["step"] == "load", "reason"]) == {"excluded_donor_id", "excluded_cell_type"}


def test_sums_are_those_of_the_kept_cells(results, shared_data):
    cohort = ad.read_h5ad(shared_data / "kang_pbmc_ifnb_16samples.h5ad")
    assert int(cohort.X.sum(dtype=np.float64)) == 3_081_827
    cells = pd.read_parquet(results / "cells/cells.parquet")
    kept = cohort[cells["kept"].to_numpy()]
    sums = ad.read_h5ad(results / "pseudobulk/sums.h5ad")
    np.testing.assert_array_equal(
        np.asarray(sums.X.sum(axis=0)).ravel(), np.asarray(kept.X.sum(axis=0, dtype=np.float64)).ravel()
    )
