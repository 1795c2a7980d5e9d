"""From a settled contrast and the samples of one cell type to a model matrix and the effect that is tested.

Factors have treatment coding: coefficients are differences from the reference. A numeric column that stands
bare is centred at its mean over the samples used and divided by contrast.unit if it is tested, else by its
standard deviation; a column inside a function is left as it is. With an intercept, and with the parts of
every product in the design, this is another parametrisation of the same model: fitted means do not change,
nor does any effect, or its statistic, that stands in no product. The effect of one part of a product is the
one at the mean (not the zero) of a numeric other part, and at the reference of a factor. The tested effect is
a combination of coefficients that undoes the scaling, so it is per unit always.

It is estimable when it is orthogonal to the null space of the model matrix (Searle 1971, Linear Models, 5.4).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from _contrast import Contrast, levels, terms_of
from _job import InputError

TOLERANCE = 1e-8  # of a singular value relative to the largest, and of an entry of a unit vector


@dataclass(frozen=True)
class Design:
    """What is fitted to one table of samples, or the reason why nothing can be."""

    samples: pd.DataFrame  # sample, used, reason: a row for every sample
    matrix: pd.DataFrame | None = None  # used samples x coefficients; None when there is a reason
    vector: np.ndarray | None = None  # the tested effect is coefficients @ vector
    coefficient: str = ""  # its name
    residual_df: int | None = None
    reason: str = ""
    message: str = ""


def build(contrast: Contrast, obs: pd.DataFrame, *, min_residual_df: int) -> Design:
    """The model matrix of the samples of one cell type, or the reason why the contrast cannot be tested.

    Reasons: too_few_samples, single_level, missing_level, no_residual_df, confounded (the tested effect is
    not estimable), rank_deficient (it is, but not all coefficients are). Raises InputError when the tested
    term has more than one effect or a function gives no finite number.
    """
    samples = choose_samples(obs, contrast.variables)
    used = obs.loc[samples["used"], contrast.variables]
    reason, message = _check_values(contrast, used, samples)
    if reason:
        return Design(samples, reason=reason, message=message)
    frame, scales = coded(contrast, used)
    matrix = _model_matrix(contrast, frame)
    weights = _tested_effect(contrast, matrix, scales)
    matrix = pd.DataFrame(matrix.to_numpy(dtype=float), index=frame.index, columns=list(matrix.columns))
    vector = np.array([weights.get(column, 0.0) for column in matrix])
    reason, message = _check_rank(matrix, vector, min_residual_df)
    return Design(
        samples,
        matrix=None if reason else matrix,
        vector=vector,
        coefficient=" - ".join(weights),
        residual_df=matrix.shape[0] - matrix.shape[1],
        reason=reason,
        message=message,
    )


def choose_samples(obs: pd.DataFrame, variables: list[str]) -> pd.DataFrame:
    """sample, used and reason of every row of obs.

    A reason that obs brings along (too_few_cells) stays; missing_<column>: the first variable without value.
    """
    reason = obs["reason"].astype(str) if "reason" in obs else pd.Series("", index=obs.index)
    for name in variables:
        missing = obs[name].isna() | (obs[name].astype(object) == "")
        reason = reason.mask((reason == "") & missing, f"missing_{name}")
    names = obs["sample"].astype(str) if "sample" in obs else obs.index.astype(str)
    return pd.DataFrame({"sample": names, "used": reason == "", "reason": reason}, index=obs.index)


def _check_values(contrast: Contrast, used: pd.DataFrame, samples: pd.DataFrame) -> tuple[str, str]:
    """Reason and message if the values of the used samples cannot make a model; empty if they can."""
    if len(used) < 2:
        lost = samples.loc[~samples["used"], "reason"].value_counts().sort_index()
        why = "; ".join(f"{code} {number}" for code, number in lost.items())
        return "too_few_samples", f"{len(used)} of {len(samples)} samples can be used ({why})"
    for name in contrast.variables:
        found = levels(used[name]) if name in contrast.references else used[name].unique()
        if len(found) < 2:
            return "single_level", f"{name} is {found[0]} in all {len(used)} samples"
        compared = [contrast.references[name]] if name in contrast.needed else []
        compared += [contrast.level] if name == contrast.factor else []
        for level in set(compared) - set(found):
            return "missing_level", f"{name} is {level!r} in none of {len(used)} samples"
    return "", ""


def coded(contrast: Contrast, used: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, float]]:
    """The variables as formulaic shall take them, and what each numeric one was divided by.

    Factors: levels in use, the reference first. A reference that is not in use gives way to the next level.
    """
    columns, scales = {}, {}
    for name in contrast.variables:
        if name in contrast.references:
            order = sorted(levels(used[name]), key=lambda level: (level != contrast.references[name], level))
            columns[name] = pd.Categorical(used[name].astype(str), categories=order)
        elif name in contrast.in_functions:
            columns[name], scales[name] = used[name].astype(float), 1.0
        else:
            values = used[name].astype(float)
            scales[name] = contrast.unit if name in contrast.tested else values.std()
            columns[name] = (values - values.mean()) / scales[name]
    return pd.DataFrame(columns, index=used.index), scales


def _model_matrix(contrast: Contrast, frame: pd.DataFrame):
    """The model matrix by formulaic. InputError when a function fails or gives no finite number."""
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    where = f"contrasts.{contrast.name}.design"
    try:
        with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is refused below
            matrix = Formula(contrast.design).get_model_matrix(frame, context={}, na_action="ignore")
    except FormulaicError as error:
        raise InputError(f"{where}: {error} correct {where}") from error
    finite = np.isfinite(matrix.to_numpy(dtype=float)).all(axis=0)
    if not finite.all():
        raise InputError(
            f"{where}: {matrix.columns[~finite][0]} is not finite in every sample; correct {where}"
        )
    return matrix


def _tested_effect(contrast: Contrast, matrix, scales: dict[str, float]) -> dict[str, float]:
    """Weights of the coefficients that make the tested effect per unit; the first one names it.

    A factor coded without reference (`~ 0 + condition`) is level minus reference.
    """
    where, name = f"contrasts.{contrast.name}.test", contrast.factor
    [term] = terms_of(f"0 + {contrast.test}", where)
    columns = list(matrix.columns[matrix.model_spec.term_slices[term]])
    treatment = [c for c in columns if f"{name}[T.{contrast.level}]" in c]
    if name:
        both = (contrast.level, contrast.references[name])
        columns = treatment or [c for level in both for c in columns if f"{name}[{level}]" in c]
    signs = [1.0, -1.0] if name and not treatment else [1.0]
    if len(columns) != len(signs):
        raise InputError(
            f"{where}: {contrast.test!r} has {len(columns)} effects ({', '.join(columns)}), one can be "
            f"tested; set {where} to a term with one"
        )
    numbers = [scales[variable] for variable in contrast.tested if variable in scales]
    per_unit = contrast.unit / np.prod(numbers) if numbers else 1.0
    return {column: float(sign * per_unit) for column, sign in zip(columns, signs, strict=True)}


def _check_rank(matrix: pd.DataFrame, vector: np.ndarray, min_residual_df: int) -> tuple[str, str]:
    """Reason and message if the model cannot be fitted; no reason, but perhaps a message, if it can."""
    samples, columns = matrix.shape
    if samples - columns < min_residual_df:
        return "no_residual_df", (
            f"{samples} samples for {columns} coefficients leave {samples - columns} residual degrees of "
            f"freedom; differential.min_residual_df is {min_residual_df}"
        )
    involved, estimable = dependencies(matrix.to_numpy(), vector)
    names = ", ".join(matrix.columns[involved][:10])
    if not estimable:
        return "confounded", f"the effect cannot be told apart among these columns: {names}"
    if involved.any():
        return "rank_deficient", f"these columns depend on each other: {names}"
    alone = int((leverage(matrix.to_numpy()) > 1 - TOLERANCE).sum())
    return "", f"samples with a coefficient of their own, which tell nothing: {alone}" if alone else ""


def dependencies(matrix: np.ndarray, vector: np.ndarray) -> tuple[np.ndarray, bool]:
    """Which columns depend on others, (columns,) bool, and whether coefficients @ vector is estimable."""
    length = np.linalg.norm(matrix, axis=0)
    length[length == 0] = 1
    _, values, rows = np.linalg.svd(matrix / length)
    rank = int((values > TOLERANCE * values.max()).sum())
    null = rows[rank:] / length  # each row n has matrix @ n = 0
    null = null / np.linalg.norm(null, axis=1, keepdims=True)
    estimable = np.abs(null @ vector) <= TOLERANCE * np.linalg.norm(vector)
    return (np.abs(null) > TOLERANCE).any(axis=0), bool(estimable.all())


def leverage(matrix: np.ndarray) -> np.ndarray:
    """(samples,) diagonal of the hat matrix of a full-rank matrix; 1 where a sample is fitted exactly."""
    return (np.linalg.qr(matrix).Q ** 2).sum(axis=1)
