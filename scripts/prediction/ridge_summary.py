"""Choose alpha within each outer fold, compare expression with baselines and chance, write the final models.

In each outer fold of each repeat, alpha is the one with the smallest inner error (ties: the larger alpha, the
simpler model). No sample takes part in the choice of the alpha that predicts it, so the scores of "chosen"
are unbiased; the scores of the best single alpha are not. In the null each permutation chooses its own
alphas; p = (1 + permutations with at least this R2) / (1 + permutations) (Phipson & Smyth 2010, Stat Appl
Genet Mol Biol 9:39). The result is the gain over the best baseline with its interval (_scores.py). The final
model, on all samples, has the alpha with the smallest out-of-fold error.
"""

import json
from importlib.metadata import version

import numpy as np
import pandas as pd

from files import read_cell_types, read_tsv, save_figure, write_tsv
from job import conclude, job, track_progress
from prediction._prediction_figures import draw_alphas, draw_predictions
from prediction._scores import SCORES, add_interval, arrange, compare, correct_gaps, resample, score

KEYS = ["cell_type", "permutation", "repeat", "fold", "sample"]
FOLD = ["cell_type", "repeat", "fold"]
FACTS = ["cell_type", "label", "status", "reason", "target", "samples", "donors"]
INTERVALS = [f"{name}{end}" for name in SCORES for end in ("", "_low", "_high")]
MODELS = ["cell_type", "model", "alpha", *INTERVALS]
GAINS = [f"gain_{name}{end}" for name in ("mae", "r2") for end in ("", "_low", "_high", "_excludes_0")]
CHANCE = ["null_r2", "null_r2_low", "null_r2_high", "pvalue", "permutations"]
SUMMARY = [*FACTS, "alpha", "alpha_edge", "supported", "best_baseline", *GAINS, *INTERVALS, *CHANCE]
SIGNIFICANT = 0.05  # p-value against the permutations
NULL_BAND = (0.05, 0.95)  # quantiles of the null in figures
INTERCEPT = "(intercept)"  # as ridge names it
GAPS = ["cell_type", "sample", "donor", "observed", "predicted", "gap", "expected", "corrected_gap"]


def stack_alphas(tables: list[pd.DataFrame], alphas: list[float]) -> pd.DataFrame:
    """Tables of the single alphas as one, with a column alpha in front, by ascending alpha.

    Raises ValueError if the tables differ in their keys (cell_type, repeat, fold, ...): they need equal
    folds.
    """
    keys = [key for key in KEYS if key in tables[0]]
    for table, alpha in zip(tables, alphas, strict=True):
        if not table[keys].equals(tables[0][keys]):
            raise ValueError(f"alpha {alpha:g} has other folds than alpha {alphas[0]:g}")
    order = np.argsort(alphas, kind="stable")
    return pd.concat(
        [tables[number].assign(alpha=float(alphas[number])) for number in order], ignore_index=True
    )[["alpha", *tables[0].columns]]


def select_smallest(errors: pd.DataFrame, by: list[str], error: str) -> pd.DataFrame:
    """The row with the smallest error for each value of `by`; ties: the larger alpha."""
    order = errors.sort_values([error, "alpha"], ascending=[True, False], kind="stable")
    return order.drop_duplicates(by).sort_values(by, ignore_index=True)


def combine_predictions(predictions: pd.DataFrame, inner: pd.DataFrame) -> pd.DataFrame:
    """Predictions of each outer fold by its own alpha, one row per cell type, repeat and sample."""
    alphas = select_smallest(inner, FOLD, "inner_mse")[[*FOLD, "alpha"]]
    combined = predictions.merge(alphas, on=[*FOLD, "alpha"])[predictions.columns]
    return combined.sort_values(["cell_type", "repeat", "sample"], ignore_index=True)


def score_null(null: pd.DataFrame) -> pd.DataFrame:
    """R2 of each permutation with its own alphas, mean over repeats: cell_type, permutation, r2."""
    folds = select_smallest(null, ["permutation", *FOLD], "inner_mse")
    sums = folds.groupby(["cell_type", "permutation", "repeat"])[["sse", "sst"]].sum()
    r2 = (1 - sums["sse"] / sums["sst"]).rename("r2")
    return r2.groupby(["cell_type", "permutation"]).mean().reset_index()


def compare_with_null(r2: float, null: np.ndarray) -> dict[str, float]:
    """p-value of an R2, and mean and band of the R2 of the permutations; NaN without permutations."""
    low, high = np.quantile(null, NULL_BAND) if len(null) else (np.nan, np.nan)
    band = {"null_r2": null.mean() if len(null) else np.nan, "null_r2_low": low, "null_r2_high": high}
    return {**band, "pvalue": (1 + (null >= r2).sum()) / (1 + len(null)), "permutations": len(null)}


def is_supported(row: dict[str, object]) -> bool:
    """Whether expression adds to the baselines: intervals of both gains above 0, and significant."""
    return row["gain_mae_low"] > 0 and row["gain_r2_low"] > 0 and row["pvalue"] <= SIGNIFICANT


def choose_final_alphas(predictions: pd.DataFrame) -> pd.Series:
    """The alpha of the final model of each cell type: smallest out-of-fold squared error, ties: larger."""
    squares = (predictions["observed"] - predictions["predicted"]) ** 2
    mse = squares.groupby([predictions["cell_type"], predictions["alpha"]]).mean().rename("mse")
    return select_smallest(mse.reset_index(), ["cell_type"], "mse").set_index("cell_type")["alpha"]


def find_edge(alpha: float, alphas: list[float]) -> str:
    """`lowest` or `highest` if alpha is at the end of the sweep, which should then be extended; else ""."""
    ends = {min(alphas): "lowest", max(alphas): "highest"}
    return ends.get(alpha, "") if len(alphas) > 1 else ""


def assess(
    models: dict[tuple[str, str], pd.DataFrame], *, bootstraps: int, random_state: int
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Scores of all models of one cell type with intervals, and the gains of expression over the baselines.

    models: (model, alpha) -> predictions; ("expression", "chosen") and at least one baseline, alpha "".
    """
    arrays = {key: arrange(table) for key, table in models.items()}
    donors = arrays["expression", "chosen"][2]
    weights = resample(donors, bootstraps=bootstraps, random_state=random_state)
    values = {key: score(observed, predicted, weights) for key, (observed, predicted, _) in arrays.items()}
    rows = []
    for (model, alpha), scores in values.items():
        parts = [add_interval(name, scores[:, number]) for number, name in enumerate(SCORES)]
        rows.append({"model": model, "alpha": alpha} | {k: v for part in parts for k, v in part.items()})
    baselines = {model: scores for (model, _), scores in values.items() if model != "expression"}
    return pd.DataFrame(rows), compare(values["expression", "chosen"], baselines)


def summarise(
    status: pd.DataFrame,
    predictions: pd.DataFrame,
    combined: pd.DataFrame,
    null: pd.DataFrame,
    baselines: pd.DataFrame,
    *,
    bootstraps: int,
    random_state: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per cell type, and one per cell type and model with all its scores.

    status: a row per cell type and alpha with FACTS. predictions: of all alphas; combined: of the alphas
    chosen in the folds; null: from score_null; baselines: predictions of each baseline.
    """
    alphas, final = sorted(status["alpha"].unique()), choose_final_alphas(predictions)
    summary, scores = [], []
    types = status.drop_duplicates("cell_type").set_index("cell_type", drop=False)
    for cell_type, facts in track_progress(types.iterrows(), len(types), "cell types"):
        row = facts[FACTS].to_dict()
        if row["status"] == "predicted":
            models = collect_models(cell_type, predictions, combined, baselines)
            table, gain = assess(models, bootstraps=bootstraps, random_state=random_state)
            scores.append(table.assign(cell_type=cell_type))
            scores_of_type = table[table["alpha"] == "chosen"].iloc[0].drop(["model", "alpha"]).to_dict()
            chance = null.loc[null["cell_type"] == cell_type, "r2"].to_numpy()
            row |= {"alpha": final[cell_type], "alpha_edge": find_edge(final[cell_type], alphas)}
            row |= gain | scores_of_type | compare_with_null(scores_of_type["r2"], chance)
            row["supported"] = is_supported(row)
        summary.append(row)
    rows = pd.DataFrame(summary).reindex(columns=SUMMARY)
    tables = [table.reindex(columns=MODELS) for table in scores]
    return rows, pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=MODELS)


def collect_models(
    cell_type: str, predictions: pd.DataFrame, combined: pd.DataFrame, baselines: pd.DataFrame
) -> dict[tuple[str, str], pd.DataFrame]:
    """Predictions of one cell type by (model, alpha), see assess."""
    single = predictions[predictions["cell_type"] == cell_type]
    models = {("expression", str(alpha)): table for alpha, table in single.groupby("alpha")}
    models["expression", "chosen"] = combined[combined["cell_type"] == cell_type]
    others = baselines[baselines["cell_type"] == cell_type]
    return models | {(name, ""): table for name, table in others.groupby("baseline", sort=False)}


def correct_all_gaps(combined: pd.DataFrame) -> pd.DataFrame:
    """correct_gaps of every cell type, one row per cell type and sample."""
    parts = [correct_gaps(table).assign(cell_type=name) for name, table in combined.groupby("cell_type")]
    return pd.concat(parts, ignore_index=True)[GAPS] if parts else pd.DataFrame(columns=GAPS)


def describe_models(
    coefficients: pd.DataFrame, status: pd.DataFrame, summary: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Coefficients of the final models (a row per cell type and gene), and a description to apply them.

    coefficients: of all alphas. The description has the intercepts. Prediction = intercept + sum of
    coefficient * (x - mean) / sd, with x = ln(1 + counts_per * count / counts of the sample).
    """
    tables, models = [], {}
    for row in summary[summary["status"] == "predicted"].itertuples():
        is_final = (coefficients["cell_type"] == row.cell_type) & (coefficients["alpha"] == row.alpha)
        table = coefficients[is_final].drop(columns="alpha")
        facts = status[status["cell_type"] == row.cell_type].iloc[0]
        intercept = table["gene_id"] == INTERCEPT
        models[row.cell_type] = {
            "label": row.label,
            "alpha": float(row.alpha),
            "intercept": table.loc[intercept, "coefficient"].item(),
            "genes": int((~intercept).sum()),
            "samples": int(row.samples),
            "donors": int(row.donors),
            "training_range": [float(facts["target_low"]), float(facts["target_high"])],
            "out_of_fold": {name: getattr(row, name) for name in ("r2", "mae", "gain_mae", "best_baseline")},
        }
        tables.append(table[~intercept])
    description = {
        "format": 1,
        "target": summary["target"].iloc[0],
        "unit": f"that of the cohort's column of {summary['target'].iloc[0]}",
        "expression": {"counts_per": 10000, "transform": "log1p", "total": "all genes of the sample's sum"},
        "versions": {name: version(name) for name in ("numpy", "scipy", "scikit-learn")},
        "models": models,
    }
    empty = coefficients.drop(columns="alpha").iloc[:0]
    return pd.concat([empty, *tables], ignore_index=True), description


def read_tables(paths: list[str], numbers: dict[str, type]) -> list[pd.DataFrame]:
    """TSV tables, all columns text but the named ones."""
    return [read_tsv(path).astype(numbers) for path in paths]


def read_sweep(files) -> dict[str, pd.DataFrame]:
    """The tables of the jobs of all alphas, stacked, by name."""
    read = {"alpha": float, "samples": int, "donors": int}
    status = pd.concat(read_tables(files.status, read), ignore_index=True)
    labels = read_cell_types(files.cell_types).set_index("id")["label"]
    alphas = status["alpha"].drop_duplicates().tolist()
    inner = read_tables(files.inner, {"repeat": int, "fold": int, "inner_mse": float})
    tables = {
        name: [pd.read_parquet(path) for path in getattr(files, name)]
        for name in ("predictions", "null", "coefficients")
    }
    stacked = {name: stack_alphas(each, alphas) for name, each in {**tables, "inner": inner}.items()}
    return {"status": status.assign(label=status["cell_type"].map(labels)), **stacked}


def describe_types(summary: pd.DataFrame) -> list[str]:
    """A line per cell type: its error and gain, or why it is not predicted."""
    lines = []
    for row in summary.itertuples():
        result = f"not predicted: {row.reason}"
        if row.status == "predicted":
            result = (
                f"error {row.mae:.3g}, gain {row.gain_mae:.3g} [{row.gain_mae_low:.3g}, "
                f"{row.gain_mae_high:.3g}] over {row.best_baseline}, p {row.pvalue:.2g}"
            )
        lines.append(f"{row.label}: {result}")
    return lines


def conclusion(summary: pd.DataFrame) -> str:
    """How many types are predicted, how many better than every baseline, and the largest gain."""
    predicted = summary[summary["status"] == "predicted"]
    line = f"{len(predicted)} of {len(summary)} cell types predicted"
    if len(predicted):
        best = predicted.loc[predicted["gain_mae"].idxmax()]
        line += (
            f"; {predicted['supported'].astype(bool).sum()} better than every baseline; largest gain "
            f"{best['gain_mae']:.3g} [{best['gain_mae_low']:.3g}, {best['gain_mae_high']:.3g}] over "
            f"{best['best_baseline']} in {best['label']}"
        )
    return line


if __name__ == "__main__":
    with job(snakemake) as out:
        sweep = read_sweep(snakemake.input)
        baselines = pd.read_parquet(snakemake.input.baselines)
        status, predictions, null = sweep["status"], sweep["predictions"], score_null(sweep["null"])
        combined = combine_predictions(predictions, sweep["inner"])
        settings = dict(snakemake.params.items())
        summary, scores = summarise(status, predictions, combined, null, baselines, **settings)
        gaps = correct_all_gaps(combined)
        models, description = describe_models(sweep["coefficients"], status, summary)
        combined.to_parquet(out.predictions, index=False)
        tables = {"summary": summary, "scores": scores, "null": null, "gaps": gaps, "models": models}
        for name, table in tables.items():
            write_tsv(table, getattr(out, name))
        with open(out.description, "w", encoding="utf-8") as file:
            file.write(json.dumps(description, indent=1) + "\n")
        save_figure(draw_alphas(summary, scores), out.alphas)
        save_figure(draw_predictions(summary, gaps), out.figure)
        print(*describe_types(summary), sep="\n")
        conclude(conclusion(summary))
