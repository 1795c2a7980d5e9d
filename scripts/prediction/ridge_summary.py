"""Choose alpha within each outer fold, compare expression with baselines and chance, write the final models.

In each outer fold of each repeat, alpha is the one with the smallest inner error (ties: the larger alpha, the
simpler model). No sample takes part in the choice of the alpha that predicts it, so the scores of "chosen"
are unbiased; the scores of the best single alpha are not. In the null each permutation chooses its own
alphas; p = (1 + permutations with at least this R2) / (1 + permutations) (Phipson & Smyth 2010, Stat Appl
Genet Mol Biol 9:39), and padj is adjusted over the cell types (Benjamini & Hochberg 1995, J R Stat Soc B
57:289). The final model, on all samples, has the alpha with the smallest out-of-fold error.

An error counts as equal to the smallest one if it is less than `TIE` larger, since a penalty that is small
against all eigenvalues changes nothing. So `alpha_edge` names the end of the sweep only where going on helps.

`supported`: expression adds to what is known without it. All of these: the interval of R2 is above 0 (better
than the mean of the cohort); the intervals of the gains over the best baseline are above 0, in R2 and in the
mean absolute error, or the AUROC for two levels; padj is at most `SIGNIFICANT`. `conditions_not_met` has
those that fail.
"""

import json

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from files import read_cell_types, read_tsv, save_figure, write_tsv
from job import conclude, job, track_progress, warn
from prediction._final_models import describe_models
from prediction._prediction_figures import draw_alphas, draw_predictions
from prediction._scores import (
    LEVEL_SCORES,
    SCORES,
    add_interval,
    arrange,
    compare,
    correct_gaps,
    resample,
    score,
    score_levels,
)

KEYS = ["cell_type", "permutation", "repeat", "fold", "sample"]
FOLD = ["cell_type", "repeat", "fold"]
FACTS = ["cell_type", "label", "status", "reason", "target", "samples", "donors"]
LEVELS = ["kind", "level", "reference"]
INTERVALS, OF_LEVELS = (
    [f"{name}{end}" for name in names for end in ("", "_low", "_high")] for names in (SCORES, LEVEL_SCORES)
)
MODELS = ["cell_type", "model", "alpha", *INTERVALS, *OF_LEVELS]
GAINS = [f"gain_{name}{end}" for name in ("mae", "r2") for end in ("", "_low", "_high", "_excludes_0")]
CHANCE = ["null_r2", "null_r2_low", "null_r2_high", "pvalue", "permutations", "padj"]
SUMMARY = [*FACTS, "alpha", "alpha_edge", "supported", "best_baseline", *GAINS, *INTERVALS, *CHANCE]
SUMMARY += ["conditions_not_met", *LEVELS, *(name.replace("r2", "auroc") for name in GAINS[4:]), *OF_LEVELS]
SIGNIFICANT = 0.05  # adjusted p-value against the permutations
TIE = 0.01  # errors that differ by less, as a share of the smaller one, are equal
NULL_BAND = (0.05, 0.95)  # quantiles of the null in figures
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
    """The row with the largest alpha among the smallest errors, up to TIE, for each value of `by`."""
    smallest = errors.groupby(by)[error].transform("min")
    order = errors[errors[error] <= smallest * (1 + TIE)].sort_values("alpha", ascending=False, kind="stable")
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


def adjust_and_judge(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with padj over the predicted cell types, supported, and conditions_not_met."""
    predicted = summary["status"] == "predicted"
    rows = summary[predicted].copy()
    if len(rows):
        rows["padj"] = false_discovery_control(rows["pvalue"].astype(float), method="bh")
    unmet = [", ".join(list_unmet(row)) for row in rows.to_dict("records")]
    supported = pd.Series([not names for names in unmet], index=rows.index, dtype=object)
    return summary.assign(
        padj=rows["padj"].astype(float).reindex(summary.index),
        supported=supported.reindex(summary.index),
        conditions_not_met=pd.Series(unmet, index=rows.index, dtype=object).reindex(
            summary.index, fill_value=""
        ),
    )


def list_unmet(row: dict[str, object]) -> list[str]:
    """The conditions of `supported` that a row of the summary does not meet, see above."""
    intervals = ["r2", "gain_r2", "gain_auroc" if row["kind"] == "levels" else "gain_mae"]
    unmet = [name for name in intervals if not row[f"{name}_low"] > 0]
    return unmet + ["padj"] * (not row["padj"] <= SIGNIFICANT)


def measure_alphas(predictions: pd.DataFrame) -> pd.DataFrame:
    """Mean squared error out of fold, mse, of each cell type and alpha."""
    squares = (predictions["observed"] - predictions["predicted"]) ** 2
    return (
        squares.groupby([predictions["cell_type"], predictions["alpha"]]).mean().rename("mse").reset_index()
    )


def find_edge(alpha: float, mse: pd.Series) -> str:
    """`lowest` or `highest` if alpha is an end of the sweep and better than its neighbour by TIE; else "".

    mse: errors by alpha, ascending.
    """
    if len(mse) == 1 or alpha not in (mse.index[0], mse.index[-1]):
        return ""
    end, neighbour, name = (0, 1, "lowest") if alpha == mse.index[0] else (-1, -2, "highest")
    return name if mse.iloc[neighbour] > mse.iloc[end] * (1 + TIE) else ""


def assess(
    models: dict[tuple[str, str], pd.DataFrame], *, has_levels: bool, bootstraps: int, random_state: int
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Scores of all models of one cell type with intervals, and the gains of expression over the baselines.

    has_levels: whether the target is one of two levels, which has LEVEL_SCORES too.
    models: (model, alpha) -> predictions; ("expression", "chosen") and at least one baseline, alpha "".
    """
    arrays = {key: arrange(table) for key, table in models.items()}
    donors = arrays["expression", "chosen"][3]
    weights = resample(donors, bootstraps=bootstraps, random_state=random_state)
    values = {}
    for key, (observed, predicted, fold, _) in arrays.items():
        values[key] = score(observed, predicted, weights)
        if has_levels:
            own = score_levels(observed, predicted, fold, weights)
            values[key] = np.hstack([values[key], own])
    rows, names = [], [*SCORES, *LEVEL_SCORES]
    for (model, alpha), scores in values.items():
        parts = [add_interval(name, column) for name, column in zip(names, scores.T, strict=False)]
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
    errors = measure_alphas(predictions)
    final = select_smallest(errors, ["cell_type"], "mse").set_index("cell_type")["alpha"]
    draw, summary, scores = {"bootstraps": bootstraps, "random_state": random_state}, [], []
    types = status.drop_duplicates("cell_type").set_index("cell_type", drop=False)
    for cell_type, facts in track_progress(types.iterrows(), len(types), "cell types"):
        row = facts[[*FACTS, *LEVELS]].to_dict()
        if row["status"] == "predicted":
            models = collect_models(cell_type, predictions, combined, baselines)
            table, gain = assess(models, has_levels=row["kind"] == "levels", **draw)
            scores.append(table.assign(cell_type=cell_type))
            scores_of_type = table[table["alpha"] == "chosen"].iloc[0].drop(["model", "alpha"]).to_dict()
            chance = null.loc[null["cell_type"] == cell_type, "r2"].to_numpy()
            mse = errors[errors["cell_type"] == cell_type].set_index("alpha")["mse"]
            row |= {"alpha": final[cell_type], "alpha_edge": find_edge(final[cell_type], mse)}
            row |= gain | scores_of_type | compare_with_null(scores_of_type["r2"], chance)
        summary.append(row)
    rows = adjust_and_judge(pd.DataFrame(summary).reindex(columns=SUMMARY))
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
            name, score = ("auroc", "AUROC") if row.kind == "levels" else ("mae", "error")
            gain, low, high = (getattr(row, f"gain_{name}{end}") for end in ("", "_low", "_high"))
            result = f"{score} {getattr(row, name):.3g}, gain {gain:.3g} [{low:.3g}, {high:.3g}] "
            result += f"over {row.best_baseline}, adjusted p {row.padj:.2g}"
        lines.append(f"{row.label}: {result}")
    return lines


def conclusion(summary: pd.DataFrame) -> str:
    """How many types are predicted, how many better than every baseline, and the largest gain."""
    predicted = summary[summary["status"] == "predicted"]
    line = f"{len(predicted)} of {len(summary)} cell types predicted"
    if len(predicted):
        gain = "gain_auroc" if (predicted["kind"] == "levels").all() else "gain_mae"
        best = predicted.loc[predicted[gain].astype(float).idxmax()]
        line += (
            f"; {predicted['supported'].astype(bool).sum()} supported: better than the mean, the best "
            f"baseline and chance; largest gain {best[gain]:.3g} [{best[f'{gain}_low']:.3g}, "
            f"{best[f'{gain}_high']:.3g}] over {best['best_baseline']} in {best['label']}"
        )
    return line


def warn_of_few_permutations(summary: pd.DataFrame) -> None:
    """Warn where a single cell type that no permutation reaches would not be significant over all types."""
    predicted = summary[summary["status"] == "predicted"]
    if len(predicted):
        permutations = int(predicted["permutations"].iloc[0])
        smallest = len(predicted) / (1 + permutations)
        if smallest > SIGNIFICANT:
            warn(
                "permutations_too_few",
                f"with {permutations} permutations and {len(predicted)} cell types, the adjusted p-value of "
                f"a single cell type is {smallest:.2g} or more, above {SIGNIFICANT:g}; "
                f"{round(len(predicted) / SIGNIFICANT) - 1} permutations are needed",
                count=permutations,
                setting="ridge.permutations",
            )


if __name__ == "__main__":
    with job(snakemake) as out:
        sweep = read_sweep(snakemake.input)
        baselines = pd.read_parquet(snakemake.input.baselines)
        status, predictions, null = sweep["status"], sweep["predictions"], score_null(sweep["null"])
        combined = combine_predictions(predictions, sweep["inner"])
        settings = dict(snakemake.params.items())
        summary, scores = summarise(status, predictions, combined, null, baselines, **settings)
        gaps = correct_all_gaps(combined)
        profiles = pd.read_parquet(snakemake.input.profiles)
        correlations = read_tsv(snakemake.input.correlations).astype({"correlation": float})
        models, description = describe_models(sweep["coefficients"], status, summary, profiles, correlations)
        profiles = profiles[profiles["cell_type"].isin(description["models"])]
        profiles.to_parquet(out.profiles, index=False)
        combined.to_parquet(out.predictions, index=False)
        tables = {"summary": summary, "scores": scores, "null": null, "gaps": gaps, "models": models}
        for name, table in tables.items():
            write_tsv(table, getattr(out, name))
        with open(out.description, "w", encoding="utf-8") as file:
            file.write(json.dumps(description, indent=1) + "\n")
        save_figure(draw_alphas(summary, scores), out.alphas)
        save_figure(draw_predictions(summary, gaps), out.figure)
        print(*describe_types(summary), sep="\n")
        warn_of_few_permutations(summary)
        conclude(conclusion(summary))
