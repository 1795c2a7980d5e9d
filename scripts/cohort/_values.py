"""Labels and numbers as people write them: one list of words for missing, ages with units, stages.

A stage is CELLxGENE's: "45-year-old stage" is 45 years. A bound or a range ("90+", ">89", "60-69") is not a
number: it is censored, and missing here, which is counted per value and warned of, since it is not missing
at random.
"""

import re

import numpy as np
import pandas as pd

MISSING = ["", "nan", "na", "n/a", "<na>", "null", "unknown", "unassigned", "pooled", "missing"]
NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
MISSING += ["not available", "not applicable", "not reported", "not determined"]  # in any case of letters
STAGE = re.compile(
    r"(\d+(?:\.\d+)?)[- ](year|month|week|day)-old (?:human |mouse )?stage", flags=re.IGNORECASE
)
AGED = re.compile(r"(\d+(?:\.\d+)?)[ -]?([a-z/]+?)\.?(?:[- ](?:old|of age))?", flags=re.IGNORECASE)
CENSORED = re.compile(
    r"[<>≤≥].*\d|\d+ ?\+|\d+ ?(?:-|\u2013|to) ?\d+|\d.*\b(?:over|above|older|under|younger)\b.*"
)
PER_YEAR = {"year": 1.0, "month": 12.0, "week": 365.25 / 7, "day": 365.25}
UNITS = {
    **dict.fromkeys(["y", "yr", "yrs", "year", "years", "yo", "y/o"], "year"),
    **dict.fromkeys(["m", "mo", "mos", "month", "months"], "month"),
    **dict.fromkeys(["w", "wk", "wks", "week", "weeks"], "week"),
    **dict.fromkeys(["d", "day", "days"], "day"),
}


def format_label(value) -> str:
    """A label as text without blanks around it; a whole number without the ".0" that missing values bring."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value).strip()


def clean_labels(values: pd.Series, missing: tuple[str, ...] | None = ()) -> pd.Series:
    """Values of any type as categorical text in sorted categories, missing where the label means that.

    missing: words of the config, besides those that always mean it; None: only what holds no text is missing.
    """
    words = (
        {"", "nan", "<na>"} if missing is None else {*MISSING, *(word.strip().lower() for word in missing)}
    )
    codes, unique = pd.factorize(values)
    names = [None if format_label(value).lower() in words else format_label(value) for value in unique]
    order, categories = pd.factorize(np.array(names, dtype=object), sort=True)
    return pd.Series(pd.Categorical.from_codes(np.append(order, -1)[codes], categories), index=values.index)


def find_alike(values: pd.Series) -> list[list[str]]:
    """Labels of a categorical column that differ by case, blanks, `_`, `-` or `.` only, in groups."""
    names = pd.Series(values.cat.categories.astype(str))
    keys = names.str.lower().str.replace(r"[\s_.-]+", " ", regex=True)
    return [sorted(group) for _, group in names.groupby(keys) if len(group) > 1]


def parse_numbers(values: pd.Series, kind: str, unit: str | None = None) -> pd.Series:
    """Labels as float64; NaN where a label is missing, not a number, or not finite.

    kind: `numeric`, as written, or `stage`, in years. unit: of time, `year`, `month`, `week` or `day`:
    labels with a unit ("45y", "18m") are converted to it. Without, only years are read.
    """
    number = [_parse_number(name, kind, unit) for name in values.cat.categories]
    number = np.array([*number, np.nan], dtype=float)
    number[~np.isfinite(number)] = np.nan
    return pd.Series(number[values.cat.codes], index=values.index)


def _parse_number(name: str, kind: str, unit: str | None) -> float:
    if kind == "stage":
        match = STAGE.fullmatch(name)
        return float(match[1]) / PER_YEAR[match[2].lower()] if match else np.nan
    if re.fullmatch(NUMBER, name):
        return float(name)
    match = AGED.fullmatch(name)
    written = UNITS.get(match[2].lower().removesuffix("-old")) if match else None
    if written is None or (unit is None and written != "year"):
        return np.nan
    return float(match[1]) * (PER_YEAR[unit or "year"] / PER_YEAR[written])


def count_unparsed(values: pd.Series, kind: str, unit: str | None = None) -> dict[str, int]:
    """Label that is not a number, or not a stage -> rows that have it; a missing label is not one."""
    odd = values[values.notna() & parse_numbers(values, kind, unit).isna()]
    return odd.astype(str).value_counts().sort_index().to_dict()


def is_censored(label: str) -> bool:
    """Whether a label is a bound or a range: `90+`, `>89`, `60-69`, `80 year-old and over stage`."""
    return CENSORED.fullmatch(label.removesuffix(" stage").strip()) is not None
