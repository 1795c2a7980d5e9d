"""Growth and prediction on runs whose cost is a known function of cells."""

import numpy as np
import pandas as pd
import pytest

import growth

SHARD = growth.CELLS_PER_SHARD


def one_job(rule, wildcards, work, startup, peak):
    return {
        "rule": rule,
        "wildcards": wildcards,
        "work_s": work,
        "startup_s": startup,
        "wall_s": work + startup,
        "cpu_s": 2 * work,
        "peak_mb": peak,
    }


def run(cells):
    """Qc: linear, two shards; dimred: cells^1.5; join: constant. Wall is half of what the jobs take."""
    table = [one_job("qc", f"shard={n:02d}", cells / 2 / 1000, 3, 200 + 0.01 * cells / 2) for n in range(2)]
    table.append(one_job("dimred", "", (cells / 1000) ** 1.5 / 10, 5, 500 + 0.02 * cells))
    table.append(one_job("join", "", 0.5, 1, 150))
    jobs = pd.DataFrame(table)
    line = {
        "cells": cells,
        "donors": cells // 1273,
        "shards": 2,
        "cores": 2,
        "wall_s": jobs["wall_s"].sum() / 2,
        "cpu_s": jobs["cpu_s"].sum(),
        "peak_job_mb": jobs["peak_mb"].max(),
        "peak_tree_mb": 1000.0,
    }
    return line, jobs


RUNS = [run(cells) for cells in (25_000, 100_000, 400_000)]


@pytest.fixture(scope="module")
def table():
    return growth.growth(growth.per_size(RUNS), 1_600_000).set_index("rule")


def test_exponents_are_found_and_steep_rules_named(table):
    assert table["work_exponent"].to_dict() == pytest.approx({"dimred": 1.5, "qc": 1, "join": 0}, abs=1e-9)
    assert table["cpu_last"].to_dict() == pytest.approx({"dimred": 1.5, "qc": 1, "join": 0}, abs=1e-9)
    assert table.index[table["steep"]].tolist() == ["dimred"]


def test_cost_is_extrapolated_with_start_up_per_job(table):
    # 4 x 400,000 cells: work x 4 (qc), x 8 (dimred); start-up once, or once per shard
    shards = 1_600_000 / SHARD
    assert table.loc["qc", "wall_s"] == pytest.approx(1600 + 3 * shards)
    assert table.loc["dimred", "wall_s"] == pytest.approx(8 * 400**1.5 / 10 + 5)
    assert table.loc["join", "wall_s"] == pytest.approx(1.5)
    assert table.loc["qc", "cpu_s"] == pytest.approx(3200)


def test_memory_follows_the_cells_of_a_job(table):
    assert table.loc["qc", "peak_mb"] == pytest.approx(200 + 0.01 * SHARD)
    assert table.loc["dimred", "peak_mb"] == pytest.approx(500 + 0.02 * 1_600_000)
    assert table.loc["join", "peak_mb"] == pytest.approx(150)


def test_a_cost_that_bends_upwards_is_extrapolated_by_its_last_step():
    cost = {cells: 100 + (cells / 100_000) ** 2 * 100 for cells in (25_000, 100_000, 400_000)}
    runs = [
        ({"cells": cells}, pd.DataFrame([one_job("bend", "", work, 0, 100)])) for cells, work in cost.items()
    ]
    bend = growth.growth(growth.per_size(runs), 1_600_000).iloc[0]
    assert bend["work_exponent"] < bend["work_last"] < 2
    assert bend["wall_s"] == pytest.approx(cost[400_000] ** 2 / cost[100_000])  # the same factor once more


def test_the_wall_is_packed_as_in_the_largest_run(table):
    wall = growth.predicted_wall(table, RUNS)
    assert wall["serial"] == pytest.approx(table["wall_s"].sum())
    assert wall["packed"] == pytest.approx(wall["serial"] / 2)
    assert wall["cpu"] == pytest.approx(table["cpu_s"].sum() / 2)


def test_memory_that_shrinks_is_not_extrapolated():
    assert growth.line_through(np.array([1, 2, 3]), np.array([30, 20, 10])) == (30, 0)


def test_one_size_is_not_enough():
    with pytest.raises(ValueError, match="two sizes needed"):
        growth.growth(growth.per_size(RUNS[:1]), 1_000_000)


def test_the_report_names_what_matters():
    text = growth.report(RUNS[::-1], 1_600_000)
    assert "steeper than cells^1.15: dimred" in text
    assert "1,600,000 cells on 2 cores" in text
    assert "largest job 32,500 MB (dimred)" in text
