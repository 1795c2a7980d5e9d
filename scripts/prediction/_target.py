"""The target of a prediction as numbers: a number as it is, or two levels as 0 and 1.

Two levels are those that the config names for a categorical target, or the two values of a number that has
only two in the whole cohort, such as 0 and 1; the larger one is then 1.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from job import InputError


class Levels(NamedTuple):
    """The values of a column that are predicted as 1 and as 0."""

    level: float | str
    reference: float | str


def find_levels(obs: pd.DataFrame, *, target: str, level: str | None, reference: str | None) -> Levels | None:
    """The two levels of the target, None for a number with more than two values.

    obs: the samples of all cell types, so that every cell type has the same levels. Raises InputError for a
    column that is missing, for a category without level and reference, and for a level that no sample has.
    """
    if target not in obs:
        names = [name for name in obs if obs[name].dtype.kind in "iuf"]
        raise InputError(
            f"ridge.target: {target} is not a column of the samples; set ridge.target to null or one of "
            f"{', '.join(names)}"
        )
    column = obs.loc[obs["used"].to_numpy(bool), target]
    if obs[target].dtype.kind in "iuf":
        values = np.unique(column[column.notna()])
        return Levels(float(values[1]), float(values[0])) if len(values) == 2 else None
    values = sorted(set(column) - {""})
    for key, value in {"level": level, "reference": reference}.items():
        if value not in values:
            raise InputError(
                f"ridge.{key}: {value!r} is not a level of {target}; set it to one of {', '.join(values)}, "
                "or ridge.target to a number"
            )
    return Levels(level, reference)


def code_target(values: pd.Series, levels: Levels | None) -> np.ndarray:
    """The target as numbers, (samples,): 1 for the level, 0 for the reference, NaN for other values."""
    if levels is None:
        return values.to_numpy(float)
    return np.select([values == levels.level, values == levels.reference], [1.0, 0.0], np.nan)


def describe_levels(levels: Levels | None) -> dict[str, str]:
    """Columns kind (number or levels), level and reference, as text for tables."""
    if levels is None:
        return {"kind": "number", "level": "", "reference": ""}
    names = [f"{value:g}" if isinstance(value, float) else value for value in levels]
    return {"kind": "levels", "level": names[0], "reference": names[1]}


def bound(predicted: np.ndarray, levels: Levels | None) -> np.ndarray:
    """Predictions of two levels cut to 0..1, so that they are probabilities of the level; others as is."""
    return predicted if levels is None else np.clip(predicted, 0, 1)
