"""The model of requests lies above every job and is the closest such line."""

import numpy as np
import pandas as pd
import pytest
import yaml

import resources


def test_the_line_touches_the_upper_points():
    x, y = np.array([0.0, 10.0, 10.0, 20.0]), np.array([100.0, 150.0, 90.0, 200.0])
    assert resources.line_above(x, y) == pytest.approx((100, 5))
    assert resources.line_above(x, np.array([100.0, 50.0, 60.0, 20.0])) == pytest.approx((100, 0))


@pytest.mark.parametrize("seed", range(5))
def test_no_job_of_the_runs_is_above_its_request(seed):
    rng = np.random.default_rng(seed)
    jobs = pd.DataFrame({"rule": "qc", "input_mb": rng.uniform(1, 900, 40)})
    jobs["peak_mb"] = 200 + 3 * jobs["input_mb"] + rng.uniform(0, 300, 40)
    jobs["wall_s"] = 3 + jobs["input_mb"] / 10
    model = resources.fit(jobs)["qc"]
    asked = model["mem_mb"] + model["mem_mb_per_input_mb"] * jobs["input_mb"]
    step = asked - resources.SNAKEMAKE_MB
    assert (step >= resources.HEADROOM_MB * jobs["peak_mb"] * 0.999).all()
    assert (step < 2.2 * resources.HEADROOM_MB * jobs["peak_mb"]).all()
    minutes = model["minutes"] + model["minutes_per_input_mb"] * jobs["input_mb"]
    assert (minutes >= jobs["wall_s"] / 60 * 3.99).all()


def test_a_job_that_needs_next_to_nothing_asks_for_the_least():
    jobs = pd.DataFrame(
        {"rule": ["cells"] * 2, "input_mb": [1.0, 2.0], "peak_mb": [27.0, 28.0], "wall_s": 1.0}
    )
    model = resources.fit(jobs)["cells"]
    assert (model["mem_mb"], model["minutes"]) == (500, 15)


def test_numbers_are_rounded_up_to_two_digits():
    assert [resources.rounded_up(value) for value in (0.0, 0.0123, 1.21, 5.0, 123.0)] == [
        0,
        0.013,
        1.3,
        5,
        130,
    ]


def test_steps_without_a_job_keep_their_line():
    known = {
        "fetch": {"mem_mb": 500, "mem_mb_per_input_mb": 0},
        "qc": {"mem_mb": 1, "mem_mb_per_input_mb": 2},
    }
    head = {"day": "2026-01-01", "commit": "abc", "cpu": "2 cores", "cells": "25,000"}
    written = resources.text({"qc": {"mem_mb": 300, "mem_mb_per_input_mb": 0.5}}, known, head)
    assert yaml.safe_load(written) == {
        "fetch": known["fetch"],
        "qc": {"mem_mb": 300, "mem_mb_per_input_mb": 0.5},
    }
    assert "as no benchmark has them: fetch.\n" in written
