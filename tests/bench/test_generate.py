"""The benchmark cohort is what it claims to be: readable, sparse as promised, adversarially ordered."""

import json
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator

import _draw as draw
import generate

ROOT = Path(__file__).parent.parent.parent
CELLS, DONORS, GENES, SEED = 4000, 26, 2000, 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    generate.generate(folder, cells=CELLS, donors=DONORS, genes=GENES, shards=3, seed=SEED)
    return folder


@pytest.fixture(scope="module")
def cohort(folder):
    return ad.read_h5ad(folder / "cohort.h5ad")


@pytest.fixture(scope="module")
def drawn():
    symbols = draw.gene_table(GENES)["feature_name"].tolist()
    model, donors = draw.model(symbols, SEED), draw.donor_table(CELLS, DONORS, SEED)
    return symbols, model, donors, draw.cell_table(donors, model, SEED)


def test_every_cell_has_exactly_the_counts_that_were_drawn_for_it(cohort, drawn):
    cells = drawn[3]
    expected = cells["counts"] + cells["second_counts"] + cells["mt"]
    assert cohort.shape == (CELLS, GENES)
    assert np.array_equal(np.asarray(cohort.X.sum(axis=1)).ravel(), expected)


def test_the_file_is_stored_as_cellxgene_stores_it(folder, cohort):
    with h5py.File(folder / "cohort.h5ad") as file:
        matrix = file["X"]
        kinds = {name: (matrix[name].dtype, matrix[name].compression) for name in matrix}
        assert matrix.attrs["encoding-type"] == "csr_matrix"
        assert matrix["data"].chunks == (generate.CHUNK,)
        text = {file[name].attrs["encoding-type"] for name in ("obs/_index", "var/_index")}
    assert kinds == {
        "data": (np.float32, "gzip"),
        "indices": (np.int32, "gzip"),
        "indptr": (np.int32, "gzip"),
    }
    assert text == {"string-array"}
    assert cohort.X.has_canonical_format  # sorted, no gene twice in a cell
    assert (cohort.X.data >= 1).all()
    assert (cohort.X.data == np.rint(cohort.X.data)).all()
    assert cohort.obs_names.is_unique
    assert cohort.var["feature_name"].is_unique
    assert list(cohort.obs.select_dtypes("category")) == [
        "donor_id",
        "cell_type",
        "sex",
        "pool_number",
        "development_stage",
    ]


def test_blocks_join_without_a_seam(cohort, drawn, monkeypatch, tmp_path):
    monkeypatch.setattr(generate, "BLOCK", 1500)  # three blocks instead of one
    generate.generate(tmp_path, cells=CELLS, donors=DONORS, genes=GENES, shards=3, seed=SEED)
    blocked, cells = ad.read_h5ad(tmp_path / "cohort.h5ad"), drawn[3]
    expected = cells["counts"] + cells["second_counts"] + cells["mt"]
    assert np.array_equal(np.asarray(blocked.X.sum(axis=1)).ravel(), expected)
    assert blocked.X.has_canonical_format
    assert blocked.obs.equals(cohort.obs)


def test_the_same_seed_gives_the_same_cohort_and_another_does_not(folder, cohort, tmp_path):
    for seed, same in ((SEED, True), (SEED + 1, False)):
        place = tmp_path / str(seed)
        generate.generate(place, cells=CELLS, donors=DONORS, genes=GENES, shards=3, seed=seed)
        again = ad.read_h5ad(place / "cohort.h5ad")
        assert (again.X.shape == cohort.X.shape and (again.X != cohort.X).nnz == 0) == same
        texts = (place / "gene_sets.gmt").read_text(), (folder / "gene_sets.gmt").read_text()
        assert (texts[0] == texts[1]) == same


def test_cells_of_a_donor_are_scattered_within_their_pool(cohort):
    donors, pools = cohort.obs["donor_id"].to_numpy(), cohort.obs["pool_number"].astype(int).to_numpy()
    assert (np.diff(pools) >= 0).all()
    assert (donors[1:] == donors[:-1]).mean() < 0.15
    assert cohort.obs.groupby("donor_id", observed=True)["pool_number"].nunique().max() == 1
    assert cohort.obs.groupby("pool_number", observed=True)["donor_id"].nunique().max() <= 13


def test_donors_and_types_have_the_shape_of_onek1k(drawn):
    donors = draw.donor_table(100_000, 79, SEED)
    assert donors["cells"].sum() == 100_000
    assert (donors["cells"] < 100).sum() >= 1  # small donors
    assert donors["pool_number"].nunique() == 7  # 79 / 13, rounded up
    assert donors["age"].between(19, 97).all()
    shares = drawn[1].shares
    assert (shares > 0.01).sum() == 20
    assert shares.sum() == pytest.approx(1)


def test_a_cell_shows_about_1000_of_35000_genes():
    """Expected number of genes seen, from the profiles alone: sum over genes of 1 - (1 - p)^counts."""
    model = draw.model(draw.gene_table(35_000)["feature_name"].tolist(), 1)
    profiles = np.exp(model.weights)
    profiles /= profiles.sum(axis=1, keepdims=True)
    seen = [(1 - np.exp(n * np.log1p(-p))).sum() for n, p in zip(model.counts, profiles, strict=True)]
    assert 900 < np.dot(model.shares, seen) < 1100


def test_nuisance_genes_have_their_shares_and_dying_cells_pass_the_limit(cohort, drawn):
    mt = cohort.var["feature_name"].str.startswith("MT-").to_numpy()
    share = np.asarray(cohort.X[:, mt].sum(axis=1)).ravel() / np.asarray(cohort.X.sum(axis=1)).ravel()
    dying = drawn[3]["mt"].to_numpy() > 0
    assert mt.sum() == 13
    assert 0.005 < dying.mean() < 0.04
    assert (share[dying] > 0.2).mean() > 0.95
    assert (share[~dying] > 0.2).mean() < 0.01


def test_types_differ_more_than_donors(cohort, drawn):
    """A cell's type is the nearest mean profile of log counts, learned from other cells."""
    cells = drawn[3]
    totals = np.asarray(cohort.X.sum(axis=1)).ravel()
    logs = np.log1p(1e4 * cohort.X.toarray() / totals[:, None])
    single = (cells["second_type"] < 0).to_numpy() & (cells["mt"] == 0).to_numpy()
    types = cells["type"].to_numpy()
    frequent = np.flatnonzero(np.bincount(types[single]) > 60)
    learn, test = single & (np.arange(CELLS) % 2 == 0), single & (np.arange(CELLS) % 2 == 1)
    means = np.stack([logs[learn & (types == kind)].mean(axis=0) for kind in frequent])
    asked = test & np.isin(types, frequent)
    distance = (means**2).sum(axis=1) - 2 * logs[asked] @ means.T
    assert (frequent[distance.argmin(axis=1)] == types[asked]).mean() > 0.7


def test_planted_sets_follow_age(folder, cohort, drawn):
    sets = {
        line.split("\t")[0]: line.strip().split("\t")[2:]
        for line in (folder / "gene_sets.gmt").read_text().splitlines()
    }
    sums = cohort.to_df().groupby(cohort.obs["donor_id"].to_numpy()).sum()
    sums.columns = cohort.var["feature_name"].to_numpy()
    ages = cohort.obs.groupby("donor_id", observed=True)["age"].first().loc[sums.index]
    big = sums.sum(axis=1) > 50_000
    logs = np.log(sums + 1).sub(np.log(sums.sum(axis=1)), axis=0)[big]
    up, down = (logs[sets[name]].mean(axis=1).corr(ages[big]) for name in ("AGE_UP", "AGE_DOWN"))
    assert up > 0.5
    assert down < -0.5
    assert len(sets) == 50
    assert all(30 <= len(genes) == len(set(genes)) <= 200 for genes in sets.values())


def test_the_overlay_is_a_valid_config_for_these_files(folder):
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    overlay = yaml.safe_load((folder / "config.yaml").read_text())
    for section, values in overlay.items():
        config[section] = config[section] | values if isinstance(values, dict) else values
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.yaml").read_text())
    Draft202012Validator(schema).validate(config)
    assert config["load"]["shards"] == 3
    for path in [config["cohort"]["path"], *config["gene_sets"]]:
        assert (folder / path.removeprefix("../")).exists()
        assert path.startswith("../")


def test_the_settings_are_noted(folder):
    facts = json.loads((folder / "cohort.json").read_text())
    assert {name: facts[name] for name in ("cells", "donors", "genes", "shards", "seed")} == {
        "cells": CELLS,
        "donors": DONORS,
        "genes": GENES,
        "shards": 3,
        "seed": SEED,
    }


def test_barcodes_are_distinct_16_letter_words():
    names = generate.barcodes(300_000)
    assert names.is_unique
    assert names[:1000].str.fullmatch("[ACGT]{16}-1").all()


def test_row_pointers_grow_to_int64_when_values_pass_2_31():
    assert generate.pointer_type(2**31 - 1) is np.int32
    assert generate.pointer_type(2**31) is np.int64


def test_too_few_genes_are_refused():
    with pytest.raises(ValueError, match=r"genes: 100, at least .* raise --genes"):
        draw.gene_table(100)
