"""Data of the page about prediction: scores over alpha, baselines, out-of-fold values, the null."""

import pandas as pd

from report._tables import columns_of, records

CONDITIONS = {  # of prediction_summary, in words
    "r2": "R\u00b2 not above 0",
    "gain_r2": "no gain in R\u00b2",
    "gain_mae": "no gain in error",
    "gain_auroc": "no gain in AUROC",
    "padj": "adjusted p above 0.05",
}


def prediction(tables: dict) -> dict | None:
    """One entry per cell type with the data of its figures; None without prediction."""
    if "prediction_summary" not in tables:
        return None
    summary = tables["prediction_summary"][""]
    scores, gaps = tables["prediction_scores"][""], tables["prediction_gaps"][""]
    null = tables["prediction_null"][""]
    types = []
    for row in records(summary):
        entry = {"cell_type": row["cell_type"], "label": row["label"], "summary": row}
        for name, table in (("scores", scores), ("gaps", gaps), ("null", null)):
            part = table[table["cell_type"] == row["cell_type"]].drop(columns="cell_type")
            entry[name] = columns_of(part)
        types.append(entry)
    return {"types": types}


def prediction_rows(summary: pd.DataFrame) -> list[dict]:
    """Rows of the table of the page, with the conditions that are not met in words, as `unmet`."""
    rows = records(summary)
    for row in rows:
        row["unmet"] = ", ".join(
            CONDITIONS[name] for name in (row["conditions_not_met"] or "").split(", ") if name
        )
    return rows


def find_predicted_levels(rows: list[dict]) -> dict | None:
    """The level and reference of a target of two levels; None for a number."""
    return next(
        ({key: row[key] for key in ("level", "reference")} for row in rows if row["kind"] == "levels"), None
    )
