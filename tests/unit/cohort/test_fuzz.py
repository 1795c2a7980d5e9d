"""Random cohorts with flaws combined: cells and counts are conserved, or there is one clear line."""

import json
import os
import re
import tempfile
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from hypothesis import HealthCheck, Phase, given, settings

from cohort import list_files
from files import read_tsv
from job import InputError
from odd_cohorts import Odd, odd_cohorts
from step_main import run_main

EXAMPLES = os.environ.get("SCOHORT_FUZZ_EXAMPLES")  # a longer run, other cohorts each time
BOUNDED = settings(
    deadline=None,
    max_examples=int(EXAMPLES or 40),
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # a cohort is small already; making it smaller takes minutes
    print_blob=bool(EXAMPLES),
)


def load(odd: Odd, folder: Path) -> str:
    """Write the cohort and run load's main on it; the line of a refusal, empty when it succeeds."""
    (folder / "cohort").mkdir()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*names are not unique")
        path, params = odd.write(folder / "cohort")
    try:
        files = [str(file) for file in list_files(path)]
    except InputError as error:  # Snakemake says it while it plans
        return str(error)
    shards = [str(folder / f"{number:02d}.h5ad") for number in range(params["shards"])]
    tables = {name: str(folder / f"{name}.parquet") for name in ("cells", "samples", "genes")}
    log = run_main(
        "cohort/load.py",
        folder,
        inputs={"cohort": files, **{name: params[name] or [] for name in ("sample_table", "cell_table")}},
        outputs={
            "shards": shards,
            **tables,
            "cohort": str(folder / "cohort.json"),
            "warnings": str(folder / "w.tsv"),
        },
        params=params,
    )
    errors = [line for line in log.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in log, log
    assert len(errors) == (not (folder / "cells.parquet").exists()), log
    return errors[0] if errors else ""


def check_tables(odd: Odd, folder: Path) -> None:
    """Labels, reasons and counts of every input cell are those that were written."""
    cells = pd.read_parquet(folder / "cells.parquet")
    wanted, (names, _) = odd.cells, odd.names()
    assert cells["cell"].tolist() == names
    assert cells["reason"].tolist() == wanted["reason"].tolist()
    for role in ("sample", "donor", "cell_type"):
        assert cells[role].astype(str).tolist() == wanted[role].fillna("").tolist(), role
    used = (wanted["reason"] == "").to_numpy()
    counts = odd.expected().set_axis(names)[used]
    shards = [ad.read_h5ad(folder / f"{number:02d}.h5ad") for number in range(odd.settings["shards"])]
    found = pd.concat(shard.to_df() for shard in shards)
    assert sorted(found.index) == sorted(counts.index)
    assert found.columns.tolist() == counts.columns.tolist()
    np.testing.assert_array_equal(found.loc[counts.index].to_numpy(), counts.to_numpy())
    for shard in shards:
        assert len(shard)
    genes = pd.read_parquet(folder / "genes.parquet")
    assert genes["symbol"].tolist() == odd.symbols()
    assert genes["counts"].tolist() == counts.sum().tolist()
    facts = json.loads((folder / "cohort.json").read_text())
    assert facts["counts"]["input"] == sum(int(part.counts.sum()) for part in odd.parts)
    assert facts["counts"]["usable"] == int(counts.to_numpy().sum())
    assert facts["cells"]["input"] == len(wanted)
    assert facts["cells"]["usable"] + sum(facts["cells"]["unusable"].values()) == len(wanted)


def check_samples(odd: Odd, folder: Path) -> None:
    """Each sample has its donor, its cells and its covariates."""
    samples = pd.read_parquet(folder / "samples.parquet").set_index("sample")
    groups = odd.usable.groupby("sample")
    assert samples["cells"].to_dict() == groups.size().to_dict()
    assert samples["donor"].to_dict() == groups["donor"].first().to_dict()
    for covariate in odd.settings["covariates"]:
        name = covariate["name"]
        known = odd.usable.dropna(subset=f"{name}_value").groupby("sample")[f"{name}_value"].first()
        assert samples[name].dropna().to_dict() == known.to_dict()


def check_warnings(odd: Odd, folder: Path) -> None:
    must, may = odd.codes()
    codes = set(read_tsv(folder / "w.tsv")["code"])
    assert must <= codes <= must | may, (codes, must)


@BOUNDED
@given(odd_cohorts())
def test_cells_and_counts_are_conserved_or_one_line_says_why_not(odd):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        line, refusals = load(odd, folder), odd.refusals()
        if line or refusals:
            assert any(re.search(refusal, line) for refusal in refusals), (line, refusals)
            return
        check_tables(odd, folder)
        check_samples(odd, folder)
        check_warnings(odd, folder)
