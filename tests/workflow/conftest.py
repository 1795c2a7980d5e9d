"""Whole runs, each in a copy of the project in a temporary folder."""

import pytest

from checkout import Checkout


@pytest.fixture(scope="session")
def new_checkout():
    """Makes a fresh copy without results in a folder."""
    return Checkout.create


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    """A fresh copy without results."""
    return Checkout.create(tmp_path / "scohort")


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory) -> Checkout:
    """The default run on the demo cohort, made once; tests must not change it."""
    run = Checkout.create(tmp_path_factory.mktemp("demo") / "scohort")
    run.snakemake("--profile", "profiles/local")
    return run


@pytest.fixture
def demo(demo_run, tmp_path) -> Checkout:
    """A copy of the finished demo that a test may change."""
    return demo_run.clone(tmp_path / "scohort")
