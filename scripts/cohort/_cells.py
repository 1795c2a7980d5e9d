"""All input cells in one table: names, labels by role, and the first reason why a cell cannot be used."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cohort._source import Note, Source, join_names
from cohort._tables import Known
from cohort._values import clean_labels, format_label
from cohort._who import find_copies, qualify_donors
from job import InputError


@dataclass(frozen=True)
class Cells:
    """All input cells before any is judged."""

    table: pd.DataFrame  # cell, sample, donor, cell_type, pool
    values: pd.DataFrame  # labels of the columns that the config names, and of those that say who is who
    raw: pd.DataFrame  # of load.exclude's columns, labels that mean missing as they are
    copies: pd.Series  # whether a cell is a copy of one of another dataset
    notes: list[Note]  # code, message, count and setting of what to warn of


def describe_cells(sources: list[Source], roles: dict[str, str | None], known: Known) -> Cells:
    """One row per input cell, in the order of the files. known: what the config and its tables say.

    Raises InputError when two cells have the same name, and when a table matches none.
    """
    obs = pd.concat([source.obs for source in sources])
    sizes = [len(source.obs) for source in sources]
    file = pd.Series(np.repeat(np.array([source.name for source in sources], dtype=object), sizes))
    obs, notes = known.join(obs, file, roles)
    barcodes, obs = obs.index.to_numpy(dtype=object), obs.reset_index(drop=True)
    values = pd.DataFrame(
        {column: clean_labels(obs[column], known.missing) for column in obs}, index=obs.index
    )
    raw = {column: clean_labels(obs[column], None) for column in known.excluded}
    one_each = {"sample": file, "donor": file, "cell_type": "all cells", "pool": None}
    cells = pd.DataFrame(
        {
            role: clean_labels(pd.Series(one_each[role], index=obs.index))
            if column is None
            else values[column]
            for role, column in roles.items()
        }
    )
    copies = find_copies(values)
    people, qualified = qualify_donors(cells[~copies], values[~copies], known.person)
    if qualified:
        cells = cells.astype(object)
        cells.loc[~copies, ["sample", "donor"]] = people[["sample", "donor"]].astype(object)
        cells = cells.apply(clean_labels)
        shown = join_names(qualified[:5])
        what = f"{len(qualified)} donor ids name different people in two datasets ({shown}), told apart by it"
        notes.append(Note("donors_of_two_datasets", what, len(qualified), "load.donor"))
    listed = np.repeat([source.listed for source in sources], sizes)
    names, note = name_cells(cells, file, barcodes, listed)
    cells.insert(0, "cell", names)
    return Cells(cells, values, pd.DataFrame(raw, index=obs.index), copies, notes + ([note] if note else []))


def name_cells(
    cells: pd.DataFrame, file: pd.Series, barcodes: np.ndarray, listed: np.ndarray
) -> tuple[np.ndarray, Note | None]:
    """Names of cells, each once, and what to warn of.

    InputError when neither file nor donor tells cells apart.
    """
    prefixed = cells["sample"].astype(object).fillna(file) + "_" + barcodes
    names = pd.Series(np.where(listed, prefixed, barcodes))
    repeated = names.duplicated()
    if not repeated.any():
        return names.to_numpy(), None
    for what, prefix in {"file": file, "donor": cells["donor"].astype(object).fillna(file)}.items():
        longer = prefix + "_" + barcodes
        if not longer.duplicated().any():
            first = names[repeated].iloc[0]
            message = f"{repeated.sum():,} cell names repeat, such as {first!r}: all cells are named "
            note = Note("cell_names_changed", f"{message}<{what}>_<barcode>", int(repeated.sum()))
            return longer.to_numpy(), note
    raise InputError(
        f"cohort: {repeated.sum():,} cell names repeat within a file and a donor, such as "
        f"{names[repeated].iloc[0]!r}; make them unique, or let load.donor tell the cells apart"
    )


def find_unusable(cells: Cells, exclude: list[dict]) -> pd.Series:
    """The first reason why a cell cannot be used, "" for none. InputError for a value that no cell has."""
    masks = {}
    for rule in exclude:
        column, unwanted = cells.raw[rule["column"]], [format_label(value) for value in rule["values"]]
        for value in unwanted:
            if value not in column.cat.categories:
                has = ", ".join(column.cat.categories[:30])
                raise InputError(
                    f"load.exclude: {rule['column']} is never {value!r} (it is: {has}); correct it"
                )
        masks["excluded_" + re.sub(r"\W+", "_", rule["column"].lower()).strip("_")] = column.isin(unwanted)
    masks["copy_in_another_dataset"] = cells.copies
    masks |= {f"missing_{role}": cells.table[role].isna() for role in ("sample", "donor", "cell_type")}
    return pd.Series(np.select(list(masks.values()), list(masks), default=""), index=cells.table.index)
