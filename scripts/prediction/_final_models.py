"""The final models as tables and a description, which `make predict` applies to other cohorts."""

from importlib.metadata import version

import pandas as pd

FORMAT = 2  # of models.json; ops/predict.py reads it
INTERCEPT = "(intercept)"  # as ridge names it
SCORES_OUT_OF_FOLD = ("r2", "mae", "auroc", "gain_mae", "gain_auroc", "best_baseline", "supported")


def describe_models(
    coefficients: pd.DataFrame,
    status: pd.DataFrame,
    summary: pd.DataFrame,
    profiles: pd.DataFrame,
    correlations: pd.DataFrame,
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Coefficients of the final models (a row per cell type and gene), and a description to apply them.

    coefficients: of all alphas; profiles, correlations: tables of `profiles`. The description has the
    intercepts. Prediction = intercept + sum of coefficient * (x - mean) / sd, with x = ln(1 + counts_per *
    count / counts of the sample); for a target of two levels it is cut to 0..1.
    """
    tables, models = [], {}
    for row in summary[summary["status"] == "predicted"].itertuples():
        is_final = (coefficients["cell_type"] == row.cell_type) & (coefficients["alpha"] == row.alpha)
        table = coefficients[is_final].drop(columns="alpha")
        facts = status[status["cell_type"] == row.cell_type].iloc[0]
        intercept = table["gene_id"] == INTERCEPT
        scores = {name: getattr(row, name) for name in SCORES_OUT_OF_FOLD}
        models[row.cell_type] = {
            "cell_type": row.cell_type,
            "label": row.label,
            "alpha": float(row.alpha),
            "intercept": table.loc[intercept, "coefficient"].item(),
            "genes": int((~intercept).sum()),
            "samples": int(row.samples),
            "donors": int(row.donors),
            "training_range": [float(facts["target_low"]), float(facts["target_high"])],
            "profile": describe_profile(row.cell_type, profiles, correlations),
            "out_of_fold": {name: value for name, value in scores.items() if not pd.isna(value)},
        }
        tables.append(table[~intercept])
    description = {
        "format": FORMAT,
        "target": summary["target"].iloc[0],
        **{name: summary[name].iloc[0] for name in ("kind", "level", "reference")},
        "unit": f"that of the cohort's column of {summary['target'].iloc[0]}",
        "expression": {"counts_per": 10000, "transform": "log1p", "total": "all genes of the sample's sum"},
        "versions": {name: version(name) for name in ("numpy", "scipy", "scikit-learn")},
        "models": models,
    }
    empty = coefficients.drop(columns="alpha").iloc[:0]
    return pd.concat([empty, *tables], ignore_index=True), description


def describe_profile(
    cell_type: str, profiles: pd.DataFrame, correlations: pd.DataFrame
) -> dict[str, float | None]:
    """Genes of a profile, and the lowest and median correlation of a training sample with the others.

    Both are None without a profile.
    """
    values = correlations.loc[correlations["cell_type"] == cell_type, "correlation"]
    return {
        "genes": int((profiles["cell_type"] == cell_type).sum()),
        "lowest_correlation": float(values.min()) if len(values) else None,
        "median_correlation": float(values.median()) if len(values) else None,
    }
