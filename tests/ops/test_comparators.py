"""Files that hold the same are the same; a value, a name or a pixel off is found and named."""

import json
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imsave
from scipy import sparse

import comparators as compare

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def pair(tmp_path):
    """Makes two paths of a format."""
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
    return lambda name: (tmp_path / "left" / name, tmp_path / "right" / name)


def cohort(value=3, obs="a", **stored):
    counts = sparse.csr_matrix(np.array([[1.0, 0, value], [0, 2, np.nan]]))
    data = ad.AnnData(counts, obs=pd.DataFrame({"label": [obs, "b"]}, index=["c1", "c2"]).astype(object))
    data.uns |= stored
    return data


def test_h5ad_of_the_same_content_is_the_same(pair):
    left, right = pair("x.h5ad")
    cohort().write_h5ad(left)
    cohort().write_h5ad(right, compression="gzip")  # other bytes, other chunks
    assert left.read_bytes() != right.read_bytes()
    assert compare.difference(left, right) == ""


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (cohort(value=4), "/X/data: values"),
        (cohort(obs="z"), "/obs/label"),
        (cohort(more=1), "/uns: "),
        (cohort()[:1].copy(), "/X: attributes"),
    ],
)
def test_h5ad_of_other_content_differs(pair, other, named):
    left, right = pair("x.h5ad")
    cohort().write_h5ad(left)
    other.write_h5ad(right)
    assert named in compare.difference(left, right)


def test_h5ad_of_another_type_of_numbers_differs(pair):
    left, right = pair("x.h5ad")
    for path, kind in ((left, "int64"), (right, "int32")):
        with h5py.File(path, "w") as file:
            file["sums"] = np.arange(3, dtype=kind)
    assert "int64 (3,) and int32 (3,)" in compare.difference(left, right)


def test_parquet_by_values_types_and_order(pair):
    left, right = pair("x.parquet")
    table = pd.DataFrame({"gene": ["a", "b"], "p": [0.5, np.nan]})
    table.to_parquet(left)
    table.to_parquet(right, compression="gzip")
    assert left.read_bytes() != right.read_bytes()
    assert compare.difference(left, right) == ""
    others = {
        "column p": table.assign(p=[0.5000001, np.nan]),
        "or their types": table.assign(p=["0.5", None]),
        "2 and 1 rows": table[:1],
        "column gene": table[::-1].reset_index(drop=True),
    }
    for named, other in others.items():
        other.to_parquet(right)
        assert named in compare.difference(left, right)


def test_json_but_for_when_and_where(pair):
    left, right = pair("run.json")
    content = {"host": "here", "release": {"id": 1, "published_at": "today"}, "files": [{"host": "x"}]}
    other = {"host": "there", "release": {"id": 1, "published_at": "tomorrow"}, "files": [{"host": "y"}]}
    left.write_text(json.dumps(content))
    right.write_text(json.dumps(other))
    assert compare.difference(left, right) == ""
    right.write_text(json.dumps(other | {"release": {"id": 2}}))
    assert compare.difference(left, right) == "keys release"
    right.write_text(json.dumps(other | {"seed": 1}))
    assert compare.difference(left, right) == "keys seed"


def test_png_by_pixels(pair):
    left, right = pair("x.png")
    pixels = np.zeros((4, 5, 3))
    imsave(left, pixels, metadata={"Software": "one"})
    imsave(right, pixels, metadata={"Software": "other"})
    assert left.read_bytes() != right.read_bytes()
    assert compare.difference(left, right) == ""
    pixels[1, 2] = 1
    imsave(right, pixels)
    assert compare.difference(left, right) == "1 of 20 pixels"
    imsave(right, pixels[:2])
    assert "images of" in compare.difference(left, right)


def test_other_formats_by_bytes(pair):
    left, right = pair("x.tsv")
    left.write_text("a\n1\n")
    right.write_text("a\n1\n")
    assert compare.difference(left, right) == ""
    right.write_text("a\n1.0\n")
    assert compare.difference(left, right) == "4 bytes and 6 that are not the same"
