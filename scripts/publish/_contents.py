"""Check each file of a release against the contract: text, images, JSON, tables and their columns."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

INDEFINITE = {"integer": "an integer", "number": "a number"}  # types of the contract
PNG, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def read_column(table: h5py.Group, name: str) -> pd.Series:
    """One column of an obs or var table as anndata writes it; a missing label is ""."""
    item = table[name]
    if isinstance(item, h5py.Dataset):
        return pd.Series(item.asstr()[:] if h5py.check_string_dtype(item.dtype) else item[:])
    if item.attrs["encoding-type"] == "categorical":
        categories = item["categories"].asstr()[:]
        return pd.Series(pd.Categorical.from_codes(item["codes"][:], categories))
    return pd.Series(np.where(item["mask"][:], "", item["values"].asstr()[:]))


def read_table(path: Path) -> pd.DataFrame:
    """A table of the release; TSV as text; for an h5ad its obs, with the names of its rows in `index`."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pandas()
    if path.suffix == ".tsv":
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    with h5py.File(path) as file:
        obs = file["obs"]
        columns = {name: read_column(obs, name) for name in obs.attrs["column-order"]}
        return pd.DataFrame({"index": read_column(obs, obs.attrs["_index"]), **columns})


def show_first(values: pd.Series) -> str:
    """The first value as text."""
    value = values.iloc[0]
    return repr(value.item() if isinstance(value, np.generic) else value)


def check_column(values: pd.Series, spec: dict) -> str:
    """The problem of a column by its specification; "" without one."""
    kind = spec["type"].removesuffix("?")
    missing = values.isna()
    if not pd.api.types.is_numeric_dtype(values):
        missing |= (values == "").fillna(True).astype(bool)
    if missing.any() and not spec["type"].endswith("?") and "" not in spec.get("values", ()):
        return f"lacks {missing.sum()} of {len(values)} values"
    present = values[~missing]
    if kind == "text":
        if pd.api.types.is_numeric_dtype(present) and len(present):
            return f"has numbers such as {show_first(present)}, not text"
        wrong = present[~present.isin(spec["values"])] if "values" in spec else present[:0]
        return f"has {show_first(wrong)}, which is not one of {spec['values']}" if len(wrong) else ""
    if kind == "boolean":
        wrong = present[~present.astype(str).isin(["True", "False"])]
        return f"has {show_first(wrong)}, not true or false" if len(wrong) else ""
    numbers = pd.to_numeric(present.astype(object), errors="coerce")
    wrong = numbers.isna()
    if kind == "integer":
        wrong |= numbers != numbers.round()
    wrong |= (numbers < spec.get("min", -np.inf)) | (numbers > spec.get("max", np.inf))
    limits = [f"{end} {spec[end]}" for end in ("min", "max") if end in spec]
    if not wrong.any():
        return ""
    return f"has {show_first(present[wrong])}, which is not {' '.join([INDEFINITE[kind], *limits])}"


def check_table(path: str, table: pd.DataFrame, spec: dict, common: dict) -> list[str]:
    """Problems of the columns and key of a table."""
    problems = []
    columns = {name: column or common[name] for name, column in spec["columns"].items()}
    for name, column in columns.items():
        if name in table:
            problem = check_column(table[name], column)
            problems += [f"{path}: column {name} {problem}"] if problem else []
        elif not column.get("optional"):
            problems.append(f"{path}: column {name} is missing")
    if "further" not in spec:
        unknown = [name for name in table if name not in columns]
        problems += [f"{path}: column {name} is not in the contract, describe it there" for name in unknown]
    key = [name for name in spec.get("key", ()) if name in table]
    if key and table.duplicated(key).any():
        twice = dict(table.loc[table.duplicated(key), key].iloc[0])
        problems.append(f"{path}: has {', '.join(f'{name} {twice[name]}' for name in key)} more than once")
    return problems


def check_text(data: bytes) -> str:
    """The problem of a text file as such; "" without one."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return f"is not UTF-8 ({error.reason} at byte {error.start})"
    if b"\r" in data:
        return "has carriage returns; lines end in a newline only"
    return "" if data.endswith(b"\n") else "does not end in a newline"


def check_plain(path: Path, spec: dict) -> str:
    """The problem of a file that is not a table; "" without one."""
    data = path.read_bytes()
    if path.suffix == ".png":
        return "" if data.startswith(PNG) and data.endswith(PNG_END) else "is not a PNG image"
    if problem := check_text(data):
        return problem
    if path.suffix == ".html":
        whole = data.lstrip()[:15].lower() == b"<!doctype html>" and data.rstrip().endswith(b"</html>")
        return "" if whole else "is not a complete HTML page"
    content = json.loads(data)
    missing = [key for key in spec["keys"] if key not in content]
    return f"lacks {', '.join(missing)}" if missing else ""


def check_contents(root: Path, files: list[dict], contract: dict) -> tuple[list[str], dict]:
    """Problems of the files by their kinds in the contract, and the tables by path."""
    problems, tables = [], {}
    for entry in files:
        path, spec = entry["path"], contract["files"].get(entry["schema"])
        if spec is None:
            problems.append(f"{path}: its schema {entry['schema']} is not in the contract")
            continue
        try:
            if "columns" not in spec:
                problem = check_plain(root / path, spec)
                problems += [f"{path}: {problem}"] if problem else []
                continue
            if path.endswith(".tsv") and (problem := check_text((root / path).read_bytes())):
                problems.append(f"{path}: {problem}")
                continue
            table = tables[path] = read_table(root / path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(f"{path}: cannot be read ({error!r})")
            continue
        problems += check_table(path, table.drop(columns="index", errors="ignore"), spec, contract["columns"])
        if len(table) != entry["rows"]:
            problems.append(f"{path}: has {len(table)} rows, {entry['rows']} in the manifest")
    return problems, tables
