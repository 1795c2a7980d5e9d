"""The doctor finds each fault that is put there, says what to do, and leaves nothing behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml

import _cohort
import _locked
import _machine
import doctor

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def options(tmp_path):
    for part in ("config", "profiles"):
        shutil.copytree(ROOT / part, tmp_path / part)
    return doctor.read_options(tmp_path, [], "profiles/local", "")


def levels(check, options):
    return [(finding.level, finding.found, finding.remedy) for finding in check(options)]


def faults(check, options):
    return [finding for finding in check(options) if finding.level == "FAULT"]


def test_a_healthy_machine_has_no_fault(options):
    before = sorted(options.folder.rglob("*"))
    for check in doctor.CHECKS:
        assert faults(check, options) == []
    assert sorted(options.folder.rglob("*")) == before


def test_another_version_than_locked(options, monkeypatch):
    monkeypatch.setattr(_locked, "version", lambda name: "0.0" if name == "scanpy" else real(name))
    (fault,) = faults(doctor.check_environment, options)
    assert "scanpy 0.0, locked 1.12" in fault.found
    assert "make env" in fault.remedy


real = _locked.version


def test_a_plugin_that_is_missing(options):
    profile = {"executor": "nowhere", "default-storage-provider": "fs"}
    (fault,) = faults(doctor.check_plugins, options._replace(profile=profile))
    assert fault.found == "snakemake_executor_plugin_nowhere is missing"


def test_slurm_without_its_commands(options, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    slurm = doctor.read_options(options.folder, [], "profiles/slurm", "")
    (fault,) = faults(doctor.check_plugins, slurm)
    assert "sbatch, squeue, scancel not on PATH" in fault.found


@pytest.mark.parametrize("key", doctor.FORBIDDEN)
def test_a_profile_with_what_none_may_have(options, key):
    (fault,) = faults(doctor.check_profile, options._replace(profile={key: True}))
    assert key in fault.found
    assert fault.remedy == "remove it"


def test_all_problems_of_a_config_are_listed_and_paths_are_those_of_its_folder(options):
    (options.folder / "sets.gmt").write_text("a\t\tG1\n", encoding="utf-8")
    config = options.config | {
        "gene_sets": ["sets.gmt", "none.gmt"],
        "qc": options.config["qc"] | {"min_gene": 3},
    }
    first, second = faults(doctor.check_config, options._replace(config=config))
    assert first.found.startswith("qc: Additional properties are not allowed ('min_gene' was unexpected)")
    assert second.found == "gene_sets: none.gmt does not exist"
    assert {first.remedy, second.remedy} == {"correct that setting (config/README.md)"}


def cohort(folder, **columns):
    donor = np.repeat(np.arange(4), 5)
    obs = pd.DataFrame(
        {"donor_id": [f"d{d}" for d in donor], "cell_type": "T", "sex": "male", "pool_number": "1"}
    )
    obs = obs.assign(**{"age": 30.0 + donor} | columns).set_index(
        pd.Index([f"c{n}" for n in range(20)], dtype=object)
    )
    text = {name: object for name in obs if obs[name].dtype == "str"}
    data = ad.AnnData(np.ones((20, 3), dtype=np.float32), obs=obs.astype(text))
    data.var_names = pd.Index(["a", "b", "c"], dtype=object)
    data.var["feature_name"] = pd.Series(list("abc"), index=data.var_names, dtype=object)
    with ad.settings.override(allow_write_nullable_strings=False):
        data.write_h5ad(folder / "my.h5ad")


def with_cohort(options, **cohort_settings):
    config = options.config | {"cohort": {"path": "my.h5ad", "url": None, "sha256": None, "size": None}}
    return options._replace(config=config | cohort_settings)


def test_a_cohort_that_fits(options):
    cohort(options.folder)
    [(level, found, _)] = levels(doctor.check_cohort, with_cohort(options))
    assert level == "ok"
    assert found == "20 of 20 cells usable, 3 genes, 4 samples; counts from X"


def test_a_cohort_that_does_not_fit(options):
    cohort(options.folder, age=np.arange(20.0))
    (fault,) = faults(doctor.check_cohort, with_cohort(options))
    assert "age is 0.0 and 1.0" in fault.found
    cohort(options.folder)
    (fault,) = faults(
        doctor.check_cohort, with_cohort(options, load=options.config["load"] | {"cell_type": "label"})
    )
    assert "load.cell_type" in fault.found


def test_a_cohort_that_is_cut_off(options):
    cohort(options.folder)
    path = options.folder / "my.h5ad"
    path.write_bytes(path.read_bytes()[:2000])
    (fault,) = faults(doctor.check_cohort, with_cohort(options))
    assert "get the file again" in fault.remedy


def test_the_size_of_a_sheet_is_that_of_its_files_and_folders(options):
    """A 10x folder counts with its parts; a line without a path is left to the workflow's own check."""
    folder = options.folder / "run1"
    folder.mkdir()
    for name, size in {"matrix.mtx.gz": 3_000_000, "barcodes.tsv.gz": 1000, "features.tsv.gz": 1000}.items():
        (folder / name).write_bytes(bytes(size))
    (folder / "analysis.bin").write_bytes(bytes(9_000_000))
    (options.folder / "one.h5").write_bytes(bytes(2_000_000))
    (options.folder / "sheet.tsv").write_text("donor\tpath\nd1\trun1\n\nd2\tone.h5\n")
    sheet = {"path": "sheet.tsv", "url": None, "sha256": None, "size": None}
    found = _cohort.measure_cohort(options._replace(config=options.config | {"cohort": sheet}))
    sheet_size = (options.folder / "sheet.tsv").stat().st_size
    assert found == pytest.approx((5_002_000 + sheet_size) / 2**20)


def test_more_memory_and_disk_than_there_is(options, monkeypatch, tmp_path):
    monkeypatch.setattr(_machine, "measure_cohort", lambda _: 10_000_000)
    monkeypatch.setattr(_machine, "ROOT", tmp_path / "requests")
    (tmp_path / "requests/workflow").mkdir(parents=True)
    asked = dict.fromkeys(["qc", "doublets", "load", "preprocess", "markers", "pseudobulk"], (100, 1))
    asked["qc"] = 1200, 8
    models = {step: {"mem_mb": mb, "mem_mb_per_input_mb": more} for step, (mb, more) in asked.items()}
    (tmp_path / "requests/workflow/resources.yaml").write_text(yaml.safe_dump(models))
    (fault,) = faults(doctor.check_memory, options)
    # two shards of 5,000,000 MB: 1200 + 8 x 5,000,000
    assert "qc will ask for 40,001,200 MB" in fault.found
    assert fault.remedy == "raise load.shards"
    (fault,) = faults(doctor.check_disk, options)
    assert "about 30,000,500 needed" in fault.found


def test_scratch_under_a_file_cannot_be_written(options):
    """Root may write to any folder, but to none under a file."""
    (options.folder / "file").write_text("")
    (fault,) = faults(doctor.check_scratch, options._replace(scratch=str(options.folder / "file/scratch")))
    assert "cannot be written: Not a directory" in fault.found
    assert "TMPDIR" in fault.remedy


def test_a_stale_lock_and_one_that_is_not(options):
    locks = options.folder / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("x")
    (fault,) = faults(doctor.check_locks, options)
    assert "--unlock" in fault.remedy
    code = "import time; time.sleep(60)  # snakemake"
    with subprocess.Popen([sys.executable, "-c", code, "snakemake"], cwd=options.folder) as process:
        try:
            [(level, found, remedy)] = levels(doctor.check_locks, options)
        finally:
            process.kill()
    assert (level, remedy) == ("warning", "wait for it; do not unlock")
    assert str(process.pid) in found


def test_the_command_ends_with_1_when_something_is_wrong(options):
    command = [sys.executable, str(ROOT / "ops/doctor.py")]
    environment = {**os.environ, "SCRATCH": str(options.folder / "config/config.yaml")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FAULT   scratch (TMPDIR)" in done.stdout
    assert "what to do: set TMPDIR" in done.stdout
    assert "ok      environment" in done.stdout


def test_an_overlay_that_is_no_yaml_is_one_line(options):
    (options.folder / "my.yaml").write_text("a: [1")
    with pytest.raises(SystemExit, match=r"my\.yaml is not YAML"):
        doctor.read_options(options.folder, ["my.yaml"], "profiles/local", "")
