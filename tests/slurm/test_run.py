"""The demo on a real SLURM: where its jobs ran, what they were given, and that the answers are the same."""

import pytest

LOCAL = {"provenance", "warning_table"}  # the localrules that leave a record


@pytest.fixture(scope="module")
def jobs(cluster, slurm_run):
    """Accounting's row of every job beside what Snakemake says that it asked for."""
    known = cluster.jobs(slurm_run.folder)
    asked = slurm_run.submitted()
    assert sorted(known.index) == sorted(asked.index)
    return known.join(asked.rename(columns={"mem_mb": "mem_mb_asked"}))


def test_every_job_but_the_target_ran_in_slurm(jobs, slurm_run):
    assert "localrule all" in slurm_run.printed()
    assert set(jobs["State"]) == {"COMPLETED"}
    records = [record for record in slurm_run.records() if record["task_name"] not in LOCAL]
    ran = sorted((record["task_name"], *record["wildcards"].values()) for record in records)
    assert len(ran) == len(jobs)
    assert sorted({rule for rule, *_ in ran}) == sorted(jobs["rule"].unique())


def test_each_got_the_memory_time_and_processors_of_its_rule(jobs):
    assert list(jobs["mem_mb"]) == list(jobs["mem_mb_asked"])
    assert list(jobs["minutes"]) == list(jobs["runtime"])
    assert list(jobs["cpus"]) == list(jobs["threads"])
    # not one request for all: rules differ, and so do inputs
    assert jobs["mem_mb"].nunique() > 5
    assert set(jobs["cpus"]) == {1, 2, 4}


def test_shards_and_cell_types_spread_over_the_nodes(jobs):
    assert set(jobs["NodeList"]) == {"n1", "n2"}
    many = jobs[jobs["rule"].isin(["qc", "doublets", "differential", "gsea", "ridge"])]
    assert set(many["NodeList"]) == {"n1", "n2"}


def test_the_answers_are_those_of_a_local_run(slurm_run, local_run):
    """Byte for byte: tables, matrices and figures."""
    here, there = local_run.answers(), slurm_run.answers()
    assert sorted(here) == sorted(there)
    assert len(here) > 50
    assert [path for path in here if here[path] != there[path]] == []


def test_records_and_logs_are_kept_as_in_a_local_run(slurm_run):
    records = slurm_run.records()
    assert {record["status"] for record in records} == {"ok"}
    assert {record["attempt"] for record in records} == {1}
    assert len(list((slurm_run.folder / "results/logs").rglob("*.log"))) == len(records)
    assert (slurm_run.folder / "results/run/failures.jsonl").read_text() == ""


def test_the_result_of_each_job_is_printed_where_snakemake_runs(slurm_run):
    found = (slurm_run.folder / "results/run/results.txt").read_text().splitlines()
    assert len(found) == len(slurm_run.records())
    assert [line for line in found if line.endswith(": done")] == []
    assert any(line.startswith("qc 00: ") for line in found)
    printed = slurm_run.printed().splitlines()
    assert [line for line in printed if line in found] == found


def test_what_slurm_itself_printed_is_kept_apart_from_the_results(slurm_run, jobs):
    kept = list((slurm_run.folder / ".snakemake/slurm_logs").rglob("*.log"))
    assert sorted(path.stem for path in kept) == sorted(jobs.index)


def test_a_second_run_has_nothing_to_do(slurm_run):
    arguments = ("--profile", "profiles/slurm", *slurm_run.SMALL, "--dry-run")
    assert "Nothing to be done" in slurm_run.snakemake(*arguments)
