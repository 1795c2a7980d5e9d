"""Cohorts that cannot be analysed: one clear line, a record, nothing half-written."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml


def cohort(counts=None, **columns):
    """60 cells of 6 donors with all that the default config names."""
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(6), 10)
    obs = pd.DataFrame(
        {
            "donor_id": [f"d{number}" for number in donor],
            "cell_type": "T cell",
            "age": 20.0 + 10 * donor,
            "sex": np.where(donor % 2, "female", "male"),
            "pool_number": "1",
        },
        index=[f"cell{number}" for number in range(60)],
    ).assign(**columns)
    counts = rng.poisson(1.0, (60, 30)).astype(np.float32) if counts is None else counts
    genes = [f"ENSG{number:011d}" for number in range(30)]
    data = ad.AnnData(counts, obs=obs.astype({"donor_id": object, "cell_type": object}))
    data.var_names = genes
    data.var["feature_name"] = pd.Series(genes, index=genes, dtype=object)
    return data


def lost_column():
    data = cohort()
    del data.obs["cell_type"]
    return data


BAD = {
    "load.cell_type": lost_column,
    "load.counts": lambda: cohort(counts=np.log1p(np.random.default_rng(0).poisson(1.0, (60, 30)))),
    "age is": lambda: cohort(age=np.arange(60.0)),
    "load.shards": lambda: cohort(donor_id="one", age=30.0, sex="male"),
}


@pytest.mark.parametrize("setting", BAD)
def test_one_line_names_the_setting_and_nothing_is_left(checkout, setting):
    path = checkout.folder / "bad.h5ad"
    BAD[setting]().write_h5ad(path)
    before = path.read_bytes()
    overlay = {"cohort": {"path": "bad.h5ad"}, "gene_sets": []}
    (checkout.folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    done = checkout.attempt("--profile", "profiles/local", "--configfile", "overlay.yaml")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    (failure,) = map(json.loads, (checkout.folder / "results/run/failures.jsonl").read_text().splitlines())
    assert failure["category"] == "configuration"
    assert setting in failure["message"]
    assert failure["message"].count("\n") == 0
    assert failure["evidence"] in done.stdout
    assert not list((checkout.folder / "results/load").rglob("*.*"))
    assert path.read_bytes() == before


def test_a_file_that_is_cut_off_is_refused(checkout):
    path = checkout.folder / "bad.h5ad"
    cohort().write_h5ad(path)
    path.write_bytes(path.read_bytes()[:3000])
    overlay = {"cohort": {"path": "bad.h5ad"}, "gene_sets": []}
    (checkout.folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    done = checkout.attempt("--profile", "profiles/local", "--configfile", "overlay.yaml")
    assert done.returncode != 0
    assert "bad.h5ad: cannot be read" in done.stdout
    assert "Traceback" not in done.stdout
