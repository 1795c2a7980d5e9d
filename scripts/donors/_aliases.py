"""Columns of a model matrix that the others explain: what is left out, and which effects are lost by that.

Where donors are nested in groups, `~ donor + condition * group` has a column of group that is a sum of
columns of donor. Such a column is left out: the model and every estimable effect stay what they are. Earlier
columns win, and those of the tested term come last, so that only a term that the rest of the design explains
loses columns; its effect is not estimable then.

A product of categories is their interaction, the difference of differences, however it is spelt: to
`~ donor + group:condition` the parts of the tested product (group, condition) are added. The columns of the
product span them already, so this is another parametrisation of the same model.

An effect is estimable when it is orthogonal to the null space of the model matrix (Searle 1971, Linear
Models, 5.4).
"""

from itertools import combinations

import numpy as np
import pandas as pd

TOLERANCE = 1e-8  # of a singular value relative to the largest, and of an entry of a unit vector


def complete(design: str, test, categories: set[str]) -> str:
    """The formula of a design with all parts of the tested product, and so the same model.

    test: the tested term, as formulaic understands it; categories: names of its variables that are factors.
    Numbers of a product belong to each of its parts.
    """
    factors = [str(factor) for factor in test.factors]
    numbers = [name for name in factors if name not in categories]
    names = [name for name in factors if name in categories]
    subsets = [subset for size in range(len(names)) for subset in combinations(names, size)]
    parts = [":".join([*numbers, *subset]) for subset in subsets if numbers or subset]
    return " + ".join([design, *parts])


def columns_of_terms(matrix) -> dict[str, list[str]]:
    """Term -> its columns, of a model matrix of formulaic; the intercept is term 1."""
    return {str(term): list(matrix.columns[own]) for term, own in matrix.model_spec.term_slices.items()}


def dependencies(matrix: np.ndarray, effects: np.ndarray) -> tuple[np.ndarray, bool]:
    """Which columns depend on others, (columns,) bool, and whether every effect is estimable.

    effects: (columns,) or (effects, columns) weights of coefficients.
    """
    length = np.linalg.norm(matrix, axis=0)
    length[length == 0] = 1
    _, values, rows = np.linalg.svd(matrix / length)
    rank = int((values > TOLERANCE * values.max()).sum())
    null = rows[rank:] / length  # each row n has matrix @ n = 0
    null = null / np.linalg.norm(null, axis=1, keepdims=True)
    effects = np.atleast_2d(effects)
    estimable = np.abs(null @ effects.T) <= TOLERANCE * np.linalg.norm(effects, axis=1)
    return (np.abs(null) > TOLERANCE).any(axis=0), bool(estimable.all())


def find_aliased(matrix: pd.DataFrame, term: list[str]) -> np.ndarray:
    """(columns,) bool: columns that those before them explain; the columns of the term come last."""
    x, last = matrix.to_numpy(), matrix.columns.isin(term)
    basis, aliased = np.empty((len(x), 0)), np.zeros(x.shape[1], dtype=bool)
    for place in np.argsort(last, kind="stable"):
        length = np.linalg.norm(x[:, place])
        rest = x[:, place] / (length or 1)
        for _ in range(2):  # once more, since the first subtraction leaves rounding errors
            rest = rest - basis @ (basis.T @ rest)
        aliased[place] = np.linalg.norm(rest) <= TOLERANCE
        if not aliased[place]:
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    return aliased


def name_columns(columns: list[str], terms: dict[str, list[str]]) -> str:
    """Columns in words: the name of one of a term, the number of several. terms: term -> its columns."""
    words = []
    for term, members in terms.items():
        own = [column for column in members if column in columns]
        words += own if len(own) == 1 else [f"{len(own)} columns of {term}"] if own else []
    return ", ".join(words)


def explain(matrix: pd.DataFrame, term: list[str], terms: dict[str, list[str]]) -> str:
    """Why an effect of the tested term is not estimable, naming terms. terms: term -> its columns."""
    tested = matrix.columns.isin(term)
    aliased = find_aliased(matrix, term)
    lost = matrix.loc[:, aliased & tested]
    empty = lost.columns[(lost == 0).all()]
    if len(empty):
        return f"{', '.join(empty)} is 0 in every sample"
    rest = matrix.loc[:, ~aliased]
    weights = np.linalg.lstsq(rest.to_numpy(), lost.to_numpy())[0]
    used = set(rest.columns[(np.abs(weights) > TOLERANCE).any(axis=1)])
    [name] = [name for name, columns in terms.items() if set(term) <= set(columns)]
    others = [other for other, columns in terms.items() if used.intersection(columns) and other != name]
    others = [other for other in others if other != "1"] or ["the intercept"]
    return f"{name} cannot be separated from {', '.join(others)}"


def leave_out(
    matrix: pd.DataFrame, hypothesis: np.ndarray, term: list[str], terms: dict[str, list[str]]
) -> tuple[np.ndarray, str, str]:
    """Which columns are left out, (columns,) bool, their names, and why an effect is not estimable, or "".

    hypothesis: (effects, columns). An estimable effect has the same weights of the columns that stay: the
    others are as if their coefficients were 0.
    """
    involved, estimable = dependencies(matrix.to_numpy(), hypothesis)
    if not involved.any():
        return involved, "", ""
    aliased = find_aliased(matrix, term)
    why = "" if estimable else explain(matrix, term, terms)
    return aliased, name_columns(list(matrix.columns[aliased]), terms), why
