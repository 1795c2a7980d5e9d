"""Choose alpha inside each outer fold and summarise all cell types over the sweep.

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
KEYS = ["cell_type", "repeat", "fold", "sample"]
FOLD = ["cell_type", "repeat", "fold"]
FACTS = ["cell_type", "status", "reason", "target", "samples", "donors"]


def stack(tables: list[pd.DataFrame], alphas: list[float]) -> pd.DataFrame:
    """Tables of the single alphas as one, with a column alpha in front, by ascending alpha.

    Raises ValueError if their rows (cell_type, repeat, fold, and sample if any) differ: the folds must be the
    same.
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
    """The alpha of each outer fold, FOLD and alpha: smallest inner_mse, ties to the larger alpha."""
    order = inner.sort_values(["inner_mse", "alpha"], ascending=[True, False])
    return order.drop_duplicates(FOLD).sort_values(FOLD, ignore_index=True)[[*FOLD, "alpha"]]


def pool(predictions: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Predictions of each outer fold by the alpha chosen in it, one row per cell type, repeat and sample."""
    pooled = predictions.merge(chosen, on=[*FOLD, "alpha"])[predictions.columns]
    return pooled.sort_values(["cell_type", "repeat", "sample"], ignore_index=True)


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


def score(
    predictions: pd.DataFrame, pooled: pd.DataFrame, chosen: pd.DataFrame, status: pd.DataFrame
) -> pd.DataFrame:
    """A row of scores per cell type and alpha, and one for "chosen".

    predictions: stacked over alphas; status: a row per cell type and alpha.
    Scores are means over repeats, `_sd` their standard deviation over repeats (missing with one repeat): it
    shows how much the draw of folds matters, not how uncertain the sample of donors is.
    folds_chosen: outer folds, over all repeats, that chose the alpha.
    """
    rows = []
    for cell_type, facts in status.groupby("cell_type", sort=False):
        common = facts[FACTS].iloc[0].to_dict()
        mine = chosen.loc[chosen["cell_type"] == cell_type, "alpha"]
        for alpha in [*sorted(facts["alpha"]), "chosen"]:
            table = pooled if alpha == "chosen" else predictions[predictions["alpha"] == alpha]
            table = table[table["cell_type"] == cell_type]
            row = {**common, "alpha": alpha if alpha == "chosen" else str(alpha)}
            row["folds_chosen"] = len(mine) if alpha == "chosen" else int((mine == alpha).sum())
            by_repeat = scores_by_repeat(table) if len(table) else pd.DataFrame(columns=SCORES, dtype=float)
            for name in SCORES:
                row |= {name: by_repeat[name].mean(), f"{name}_sd": by_repeat[name].std()}
            rows.append(row)
    return pd.DataFrame(rows)


def grid(scores: pd.DataFrame, width: float, height: float) -> tuple[Figure, dict]:
    """A figure with one panel per cell type, up to four in a row; a panel without prediction says why."""
    facts = scores.drop_duplicates("cell_type")
    columns = min(4, len(facts))
    rows = -(-len(facts) // columns)
    fig = Figure(figsize=(width * columns, height * rows), layout="constrained")
    panels = fig.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(facts) :]:
        axes.set_axis_off()
    for axes, row in zip(panels, facts.itertuples(), strict=False):
        axes.set_title(row.cell_type, fontsize=9)
        if row.status != "predicted":
            text = f"no prediction of {row.target}:\n{row.reason}"
            axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=8, wrap=True)
            axes.set_axis_off()
    return fig, dict(zip(facts["cell_type"], panels, strict=False))


def draw_alphas(scores: pd.DataFrame) -> Figure:
    """R2 over alpha in each cell type, and that of the alpha chosen inside each fold."""
    fig, panels = grid(scores, 3.4, 2.8)
    done = scores[scores["status"] == "predicted"]
    for cell_type, table in done.groupby("cell_type", sort=False):
        axes, single, last = panels[cell_type], table.iloc[:-1], table.iloc[-1]
        style = {"marker": "o", "color": "seagreen", "capsize": 3, "label": "one alpha for all"}
        axes.errorbar(single["alpha"].astype(float), single["r2"], single["r2_sd"].fillna(0), **style)
        axes.axhline(last["r2"], color="0.3", linestyle="--", linewidth=1, label="chosen inside each fold")
        axes.set(xscale="log", xlabel="alpha", ylabel="R2 out of fold")
        axes.legend(fontsize=7)
    return fig


def draw_predictions(scores: pd.DataFrame, pooled: pd.DataFrame) -> Figure:
    """Predicted against observed target in each cell type, mean over repeats."""
    fig, panels = grid(scores, 3.2, 3.4)
    last = scores[scores["alpha"] == "chosen"].set_index("cell_type")
    for cell_type, table in pooled.groupby("cell_type", sort=False):
        axes, row = panels[cell_type], last.loc[cell_type]
        mean = table.groupby("sample")[["observed", "predicted"]].mean()
        ends = [mean.min().min(), mean.max().max()]
        axes.plot(ends, ends, color="0.6", linewidth=0.8)
        axes.scatter(mean["observed"], mean["predicted"], s=12, alpha=0.7, color="steelblue")
        target = row["target"]
        axes.set(xlabel=f"observed {target}", ylabel=f"predicted {target}", aspect="equal")
        facts = f"{row['samples']} samples, R2 {row['r2']:.2f}, mean error {row['mae']:.3g}"
        axes.set_title(f"{cell_type}\n{facts}", fontsize=9)
    return fig


def read_tables(paths: list[str], numbers: dict[str, type]) -> list[pd.DataFrame]:
    """TSV tables, all columns text but the named ones."""
    read = {"sep": "\t", "dtype": str, "keep_default_na": False}
    return [pd.read_csv(path, **read).astype(numbers) for path in paths]


if __name__ == "__main__":
    with job(snakemake) as out:  # noqa: F821
        files = snakemake.input  # noqa: F821
        tables = read_tables(files.status, {"alpha": float, "samples": int, "donors": int})
        alphas = [table["alpha"].iloc[0] for table in tables]
        status = pd.concat(tables, ignore_index=True)
        inner = read_tables(files.inner, {"repeat": int, "fold": int, "inner_mse": float})
        chosen = choose_alpha(stack(inner, alphas))
        predictions = stack([pd.read_parquet(path) for path in files.predictions], alphas)
        pooled = pool(predictions, chosen)
        scores = score(predictions, pooled, chosen, status)
        summary = scores[scores["alpha"] == "chosen"].drop(columns="alpha")
        pooled.to_parquet(out.predictions, index=False)
        scores.to_csv(out.scores, sep="\t", index=False)
        summary.to_csv(out.summary, sep="\t", index=False)
        draw_alphas(scores).savefig(out.alphas, dpi=120, metadata={"Software": None})
        draw_predictions(scores, pooled).savefig(out.figure, dpi=120, metadata={"Software": None})
        done = summary["status"] == "predicted"
        print(f"ridge_summary: {done.sum()} of {len(done)} cell types predicted, {len(alphas)} alphas")
        for row in summary[~done].itertuples():
            print(f"ridge_summary: {row.cell_type}: {row.reason}")
