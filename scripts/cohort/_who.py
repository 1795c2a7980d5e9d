"""Copies of cells, donor ids that two datasets use for different people, samples that mix conditions.

CELLxGENE's columns are looked at where a file has them: `is_primary_data` is false for cells that are also in
another dataset, `dataset_id` tells datasets apart, and a donor id holds within its dataset only.
https://github.com/chanzuckerberg/single-cell-curation
"""

import pandas as pd

PRIMARY, DATASET = "is_primary_data", "dataset_id"
PERSON = ("sex", "development_stage", "age", "self_reported_ethnicity")  # the same in all cells of a person
MIXED = (
    "tissue",
    "condition",
    "stim",
    "stimulation",
    "treatment",
    "timepoint",
    "time_point",
    "visit",
    "disease",
)
OPTIONAL = (PRIMARY, DATASET, *PERSON, *MIXED)


def find_copies(values: pd.DataFrame) -> pd.Series:
    """(cells,) bool: whether a cell is a copy from another dataset, in a file that has others too."""
    if PRIMARY not in values:
        return pd.Series(False, index=values.index)
    primary = values[PRIMARY].astype(object).str.lower()
    copies = primary.isin(["false", "0"])
    return copies & bool(primary.isin(["true", "1"]).any())


def qualify_donors(
    cells: pd.DataFrame, values: pd.DataFrame, person: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Cells with the dataset in front of donor ids that name different people, and these ids.

    cells: sample and donor as categorical labels; values: labels of columns, with dataset_id where the file
    has it. person: columns in which a person has one value, besides those of CELLxGENE. A donor with two
    values of one of them, each in a dataset of its own, is two people: donor and sample become
    `<dataset>:<id>`.
    """
    if DATASET not in values:
        return cells, []
    different = set()
    for column in dict.fromkeys([*PERSON, *person]):
        if column not in values or column == DATASET:
            continue
        pairs = pd.DataFrame(
            {"donor": cells["donor"], "dataset": values[DATASET], "value": values[column]}
        ).astype(object)
        pairs = pairs.dropna().drop_duplicates()
        within = pairs.groupby(["donor", "dataset"])["value"].nunique()
        several = pairs.groupby("donor")["value"].nunique()
        one_each = within.groupby("donor").max() == 1
        different |= set(several.index[(several > 1) & one_each])
    if not different:
        return cells, []
    chosen = cells["donor"].astype(object).isin(different)
    prefix = values[DATASET].astype(object).fillna("") + ":"
    cells = cells.copy()
    for role in ("sample", "donor"):
        names = cells[role].astype(object)
        names = names.where(~chosen | names.isna(), prefix + names.astype(str))
        cells[role] = pd.Series(pd.Categorical(names), index=cells.index)
    return cells, sorted(different)


def find_mixed(cells: pd.DataFrame, values: pd.DataFrame, used: set[str]) -> dict[str, tuple[int, list[str]]]:
    """Column -> (samples that hold several of its levels, the levels), of columns that conditions often have.

    used: columns that the config uses.
    """
    found = {}
    for column in MIXED:
        if column in values and column not in used:
            pairs = (
                pd.DataFrame({"sample": cells["sample"], "value": values[column]}).dropna().drop_duplicates()
            )
            several = pairs["sample"].astype(object).value_counts()
            if (several > 1).any():
                found[column] = int((several > 1).sum()), sorted(set(pairs["value"].astype(str)))
    return found
