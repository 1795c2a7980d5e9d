"""MuData files, as mudata's format document describes them: the modality of genes with the labels of all."""

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import write_elem

from job import CorruptedInput, InputError
from small_cohort import AGE, CELLS, assert_counts, cohort, expected, run

LACKING = [4, 17]  # cells that the modality of genes does not have


def of_kind(data, kind):
    data = data.copy()
    if kind:
        data.var["feature_types"] = pd.Categorical([kind] * data.n_vars)
    return data


def mudata(path, *, kinds, names=("rna", "prot"), labels=("donor", "age")):
    """An h5mu of two modalities with cells in another order each; some labels stand at the top only."""
    whole = cohort()
    genes = np.delete(np.arange(CELLS), LACKING)[::-1]
    parts = {names[0]: whole[genes].copy(), names[1]: whole[:, :7].copy()}
    place = np.zeros(CELLS, dtype=np.uint32)
    place[genes] = np.arange(1, len(genes) + 1)
    maps = {names[0]: place, names[1]: np.arange(1, CELLS + 1, dtype=np.uint32)}
    shared = whole.obs[list(labels)].copy()
    for label in labels:
        del parts[names[0]].obs[label]
    nullable = ad.settings.override(allow_write_nullable_strings=False)
    with nullable, h5py.File(path, "w", userblock_size=512) as file:
        file.attrs.update({"encoding-type": "MuData", "encoding-version": "0.1.0", "axis": 0})
        write_elem(file, "obs", shared)
        write_elem(file, "var", pd.DataFrame(index=whole.var_names))
        for name, kind in zip(names, kinds, strict=True):
            write_elem(file.require_group("mod"), name, of_kind(parts[name], kind))
            file[f"obsmap/{name}"] = maps[name]
        file["mod"].attrs["mod-order"] = list(names)
    return path, whole[genes].copy()


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (("rna", "prot"), (None, None)),
        (("rna", "prot"), ("Gene Expression", "Antibody Capture")),
        (("gex", "rna"), ("Gene Expression", "Antibody Capture")),
    ],
)
def test_the_modality_of_genes_is_read_with_the_labels_of_all_cells(tmp_path, names, kinds):
    path, genes = mudata(tmp_path / "cohort.h5mu", names=names, kinds=kinds)
    result = run(tmp_path, path, covariates=[AGE])
    assert_counts(result, expected(genes))
    cells = result.cells.set_index("cell")["donor"].astype(str)
    assert cells.to_dict() == genes.obs["donor"].to_dict()
    assert result.samples.set_index("donor")["age"].to_dict() == dict(
        zip(genes.obs["donor"], genes.obs["age"], strict=True)
    )


def test_a_sheet_may_list_it(tmp_path):
    _, genes = mudata(tmp_path / "run1.h5mu", kinds=(None, None))
    (tmp_path / "sheet.tsv").write_text("path\tpool\nrun1.h5mu\tp1\n")
    result = run(tmp_path, tmp_path / "sheet.tsv", pool="pool")
    assert result.facts["files"][0]["name"] == "run1"
    assert result.facts["counts"]["input"] == genes.X.sum()


@pytest.mark.parametrize(
    ("names", "kinds", "shown"),
    [
        (
            ("rna", "spliced"),
            ("Gene Expression", "Gene Expression"),
            r"rna: 25 Gene Expression; spliced: 7 Gene",
        ),
        (("a", "b"), (None, None), r"a: kind of features not named; b: kind of features not named"),
        (("rna", "z"), ("Peaks", None), r"rna: 25 Peaks; z: kind of features not named"),
    ],
)
def test_where_it_is_open_modalities_are_named_and_one_can_be_set(tmp_path, names, kinds, shown):
    path, genes = mudata(tmp_path / "cohort.h5mu", names=names, kinds=kinds)
    with pytest.raises(InputError, match=rf"^load.modality: .*\({shown}.*set load.modality to it$"):
        run(tmp_path, path)
    assert_counts(run(tmp_path, path, modality=names[0]), expected(genes))


def test_a_modality_that_is_not_there(tmp_path):
    path, _ = mudata(tmp_path / "cohort.h5mu", kinds=(None, None))
    with pytest.raises(InputError, match=r"has no modality 'atac' \(it has: prot, rna\); set load.modality"):
        run(tmp_path, path, modality="atac")


def test_places_of_cells_that_do_not_fit_are_refused(tmp_path):
    path, _ = mudata(tmp_path / "cohort.h5mu", kinds=(None, None))
    with h5py.File(path, "r+") as file:
        file["obsmap/rna"][0] = 2
    with pytest.raises(CorruptedInput, match="obsmap/rna does not list its cells"):
        run(tmp_path, path)
