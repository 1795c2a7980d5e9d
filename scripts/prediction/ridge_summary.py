"""Choose alpha inside each outer fold, compare expression with baselines and chance, keep the final models.

In every outer fold of every repeat the alpha with the smallest inner error is taken (ties: the larger alpha,
the simpler model) and with it that fold's predictions: no sample takes part in the choice of the alpha that
predicts it, so the scores of "chosen" are honest, while the best of the single alphas is not. The null goes
the same way: each permutation chooses its own alphas, p = (1 + permutations that reach R2) / (1 + all)
(Phipson & Smyth 2010, Stat Appl Genet Mol Biol 9:39). What counts is the gain over the best baseline with its
interval (_scores.py). The final model, on all samples, has the alpha with the smallest error out of fold.
"""

import json
from importlib.metadata import version

import numpy as np
import pandas as pd

from files import read_cell_types, read_tsv, save_figure, write_tsv
from job import job, track_progress
from prediction._prediction_figures import draw_alphas, draw_predictions
from prediction._scores import SCORES, arrange, compare, correct_gaps, resample, score, with_interval

KEYS = ["cell_type", "permutation", "repeat", "fold", "sample"]
FOLD = ["cell_type", "repeat", "fold"]
FACTS = ["cell_type", "label", "status", "reason", "target", "samples", "donors"]
INTERVALS = [f"{name}{end}" for name in SCORES for end in ("", "_low", "_high")]
MODELS = ["cell_type", "model", "alpha", *INTERVALS]
GAINS = [f"gain_{name}{end}" for name in ("mae", "r2") for end in ("", "_low", "_high", "_excludes_0")]
CHANCE = ["null_r2", "null_r2_low", "null_r2_high", "pvalue", "permutations"]
SUMMARY = [*FACTS, "alpha", "alpha_edge", "supported", "best_baseline", *GAINS, *INTERVALS, *CHANCE]
SIGNIFICANT = 0.05  # p-value against the permutations
NULL_BAND = (0.05, 0.95)  # quantiles of the null that figures show
INTERCEPT = "(intercept)"  # as ridge names it
GAPS = ["cell_type", "sample", "donor", "observed", "predicted", "gap", "expected", "corrected_gap"]


def stack_alphas(tables: list[pd.DataFrame], alphas: list[float]) -> pd.DataFrame:
    """Tables of the single alphas as one, with a column alpha in front, by ascending alpha.

    Raises ValueError if their keys (cell_type, repeat, fold, ...) differ: the folds must be the same.
    """
    keys = [key for key in KEYS if key in tables[0]]
    for table, alpha in zip(tables, alphas, strict=True):
        if not table[keys].equals(tables[0][keys]):
            raise ValueError(f"alpha {alpha:g} has other folds than alpha {alphas[0]:g}")
    order = np.argsort(alphas, kind="stable")
    return pd.concat(
        [tables[number].assign(alpha=float(alphas[number])) for number in order], ignore_index=True
    )[["alpha", *tables[0].columns]]


def smallest(errors: pd.DataFrame, by: list[str], error: str) -> pd.DataFrame:
    """The row with the smallest error for each value of `by`; ties to the larger alpha."""
    order = errors.sort_values([error, "alpha"], ascending=[True, False], kind="stable")
    return order.drop_duplicates(by).sort_values(by, ignore_index=True)


def pool(predictions: pd.DataFrame, inner: pd.DataFrame) -> pd.DataFrame:
    """Predictions of each outer fold by the alpha chosen in it, one row per cell type, repeat and sample."""
    chosen = smallest(inner, FOLD, "inner_mse")[[*FOLD, "alpha"]]
    pooled = predictions.merge(chosen, on=[*FOLD, "alpha"])[predictions.columns]
    return pooled.sort_values(["cell_type", "repeat", "sample"], ignore_index=True)


def null_scores(null: pd.DataFrame) -> pd.DataFrame:
    """R2 of each permutation (cell_type, permutation, r2), each with its own alphas, mean over repeats."""
    chosen = smallest(null, ["permutation", *FOLD], "inner_mse")
    sums = chosen.groupby(["cell_type", "permutation", "repeat"])[["sse", "sst"]].sum()
    r2 = (1 - sums["sse"] / sums["sst"]).rename("r2")
    return r2.groupby(["cell_type", "permutation"]).mean().reset_index()


def compare_with_null(r2: float, null: np.ndarray) -> dict[str, float]:
    """p-value of an R2 against those of the permutations, with their mean and band; no number without any."""
    low, high = np.quantile(null, NULL_BAND) if len(null) else (np.nan, np.nan)
    band = {"null_r2": null.mean() if len(null) else np.nan, "null_r2_low": low, "null_r2_high": high}
    return {**band, "pvalue": (1 + (null >= r2).sum()) / (1 + len(null)), "permutations": len(null)}


def supported(row: dict[str, object]) -> bool:
    """Whether expression adds to the baselines: both gains above 0 with their intervals, beyond chance."""
    return row["gain_mae_low"] > 0 and row["gain_r2_low"] > 0 and row["pvalue"] <= SIGNIFICANT


def final_alphas(predictions: pd.DataFrame) -> pd.Series:
    """The alpha of each cell type's final model: smallest squared error out of fold, ties to the larger."""
    squares = (predictions["observed"] - predictions["predicted"]) ** 2
    mse = squares.groupby([predictions["cell_type"], predictions["alpha"]]).mean().rename("mse")
    return smallest(mse.reset_index(), ["cell_type"], "mse").set_index("cell_type")["alpha"]


def edge(alpha: float, alphas: list[float]) -> str:
    """`lowest` or `highest` where an alpha is at the end of a sweep, which should then go further."""
    ends = {min(alphas): "lowest", max(alphas): "highest"}
    return ends.get(alpha, "") if len(alphas) > 1 else ""


def assess(
    models: dict[tuple[str, str], pd.DataFrame], *, bootstraps: int, random_state: int
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Scores of all models of one cell type with intervals, and what expression gains over the baselines.

    models: (model, alpha) -> predictions; ("expression", "chosen") and at least one baseline, alpha "".
    """
    arrays = {key: arrange(table) for key, table in models.items()}
    donors = arrays["expression", "chosen"][2]
    weights = resample(donors, bootstraps=bootstraps, random_state=random_state)
    values = {key: score(observed, predicted, weights) for key, (observed, predicted, _) in arrays.items()}
    rows = []
    for (model, alpha), each in values.items():
        parts = [with_interval(name, each[:, number]) for number, name in enumerate(SCORES)]
        rows.append({"model": model, "alpha": alpha} | {k: v for part in parts for k, v in part.items()})
    baselines = {model: each for (model, _), each in values.items() if model != "expression"}
    return pd.DataFrame(rows), compare(values["expression", "chosen"], baselines)


def summarise(
    status: pd.DataFrame,
    predictions: pd.DataFrame,
    pooled: pd.DataFrame,
    null: pd.DataFrame,
    baselines: pd.DataFrame,
    *,
    bootstraps: int,
    random_state: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per cell type, and one per cell type and model with all its scores.

    status: a row per cell type and alpha with FACTS. predictions: of all alphas; pooled: of the chosen ones;
    null: null_scores; baselines: predictions of each baseline.
    """
    alphas, final = sorted(status["alpha"].unique()), final_alphas(predictions)
    summary, scores = [], []
    types = status.drop_duplicates("cell_type").set_index("cell_type", drop=False)
    for cell_type, facts in track_progress(types.iterrows(), len(types), "cell types"):
        row = facts[FACTS].to_dict()
        if row["status"] == "predicted":
            mine = predictions[predictions["cell_type"] == cell_type]
            models = {("expression", str(alpha)): table for alpha, table in mine.groupby("alpha")}
            models["expression", "chosen"] = pooled[pooled["cell_type"] == cell_type]
            others = baselines[baselines["cell_type"] == cell_type]
            models |= {(name, ""): table for name, table in others.groupby("baseline", sort=False)}
            table, gain = assess(models, bootstraps=bootstraps, random_state=random_state)
            scores.append(table.assign(cell_type=cell_type))
            chosen = table[table["alpha"] == "chosen"].iloc[0].drop(["model", "alpha"]).to_dict()
            chance = null.loc[null["cell_type"] == cell_type, "r2"].to_numpy()
            row |= {"alpha": final[cell_type], "alpha_edge": edge(final[cell_type], alphas)}
            row |= gain | chosen | compare_with_null(chosen["r2"], chance)
            row["supported"] = supported(row)
        summary.append(row)
    rows = pd.DataFrame(summary).reindex(columns=SUMMARY)
    tables = [table.reindex(columns=MODELS) for table in scores]
    return rows, pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=MODELS)


def gaps_of_types(pooled: pd.DataFrame) -> pd.DataFrame:
    """correct_gaps of every cell type, one row per cell type and sample."""
    parts = [correct_gaps(table).assign(cell_type=name) for name, table in pooled.groupby("cell_type")]
    return pd.concat(parts, ignore_index=True)[GAPS] if parts else pd.DataFrame(columns=GAPS)


def final_models(
    coefficients: pd.DataFrame, status: pd.DataFrame, summary: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Coefficients of the final models (a row per cell type and gene), and what is needed to apply them.

    coefficients: stacked over alphas. The intercept goes into the description. Prediction = intercept + sum
    of coefficient x (x - mean) / sd, with x = log1p(counts_per x count / all counts of the sample).
    """
    tables, models = [], {}
    for row in summary[summary["status"] == "predicted"].itertuples():
        mine = (coefficients["cell_type"] == row.cell_type) & (coefficients["alpha"] == row.alpha)
        table = coefficients[mine].drop(columns="alpha")
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
    """The tables that the jobs of all alphas wrote, each stacked, by name."""
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


def report(summary: pd.DataFrame) -> None:
    """Print one line per cell type, and one that sums up."""
    for row in summary.itertuples():
        found = f"not predicted: {row.reason}"
        if row.status == "predicted":
            found = (
                f"error {row.mae:.3g}, gain {row.gain_mae:.3g} [{row.gain_mae_low:.3g}, "
                f"{row.gain_mae_high:.3g}] over {row.best_baseline}, p {row.pvalue:.2g}"
            )
        print(f"ridge_summary: {row.label}: {found}")
    done = summary[summary["status"] == "predicted"]
    line = f"ridge_summary: {len(done)} of {len(summary)} cell types predicted"
    if len(done):
        best = done.loc[done["gain_mae"].idxmax()]
        line += (
            f"; {done['supported'].astype(bool).sum()} better than every baseline; largest gain "
            f"{best['gain_mae']:.3g} [{best['gain_mae_low']:.3g}, {best['gain_mae_high']:.3g}] over "
            f"{best['best_baseline']} in {best['label']}"
        )
    print(line)


if __name__ == "__main__":
    with job(snakemake) as out:
        sweep = read_sweep(snakemake.input)
        baselines = pd.read_parquet(snakemake.input.baselines)
        status, predictions, null = sweep["status"], sweep["predictions"], null_scores(sweep["null"])
        pooled = pool(predictions, sweep["inner"])
        settings = dict(snakemake.params.items())
        summary, scores = summarise(status, predictions, pooled, null, baselines, **settings)
        gaps = gaps_of_types(pooled)
        models, description = final_models(sweep["coefficients"], status, summary)
        pooled.to_parquet(out.predictions, index=False)
        tables = {"summary": summary, "scores": scores, "null": null, "gaps": gaps, "models": models}
        for name, table in tables.items():
            write_tsv(table, getattr(out, name))
        with open(out.description, "w", encoding="utf-8") as file:
            file.write(json.dumps(description, indent=1) + "\n")
        save_figure(draw_alphas(summary, scores), out.alphas)
        save_figure(draw_predictions(summary, gaps), out.figure)
        report(summary)
