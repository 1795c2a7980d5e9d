"""Select the samples of a prediction and split them, the same for expression, every alpha and every baseline.

A fold has whole donors. Folds depend only on the donors of the samples, `random_state`, `folds`,
`inner_folds` and `repeats`.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from files import read_cell_types
from job import InputError
from prediction._target import Levels, code_target, describe_levels


class Split(NamedTuple):
    """One outer fold: rows to train on and to predict, and the inner folds within the training rows."""

    repeat: int
    fold: int
    train: np.ndarray
    test: np.ndarray
    inner: list[tuple[np.ndarray, np.ndarray]]


def make_splits(
    donors: np.ndarray, *, folds: int, repeats: int, inner_folds: int, random_state: int
) -> list[Split]:
    """Outer folds of each repeat with their inner folds; a donor is never on both sides of a split.

    donors: (samples,) labels. The numbers of donors per fold differ by at most one. Each repeat has other
    folds.
    """
    from sklearn.model_selection import GroupKFold

    groups = pd.factorize(donors)[0]
    splits = []
    for repeat in range(repeats):
        seed = random_state + repeat
        outer = GroupKFold(folds, shuffle=True, random_state=seed)
        inner = GroupKFold(inner_folds, shuffle=True, random_state=seed)
        for fold, (train, test) in enumerate(outer.split(groups, groups=groups)):
            within = [(train[a], train[b]) for a, b in inner.split(train, groups=groups[train])]
            splits.append(Split(repeat, fold, train, test, within))
    return splits


def training_sets(splits: list[Split]) -> list[np.ndarray]:
    """Rows of every training set: of each split, then of its inner folds, split by split."""
    return [rows for split in splits for rows in [split.train, *(train for train, _ in split.inner)]]


def permute(values: np.ndarray, donors: np.ndarray, *, permutations: int, random_state: int) -> np.ndarray:
    """The target permuted between donors, (samples, permutations).

    values, donors: (samples,). If all samples of a donor have the same value, the values of donors are
    permuted. Otherwise all values of a donor, in their order, go to a donor with as many samples
    (exchangeability blocks: Winkler et al. 2014, NeuroImage 92:381).
    """
    rng = np.random.default_rng(random_state)
    codes, names = pd.factorize(donors)
    rows = [np.flatnonzero(codes == code) for code in range(len(names))]
    first = np.array([members[0] for members in rows])
    shuffled = np.empty((len(values), permutations))
    if np.array_equal(values, values[first][codes]):
        for column in range(permutations):
            shuffled[:, column] = values[rng.permutation(first)][codes]
        return shuffled
    sizes = np.array([len(members) for members in rows])
    for column in range(permutations):
        for size in np.unique(sizes):
            block = np.array([members for members in rows if len(members) == size])
            shuffled[block, column] = values[rng.permutation(block)]
    return shuffled


def judge_samples(
    target: np.ndarray, donors: np.ndarray, levels: Levels | None, folds: int, inner_folds: int
) -> tuple[str, str]:
    """Status of nested cross-validation on these samples, and the reason if it is not possible.

    Each of two levels needs as many donors as there are folds.
    """
    count = len(np.unique(donors))
    smallest = count - -(-count // folds)  # donors of the smallest training set
    if count < 2 * folds or smallest < inner_folds:
        return "too_few_samples", (
            f"{count} donors are too few for {folds} folds with {inner_folds} inner folds "
            "(ridge.folds, ridge.inner_folds)"
        )
    if levels is not None:
        names = describe_levels(levels)
        for key, code in {"level": 1, "reference": 0}.items():
            of_level = len(np.unique(donors[target == code]))
            if of_level < folds:
                return "too_few_of_a_level", (
                    f"{of_level} donors with {names[key]} are too few for {folds} folds (ridge.folds)"
                )
    elif np.ptp(target) == 0:
        return "constant_target", f"all samples have the value {target[0]:g}"
    return "predicted", ""


def read_tested_types(path: str) -> list[str]:
    """Ids of the tested cell types of pseudobulk/cell_types.tsv; InputError if there are none."""
    types = read_cell_types(path)
    tested = types.loc[types["tested"], "id"].tolist()
    if not tested:
        raise InputError(
            f"ridge.target: no cell type is tested, see the reasons in {path}; set ridge.target to null"
        )
    return tested


def choose_samples(
    obs: pd.DataFrame, *, target: str, levels: Levels | None, folds: int, inner_folds: int
) -> tuple[np.ndarray, np.ndarray, dict[str, object]]:
    """Samples of a cell type that take part in its prediction, their target, and their status.

    obs: sample, donor, used and the target. Returns a mask (samples,), the target of those that take part,
    and status, reason, target, samples, donors, target_low, target_high, samples_not_used,
    samples_without_target (also those of other levels), kind, level and reference.
    """
    used, values = obs["used"].to_numpy(bool), code_target(obs[target], levels)
    takes_part = used & ~np.isnan(values)
    donors, values = obs.loc[takes_part, "donor"].to_numpy(object), values[takes_part]
    status, reason = judge_samples(values, donors, levels, folds, inner_folds)
    return (
        takes_part,
        values,
        {
            "status": status,
            "reason": reason,
            "target": target,
            "samples": int(takes_part.sum()),
            "donors": len(np.unique(donors)),
            "target_low": values.min() if len(values) else np.nan,
            "target_high": values.max() if len(values) else np.nan,
            "samples_not_used": int((~used).sum()),
            "samples_without_target": int((used & ~takes_part).sum()),
            **describe_levels(levels),
        },
    )
