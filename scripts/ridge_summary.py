"""Choose alpha inside each outer fold and summarise one cell type over the sweep.

In every outer fold of every repeat the alpha with the smallest inner error is taken (ties: the larger alpha,
the simpler model) and with it that fold's predictions: no sample takes part in the choice of the alpha that
predicts it, so the scores of "chosen" are honest, while the best of the single alphas is not.
R2 = 1 - sum (observed - predicted)^2 / sum (observed - mean observed)^2, over all samples of one repeat; it
is below 0 where the mean would predict better. Errors are in units of the target.
"""

import numpy as np
import pandas as pd
from _job import job
from matplotlib.figure import Figure

SCORES = ["r2", "mae", "rmse", "pearson"]
KEYS = ["repeat", "fold", "sample"]
INNER = {"repeat": int, "fold": int, "inner_mse": float}


def stack(tables: list[pd.DataFrame], alphas: list[float]) -> pd.DataFrame:
    """Tables of the single alphas as one, with a column alpha in front, by ascending alpha.

    Raises ValueError if their rows (repeat, fold, and sample if any) differ: the folds must be the same.
    """
    keys = [key for key in KEYS if key in tables[0]]
    for table, alpha in zip(tables, alphas, strict=True):
        if not table[keys].equals(tables[0][keys]):
            raise ValueError(f"alpha {alpha:g} has other folds than alpha {alphas[0]:g}")
    order = np.argsort(alphas, kind="stable")
    return pd.concat(
        [tables[number].assign(alpha=float(alphas[number])) for number in order], ignore_index=True
    )[["alpha", *tables[0].columns]]


def choose_alpha(inner: pd.DataFrame) -> pd.DataFrame:
    """The alpha of each outer fold (repeat, fold, alpha): smallest inner_mse, ties to the larger alpha."""
    order = inner.sort_values(["inner_mse", "alpha"], ascending=[True, False])
    best = order.drop_duplicates(["repeat", "fold"]).sort_values(["repeat", "fold"], ignore_index=True)
    return best[["repeat", "fold", "alpha"]]


def scores_by_repeat(predictions: pd.DataFrame) -> pd.DataFrame:
    """SCORES of each repeat: rows by repeat. Pearson's r is NaN where the predictions are constant."""

    def one(table: pd.DataFrame) -> pd.Series:
        observed, predicted = table["observed"], table["predicted"]
        squares = (observed - predicted) ** 2
        r2 = 1 - squares.sum() / ((observed - observed.mean()) ** 2).sum()
        pearson = np.nan if np.ptp(predicted) == 0 else np.corrcoef(observed, predicted)[0, 1]
        errors = (observed - predicted).abs().mean(), np.sqrt(squares.mean())
        return pd.Series([r2, *errors, pearson], index=SCORES)

    return predictions.groupby("repeat")[["observed", "predicted"]].apply(one)


def summarise(
    predictions: pd.DataFrame, inner: pd.DataFrame, scores: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pooled predictions with the chosen alphas, and a summary row per alpha and one for "chosen".

    predictions, inner: stacked over alphas. scores: a row per alpha (alpha, cell_type, status, ...).
    Scores are means over repeats, `_sd` their standard deviation over repeats (missing with one repeat): it
    shows how much the draw of folds matters, not how uncertain the sample of donors is.
    folds_chosen: outer folds, over all repeats, that chose the alpha.
    """
    chosen = choose_alpha(inner)
    pooled = predictions.merge(chosen, on=["repeat", "fold", "alpha"])[predictions.columns]
    common = scores[["cell_type", "status", "reason", "target", "samples", "donors"]].iloc[0].to_dict()
    rows = []
    for alpha in [*sorted(scores["alpha"]), "chosen"]:
        table = pooled if alpha == "chosen" else predictions[predictions["alpha"] == alpha]
        row = {"alpha": alpha if alpha == "chosen" else str(alpha), **common}
        row["folds_chosen"] = len(chosen) if alpha == "chosen" else int((chosen["alpha"] == alpha).sum())
        by_repeat = scores_by_repeat(table) if len(table) else pd.DataFrame(columns=SCORES, dtype=float)
        for name in SCORES:
            row |= {name: by_repeat[name].mean(), f"{name}_sd": by_repeat[name].std()}
        rows.append(row)
    return pooled.sort_values(["repeat", "sample"], ignore_index=True), pd.DataFrame(rows)


def figure(summary: pd.DataFrame, pooled: pd.DataFrame) -> Figure:
    """R2 and mean absolute error over alpha, and predicted against observed; or why there is nothing."""
    last = summary.iloc[-1]
    if pooled.empty:
        fig = Figure(figsize=(4.8, 3.4), layout="constrained")
        text = f"no prediction of {last['target']}:\n{last['reason']}"
        fig.text(0.5, 0.5, text, ha="center", va="center", fontsize=8, wrap=True)
        return fig
    fig = Figure(figsize=(11, 3.7), layout="constrained")
    left, middle, right = fig.subplots(1, 3, width_ratios=[1, 1, 1.05])
    single = summary.iloc[:-1]
    for axes, score, label, colour in (
        (left, "r2", "R2 out of fold", "seagreen"),
        (middle, "mae", f"mean absolute error of {last['target']}", "darkorange"),
    ):
        alpha = single["alpha"].astype(float)
        spread = single[f"{score}_sd"].fillna(0)
        style = {"marker": "o", "color": colour, "capsize": 3, "label": "one alpha for all"}
        axes.errorbar(alpha, single[score], spread, **style)
        axes.axhline(last[score], color="0.3", linestyle="--", linewidth=1, label="chosen inside each fold")
        axes.set(xscale="log", xlabel="alpha", ylabel=label)
        axes.legend(fontsize=8)
    mean = pooled.groupby("sample")[["observed", "predicted"]].mean()
    ends = [mean.min().min(), mean.max().max()]
    right.plot(ends, ends, color="0.6", linewidth=0.8)
    right.scatter(mean["observed"], mean["predicted"], s=14, alpha=0.7, color="steelblue")
    target = last["target"]
    right.set(xlabel=f"observed {target}", ylabel=f"predicted {target}, mean over repeats", aspect="equal")
    title = f"{last['samples']} samples, R2 {last['r2']:.2f}, mean error {last['mae']:.3g}"
    right.set_title(title, fontsize=9)
    return fig


if __name__ == "__main__":
    with job(snakemake) as out:  # noqa: F821
        read = {"sep": "\t", "dtype": str, "keep_default_na": False}
        scores = pd.concat([pd.read_csv(path, **read) for path in snakemake.input.scores])  # noqa: F821
        scores = scores.astype({"alpha": float, "samples": int, "donors": int}).reset_index(drop=True)
        predictions = [pd.read_parquet(path) for path in snakemake.input.predictions]  # noqa: F821
        inner = [pd.read_csv(path, **read).astype(INNER) for path in snakemake.input.inner]  # noqa: F821
        alphas = scores["alpha"].tolist()
        pooled, summary = summarise(stack(predictions, alphas), stack(inner, alphas), scores)
        pooled.to_parquet(out.predictions, index=False)
        summary.to_csv(out.summary, sep="\t", index=False)
        figure(summary, pooled).savefig(out.figure, dpi=120, metadata={"Software": None})
        last = summary.iloc[-1]
        finding = f"R2 {last['r2']:.3f}, mean absolute error {last['mae']:.3g}, alpha chosen in each fold"
        print(f"ridge_summary: {len(alphas)} alphas: {last['reason'] or finding}")
