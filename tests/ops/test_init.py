"""`make init`: what columns are taken for, why, and that the workflow accepts what is written."""

import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

import _guess as guess
from cohort._values import clean_labels

ROOT = Path(__file__).parent.parent.parent

CELLS, DONORS = 1200, 24


def columns_of_cellxgene() -> pd.DataFrame:
    """Obs as CELLxGENE writes it, with OneK1K's donor ids, pools and ages."""
    cell = np.arange(CELLS)
    donor = cell % DONORS
    age = 20 + 3 * donor
    return pd.DataFrame(
        {
            "orig.ident": "SeuratProject",
            "pool_number": (donor // 8 + 1).astype(str),
            "donor_id": [f"{1000 + number}_{number}" for number in donor],
            "age": age,
            "cell_type_ontology_term_id": np.where(cell % 5 < 3, "CL:0000904", "CL:0000939"),
            "development_stage": [f"{years}-year-old stage" for years in age],
            "disease": "normal",
            "is_primary_data": True,
            "sex": np.where(donor % 2, "male", "female"),
            "cell_type": np.where(
                cell % 5 < 3, "T cell, alpha/beta", "CD16-negative, CD56-bright NK cell, human"
            ),
            "observation_joinid": [f"j{number}" for number in cell],
        },
        index=[f"cell{number}" for number in cell],
    ).astype(
        {name: "category" for name in ("donor_id", "pool_number", "cell_type", "sex", "development_stage")}
    )


def write(path: Path, obs: pd.DataFrame, *, log_x: bool = False, fractions: bool = False) -> Path:
    """A small h5ad: counts in X, or log-normalised X with counts in raw.X."""
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(1.2, (len(obs), 400)).astype(np.float32))
    symbols = [f"MT-{number}" if number < 3 else f"GENE{number}" for number in range(400)]
    var = pd.DataFrame({"feature_name": symbols}, index=[f"ENSG{number:011d}" for number in range(400)])
    cohort = ad.AnnData(counts, obs=obs, var=var)
    if log_x:
        cohort.raw = cohort.copy()
    if log_x or fractions:
        cohort.X = counts.log1p()
    cohort.write_h5ad(path)
    return path


def init(folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """Run ops/init.py of a copy of the project, as a user would without a terminal."""
    return subprocess.run(
        [sys.executable, "ops/init.py", *map(str, arguments)],
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(new_tiny, tmp_path_factory):
    """The project with a file of CELLxGENE's kind in it."""
    copy = new_tiny(tmp_path_factory.mktemp("init") / "scohort")
    write(copy.folder / "cohort.h5ad", columns_of_cellxgene(), log_x=True)
    return copy


def test_a_cellxgene_file_needs_no_option(copy):
    (copy.folder / "sets.gmt").write_text("one\tsource\tGENE5\tGENE6\n")
    done = init(copy.folder, COHORT="cohort.h5ad")
    assert done.returncode == 0, done.stdout
    assert "load finds 1,200 of 1,200 cells usable, 400 genes, 24 samples; counts from raw.X" in done.stdout
    assert "not disease: one value only)" in done.stdout
    text = (copy.folder / "cohort.yaml").read_text()
    assert yaml.safe_load(text) == {
        "cohort": {"path": "cohort.h5ad"},
        "report": {"title": "cohort"},
        "load": {
            "counts": "raw.X",
            "symbols": "feature_name",
            "sample": "donor_id",
            "donor": "donor_id",
            "cell_type": "cell_type",
            "pool": "pool_number",
            "covariates": [
                {"name": "age", "column": "age", "type": "numeric"},
                {"name": "sex", "column": "sex", "type": "categorical"},
            ],
            "exclude": [],
            "shards": 2,
        },
        "contrasts": [{"name": "age", "design": "~ age + sex", "test": "age", "unit": 10}],
        "gene_sets": ["sets.gmt"],
        "ridge": {
            "target": "age",
            "baselines": [
                {"name": "sex", "columns": ["sex"]},
                {"name": "technical", "columns": ["sex", "pool", "log_cells", "log_depth"]},
                {"name": "composition", "columns": ["composition"]},
            ],
        },
        "preprocess": {"batch": "pool", "n_top_genes": 100},
        "dimred": {"harmonize": "pool"},
        # 400 genes at a mean of 1.2 counts: 280 genes and 480 counts a cell
        "qc": {"min_genes": 200, "min_counts": 200},
        # 24 ages, 20 to 89 by 3, equally often: above 6, 12 and 18 of them
        "cells": {
            "strata": [
                {"column": "cell_type"},
                {"column": "age", "breaks": [38, 56, 74]},
                {"column": "sex"},
            ]
        },
    }
    assert len(text.splitlines()) <= 25
    plan = copy.plan("--configfile", "cohort.yaml")
    assert plan["load"] == 1
    assert plan["qc"] == 2
    assert "simulate" not in plan


def test_a_file_that_exists_is_not_overwritten(copy):
    (copy.folder / "mine.yaml").write_text("mine: 1\n")
    done = init(copy.folder, "cohort.h5ad", "--out", "mine.yaml")
    assert (done.returncode, (copy.folder / "mine.yaml").read_text()) == (1, "mine: 1\n")
    assert done.stdout == "error: mine.yaml exists; name another with --out, or overwrite it with --force\n"


def test_what_cannot_be_is_refused_in_a_line_and_nothing_is_written(copy, tmp_path, shared_data):
    obs = columns_of_cellxgene()
    fractions = write(tmp_path / "fractions.h5ad", obs, fractions=True)
    nobody = write(tmp_path / "nobody.h5ad", obs[["age", "cell_type"]])
    text = tmp_path / "text.h5ad"
    text.write_text("no HDF5")
    (tmp_path / "gone.h5ad").unlink(missing_ok=True)
    sums = shared_data / "onek1k_naive_cd4_sums_100donors.h5ad"  # one row a donor: no cells of donors
    for file, arguments, said in [
        (fractions, [], "error: load.counts: auto:"),
        (nobody, ["--test", "age"], "error: --test: 'age' needs samples of donors; name their column"),
        (nobody, ["--donor", "cell_type", "--covariate", "age"], "error: --covariate: age differs within"),
        (nobody, ["--donor", "who"], "error: --donor: no column 'who' (there are: age, cell_type)"),
        (sums, [], "donor_id: nearly as many values as cells"),
        (text, [], "error:"),
        (tmp_path / "gone.h5ad", [], "gone.h5ad: cannot be read"),
    ]:
        done = init(copy.folder, file, "--out", tmp_path / "out.yaml", *arguments)
        assert done.returncode == 1, done.stdout
        assert said in done.stdout
        assert "Traceback" not in done.stdout
        assert not (tmp_path / "out.yaml").exists()


def test_the_workflow_has_the_last_word(copy, tmp_path):
    """A covariate named like a column that load makes is refused by the checks of the workflow."""
    done = init(
        copy.folder, "cohort.h5ad", "--out", tmp_path / "out.yaml", "--covariate", "pool=sex:categorical"
    )
    assert done.returncode == 1
    assert "error: load.covariates: the name 'pool' is taken; choose another" in done.stdout
    assert "nothing was written" in done.stdout
    assert not (tmp_path / "out.yaml").exists()


def test_kang_gets_its_paired_design(copy, shared_data):
    done = init(copy.folder, shared_data / "kang_pbmc_ifnb_16samples.h5ad", "--out", "kang_found.yaml")
    assert done.returncode == 0, done.stdout
    found = yaml.safe_load((copy.folder / "kang_found.yaml").read_text())
    by_hand = yaml.safe_load((ROOT / "config/kang.yaml").read_text())
    for key in ("sample", "donor", "cell_type", "pool", "exclude", "shards"):
        assert found["load"][key] == by_hand["load"][key], key
    assert found["contrasts"] == [
        {"name": "condition", "design": "~ condition + donor", "test": "condition"}
        | {"level": "stim", "reference": "ctrl"}
    ]
    assert [Path(path).name for path in found["gene_sets"]] == ["hallmark_v2026.1.gmt"]
    assert "without MT- genes" in done.stdout


def test_without_donors_and_labels_it_writes_a_config_that_is_planned(copy, tmp_path):
    file = write(tmp_path / "plain.h5ad", columns_of_cellxgene()[["age"]])
    done = init(copy.folder, file, "--out", "plain.yaml")
    assert done.returncode == 0, done.stdout
    assert "no donors: cells, clusters and their marker genes can be answered" in done.stdout
    config = yaml.safe_load((copy.folder / "plain.yaml").read_text())
    load = config["load"]
    assert (load["sample"], load["donor"], load["cell_type"], load["shards"]) == (None, None, None, 1)
    assert (load["covariates"], config["contrasts"], config["ridge"]["target"]) == ([], [], None)
    plan = copy.plan("--configfile", "plain.yaml")
    assert "simulate" not in plan
    assert plan["load"] == plan["qc"] == 1


def test_limits_that_lose_most_cells_are_not_written(copy, tmp_path):
    cohort = ad.read_h5ad(write(tmp_path / "few.h5ad", columns_of_cellxgene()))
    cohort[:, :60].copy().write_h5ad(tmp_path / "few.h5ad")  # 60 genes, 42 a cell with a mean of 1.2
    done = init(copy.folder, tmp_path / "few.h5ad", "--out", "few.yaml")
    assert done.returncode == 0, done.stdout
    assert yaml.safe_load((copy.folder / "few.yaml").read_text())["qc"] == {
        "min_genes": None,
        "min_counts": None,
    }
    assert "the lowest usual limits would drop" in done.stdout


def test_on_a_terminal_it_asks_and_takes_the_answer(copy):
    """Enter takes the proposal; a wrong name is asked for again, with the names that there are."""
    terminal, program = os.openpty()
    command = [sys.executable, "ops/init.py", "cohort.h5ad", "--out", "asked.yaml", "--gene-sets"]
    asked = subprocess.Popen(
        command, cwd=copy.folder, stdin=program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    # donor, cell type, condition, age, sex, sample, pool
    os.write(terminal, b"donr_id\n\n\n\ndevelopment_stage\nnone\n\nnone\n")
    printed, _ = asked.communicate(timeout=600)
    os.close(program)
    os.close(terminal)
    assert asked.returncode == 0, printed
    load = yaml.safe_load((copy.folder / "asked.yaml").read_text())["load"]
    assert load["covariates"] == [{"name": "age", "column": "development_stage", "type": "stage"}]
    assert (load["donor"], load["pool"]) == ("donor_id", None)
    assert "load.pool: null   (as answered)" in printed
    assert (
        "no column 'donr_id', did you mean donor_id? Enter takes the proposal, none leaves it out" in printed
    )


# what columns are taken for


def table(**columns) -> guess.Table:
    """Columns as the labels that `load` makes of them; a dot stands for two underscores."""
    return {
        name.replace("__", "."): clean_labels(pd.Series(values), None) for name, values in columns.items()
    }


@pytest.mark.parametrize(
    ("role", "columns", "chosen", "why"),
    [
        ("donor", {"Patient_ID": [1.0, 1.0, None, 2.0] * 10}, "Patient_ID", "2 values"),
        ("donor", {"donor_id": range(40), "subject": [1, 2] * 20}, "subject", "not donor_id: nearly as many"),
        ("donor", {"donor_id": ["a"] * 40}, None, "not donor_id: one value only"),
        ("donor", {"donor_id": [None] * 40}, None, "not donor_id: no value"),
        ("donor", {"my_donor_no": [1, 2] * 20, "orig__ident": [1, 2] * 20}, "orig.ident", "its usual name"),
        ("cell_type", {"cell_type_ontology_term_id": ["CL:1", "CL:2"] * 20}, None, "no column is named"),
        ("cell_type", {"Cell Type (fine)": ["T/NK", "B"] * 20}, "Cell Type (fine)", "a word in its name"),
        ("cell_type", {"cell_type": ["CD4 T"] * 40}, "cell_type", "its only label names the type"),
        ("cell_type", {"Subclass": ["L2", "L4"] * 20}, "Subclass", "its usual name"),
        ("donor", {"mouse__id": ["m1", "m2"] * 20}, "mouse.id", "its usual name"),
        ("pool", {"stage": [1, 2] * 20, "assay_batch": ["p", "q"] * 20}, "assay_batch", "a word in its name"),
        ("age", {"age": ["20-29", "30-39"] * 20}, None, "not age: no numbers"),
        ("age", {"age": ["20-29"] * 40, "development_stage": ["20-year-old stage", "21-year-old stage"] * 20},
         "development_stage", "its usual name"),
        ("age", {"stage": [1, 2] * 20, "percentage": [1, 2] * 20}, None, "no column is named"),
        ("sex", {"Gender": [0, 1] * 20}, "Gender", "2 values"),
        ("condition", {"status": range(40)}, None, "not status: 40 values"),
    ],
)  # fmt: skip
def test_a_column_is_found_by_its_name_and_only_if_its_values_fit(role, columns, chosen, why):
    found = guess.find_column(role, table(**columns))
    assert found.value == chosen
    assert why in found.why


def test_codes_of_sex_are_a_category_and_ages_a_number():
    columns = table(Gender=[0, 1] * 20, age=[30, 40] * 20)
    assert guess.describe_covariate("sex", "Gender", columns, set()) == {
        "name": "sex",
        "column": "Gender",
        "type": "categorical",
    }
    assert guess.describe_covariate("age", "age", columns, set())["type"] == "numeric"


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("Disease Status/Group", "disease_status_group"),
        ("class", "class_value"),  # a word of Python
        ("cells", "cells_value"),  # a column that load makes
        ("10x_run", "x_10x_run"),
    ],
)
def test_names_of_covariates_can_stand_in_a_formula(column, name):
    assert guess.name_covariate(column, set()) == name


def test_two_columns_of_one_plain_name_stay_apart():
    assert guess.name_covariate("Batch.No", {"batch_no"}) == "batch_no_value"


def test_a_condition_within_donors_needs_a_column_of_samples():
    columns = table(donor=[1, 1, 2, 2] * 10, stim=["a", "b"] * 20)
    entries = [guess.describe_covariate("condition", "stim", columns, set())]
    unit, left, kept = guess.choose_sample_column("donor", entries, columns)
    assert (unit.value, kept) == ("donor", [])
    assert "stim differs within values of donor" in left[0].why
    columns |= table(sample_name=["1a", "1b", "2a", "2b"] * 10, barcode=range(40))
    unit, left, kept = guess.choose_sample_column("donor", entries, columns)
    assert (unit.value, left, kept) == ("sample_name", [], entries)


def test_the_samples_that_the_user_names_are_kept():
    columns = table(donor=[1, 1, 2, 2] * 10, stim=["a", "b"] * 20, visit=["1a", "1b", "2a", "2b"] * 10)
    entries = [guess.describe_covariate("condition", "stim", columns, set())]
    unit, left, kept = guess.choose_sample_column("donor", entries, columns, "visit")
    assert (unit.value, left, kept) == ("visit", [], entries)
    unit, left, kept = guess.choose_sample_column("donor", entries, columns, "donor")
    assert (unit.value, [entry.why for entry in left], kept) == ("donor", ["stim differs within donor"], [])


def test_samples_of_a_donor_are_paired_or_summed():
    paired = {"design": "~ stim + donor", "test": "stim"}
    assert guess.handle_repeated_donors(paired, "w")[0] == paired
    age = {"design": "~ age + donor_age", "test": "age"}
    assert guess.handle_repeated_donors(age, "w")[0] == age | {"aggregate": "donor"}


def test_a_pool_of_one_sample_is_no_batch():
    columns = table(
        donor=[1, 2, 3, 4] * 10, library=["a", "b", "c", "d"] * 10, pool=["p", "p", "q", "q"] * 10
    )
    library, pool = guess.Guess("load.pool", "library", ""), guess.Guess("load.pool", "pool", "")
    assert guess.judge_pool(library, "donor", columns).value is None
    assert guess.judge_pool(pool, "donor", columns) == pool


def test_labels_that_say_that_there_is_none_are_excluded():
    columns = table(donor=["d1", "unassigned", "Doublet", None] * 10, type=["B", "B", "Unknown", "NK"] * 10)
    assert guess.find_missing_labels(["donor", "type", "donor"], columns) == [
        {"column": "donor", "values": ["Doublet", "unassigned"]},
        {"column": "type", "values": ["Unknown"]},
    ]


@pytest.mark.parametrize(
    ("values", "level", "reference", "why"),
    [
        (["COVID-19", "normal"], "COVID-19", "normal", "'normal' is a control by its name"),
        (["Ctrl", "stim"], "stim", "Ctrl", "'Ctrl' is a control by its name"),
        (["arm 1", "arm 2"], "arm 2", "arm 1", "neither name says"),
        (["healthy", "unknown", "unknown"], "unknown", "healthy", "'healthy' is a control"),
    ],
)
def test_the_reference_is_the_control(values, level, reference, why):
    found = guess.choose_reference(clean_labels(pd.Series(values * 3), None))
    assert found[:2] == (level, reference)
    assert why in found[2]


def test_what_is_tested_and_what_stands_beside_it():
    columns = table(age=[20, 30, 40, 50] * 5, sex=["f", "m"] * 10, disease=["flu", "normal"] * 10)
    entries = [guess.describe_covariate(role, role if role != "condition" else "disease", columns, set())
               for role in ("condition", "age", "sex")]  # fmt: skip
    disease, _ = guess.propose_contrast(entries, [], columns)
    assert disease["design"] == "~ disease + age + sex"
    age, _ = guess.propose_contrast(entries[1:], [], columns)
    assert age == {"name": "age", "design": "~ age + sex", "test": "age", "unit": 10}
    paired, _ = guess.propose_contrast(entries, ["disease"], columns)
    assert paired["design"] == "~ disease + donor"
    assert guess.propose_contrast([], [], columns)[0] is None
    sex, _ = guess.propose_contrast(entries, [], columns, "sex")
    assert sex["design"] == "~ sex + disease + age"
    load = {"donor": "age", "covariates": entries}
    assert guess.count_coefficients(disease, load, columns) == 4  # mean, disease, age, sex
    assert guess.count_coefficients(paired, load, columns) == 5  # mean, disease, three of four donors


def test_three_levels_are_not_compared_by_guess():
    columns = table(stage=["a", "b", "c"] * 10)
    entries = [{"name": "stage", "column": "stage", "type": "categorical"}]
    assert guess.propose_contrast(entries, [], columns)[0] is None
    entry, why = guess.propose_contrast(entries, [], columns, "stage")
    assert entry is None
    assert "stage has 3 levels" in why
