"""The doctor predicts what a run warns of: the steps are run on the same cohort and config, and compared."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from scipy.sparse import csr_matrix

import _cohort
import doctor
from files import read_tsv
from job import CODES
from odd_cohorts import odd_cohorts
from small_cohort import AGE, CELLS, cohort, written
from step_main import ROOT, run_main
from workflow.defaults import complete_config

LATER = ["exclude_matches_nothing", "batch_has_one_level"]  # of steps that are not run here
COLUMNS = ["code", "message", "setting"]


def options_of(folder: Path, path: Path, **load) -> doctor.Options:
    """The config of the demo for a cohort."""
    config = complete_config(ROOT, [])
    columns = {"sample": "sample", "donor": "donor", "pool": None, "covariates": [AGE]}
    config["load"] |= columns | {"shards": 1} | load
    config["cohort"]["path"] = str(path)
    config["gene_sets"] = []
    return doctor.Options(folder, config, [], {}, "", "")


def run_steps(folder: Path, options: doctor.Options, number: int = 3) -> pd.DataFrame:
    """The warnings of the first of load, qc and doublets."""
    config = options.config
    files = [str(file) for file in _cohort.list_files(Path(config["cohort"]["path"]))]
    paths = {name: str(folder / f"{name}.parquet") for name in ("cells", "samples", "genes")}
    paths |= {
        "shards": [str(folder / f"{n:02d}.h5ad") for n in range(config["load"]["shards"])],
        "cohort": str(folder / "cohort.json"),
    }
    tables = {name: config["load"][name] or [] for name in ("sample_table", "cell_table")}
    shard = {
        "shard": str(folder / "00.h5ad"),
        "cohort": str(folder / "cohort.json"),
        "qc": str(folder / "qc"),
    }
    steps = {
        "cohort/load.py": ({"cohort": files, **tables}, paths, config["load"]),
        "cells/qc.py": (shard, {"cells": str(folder / "qc"), "limits": str(folder / "limits")}, config["qc"]),
        "cells/doublets.py": (
            shard,
            {name: str(folder / f"doublets_{name}") for name in ("cells", "status")},
            config["doublets"] | {"random_state": 1},
        ),
    }
    rows = []
    for script, (inputs, outputs, params) in list(steps.items())[:number]:
        notes = folder / f"{Path(script).stem}.tsv"
        log = run_main(
            script, folder, inputs=inputs, outputs=outputs | {"warnings": str(notes)}, params=params
        )
        assert notes.exists(), log
        rows.append(read_tsv(notes))
    return pd.concat(rows)


def predict(options: doctor.Options) -> pd.DataFrame:
    found = _cohort.read_cohort(options)
    return pd.DataFrame(_cohort.predict_warnings(found, options.config), columns=[*COLUMNS, "number"])


def odd(data):
    """Ages in words, a label in two ways, two tissues in a sample, repeated names, an antibody."""
    data.obs["age"] = np.where(data.obs["donor"] == "1000_0", "90+", data.obs["age"].astype(str))
    data.obs["cell_type"] = np.where(np.arange(CELLS) % 3, "T cell", "t cell")
    data.obs["tissue"] = np.where(np.arange(CELLS) < 30, "blood", "spleen")
    data.obs_names = [f"c{i // 6}" for i in range(CELLS)]
    data.var["feature_types"] = ["Antibody Capture"] + ["Gene Expression"] * (data.n_vars - 1)
    return data


def plain(data):
    """Symbols that match every pattern."""
    data.var["feature_name"] = ["MT-ND1", "RPL3", "HBB", *data.var["feature_name"][3:]]
    return data


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (plain, {"doublets_not_scored"}),
        (
            odd,
            {
                *("values_not_parsed", "levels_alike", "samples_mix_levels", "cell_names_changed"),
                *("features_left_out", "pattern_matches_nothing", "doublets_not_scored"),
            },
        ),
    ],
)
def test_the_doctor_predicts_the_warnings_of_a_run(tmp_path, change, codes):
    data = change(cohort())
    data.X = csr_matrix(data.X.toarray() + 40)  # so that no cell fails qc
    options = options_of(tmp_path, written(data, tmp_path))
    wanted, found = run_steps(tmp_path, options), predict(options)
    found = found[~found["code"].isin(LATER)]
    assert set(wanted["code"]) == codes
    assert sorted(map(tuple, found[COLUMNS].to_numpy())) == sorted(map(tuple, wanted[COLUMNS].to_numpy()))


def test_predictions_are_findings_with_code_and_level(tmp_path):
    options = options_of(tmp_path, written(odd(cohort()), tmp_path))
    options.config["warnings"] = {"accept": ["levels_alike"], "error": ["samples_mix_levels"]}
    findings = list(_cohort.check_run(options))
    levels = {
        finding.found.split(":")[0]: finding.level for finding in findings if finding.check == "predicted"
    }
    assert levels["levels_alike"] == "ok"
    assert levels["samples_mix_levels"] == "FAULT"
    assert levels["values_not_parsed"] == "warning"
    assert levels["batch_has_one_level"] == "warning"
    assert levels["exclude_matches_nothing"] == "warning"
    (fault,) = [f for f in findings if f.found.startswith("samples: none of 12 has enough cells")]
    assert (fault.check, fault.level) == ("predicted", "FAULT")


def test_gene_sets_of_another_species_are_named(tmp_path):
    data = cohort()
    data.var["feature_name"] = [f"ABC{n}" for n in range(data.n_vars)]
    (tmp_path / "sets.gmt").write_text("one\t\t" + "\t".join(f"Abc{n}" for n in range(20)) + "\n")
    options = options_of(tmp_path, written(data, tmp_path))
    options.config["gene_sets"] = ["sets.gmt"]
    (finding,) = [f for f in _cohort.check_run(options) if f.found.startswith("gene sets")]
    assert finding.level == "warning"
    assert finding.found == (
        "gene sets sets: 0% of 20 genes are in the cohort; their symbols look like mouse, the cohort is human"
    )


def test_predicted_codes_are_codes_and_stand_in_the_document():
    assert set(_cohort.PREDICTED) <= set(CODES)
    text = (ROOT / "docs/warnings.md").read_text(encoding="utf-8")
    assert "`make doctor` predicts " + ", ".join(f"`{code}`" for code in _cohort.PREDICTED) in " ".join(
        text.split()
    )


@settings(
    deadline=None,
    max_examples=8,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(odd_cohorts())
def test_of_random_cohorts_too(tmp_path_factory, odd):
    folder = tmp_path_factory.mktemp("odd")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*names are not unique")
        path, load = odd.write(folder)
    options = options_of(folder, path, **load)
    if odd.refusals():
        (finding,) = _cohort.check_cohort(options)
        assert finding.level in ("FAULT", "ok")  # a value that is not a count is seen when it is read
        return
    wanted, found = run_steps(folder, options, 1), predict(options)
    found = found[~found["code"].isin([*LATER, "pattern_matches_nothing", "doublets_not_scored"])]
    assert sorted(map(tuple, found[COLUMNS].to_numpy())) == sorted(map(tuple, wanted[COLUMNS].to_numpy()))
