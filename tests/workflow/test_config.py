"""What is wrong in a config stops the run before any job, in one line that names it."""

import pytest
import yaml

REFUSED = [
    ({"qc": {"min_gene": 3}}, ["qc: Additional properties are not allowed ('min_gene' was unexpected)"]),
    (
        {"cohort": {"path": "nowhere.h5ad"}, "gene_sets": [], "ridge": {"target": "bmi"}},
        ["ridge.target: 'bmi' is not a covariate", "cohort.path: nowhere.h5ad does not exist"],
    ),
]


@pytest.mark.parametrize(("overlay", "messages"), REFUSED, ids=["schema", "two at once"])
def test_a_wrong_config_is_refused_in_a_line_per_problem(checkout, overlay, messages):
    (checkout.folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    done = checkout.attempt("--cores", "1", "--configfile", "overlay.yaml")
    assert done.returncode != 0
    lines = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("Config file")]
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert line.startswith(f"error: {message}")
    assert not (checkout.folder / "results").exists()


@pytest.mark.parametrize(
    "form",
    [
        ["--profile", "profiles/local"],
        ["--workflow-profile", "local"],
        ["--profile", "local", "--cores", "3"],
        ["--profile", "slurm"],
        ["--profile", "profiles/slurm"],
        ["--profile", "profiles/ci"],
    ],
    ids=" ".join,
)
def test_each_form_of_naming_a_profile_plans_the_run(checkout, form):
    assert "pseudobulk" in checkout.snakemake(*form, "--dry-run")


def test_without_a_cohort_the_demo_is_planned_and_said_so(checkout):
    line = "no cohort is set (cohort.path, cohort.url): the demo of config/demo.yaml is analysed"
    plan = checkout.snakemake("--profile", "profiles/local", "--dry-run")
    assert line in plan.splitlines()[:2]
    assert "rule simulate" in plan
    (checkout.folder / "mine.h5ad").touch()
    (checkout.folder / "mine.yaml").write_text("cohort: {path: mine.h5ad}\n")
    plan = checkout.snakemake("--profile", "profiles/local", "--dry-run", "--configfile", "mine.yaml")
    assert line not in plan
    assert "rule simulate" not in plan
    assert "rule contrasts" not in plan


def test_a_profile_that_does_not_exist_fails(checkout):
    assert checkout.attempt("--profile", "profiles/nowhere", "--dry-run").returncode != 0
