"""Warnings of a run: told at its end, in the release and on the page; accepted or refused later on."""

import csv

import yaml

PROFILE = ("--profile", "profiles/local")
CODE = "doublets_not_scored"  # the demo has small donors


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def overlay(checkout, **section):
    (checkout.folder / "overlay.yaml").write_text(yaml.safe_dump({"warnings": section}))
    return (*PROFILE, "--configfile", "overlay.yaml")


def test_the_demo_warns_of_its_small_donors_everywhere(demo_run):
    results = demo_run.folder / "results"
    found = rows(results / "run/warnings.tsv")
    assert CODE in {row["code"] for row in found}
    assert {row["job"] for row in found if row["code"] == CODE} <= {"doublets/00", "doublets/01"}
    published = rows(results / "publish/v1/warnings.tsv")
    keys = ("code", "step", "message", "number", "setting", "accepted")
    assert {tuple(row[key] for key in keys) for row in found} == {tuple(row.values()) for row in published}
    page = (results / "publish/v1/report.html").read_text(encoding="utf-8")
    box = page.split('<section id="warnings"')[1].split("</section>")[0]
    assert f"{len(published)} warnings</h2>" in box
    assert all(f"<code>{row['code']}</code>" in box for row in published)


def test_a_run_with_nothing_to_do_keeps_them(demo):
    files = [demo.folder / "results" / name for name in ("run/warnings.tsv", "warnings.tsv")]
    before = [file.read_bytes() for file in files]
    assert "Nothing to be done" in demo.snakemake(*PROFILE)
    assert [file.read_bytes() for file in files] == before


def test_a_part_of_the_run_tells_the_warnings_of_the_jobs_before_it(demo):
    """Only `cells` runs; the jobs of doublets are done, and what they warned of is told."""
    printed = demo.snakemake(*PROFILE, "--forcerun", "cells", "--", "results/cells/attrition.tsv")
    assert "rule doublets" not in printed
    assert f"warnings, all in results/run/warnings.tsv:\n  {CODE}: " in printed
    assert {row["step"] for row in rows(demo.folder / "results/run/warnings.tsv")} == {"doublets", "cells"}


def test_accepted_codes_are_marked_and_not_told_again(demo):
    before = rows(demo.folder / "results/publish/v1/warnings.tsv")
    arguments = overlay(demo, accept=[CODE], error=[])
    assert set(demo.plan(*arguments[2:])) == {"provenance", "warning_table", "report", "publish"}
    printed = demo.snakemake(*arguments)
    published = rows(demo.folder / "results/publish/v1/warnings.tsv")
    assert {row["code"]: row["accepted"] for row in published}[CODE] == "True"
    assert [row["message"] for row in published] == [row["message"] for row in before]
    told = printed.split("all in results/run/warnings.tsv:")[1]
    assert CODE not in told
    number = sum(row["code"] == CODE for row in published)
    assert f"({number} accepted not shown), all in" in printed


def test_an_error_stops_a_run_whose_steps_are_done(demo):
    done = demo.attempt(*overlay(demo, accept=[], error=[CODE]))
    assert done.returncode != 0
    assert f"warnings.error makes {CODE} an error" in done.stdout
    assert "Traceback" not in done.stdout
    assert "rule doublets" not in done.stdout  # what is done is not done again
    assert f"warnings, all in results/run/warnings.tsv:\n  {CODE}: " in done.stdout
    assert "1 failure of category configuration:\n  warning_table, attempt 1:" in done.stdout


def test_an_error_stops_the_job_that_would_warn(demo):
    arguments = overlay(demo, accept=[], error=[CODE])
    done = demo.attempt(*arguments, "--forcerun", "doublets", "--", "results/doublets/00.parquet")
    assert done.returncode != 0
    assert f"warnings.error makes {CODE} an error" in done.stdout
    assert not (demo.folder / "results/doublets/00.parquet").exists()


def test_a_rerun_that_warns_of_something_else_changes_the_table(demo):
    """A pattern that matches nothing: each shard warns of it, and it is in the table once."""
    table = demo.folder / "results/warnings.tsv"
    assert [row for row in rows(table) if row["step"] == "qc"] == []
    (demo.folder / "overlay.yaml").write_text(
        yaml.safe_dump({"qc": {"patterns": {"human": {"mt": "MTX-.*"}}}})
    )
    demo.snakemake(*PROFILE, "--configfile", "overlay.yaml", "--", "results/warnings.tsv")
    assert [row["setting"] for row in rows(table) if row["step"] == "qc"] == ["qc.patterns.human.mt"]
    found = [row["job"] for row in rows(demo.folder / "results/run/warnings.tsv") if row["step"] == "qc"]
    assert found == ["qc/00", "qc/01"]
