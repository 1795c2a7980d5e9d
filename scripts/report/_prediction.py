"""What the report says about prediction: scores over alpha, baselines, out-of-fold values, the null."""

from report._tables import columns_of, records


def prediction(tables: dict) -> dict | None:
    """One entry per predicted cell type with what its figures need; None without prediction."""
    if "prediction_summary" not in tables:
        return None
    summary = tables["prediction_summary"][""]
    scores, gaps = tables["prediction_scores"][""], tables["prediction_gaps"][""]
    null = tables["prediction_null"][""]
    found = []
    for row in records(summary):
        mine = {"cell_type": row["cell_type"], "label": row["label"], "summary": row}
        for name, table in (("scores", scores), ("gaps", gaps), ("null", null)):
            part = table[table["cell_type"] == row["cell_type"]].drop(columns="cell_type")
            mine[name] = columns_of(part)
        found.append(mine)
    return {"types": found}
