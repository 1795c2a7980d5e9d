"""Guess the roles of the columns of a cohort, as proposals for a config, each with its reason.

A column is chosen by its name (names of CELLxGENE, then common names, then words within a name) if its values
fit the role. A `Guess` has a reason, also if its value is null.
"""

import keyword
import re
from typing import NamedTuple

import numpy as np
import pandas as pd

import _root  # noqa: F401
from cohort._values import parse_numbers
from files import RESERVED_COLUMNS

Table = dict[str, pd.Series]  # column -> label of each cell, categorical text, missing where there is none

DONOR = ["donor_id", "donor", "individual_id", "individual", "subject_id", "subject", "patient_id", "patient"]
DONOR += [
    "participant_id",
    "participant",
    "donorid",
    "patientid",
    "subjectid",
    "mouse_id",
    "sample_id",
    "sample",
    "orig_ident",
]
CELL_TYPE = [
    "cell_type",
    "celltype",
    "cell_type_label",
    "author_cell_type",
    "cell_ontology_class",
    "subclass",
    "full_clustering",
    "cell_label",
    "celltypist",
    "annotation",
]
POOL = [
    "pool_number",
    "pool",
    "pool_id",
    "capture",
    "capture_id",
    "library_id",
    "library",
    "channel",
    "lane",
    "batch",
]
AGE = ["age", "age_years", "donor_age", "age_at_draw", "age_at_collection", "development_stage"]
SEX = ["sex", "gender", "donor_sex"]
CONDITION = [
    "condition",
    "disease",
    "diagnosis",
    "treatment",
    "stim",
    "stimulation",
    "status",
    "disease_status",
]
CONDITION += ["group", "phenotype", "case_control"]
WORDS = {
    "donor": r"donor|patient|subject|individual|participant",
    "cell_type": r"cell_?type|cell_?label|annotation",
    "pool": r"pool|capture|library|batch|lane|channel",
    "age": r"(^|_)age(_|$)",
    "sex": r"(^|_)(sex|gender)(_|$)",
    "condition": r"condition|disease|diagnosis|treatment|stim",
}
NAMES = {"donor": DONOR, "cell_type": CELL_TYPE, "pool": POOL, "age": AGE, "sex": SEX, "condition": CONDITION}
NO_LABEL = {
    "",
    "na",
    "n_a",
    "none",
    "unknown",
    "unassigned",
    "unlabelled",
    "unlabeled",
    "undefined",
    "ambiguous",
}
NO_LABEL |= {"doublet", "doublets", "multiplet", "negative", "low_quality", "lowquality", "unclassified"}
REFERENCES = [
    "control",
    "ctrl",
    "normal",
    "healthy",
    "unstimulated",
    "unstim",
    "untreated",
    "vehicle",
    "baseline",
]
REFERENCES += ["wt", "wildtype", "no", "none", "false", "0"]
MOST = {"cell_type": 500, "sex": 4, "condition": 10}  # values that a column of this role may have

MANY_VALUES = "nearly as many values as cells"


class Guess(NamedTuple):
    """A proposal: the setting, its value and why; `other` columns would fit as well."""

    setting: str
    value: object
    why: str
    other: tuple[str, ...] = ()


def normalise_name(name: object) -> str:
    """A name in small letters, digits and single underscores."""
    return re.sub(r"[^a-z0-9]+", "_", str(name).lower()).strip("_")


def count_values(column: pd.Series) -> int:
    """Distinct labels that a cell has."""
    return column.nunique()


def is_constant(column: pd.Series, within: pd.Series) -> bool:
    """Whether every value of `within` has one value of the column, missing ones aside."""
    pairs = pd.DataFrame({"of": within.cat.codes, "value": column.cat.codes}).drop_duplicates()
    return not pairs[(pairs["of"] >= 0) & (pairs["value"] >= 0)]["of"].duplicated().any()


def explain_misfit(role: str, column: pd.Series) -> str:
    """Why a column cannot have a role; empty when it can."""
    number = count_values(column)
    if number < 2:
        return "no value" if number == 0 else "one value only"
    if role in MOST and number > MOST[role]:
        return f"{number:,} values"
    if role == "age" and not detect_number_type(column):
        return "no numbers"
    if role in ("donor", "cell_type", "pool") and number > max(len(column) / 3, 2):
        return MANY_VALUES
    return ""


def find_column(role: str, table: Table) -> Guess:
    """The column that has a role: by its full name, else by a word in it; ontology ids never."""
    setting = f"load.{role}" if role in ("donor", "cell_type", "pool") else f"load.covariates ({role})"
    usual = [name for known in NAMES[role] for name in table if normalise_name(name) == known]
    worded = [
        name
        for name in table
        if name not in usual
        and re.search(WORDS[role], normalise_name(name))
        and "ontology" not in normalise_name(name)
    ]
    reasons = {name: explain_misfit(role, table[name]) for name in [*usual, *worded]}
    fitting = [name for name, reason in reasons.items() if not reason]
    unfit = ", ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)
    passed_over = f"; not {unfit}" if unfit else ""
    single = [name for name in usual if reasons[name] == "one value only"]
    if not fitting and role == "cell_type" and single:
        return Guess(setting, single[0], f"its only label names the type{passed_over}")
    if not fitting:
        return Guess(setting, None, f"no column is named like that{passed_over}")
    best = fitting[0]
    how = "its usual name" if best in usual else "a word in its name"
    why = f"{how}; {count_values(table[best]):,} values{passed_over}"
    return Guess(setting, best, why, tuple(fitting[1:]))


def detect_number_type(column: pd.Series) -> str:
    """`numeric` or `stage` when most labels are one, else empty."""
    share = {
        kind: parse_numbers(column, kind)[column.notna()].notna().mean() for kind in ("stage", "numeric")
    }
    best = max(share, key=share.get)
    return best if share[best] >= 0.5 else ""


def name_covariate(column: str, taken: set[str]) -> str:
    """A name that is valid in a formula and not the name of another column."""
    name = normalise_name(column)
    name = name if name[:1].isalpha() else f"x_{name}"
    while name in {*RESERVED_COLUMNS, *taken} or keyword.iskeyword(name):
        name += "_value"
    return name


def describe_covariate(role: str, column: str, table: Table, taken: set[str]) -> dict:
    """An entry of load.covariates."""
    name = role if role in ("age", "sex") else name_covariate(column, taken)
    return {"name": name, "column": column, "type": choose_type(role, table[column])}


def choose_type(role: str, column: pd.Series) -> str:
    """Type of a covariate: sex and condition are categories also where they are coded as numbers."""
    if role in ("sex", "condition"):
        return "categorical"
    return detect_number_type(column) or "categorical"


def choose_sample_column(
    donor: str, covariates: list[dict], table: Table, asked: str | None = None
) -> tuple[Guess, list[Guess], list[dict]]:
    """The sample column, what was left out for it, and the covariates that have one value per sample.

    asked: the column that the user named; then nothing else is proposed.
    """
    if asked is not None:
        varying = [entry for entry in covariates if not is_constant(table[entry["column"]], table[asked])]
        left = [
            Guess(f"load.covariates ({entry['name']})", None, f"{entry['column']} differs within {asked}")
            for entry in varying
        ]
        kept = [entry for entry in covariates if entry not in varying]
        return Guess("load.sample", asked, "as asked"), left, kept
    varying = [each for each in covariates if not is_constant(table[each["column"]], table[donor])]
    if not varying:
        return Guess("load.sample", donor, "each donor has one value of every covariate"), [], covariates
    within = [
        name
        for name in sorted(
            table, key=lambda name: ("sample" not in normalise_name(name), normalise_name(name))
        )
        if name != donor
        and count_values(table[donor]) < count_values(table[name]) <= len(table[name]) / 3
        and is_constant(table[donor], table[name])
        and all(is_constant(table[each["column"]], table[name]) for each in covariates)
    ]
    what = ", ".join(each["name"] for each in varying)
    if within:
        why = f"{what} differs within donors; its {count_values(table[within[0]]):,} values tell them apart"
        return Guess("load.sample", within[0], why, tuple(within[1:])), [], covariates
    left = [
        Guess(
            f"load.covariates ({each['name']})",
            None,
            f"{each['column']} differs within values of {donor}, and no column tells these cells apart: "
            "add one to the file (donor and condition in one label) and name it load.sample",
        )
        for each in varying
    ]
    kept = [each for each in covariates if each not in varying]
    return Guess("load.sample", donor, "no column tells samples of a donor apart"), left, kept


def find_missing_labels(columns: list[str], table: Table) -> list[dict]:
    """Labels of donor and cell type that say that there is none, for load.exclude."""
    found = []
    for name in dict.fromkeys(columns):
        odd = [label for label in table[name].cat.categories if normalise_name(label) in NO_LABEL]
        odd = [label for label in odd if (table[name] == label).any()]
        if odd:
            found.append({"column": name, "values": odd})
    return found


def judge_pool(guess: Guess, sample: str, table: Table) -> Guess:
    """A pool that holds one sample each says nothing that the sample does not."""
    if guess.value is None or not is_constant(table[sample], table[guess.value]):
        return guess
    return Guess(guess.setting, None, f"each {guess.value} holds one sample: no batch beside the sample")


def choose_reference(column: pd.Series) -> tuple[str, str, str]:
    """Level, reference and why, of a category with two values."""
    first, second = sorted(column.cat.categories[np.unique(column.cat.codes[column.notna()])])
    order = {name: number for number, name in enumerate(REFERENCES)}
    ranks = [order.get(normalise_name(label), len(order)) for label in (first, second)]
    if ranks[0] == ranks[1]:
        return second, first, f"neither name says which is the control: {first!r} comes first"
    chosen = (second, first) if ranks[0] < ranks[1] else (first, second)
    return *chosen, f"{chosen[1]!r} is a control by its name"


def propose_contrast(
    covariates: list[dict], paired: list[str], table: Table, wanted: str | None = None
) -> tuple[dict | None, str]:
    """What to test: a condition of two levels, else age, else sex; with the other covariates in the design.

    paired: names of covariates that differ within donors; the design then has the donor in place of the rest.
    wanted: the covariate to test instead.
    """
    kinds = {each["name"]: each for each in covariates}
    two = [name for name, each in kinds.items() if each["type"] == "categorical"]
    two = [name for name in two if count_values(table[kinds[name]["column"]]) == 2]
    order = [*paired, *(name for name in two if name not in ("sex", *paired))]
    order += [name for name, each in kinds.items() if each["type"] != "categorical"]
    order += [name for name in two if name == "sex"]
    order = [name for name in order if name in two or kinds[name]["type"] != "categorical"]
    if wanted is not None and wanted not in order:
        return (
            None,
            f"{wanted} has {count_values(table[kinds[wanted]['column']])} levels, not 2: see docs/extend.md",
        )
    if not order:
        return None, "no covariate to test: name one with --covariate NAME=COLUMN:TYPE"
    test = wanted or order[0]
    others = ["donor"] if test in paired else [name for name in kinds if name != test and name not in paired]
    entry = {"name": test, "design": "~ " + " + ".join([test, *others]), "test": test}
    if kinds[test]["type"] != "categorical":
        return entry | {"unit": 10 if test == "age" else 1}, f"{test} is a number"
    level, reference, why = choose_reference(table[kinds[test]["column"]])
    return entry | {"level": level, "reference": reference}, why


def handle_repeated_donors(entry: dict, why: str) -> tuple[dict, str]:
    """A contrast of donors with several samples: paired by its design, else a donor's samples are summed.

    entry: its test and covariates have one value per donor, unless the donor is in the design.
    """
    if "donor" in entry["design"].removeprefix("~ ").split(" + "):
        return entry, f"{why}; donors are paired"
    return entry | {"aggregate": "donor"}, f"{why}; donors repeat, and their samples are summed"


def count_coefficients(entry: dict, load: dict, table: Table) -> int:
    """Coefficients of a design: one, one per number, and one per level of a category but the first."""
    kinds = {each["name"]: each for each in load["covariates"]}
    number = 1
    for name in entry["design"].removeprefix("~ ").split(" + "):
        column = load["donor"] if name == "donor" else kinds[name]["column"]
        category = name == "donor" or kinds[name]["type"] == "categorical"
        number += count_values(table[column]) - 1 if category else 1
    return number


def propose_strata(covariates: list[dict], table: Table) -> list[dict]:
    """Where losses are counted: cell types, categories, and quarters of a number."""
    found: list[dict] = [{"column": "cell_type"}]
    for each in covariates:
        if each["type"] == "categorical":
            found.append({"column": each["name"]})
            continue
        years = parse_numbers(table[each["column"]], each["type"])
        quarters = years.quantile([0.25, 0.5, 0.75], interpolation="higher")
        breaks = sorted({float(f"{value:.3g}") for value in quarters})
        breaks = [int(value) if value.is_integer() else value for value in breaks]
        found.append({"column": each["name"], "breaks": breaks})
    return found
