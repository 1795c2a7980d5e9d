"""Do two files hold the same? What differs, in one line: `python gates/comparators.py EXPECTED FOUND`.

The same bytes are the same. Otherwise h5ad by every dataset and attribute, parquet by schema and values, JSON
without the keys of VOLATILE, PNG by pixels, each exactly; other files only by their bytes. Bytes that differ
where the content does not are a matter of the writer (times in HDF5, versions in a PNG), not of a result.
"""

import json
import sys
from pathlib import Path

VOLATILE = {"published_at", "host", "profile", "executor"}  # when and where a run was made


def difference(expected: Path, actual: Path) -> str:
    """What differs between two files of a format; empty when they hold the same."""
    if expected.read_bytes() == actual.read_bytes():
        return ""
    comparator = COMPARATORS.get(expected.suffix)
    if comparator is None:
        return f"{expected.stat().st_size} bytes and {actual.stat().st_size} that are not the same"
    return comparator(expected, actual)


def compare_hdf5(expected: Path, actual: Path) -> str:
    """Names, types, attributes and values of every group and dataset."""
    import h5py

    with h5py.File(expected) as left, h5py.File(actual) as right:
        return compare_group(left, right)


def compare_group(left, right) -> str:
    """The first difference between two open groups."""
    import h5py

    if left.keys() != right.keys():
        return f"{left.name}: {sorted(left)} and {sorted(right)}"
    for name in ["", *left]:
        one, other = (left[name], right[name]) if name else (left, right)
        if type(one) is not type(other):
            return f"{one.name}: a {type(one).__name__} and a {type(other).__name__}"
        if not same_attributes(one.attrs, other.attrs):
            return f"{one.name}: attributes {dict(one.attrs)} and {dict(other.attrs)}"
        if name and isinstance(one, h5py.Group):
            if inside := compare_group(one, other):
                return inside
        elif name and (one.dtype != other.dtype or not same_values(one[()], other[()])):
            return f"{one.name}: values of {one.dtype} {one.shape} and {other.dtype} {other.shape} differ"
    return ""


def same_attributes(left, right) -> bool:
    """Same names and values."""
    return left.keys() == right.keys() and all(same_values(left[name], right[name]) for name in left)


def same_values(left, right) -> bool:
    """Equal in shape and value; missing numbers equal each other."""
    import numpy as np

    left, right = np.asarray(left), np.asarray(right)
    return np.array_equal(left, right, equal_nan=left.dtype.kind in "fc" and right.dtype.kind in "fc")


def compare_parquet(expected: Path, actual: Path) -> str:
    """Columns, their types, and values in their order."""
    import pyarrow.parquet as pq

    left, right = pq.read_table(expected), pq.read_table(actual)
    if left.schema.remove_metadata() != right.schema.remove_metadata():
        return f"columns {left.schema.names} and {right.schema.names}, or their types"
    if left.num_rows != right.num_rows:
        return f"{left.num_rows} and {right.num_rows} rows"
    for name in left.column_names:
        if not left[name].to_pandas().equals(right[name].to_pandas()):  # missing numbers equal each other
            return f"column {name}"
    return ""


def compare_json(expected: Path, actual: Path) -> str:
    """Values without the volatile keys."""
    left, right = (lasting(json.loads(path.read_text(encoding="utf-8"))) for path in (expected, actual))
    if left == right:
        return ""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = [key for key in sorted(left.keys() | right.keys()) if left.get(key) != right.get(key)]
        return f"keys {', '.join(keys)}"
    return "its values"


def lasting(value):
    """A JSON value without volatile keys, at any depth."""
    if isinstance(value, dict):
        return {key: lasting(inner) for key, inner in value.items() if key not in VOLATILE}
    return [lasting(inner) for inner in value] if isinstance(value, list) else value


def compare_png(expected: Path, actual: Path) -> str:
    """Size and pixels."""
    from matplotlib.image import imread

    left, right = imread(expected), imread(actual)
    if left.shape != right.shape:
        return f"images of {left.shape} and {right.shape}"
    off = (left != right).any(axis=-1).sum()
    return f"{off} of {left.shape[0] * left.shape[1]} pixels" if off else ""


COMPARATORS = {
    ".h5ad": compare_hdf5,
    ".parquet": compare_parquet,
    ".json": compare_json,
    ".png": compare_png,
}


if __name__ == "__main__":
    if what := difference(*map(Path, sys.argv[1:3])):
        sys.exit(f"error: {sys.argv[2]} differs from {sys.argv[1]}: {what}")
