"""Which of several places of an AnnData store holds the counts.

A place may hold counts when sampled values are non-negative whole numbers, not all zero. Several such places
are compared in sampled cells: one contains another when it has its genes and is nowhere smaller, as the
whole does a part of a sum (spliced counts), all genes a subset of them, counts a copy that was rounded after
a correction. The place that contains all others is taken; where there is none, the user decides.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from cohort._blocks import is_array
from cohort._source import join_names
from job import InputError

STRETCHES, VALUES = (
    64,
    1024,
)  # stretches of stored values that are looked at before a full pass, values in each
CORRECTED = 0.1  # share of whole numbers among values from which fractions are corrected counts


def choose_counts(
    path: Path,
    places: dict,
    genes: dict[str, pd.Index],
    sample: dict[str, Callable[[], np.ndarray]],
    counts: str,
    *,
    rounded: bool,
) -> tuple[str, list[str]]:
    """The place of the counts, and what other places hold, in words.

    places: matrices by name, in order of preference; genes: ids of their columns; sample: gives some rows,
    (rows, genes), the same cells of each place. counts: `load.counts`; rounded: `load.round`, which lets
    corrected counts with fractions pass. Raises InputError when no place has counts, or none contains the
    others.
    """
    if counts not in ("auto", *places):
        raise InputError(
            f"load.counts: {path} has no {counts} (it has: {join_names(places)}); set load.counts to one"
        )
    looked = {name: _sample(matrix) for name, matrix in places.items()}
    problems = {name: find_problem(values) for name, values in looked.items()}
    whole = [name for name, problem in problems.items() if not problem]
    if rounded and (not whole or counts not in ("auto", *whole)):
        whole += [name for name, values in looked.items() if is_corrected(values)]
    if counts != "auto" and counts in whole:
        return counts, [name for name in whole if name != counts]
    if counts != "auto" or not whole:
        found = "; ".join(f"{name}: {problem or 'whole numbers'}" for name, problem in problems.items())
        way = "set load.counts to their place"
        if any(is_corrected(looked[name]) for name in (places if counts == "auto" else [counts])):
            way = (
                "counts corrected by SoupX or an EM algorithm? make whole numbers of them (SoupX: "
                "adjustCounts(roundToInt = TRUE)), or set load.round: true to round each value"
            )
        raise InputError(f"load.counts: {counts}: {path} has no raw counts there ({found}); {way}")
    if len(whole) == 1:
        return whole[0], []
    rows = {name: sample[name]() for name in whole}
    for name in whole:
        if all(is_contained(genes[name], rows[name], genes[other], rows[other]) for other in whole):
            relations = [_compare(other, name, genes, rows) for other in whole if other != name]
            return name, [relation for relation in relations if relation]
    shown = "; ".join(
        f"{name}: {len(genes[name]):,} genes, {rows[name].sum(axis=1).mean():,.0f} counts a cell"
        for name in whole
    )
    raise InputError(
        f"load.counts: {path} holds counts in {len(whole)} places, none of which contains the others "
        f"({shown}); set load.counts to one, or add up the parts of a sum in a layer and name that"
    )


def is_contained(genes: pd.Index, rows: np.ndarray, other_genes: pd.Index, other_rows: np.ndarray) -> bool:
    """Whether a place has the genes of another one and is in no sampled cell smaller."""
    if genes.equals(other_genes):
        return bool((rows >= other_rows).all())
    if genes.has_duplicates or other_genes.has_duplicates:
        return False
    columns = genes.get_indexer(other_genes)
    return bool((columns >= 0).all() and (rows[:, columns] >= other_rows).all())


def _compare(other: str, name: str, genes: dict[str, pd.Index], rows: dict[str, np.ndarray]) -> str:
    """What another place holds, seen from the one that contains it; empty when it is the same."""
    share = rows[other].sum() / rows[name].sum()
    if len(genes[other]) < len(genes[name]):
        return f"{other} has {len(genes[other]):,} of {len(genes[name]):,} genes"
    return "" if share == 1 else f"{other} has {share:.0%} of its counts"


def _sample(matrix) -> np.ndarray:
    """Stretches spread evenly over the stored values of a sparse matrix, or rows of a dense one."""
    values = matrix if is_array(matrix) else matrix["data"]
    length = VALUES if len(values.shape) == 1 else 1
    starts = np.unique(np.linspace(0, max(values.shape[0] - length, 0), STRETCHES, dtype=np.int64))
    return np.concatenate([values[start : start + length].ravel() for start in starts])


def find_problem(values: np.ndarray) -> str:
    """Why values cannot be counts; empty when they may be."""
    odd = values[~((values >= 0) & (values == np.rint(values)) & np.isfinite(values))]
    if len(odd):
        fractions = (odd > 0) & np.isfinite(odd)
        kind = "fractions, normalised?" if fractions.all() else "negative or not finite, scaled?"
        kind = "fractions, corrected?" if is_corrected(values) else kind
        return f"{len(odd) / len(values):.0%} {kind} such as {odd[0]:.4g}"
    return "" if values.any() else "only zeros"


def is_corrected(values: np.ndarray) -> bool:
    """Whether values look like counts from which a part was taken: fractions among many whole numbers."""
    stored = values[values != 0]
    if not len(stored) or not np.isfinite(stored).all() or stored.min() < 0:
        return False
    share = (stored == np.rint(stored)).mean()
    return bool(CORRECTED <= share < 1)
