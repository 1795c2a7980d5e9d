"""A warning is a row with a code; the config accepts it or makes it an error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from job import (
    BY_STEP,
    CODES,
    InputError,
    _warnings,
    collect_warnings,
    gather_warnings,
    raise_if_error,
    read_warnings,
    summarise_warnings,
    warn,
)

ROOT = Path(__file__).parent.parent.parent.parent
CODE, OTHER = "genes_not_shared", "pattern_matches_nothing"

SNAKEFILE = """
rule all:
    input: "results/warnings/step/00.tsv"

rule step:
    output: one="results/{part}.txt", warnings="results/warnings/step/{part}.tsv"
    log: "results/logs/step/{part}.log"
    params: codes=config.get("codes", "").split(), fail=config.get("fail", False)
    script: "step.py"
"""
SCRIPT = """
from job import InputError, job, warn

with job(snakemake) as out:
    open(out.one, "w").write("whole")
    for code in snakemake.params.codes:
        warn(code, "b.h5ad:\\t3 genes", count=3, setting="load.symbols")
    if snakemake.params.fail:
        raise InputError("no")
"""
TABLE = "results/warnings/step/00.tsv"


def row(code=CODE, message="b.h5ad: 3 genes", number="3", setting="", step="load"):
    return {"code": code, "step": step, "message": message, "number": number, "setting": setting}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "step.py").write_text(SCRIPT)
    return tmp_path


def run(folder, section=None, **config):
    variables = {"PYTHONPATH": str(ROOT / "scripts"), "SCOHORT_WARNINGS": json.dumps(section or {})}
    settings = [f"{key}={value}" for key, value in config.items()]
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--show-failed-logs"]
    command += ["--config", *settings] if settings else []
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_job_writes_what_it_warned_of(folder):
    assert run(folder, codes=CODE).returncode == 0
    lines = (folder / TABLE).read_text().splitlines()
    assert lines == [
        "code\tstep\tmessage\tnumber\tsetting",
        f"{CODE}\tstep\tb.h5ad: 3 genes\t3\tload.symbols",
    ]
    assert (
        f"warning: {CODE}: b.h5ad: 3 genes (load.symbols)\n"
        in (folder / "results/logs/step/00.log").read_text()
    )


def test_a_rerun_replaces_the_table_and_a_job_that_is_done_keeps_it(folder):
    run(folder, codes=CODE)
    written = (folder / TABLE).stat().st_mtime_ns
    assert "Nothing to be done" in run(folder, codes=CODE).stderr
    assert (folder / TABLE).stat().st_mtime_ns == written
    assert run(folder, codes=OTHER).returncode == 0
    assert [each["code"] for each in read_warnings(folder / TABLE)] == [OTHER]
    assert run(folder).returncode == 0  # nothing to warn of: a table without rows
    assert read_warnings(folder / TABLE) == []


def test_a_job_that_fails_leaves_no_table(folder):
    assert run(folder, codes=CODE, fail=True).returncode != 0
    assert not (folder / TABLE).exists()


def test_a_code_becomes_an_error_by_config(folder):
    done = run(folder, {"error": [CODE], "accept": []}, codes=CODE)
    assert done.returncode != 0
    said = f"error: {CODE}: b.h5ad: 3 genes (load.symbols); warnings.error makes {CODE} an error"
    assert said in done.stderr
    assert "Traceback" not in (folder / "results/logs/step/00.log").read_text()


def test_a_rule_without_the_output_must_not_warn(folder):
    text = SNAKEFILE.replace(', warnings="results/warnings/step/{part}.tsv"', "")
    (folder / "Snakefile").write_text(
        text.replace('input: "results/warnings/step/00.tsv"', 'input: "results/00.txt"')
    )
    done = run(folder, codes=CODE)
    assert done.returncode != 0
    assert "rule step needs an output named warnings" in done.stderr
    assert not (folder / "results/00.txt").exists()


def test_unknown_codes_and_warnings_outside_of_a_job_are_refused():
    with collect_warnings(), pytest.raises(ValueError, match="'no_code' is not a warning code"):
        warn("no_code", "x")
    with pytest.raises(RuntimeError, match="outside of a job"):
        warn(CODE, "x")


def test_the_same_warning_is_noted_once_and_control_characters_do_not_print(capsys):
    with collect_warnings() as rows:
        warn(CODE, "label \x1b[31m\nred", count=2)
        warn(CODE, "label \x1b[31m red", count=2)
    assert rows == [{"code": CODE, "message": "label \ufffd[31m red", "number": 2, "setting": ""}]
    assert capsys.readouterr().out.count("warning:") == 1


def test_tables_of_jobs_are_put_together_once_each_in_the_order_of_codes():
    rows = [
        row(OTHER, "qc", step="qc"),
        row(message="c: 1"),
        row(OTHER, "qc", step="qc"),
        row(message="a: 1"),
    ]
    gathered = gather_warnings(rows, accept=[OTHER])
    assert [(each["code"], each["message"], each["accepted"]) for each in gathered] == [
        (CODE, "a: 1", "False"),
        (CODE, "c: 1", "False"),
        (OTHER, "qc", "True"),
    ]


def test_a_warning_of_a_job_that_is_done_can_still_be_an_error():
    raise_if_error([row()], [OTHER])
    with pytest.raises(InputError, match=f"{CODE}: b.h5ad: 3 genes; warnings.error makes {CODE} an error"):
        raise_if_error([row()], [CODE])


def test_the_terminal_shows_each_code_and_counts_the_rest():
    many = [row(message=f"file {number:02}: 3 genes") for number in range(50)]
    rows = gather_warnings([*many, row(OTHER, "ribo", setting="qc.patterns.ribo")], accept=[])
    lines = summarise_warnings(rows, "results/run/warnings.tsv").splitlines()
    assert lines[0] == "51 warnings, all in results/run/warnings.tsv:"
    assert f"  {OTHER}: ribo (qc.patterns.ribo)" in lines
    assert len(lines) <= _warnings.LINES + 2
    assert lines[-1] == f"  and {51 - len(lines[1:-1])} more"


def test_accepted_warnings_are_counted_only():
    rows = gather_warnings([row(), row(OTHER, "ribo")], accept=[OTHER])
    assert summarise_warnings(rows, "w.tsv").splitlines() == [
        "1 warning (1 accepted not shown), all in w.tsv:",
        f"  {CODE}: b.h5ad: 3 genes",
    ]
    assert summarise_warnings([], "w.tsv") == ""


def test_a_table_of_warnings_is_read_as_it_was_written(tmp_path):
    _warnings.write_warnings(
        tmp_path / "w.tsv", "load", [{"code": CODE, "message": "a 'b', c", "number": None, "setting": ""}]
    )
    assert read_warnings(tmp_path / "w.tsv") == [row(message="a 'b', c", number="")]
    table = pd.read_csv(tmp_path / "w.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert table.loc[0, "message"] == "a 'b', c"


def test_codes_are_snake_case_with_a_sentence_each():
    assert len(CODES) == sum(map(len, BY_STEP.values()))
    assert all(code.isidentifier() and code == code.lower() for code in CODES)
    assert all(means.endswith(".") and "\n" not in means for means in CODES.values())


def test_the_warnings_of_a_run_are_those_of_its_jobs_that_have_ended(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = Path("results")
    for name in ("load", "qc/00", "qc/07"):
        (results / f"warnings/{name}.tsv").parent.mkdir(parents=True, exist_ok=True)
        rows = [{"code": OTHER, "message": f"of {name}", "number": 1, "setting": ""}]
        _warnings.write_warnings(results / f"warnings/{name}.tsv", name.split("/")[0], rows)
    needed = [results / f"warnings/{name}.tsv" for name in ("load", "qc/00", "qc/01")]  # no 07; 01 is missing
    lines = _warnings.write_run_warnings(results, needed, accept=[])
    assert lines.splitlines()[0] == "2 warnings, all in results/run/warnings.tsv:"
    assert [(each["job"], each["message"]) for each in read_warnings(results / "run/warnings.tsv")] == [
        ("load", "of load"),
        ("qc/00", "of qc/00"),
    ]


def test_a_full_disk_does_not_hide_the_warnings(tmp_path, capsys):
    (tmp_path / "warnings").mkdir()
    _warnings.write_warnings(
        tmp_path / "warnings/load.tsv", "load", [{"code": CODE, "message": "m", "number": 1, "setting": ""}]
    )
    (tmp_path / "run").write_text("in the way")
    assert f"  {CODE}: m\n" in _warnings.write_run_warnings(
        tmp_path, [tmp_path / "warnings/load.tsv"], accept=[]
    )
    assert "warnings not written to" in capsys.readouterr().err


def test_the_step_is_that_of_the_log_whatever_a_module_adds():
    assert _warnings.step_of("results/logs/qc/00.log") == "qc"
    assert _warnings.step_of("other/logs/x/results/logs/load.log") == "load"


def test_the_terminal_shows_no_more_lines_however_many_codes_there_are():
    rows = [row(f"code_{number:02}") | {"accepted": "False"} for number in range(30)]
    lines = summarise_warnings(rows, "w.tsv").splitlines()
    assert len(lines) == 1 + _warnings.LINES + 1
    assert lines[-1] == f"  and {30 - _warnings.LINES} more"
