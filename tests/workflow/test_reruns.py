"""A finished run is finished; an edit reruns what it touches and nothing else."""

import yaml

CELLS_ON = {"cells", "preprocess", "dimred", "layout", "cluster", "markers", "pseudobulk", "samples"}


def overlay(checkout, content):
    (checkout.folder / "overlay.yaml").write_text(yaml.safe_dump(content))
    return checkout.plan("--configfile", "overlay.yaml")


def edit(checkout, path, old, new):
    file = checkout.folder / path
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_a_second_run_has_nothing_to_do_in_place(demo_run):
    assert demo_run.plan() == {}


def test_a_second_run_has_nothing_to_do_after_moving_the_folder(demo_run):
    """Moved, not copied, so that nothing can be found where it was made; and back again."""
    moved = demo_run.folder.rename(demo_run.folder.with_name("moved"))
    try:
        assert type(demo_run)(moved).plan() == {}
    finally:
        moved.rename(demo_run.folder)


def test_one_more_alpha_runs_one_job_and_the_summary(demo):
    alphas = yaml.safe_load((demo.folder / "config/config.yaml").read_text())["ridge"]["alpha"]
    planned = overlay(demo, {"ridge": {"alpha": [*alphas, 31.6]}})
    assert planned == {"ridge": 1, "ridge_summary": 1}


def test_another_baseline_runs_no_ridge(demo):
    baselines = [{"name": "cells", "columns": ["log_cells"]}]
    assert overlay(demo, {"ridge": {"baselines": baselines}}) == {"baselines": 1, "ridge_summary": 1}
    assert overlay(demo, {"ridge": {"bootstraps": 100}}) == {"ridge_summary": 1}


def test_no_target_plans_no_prediction(demo):
    (demo.folder / "results/ridge/summary.tsv").unlink()
    assert overlay(demo, {"ridge": {"target": None}}) == {
        "provenance": 1,
        "report": 1,
        "publish": 1,
        "warning_table": 1,
    }


def test_one_more_resolution_runs_only_its_cluster_and_the_markers(demo):
    assert overlay(demo, {"cluster": {"resolution": [0.5, 1.0, 2.0]}}) == {"cluster": 1, "markers": 1}


def test_a_threshold_reruns_its_descendants_and_nothing_else(demo):
    planned = overlay(demo, {"qc": {"max_pct_mt": 15}})
    assert set(planned) == {"qc", "doublets"} | CELLS_ON
    assert planned["qc"] == 2


def test_a_setting_of_the_donor_branch_leaves_the_embedding_alone(demo):
    planned = overlay(demo, {"differential": {"min_count": 5}})
    assert set(planned) == {"differential", "synthesis", "gsea", "overrepresentation"}


def test_a_setting_of_the_embedding_leaves_the_donor_branch_alone(demo):
    assert set(overlay(demo, {"dimred": {"n_neighbors": 10}})) == {"dimred", "layout", "cluster", "markers"}


def test_an_edited_script_reruns_its_jobs_and_what_follows(demo):
    edit(demo, "scripts/pathways/overrepresentation.py", '"""', '"""Edited. ')
    assert set(demo.plan()) == {"overrepresentation"}
    edit(demo, "scripts/embedding/dimred.py", '"""', '"""Edited. ')
    assert set(demo.plan()) == {"overrepresentation", "dimred", "layout", "cluster", "markers"}


def test_an_edited_helper_module_reruns_every_step_that_imports_it(demo):
    edit(demo, "scripts/job/_context.py", '"""', '"""Edited. ')
    assert {"simulate", "load", "qc", "pseudobulk"} <= set(demo.plan())


def test_a_lost_answer_is_made_again_and_nothing_else(demo):
    (demo.folder / "results/composition/age/cell_types.tsv").unlink()
    assert demo.plan() == {"composition": 1}


def test_the_partial_targets_are_part_of_the_whole(demo):
    for target in ("cells_only", "embedding_only", "donors_only"):
        assert demo.plan("--", target) == {}
