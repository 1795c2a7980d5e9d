"""Data of the page about samples: the table of rule samples, its pairs, and its figures."""

import base64
from pathlib import Path

import pandas as pd

from report._tables import columns_of, records

FIGURES = {  # file name -> heading and what to see
    "components": (
        "Samples by their first two components",
        "Log expression of sums, each sample divided by the deviation expected at its depth; in colours the "
        "covariate that goes with a component most. Ringed: far out. Over all cell types, components also "
        "follow composition.",
    ),
    "associations": (
        "Covariates against components",
        "R squared; a dot where permutations reach as much in at most 5 %, each test alone. A technical "
        "covariate on a leading component belongs into the design, or is a reason to look at the samples.",
    ),
    "variance": (
        "Share of variance by covariate",
        "Sequential sums of squares, in the order of the config: what two covariates share is given to the "
        "upper one. A share near the bar is chance.",
    ),
    "sex": ("Sex by expression", "Ringed: shows another sex than the one stated. Crosses: undecided."),
    "pairs": (
        "Persons",
        "Correlation of two samples beyond covariates, standardised over pairs of different donors.",
    ),
}


CHECKS = ["agrees", "contradicts", "undecided", "not_stated", "unknown_level", "no_genes", "no_cells"]


def sample_blocks(
    tables: dict, figures: list[str], covariates: dict[str, str]
) -> tuple[dict, dict[str, str], dict]:
    """Data of the table, the figures as base64 by name, and the values for the template.

    tables: from read_all; figures: paths of PNGs named as in FIGURES; covariates: name -> kind.
    """
    table, pairs = tables["sample_summary"][""], tables["sample_pairs"][""]
    known = tables["samples"][""].set_index("sample")[list(covariates)]
    joined = table.join(known.add_prefix("covariate_"), on="sample")
    checks = dict.fromkeys(CHECKS, 0) | table["sex_check"].value_counts().to_dict()
    flagged = pairs[pairs["check"].isin(["alike", "not_alike"])]
    drawn = {
        f"samples-{Path(path).stem}": base64.b64encode(Path(path).read_bytes()).decode() for path in figures
    }
    about = {
        "sex": checks,
        "contradicts": records(table[table["sex_check"] == "contradicts"]),
        "alike": records(flagged[flagged["check"] == "alike"]),
        "not_alike": records(flagged[flagged["check"] == "not_alike"]),
        "control": pairs["control"].iloc[0] if len(pairs) else "none",
        "compared": len(pairs) > 0,
        "outlying": records(table[table["outlying_in"].replace("", pd.NA).notna()]),
        "figures": [(name, *FIGURES[name]) for name in FIGURES if f"samples-{name}" in drawn],
    }
    return {"samples": columns_of(joined) | {"covariates": list(covariates)}}, drawn, about
