"""Read the tables of a release for the report, and pack data for the page.

Tables are read as text and then converted by the types of the contract, so that a donor `007` or a gene `NA`
does not change.
"""

import json
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from files import read_tsv
from report._page import squeeze

DIGITS = 4  # significant digits of a number in the page


def read(path: str, columns: dict, covariates: dict[str, str]) -> pd.DataFrame | dict | str:
    """A table, the content of a JSON file, or the path of an h5ad, which is read in part later.

    columns: name -> specification with `type`; covariates: name -> numeric, stage or categorical.
    """
    if path.endswith(".json"):
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    if path.endswith(".h5ad"):
        return path
    if path.endswith(".parquet"):
        return pd.read_parquet(path)
    table = read_tsv(path)
    for name in table:
        kind = columns.get(name, {}).get("type", "").rstrip("?")
        if kind in ("number", "integer") or (name not in columns and is_number(name, covariates)):
            table[name] = pd.to_numeric(table[name].replace("", np.nan))
        elif kind == "boolean":
            table[name] = table[name] == "True"
    return table


def is_number(name: str, covariates: dict[str, str]) -> bool:
    """Whether a column is a numeric covariate."""
    return covariates.get(name) in ("numeric", "stage")


def read_all(places: list[dict], sources: list[str], contract: dict, covariates: dict[str, str]) -> dict:
    """Kind -> key -> table; the key is the contrast or resolution, "" where a kind has one file only.

    places: kind, values (of the wildcards in the published path), parts (number of files of the table);
    sources: all files, in the order of places.
    """
    rest, tables = iter(sources), {}
    for place in places:
        spec = contract["files"][place["kind"]]
        own = {name: column or contract["columns"][name] for name, column in spec.get("columns", {}).items()}
        key = next(iter(place["values"].values()), "")
        parts = [read(next(rest), own, covariates) for _ in range(place["parts"])]
        table = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
        tables.setdefault(place["kind"], {})[key] = table
    return tables


def number(value: object) -> float | int | None:
    """A number with DIGITS significant digits; None if it is missing or infinite."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def numbers(values: Iterable) -> list:
    """Numbers of a column for JSON; integers are exact."""
    values = np.asarray(values)
    if np.issubdtype(values.dtype, np.integer) or values.dtype == bool:
        return values.tolist()
    return [number(value) for value in values.astype(float).tolist()]


def columns_of(table: pd.DataFrame) -> dict[str, list]:
    """A table as a dict of lists for JSON; a missing text is None."""
    return {
        name: numbers(table[name])
        if pd.api.types.is_numeric_dtype(table[name])
        else [None if pd.isna(value) else value for value in table[name].astype(object)]
        for name in table
    }


def records(table: pd.DataFrame) -> list[dict]:
    """The rows of a table as dicts for a template; a missing value is None."""
    return [
        {name: None if pd.isna(value) else value for name, value in row.items()}
        for row in table.astype(object).to_dict("records")
    ]


def pack(value: object) -> str:
    """A JSON value, squeezed."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return squeeze(text.encode())
