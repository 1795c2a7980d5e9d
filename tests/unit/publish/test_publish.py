"""The release holds what the steps wrote, the same bytes twice, and is published whole or not at all."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from files import read_in_order
from job import InputError
from publish import check_release, read_current
from publish._cohort_file import describe_cells, index_type, write_cohort
from publish.provenance import describe
from publish.publish import build, describe_inputs, gather, publish
from verify import verify

ROOT = Path(__file__).parent.parent.parent.parent


def digests(folder):
    """sha256 of every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_a_table_in_parts_is_the_table_in_one(tmp_path, suffix):
    """Byte for byte, so that a release does not depend on how many jobs tested the cell types."""
    whole = pd.DataFrame({"cell_type": ["t", "t", "b"], "gene": ["a", "NA", ""], "p": [0.1, np.nan, 1e-300]})
    for name, table in {"whole": whole, "0": whole[:2], "1": whole[2:], "2": whole[:0]}.items():
        if suffix == "tsv":
            table.to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
        else:
            table.reset_index(drop=True).to_parquet(tmp_path / f"{name}.parquet", index=False)
    places = [
        {"path": f"out/whole.{suffix}", "parts": 1},
        {"path": f"out/parts.{suffix}", "parts": 3},
    ]
    gather(places, [str(tmp_path / f"{name}.{suffix}") for name in ("whole", "0", "1", "2")], tmp_path)
    assert (tmp_path / places[0]["path"]).read_bytes() == (tmp_path / places[1]["path"]).read_bytes()


def test_a_release_holds_the_tables_of_the_steps(small, tmp_path):
    paths, params = small
    (tmp_path / "release").mkdir()
    build(tmp_path / "release", paths, params)
    results, release = tmp_path / "results", tmp_path / "release"
    assert digests(release)["cells.parquet"] == digests(results)["cells/cells.parquet"]
    assert digests(release)["sums.h5ad"] == digests(results)["pseudobulk/sums.h5ad"]
    joined = pd.read_parquet(release / "differential/age.parquet")
    parts = list(dict.fromkeys(joined["cell_type"]))
    assert len(parts) == 2
    for cell_type, part in joined.groupby("cell_type"):
        own = pd.read_parquet(results / f"differential/age/{parts.index(cell_type):02d}.parquet")
        pd.testing.assert_frame_equal(part.reset_index(drop=True), own)
    manifest = json.loads((release / "manifest.json").read_text())
    entry = next(entry for entry in manifest["files"] if entry["path"] == "samples.tsv")
    samples = (release / "samples.tsv").read_bytes()
    assert entry == {
        "path": "samples.tsv",
        "schema": "samples",
        "bytes": len(samples),
        "rows": 4,
        "sha256": hashlib.sha256(samples).hexdigest(),
    }
    rows = {entry["path"]: entry["rows"] for entry in manifest["files"]}
    assert (rows["cells.parquet"], rows["cohort.h5ad"], rows["sums.h5ad"], rows["run.json"]) == (
        43,
        40,
        9,
        None,
    )
    inputs = json.loads((release / "provenance.json").read_text())["inputs"]
    assert inputs["gene_sets"] == describe_inputs([str(results / "sets.gmt")])
    assert inputs["gene_sets"][0]["sha256"] == hashlib.sha256(b"set\t\tG1\tG2\n").hexdigest()


def test_cohort_h5ad_is_the_kept_cells_in_input_order(small, small_release):
    paths, _ = small
    cohort = ad.read_h5ad(small_release / "cohort.h5ad")
    cells = pd.read_parquet(paths.cells)
    kept = cells[cells["kept"]].set_index("cell")
    assert list(cohort.obs_names) == list(kept.index)
    assert cohort.X.dtype == np.float32
    assert sparse.issparse(cohort.X)
    assert cohort.X.has_sorted_indices
    assert cohort.X.indptr.dtype == cohort.X.indices.dtype  # numba, in scanpy, refuses anything else
    shards = [ad.read_h5ad(path) for path in paths.shards]
    for cell in ("cell01", "cell02", "cell42"):  # of both shards
        own = next(shard for shard in shards if cell in shard.obs_names)
        np.testing.assert_array_equal(cohort[cell].X.toarray(), own[cell].X.toarray())
    np.testing.assert_array_equal(np.asarray(cohort.X.sum(axis=1)).ravel(), kept["total_counts"])
    for name, column in kept.drop(columns=["donor", "shard", "step", "reason"]).items():
        assert list(cohort.obs[name]) == list(column), name
    assert list(cohort.obs["donor_id"]) == list(kept["donor"])
    ages = {"s0": 20.0, "s1": 30.0, "s2": 40.0}
    assert list(cohort.obs["age"].fillna(-1)) == [ages.get(sample, -1) for sample in kept["sample"]]
    maps = pd.read_parquet(paths.umap).set_index("cell").loc[kept.index]
    np.testing.assert_array_equal(cohort.obsm["X_umap"], maps.to_numpy(dtype=np.float32))
    assert list(cohort.var["feature_name"]) == [f"G{number}" for number in range(6)]


def test_cohort_h5ad_follows_the_conventions_of_cellxgene(small_release):
    """Schema 5: raw counts in float32 CSR, categories, finite maps named X_..., a default one, symbols."""
    cohort = ad.read_h5ad(small_release / "cohort.h5ad")
    assert {"donor_id", "cell_type", "leiden_0.5"} <= set(cohort.obs)
    for name in ("donor_id", "cell_type", "sample", "pool", "leiden_0.5"):
        assert isinstance(cohort.obs[name].dtype, pd.CategoricalDtype), name
        assert not (cohort.obs[name].cat.categories == "").any()
    assert cohort.obs_names.is_unique
    assert cohort.var_names.is_unique
    assert cohort.uns["default_embedding"] in cohort.obsm
    for name, values in cohort.obsm.items():
        assert name.startswith("X_")
        assert values.shape[1] >= 2
        assert np.isfinite(values).all()
    assert "feature_name" in cohort.var
    assert not [name for name in [*cohort.obs, *cohort.var] if name.startswith("_") or "/" in name]


def test_blocks_of_any_size_give_the_same_counts(small):
    paths, _ = small
    cells = pd.read_parquet(paths.cells)
    whole = sparse.vstack(list(read_in_order(paths.shards, cells))).toarray()
    for size in (1, 7, 43):
        blocks = list(read_in_order(paths.shards, cells, block=size))
        assert max(block.shape[0] for block in blocks) <= size
        np.testing.assert_array_equal(sparse.vstack(blocks).toarray(), whole)


def test_cells_that_do_not_match_are_refused(small):
    paths, _ = small
    cells = pd.read_parquet(paths.cells)
    with pytest.raises(ValueError, match=r"00\.h5ad: its cells are not in the order of the input"):
        list(read_in_order(paths.shards, cells.iloc[::-1]))
    samples = pd.read_csv(paths.samples, sep="\t")
    clusters = pd.read_parquet(paths.clusters[0])[:-1]
    with pytest.raises(ValueError, match="the table has 39 cells, not the 40 kept cells"):
        describe_cells(cells, samples, [], {"0.5": clusters})


def test_clusters_are_in_the_order_of_their_numbers(small):
    paths, _ = small
    cells = pd.read_parquet(paths.cells)
    samples = pd.read_csv(paths.samples, sep="\t")
    clusters = pd.read_parquet(paths.clusters[0])
    clusters["cluster"] = ["2", "10"] * 20
    obs = describe_cells(cells, samples, [], {"1.0": clusters})
    assert list(obs["leiden_1.0"].cat.categories) == ["2", "10"]
    assert obs.loc[clusters["cell"].iloc[1], "leiden_1.0"] == "10"


def test_a_covariate_that_names_the_donor_leaves_the_donors_text(small):
    """A paired design has the donor among its covariates, and samples.tsv has its numbers as numbers."""
    paths, _ = small
    cells = pd.read_parquet(paths.cells)
    samples = pd.read_csv(paths.samples, sep="\t").assign(donor_id=lambda table: range(len(table)))
    obs = describe_cells(cells, samples, ["donor_id"], {})
    assert list(obs["donor_id"]) == list(cells.loc[cells["kept"], "donor"].astype(str))


def test_indices_are_of_one_type_that_can_count_all_values(tmp_path):
    """Above 2^31 values a CSR matrix needs long indices: OneK1K has about half of that."""
    with h5py.File(tmp_path / "shard.h5ad", "w") as file:
        file.create_dataset("X/data", shape=(2**30,), chunks=(2**20,), dtype=np.int8)  # takes no space
    assert index_type([tmp_path / "shard.h5ad"]) is np.int32
    assert index_type([tmp_path / "shard.h5ad"] * 2) is np.int64
    obs, var = pd.DataFrame(index=["a"], dtype=object), pd.DataFrame(index=["g"], dtype=object)
    block = sparse.csr_array(np.array([[3]]))
    for index in (np.int32, np.int64):
        path = tmp_path / f"{index.__name__}.h5ad"
        write_cohort(str(path), obs, var, iter([]), iter([block]), index)
        with h5py.File(path) as file:
            assert file["X/indptr"].dtype == file["X/indices"].dtype == index


def test_a_count_that_float32_cannot_hold_is_refused(tmp_path):
    obs, var = pd.DataFrame(index=["a"]), pd.DataFrame(index=["g"])
    block = sparse.csr_array(np.array([[2**24]]))
    with pytest.raises(ValueError, match="a count of 16777216 is too large for float32"):
        write_cohort(
            str(tmp_path / "x.h5ad"), obs.astype(object), var.astype(object), iter([]), iter([block])
        )


def test_without_counts_there_is_no_x_and_the_release_is_whole(small, tmp_path):
    paths, params = small
    provenance = json.loads(Path(paths.provenance).read_text())
    config = provenance["config"] | {"publish": {"counts": False}}
    facts = describe(config=config)
    Path(paths.provenance).write_text(json.dumps(provenance | facts) + "\n")
    params.counts = False
    publish(tmp_path / "publish", paths, params)
    cohort = ad.read_h5ad(tmp_path / "publish/v1/cohort.h5ad")
    assert cohort.X is None
    assert cohort.shape == (40, 6)


def test_the_same_content_is_the_same_release_byte_by_byte(small, tmp_path):
    """But for run.json and the entry about it in the manifest; also in another second."""
    paths, params = small
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first = build(tmp_path / "one", paths, params)
    time.sleep(1.1)
    assert build(tmp_path / "two", paths, params) == first
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert {name for name in one if one[name] != two[name]} == {"run.json", "manifest.json"}
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("one", "two")]
    entries = [{entry["path"]: entry for entry in manifest["files"]} for manifest in manifests]
    assert [path for path in entries[0] if entries[0][path] != entries[1][path]] == ["run.json"]


def test_publishing_again_changes_nothing_and_other_content_makes_another_release(small, tmp_path):
    paths, params = small
    place = tmp_path / "publish"
    first, _ = publish(place, paths, params)
    before = digests(place)
    assert publish(place, paths, params)[0] == first
    assert digests(place) == before
    provenance = json.loads(Path(paths.provenance).read_text())
    Path(paths.provenance).write_text(json.dumps(provenance | {"commit": "another"}) + "\n")
    second, _ = publish(place, paths, params)
    assert second != first
    assert sorted(os.listdir(place / "releases")) == sorted([first, second])
    assert read_current(place) == second
    assert verify(place / "v1") == []


def test_a_release_that_was_changed_is_not_published_again(small, tmp_path):
    paths, params = small
    place = tmp_path / "publish"
    release, _ = publish(place, paths, params)
    (place / "releases" / release / "samples.tsv").write_text("x\n")
    with pytest.raises(InputError, match=f"{release}: was changed after it was published; remove it"):
        publish(place, paths, params)
    assert not list(place.glob(".tmp-*"))


def test_what_is_not_whole_is_not_published(small, tmp_path):
    paths, params = small
    place = tmp_path / "publish"
    release, _ = publish(place, paths, params)
    table = pd.read_csv(paths.samples, sep="\t").iloc[:2]
    table.to_csv(paths.samples, sep="\t", index=False)
    with pytest.raises(
        RuntimeError, match=r"verify.py found problems: error: cells\.parquet: 's2' is not a sample"
    ):
        publish(place, paths, params)
    assert read_current(place) == release
    assert os.listdir(place / "releases") == [release]
    assert not list(place.glob(".tmp-*"))


PUBLISH_AGAIN = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
paths, params = (SimpleNamespace(**part) for part in json.loads(Path(sys.argv[1]).read_text()))
from publish.publish import publish
print("ready", flush=True)
publish(Path(sys.argv[2]), paths, params)
"""


def test_killed_at_any_time_the_old_or_the_new_release_is_whole(small, tmp_path):
    """The real job, killed from outside: soon, in the middle, late; every time v1 is a whole release."""
    paths, params = small
    place = tmp_path / "publish"
    old, _ = publish(place, paths, params)
    provenance = json.loads(Path(paths.provenance).read_text())
    Path(paths.provenance).write_text(json.dumps(provenance | {"commit": "another"}) + "\n")
    (tmp_path / "given.json").write_text(json.dumps([vars(paths), vars(params)]))
    command = [sys.executable, "-c", PUBLISH_AGAIN, tmp_path / "given.json", place]
    folders = os.pathsep.join(str(ROOT / name) for name in ("scripts", "scripts/publish"))
    seen = []
    for moment in ("started", "building", "built", "done"):
        job = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": folders}, stdout=subprocess.PIPE, text=True
        )
        assert job.stdout.readline() == "ready\n"
        wanted = {"building": "cells.parquet", "built": "manifest.json"}.get(moment)
        while wanted and job.poll() is None and not list(place.glob(f".tmp-release-*/{wanted}")):
            time.sleep(0.001)
        if moment == "done":
            job.wait()
        job.send_signal(signal.SIGKILL)
        job.wait()
        job.stdout.close()
        assert verify(place / "v1") == [], moment
        assert all(verify(release) == [] for release in (place / "releases").iterdir())
        seen.append(read_current(place))
    assert seen[:3] == [old] * 3
    assert seen[3] != old
    assert not list(place.glob(".tmp-*"))


def test_the_program_says_what_is_wrong_with_a_folder(tmp_path):
    assert (
        check_release(tmp_path) == f"error: {tmp_path}: has no manifest.json; name the folder of a release\n"
    )


def test_provenance_has_the_digest_and_the_seed_of_the_config():
    config = {"random_state": 3, "b": [1], "a": None}
    facts = describe(config=config, commit="c0ffee")
    text = b'{"a":null,"b":[1],"random_state":3}'
    assert facts["config_sha256"] == hashlib.sha256(text).hexdigest()
    assert (facts["random_state"], facts["commit"], facts["config"]) == (3, "c0ffee", config)
