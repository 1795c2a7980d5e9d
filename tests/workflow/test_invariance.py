"""Results do not depend on how many shards hold the cohort, how many jobs or how many threads work on it.

The demo run has two shards, two threads and several cell types in a job of `differential`; the others one.
Tables of cells, genes and sums must be the same bit by bit; components up to their sign and rounding;
clusters as sets of cells.
"""

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import adjusted_rand_score

EXACT = ["cells/cells.parquet", "cells/attrition.tsv", "filter/samples.tsv", "filter/cell_types.tsv"]
EXACT += ["load/genes.parquet", "pseudobulk/cell_types.tsv", "preprocess/batches.tsv"]
DONOR_BRANCH = ["differential", "synthesis", "composition", "gsea", "overrepresentation", "ridge"]
COMPONENTS = 1e-4  # of a component's standard deviation: sums over shards are rounded in another order


def table(path):
    """A table with rows in a stated order: that of its first columns."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def per_shard(results, step):
    """The tables of all shards of a step, in the order of the cells' names."""
    parts = [pd.read_parquet(path) for path in sorted((results / step).glob("[0-9]*.parquet"))]
    return pd.concat(parts).sort_values("cell", ignore_index=True)


def tables_of(results, step):
    """Every table of a step, by its path; the parts 00, 01, ... of one are joined."""
    parts = {}
    for path in sorted((results / step).rglob("*")):
        if path.suffix in (".parquet", ".tsv"):
            name = re.sub(r"^\d\d(?=\.)", "part", path.name)
            parts.setdefault(path.with_name(name).relative_to(results), []).append(table(path))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


@pytest.fixture(scope="module")
def base(demo_run):
    return demo_run.folder / "results"


@pytest.fixture(scope="module")
def run_with(base, new_checkout, tmp_path_factory):
    """Results of a run on the demo cohort with other shards and threads; on one thread to the end."""
    done = {}

    def results(shards, threads):
        if (shards, threads) not in done:
            run = new_checkout(tmp_path_factory.mktemp("invariance") / "scohort")
            overlay = {"load": {"shards": shards}, "differential": {"cell_types_per_job": 1}}
            (run.folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
            (run.folder / "results/simulate").mkdir(parents=True)
            for file in (base / "simulate").iterdir():
                (run.folder / "results/simulate" / file.name).hardlink_to(file)
            targets = ["all"] if threads == 1 else ["embedding_only", "results/pseudobulk/sums.h5ad"]
            settings = ["--cores", str(threads), "--configfile", "overlay.yaml"]
            run.snakemake("--profile", "profiles/local", *settings, "--", *targets)
            done[shards, threads] = run.folder / "results"
        return done[shards, threads]

    return results


@pytest.fixture(scope="module", params=[(1, 2), (3, 2), (7, 1)], ids="{0[0]} shards, {0[1]} threads".format)
def other(request, run_with):
    return run_with(*request.param)


def test_cells_genes_and_decisions_are_the_same(base, other):
    for name in EXACT:
        left, right = table(base / name), table(other / name)
        columns = [column for column in left if column != "shard"]
        pd.testing.assert_frame_equal(left[columns], right[columns], check_exact=True, obj=name)


@pytest.mark.parametrize("step", ["qc", "doublets"])
def test_measures_of_cells_are_the_same(base, other, step):
    pd.testing.assert_frame_equal(per_shard(base, step), per_shard(other, step), check_exact=True)


def test_sums_are_the_same(base, other):
    left, right = (ad.read_h5ad(folder / "pseudobulk/sums.h5ad") for folder in (base, other))
    pd.testing.assert_frame_equal(left.obs, right.obs)
    pd.testing.assert_frame_equal(left.var, right.var)
    assert (left.X != right.X).nnz == 0


def test_variable_genes_are_the_same(base, other):
    left, right = (table(folder / "preprocess/genes.parquet") for folder in (base, other))
    ranked = ["gene_id", "highly_variable", "highly_variable_nbatches", "highly_variable_rank", "nuisance"]
    pd.testing.assert_frame_equal(left[ranked], right[ranked], check_exact=True)
    pd.testing.assert_frame_equal(left, right, rtol=1e-9)


def test_components_are_the_same_up_to_sign(base, other):
    left, right = (table(folder / "preprocess/pca.parquet").set_index("cell") for folder in (base, other))
    right = right.loc[left.index]
    sign = np.sign((left * right).sum())
    off = ((left - sign * right).abs().max() / left.std()).max()
    print(f"components differ by {off:.1e} standard deviations at most")
    assert off < COMPONENTS


def test_clusters_are_the_same_cells(base, other):
    for path in sorted((base / "cluster").glob("resolution_*.parquet")):
        left, right = (table(folder / "cluster" / path.name).set_index("cell") for folder in (base, other))
        ari = adjusted_rand_score(left["cluster"], right["cluster"].loc[left.index])
        print(f"{path.stem}: ARI {ari:.4f}")
        assert ari > 0.99


@pytest.mark.parametrize("step", DONOR_BRANCH)
def test_answers_of_the_donor_branch_are_the_same(base, run_with, step):
    others = run_with(7, 1)
    assert len(list((others / "differential").rglob("*.parquet"))) > len(
        list((base / "differential").rglob("*.parquet"))
    )
    left, right = tables_of(base, step), tables_of(others, step)
    assert left.keys() == right.keys() != set()
    for name, values in left.items():
        pd.testing.assert_frame_equal(values, right[name], check_exact=True, obj=str(name))
