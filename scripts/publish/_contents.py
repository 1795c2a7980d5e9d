"""Each file of a release against its kind in the contract: text, images, JSON, tables and their columns."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

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
    """A table of the release; TSV as text; of an h5ad obs, with the names of its rows in `index`."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pandas()
    if path.suffix == ".tsv":
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    with h5py.File(path) as file:
        obs = file["obs"]
        columns = {name: read_column(obs, name) for name in obs.attrs["column-order"]}
        return pd.DataFrame({"index": read_column(obs, obs.attrs["_index"]), **columns})


def shown(values: pd.Series) -> str:
    """The first of some values as a person writes it."""
    value = values.iloc[0]
    return repr(value.item() if isinstance(value, np.generic) else value)


def fault_of_column(values: pd.Series, spec: dict) -> str:
    """What is wrong with a column by its specification; empty if nothing is."""
    kind = spec["type"].removesuffix("?")
    missing = values.isna()
    if not pd.api.types.is_numeric_dtype(values):
        missing |= (values == "").fillna(True).astype(bool)
    if missing.any() and not spec["type"].endswith("?") and "" not in spec.get("values", ()):
        return f"lacks {missing.sum()} of {len(values)} values"
    present = values[~missing]
    if kind == "text":
        if pd.api.types.is_numeric_dtype(present) and len(present):
            return f"holds numbers such as {shown(present)}, not text"
        odd = present[~present.isin(spec["values"])] if "values" in spec else present[:0]
        return f"holds {shown(odd)}, which is none of {spec['values']}" if len(odd) else ""
    if kind == "boolean":
        odd = present[~present.astype(str).isin(["True", "False"])]
        return f"holds {shown(odd)}, not true or false" if len(odd) else ""
    numbers = pd.to_numeric(present.astype(object), errors="coerce")
    wrong = numbers.isna()
    if kind == "integer":
        wrong |= numbers != numbers.round()
    wrong |= (numbers < spec.get("min", -np.inf)) | (numbers > spec.get("max", np.inf))
    limits = [f"{end} {spec[end]}" for end in ("min", "max") if end in spec]
    return f"holds {shown(present[wrong])}, no {' '.join([kind, *limits])}" if wrong.any() else ""


def check_table(path: str, table: pd.DataFrame, spec: dict, common: dict) -> list[str]:
    """Columns of a table, and its key, against the contract."""
    faults = []
    columns = {name: column or common[name] for name, column in spec["columns"].items()}
    for name, column in columns.items():
        if name in table:
            fault = fault_of_column(table[name], column)
            faults += [f"{path}: column {name} {fault}"] if fault else []
        elif not column.get("optional"):
            faults.append(f"{path}: column {name} is missing")
    if "further" not in spec:
        unknown = [name for name in table if name not in columns]
        faults += [f"{path}: column {name} is not in the contract, describe it there" for name in unknown]
    key = [name for name in spec.get("key", ()) if name in table]
    if key and table.duplicated(key).any():
        twice = dict(table.loc[table.duplicated(key), key].iloc[0])
        faults.append(f"{path}: has {', '.join(f'{name} {twice[name]}' for name in key)} more than once")
    return faults


def check_text(data: bytes) -> str:
    """What is wrong with a text file as such; empty if nothing is."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return f"is not UTF-8 ({error.reason} at byte {error.start})"
    if b"\r" in data:
        return "has carriage returns; lines end in a newline only"
    return "" if data.endswith(b"\n") else "does not end in a newline"


def check_plain(path: Path, spec: dict) -> str:
    """What is wrong with a file that is no table; empty if nothing is."""
    data = path.read_bytes()
    if path.suffix == ".png":
        return "" if data.startswith(PNG) and data.endswith(PNG_END) else "is no PNG image"
    if fault := check_text(data):
        return fault
    if path.suffix == ".html":
        whole = data.lstrip()[:15].lower() == b"<!doctype html>" and data.rstrip().endswith(b"</html>")
        return "" if whole else "is no whole HTML page"
    content = json.loads(data)
    missing = [key for key in spec["keys"] if key not in content]
    return f"lacks {', '.join(missing)}" if missing else ""


def check_contents(root: Path, files: list[dict], contract: dict) -> tuple[list[str], dict]:
    """Every file against its kind in the contract; also the tables, by path."""
    faults, tables = [], {}
    for entry in files:
        path, spec = entry["path"], contract["files"].get(entry["schema"])
        if spec is None:
            faults.append(f"{path}: its schema {entry['schema']} is not in the contract")
            continue
        try:
            if "columns" not in spec:
                fault = check_plain(root / path, spec)
                faults += [f"{path}: {fault}"] if fault else []
                continue
            if path.endswith(".tsv") and (fault := check_text((root / path).read_bytes())):
                faults.append(f"{path}: {fault}")
                continue
            table = tables[path] = read_table(root / path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            faults.append(f"{path}: cannot be read ({error!r})")
            continue
        faults += check_table(path, table.drop(columns="index", errors="ignore"), spec, contract["columns"])
        if len(table) != entry["rows"]:
            faults.append(f"{path}: has {len(table)} rows, {entry['rows']} in the manifest")
    return faults, tables
