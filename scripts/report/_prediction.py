"""Data of the page about prediction: scores over alpha, baselines, out-of-fold values, the null."""

from report._tables import columns_of, records


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
