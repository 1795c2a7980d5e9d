"""Predict a numeric covariate of every sample from one cell type's sums, out of fold, with one ridge alpha.

Expression is log1p(10,000 x count / the sample's total over all genes), natural logs: at one count per ten
thousand the offset is that of a shallow sum, so depth shows less than in log2(CPM + 1). In every training set
anew: a gene is eligible when counted in `min_share` of its samples, the `n_top_genes` with the largest
variance are taken, standardised by their mean and standard deviation, and a ridge regression is fitted that
minimises sum (y - b0 - z b)^2 + alpha sum b^2 (Hoerl & Kennedy 1970, Technometrics 12:55; scikit-learn).
Folds hold whole donors and depend only on the samples, `random_state`, `folds`, `inner_folds` and `repeats`:
they are the same for every alpha. Inner folds within each outer training set give the error by which
ridge_summary chooses alpha without ever seeing the samples that it is scored on.
"""

from itertools import batched
from typing import NamedTuple

import numpy as np
import pandas as pd
from _job import InputError, job
from _sums import read_sums
from scipy.sparse import csr_array
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

PREDICTIONS = {
    "repeat": "int64",
    "fold": "int64",
    "sample": "str",
    "observed": "float64",
    "predicted": "float64",
}
INNER = {"repeat": "int64", "fold": "int64", "inner_mse": "float64"}
COEFFICIENTS = {
    "gene_id": "str",
    "symbol": "str",
    "coefficient": "float64",
    "mean": "float64",
    "sd": "float64",
}
INTERCEPT = "(intercept)"


class Split(NamedTuple):
    """One outer fold: rows to train on and to predict, and the inner folds within the training rows."""

    repeat: int
    fold: int
    train: np.ndarray
    test: np.ndarray
    inner: list[tuple[np.ndarray, np.ndarray]]


def log_expression(counts: csr_array) -> csr_array:
    """log1p of counts per 10,000 (natural log): (samples, genes), zero exactly where the count is zero."""
    rate = counts.astype(float)
    rate.data *= np.repeat(1e4 / counts.sum(axis=1), np.diff(counts.indptr))
    return rate.log1p()


def make_splits(
    donors: np.ndarray, *, folds: int, repeats: int, inner_folds: int, random_state: int
) -> list[Split]:
    """Outer folds of each repeat with their inner folds; a donor is never on both sides of either.

    donors: (samples,) labels. Folds hold equal numbers of donors, give or take one, and differ by repeat.
    """
    groups = pd.factorize(donors)[0]
    splits = []
    for repeat in range(repeats):
        seed = random_state + repeat
        outer = GroupKFold(folds, shuffle=True, random_state=seed)
        inner = GroupKFold(inner_folds, shuffle=True, random_state=seed)
        for fold, (train, test) in enumerate(outer.split(groups, groups=groups)):
            within = [(train[a], train[b]) for a, b in inner.split(train, groups=groups[train])]
            splits.append(Split(repeat, fold, train, test, within))
    return splits


def training_sets(splits: list[Split]) -> list[np.ndarray]:
    """Rows of every training set: of each split, then of its inner folds, split by split."""
    return [rows for split in splits for rows in [split.train, *(train for train, _ in split.inner)]]


def choose_genes(
    expression: np.ndarray, training: list[np.ndarray], *, n_top_genes: int, min_share: float
) -> list[np.ndarray]:
    """Columns chosen for each training set, from that set's rows alone, in ascending order.

    expression: (samples, genes) log expression. Among the genes counted in min_share of the rows, those with
    the largest variance over the rows (ties: the first). All sets at once: three matrix products instead of
    passes over the matrix for each set.
    """
    member = np.zeros((len(training), len(expression)))
    for number, rows in enumerate(training):
        member[number, rows] = 1
    size = member.sum(axis=1, keepdims=True)
    share = member @ (expression > 0) / size
    variance = member @ expression**2 / size - (member @ expression / size) ** 2
    chosen = []
    for shares, variances in zip(share, variance, strict=True):
        eligible = np.flatnonzero(shares >= min_share)
        best = np.argsort(-variances[eligible], kind="stable")[:n_top_genes]
        chosen.append(np.sort(eligible[best]))
    return chosen


def fit(expression: np.ndarray, target: np.ndarray, alpha: float) -> Pipeline:
    """Standardise genes and fit the ridge regression."""
    return make_pipeline(StandardScaler(), Ridge(alpha=alpha, solver="cholesky")).fit(expression, target)


def predict(
    expression: np.ndarray,
    target: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    genes: np.ndarray,
    alpha: float,
) -> np.ndarray:
    """Predicted target of the test rows by a model of the training rows on the chosen columns."""
    table = expression[:, genes]
    return fit(table[train], target[train], alpha).predict(table[test])


def cross_validate(
    expression: np.ndarray, target: np.ndarray, splits: list[Split], chosen: list[np.ndarray], alpha: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict each split's test rows from its training rows, and each inner fold likewise.

    chosen: columns for each of training_sets(splits). Returns predictions (repeat, fold, row, predicted),
    every row once per repeat, and inner (repeat, fold, inner_mse: mean over all rows of the training set).
    """
    predictions, inner = [], []
    sets = 1 + len(splits[0].inner)
    for split, (genes, *inner_genes) in zip(splits, batched(chosen, sets), strict=True):
        where = {"repeat": split.repeat, "fold": split.fold}
        predicted = predict(expression, target, split.train, split.test, genes, alpha)
        predictions.append(pd.DataFrame({**where, "row": split.test, "predicted": predicted}))
        errors = [
            predict(expression, target, train, test, genes, alpha) - target[test]
            for (train, test), genes in zip(split.inner, inner_genes, strict=True)
        ]
        inner.append({**where, "inner_mse": np.mean(np.concatenate(errors) ** 2)})
    return pd.concat(predictions, ignore_index=True), pd.DataFrame(inner).astype(INNER)


def score(predictions: pd.DataFrame) -> dict[str, float]:
    """Mean over repeats of R2, mean absolute and root mean squared error, and Pearson's r.

    r is NaN where the predictions are constant.
    """
    rows = []
    for _, one in predictions.groupby("repeat"):
        pair = one["observed"], one["predicted"]
        pearson = np.nan if np.ptp(one["predicted"]) == 0 else np.corrcoef(*pair)[0, 1]
        rows.append((r2_score(*pair), mean_absolute_error(*pair), root_mean_squared_error(*pair), pearson))
    return dict(zip(("r2", "mae", "rmse", "pearson"), np.mean(rows, axis=0).tolist(), strict=True))


def coefficients(model: Pipeline, genes: pd.DataFrame) -> pd.DataFrame:
    """A fitted pipeline as a table: the intercept, then the genes by the size of their coefficient.

    Prediction = intercept + sum of coefficient x (log expression - mean) / sd; coefficients in target units.
    """
    scaler, regression = model
    table = genes.assign(coefficient=regression.coef_, mean=scaler.mean_, sd=scaler.scale_)
    table = table.sort_values("coefficient", key=np.abs, ascending=False, kind="stable")
    intercept = pd.DataFrame([{"gene_id": INTERCEPT, "symbol": "", "coefficient": regression.intercept_}])
    return pd.concat([intercept, table], ignore_index=True)[list(COEFFICIENTS)].astype(COEFFICIENTS)


def check_target(obs: pd.DataFrame, target: str) -> None:
    """Raise InputError unless the target is a number of each sample."""
    numeric = [name for name in obs if obs[name].dtype.kind in "iuf"]
    if target not in numeric:
        what = "not numeric" if target in obs else "no column of the samples"
        raise InputError(
            f"ridge.target: {target} is {what}; set ridge.target to null or one of {', '.join(numeric)}"
        )


def verdict(target: np.ndarray, donors: np.ndarray, folds: int, inner_folds: int) -> tuple[str, str]:
    """Whether samples allow nested cross-validation: status, and the reason if not."""
    count = len(np.unique(donors))
    smallest = count - -(-count // folds)  # donors of the smallest training set
    if count < 2 * folds or smallest < inner_folds:
        return "too_few_samples", (
            f"{count} donors are too few for {folds} folds with {inner_folds} inner folds "
            "(ridge.folds, ridge.inner_folds)"
        )
    if np.ptp(target) == 0:
        return "constant_target", f"all samples have the value {target[0]:g}"
    return "predicted", ""


def ridge(
    counts: csr_array,
    obs: pd.DataFrame,
    genes: pd.DataFrame,
    *,
    cell_type: str,
    target: str,
    alpha: float,
    n_top_genes: int,
    min_share: float,
    folds: int,
    repeats: int,
    inner_folds: int,
    random_state: int,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Nested cross-validation and final model of one cell type and alpha.

    counts, obs, genes: as read_sums gives them; samples not used or without target are left out and counted.
    Returns predictions, inner errors, one row of scores and the coefficients of the model on all samples;
    without samples or genes enough for folds, the scores say so and the other tables are empty.
    Raises InputError if the target is no numeric column of obs.
    """
    check_target(obs, target)
    used = obs["used"].to_numpy(bool)
    kept = used & obs[target].notna().to_numpy()
    obs, values = obs[kept], obs.loc[kept, target].to_numpy(float)
    donors = obs["donor"].to_numpy(object)
    scores = {"cell_type": cell_type, "alpha": alpha, "status": "", "reason": "", "target": target}
    scores |= {"samples": len(obs), "donors": len(np.unique(donors)), "samples_not_used": int((~used).sum())}
    scores |= {"samples_without_target": int((used & ~kept).sum()), "genes": 0}
    scores |= dict.fromkeys(("r2", "mae", "rmse", "pearson"), np.nan)
    scores["status"], scores["reason"] = verdict(values, donors, folds, inner_folds)
    if scores["status"] == "predicted":
        splits = make_splits(
            donors, folds=folds, repeats=repeats, inner_folds=inner_folds, random_state=random_state
        )
        training = [*training_sets(splits), np.arange(len(obs))]  # the last: all samples
        logged = log_expression(counts[kept])
        # A gene that could be eligible in no training set need not be made dense.
        possible = logged.count_nonzero(axis=0) / min(map(len, training)) >= min_share
        expression, genes = logged[:, possible].toarray(order="F"), genes[possible]
        *chosen, final = choose_genes(expression, training, n_top_genes=n_top_genes, min_share=min_share)
        if min(map(len, [*chosen, final])) == 0:
            scores["status"] = "no_eligible_genes"
            scores["reason"] = f"no gene is counted in {min_share:g} of the samples (ridge.min_share)"
    if scores["status"] != "predicted":
        tables = [pd.DataFrame(columns=list(t)).astype(t) for t in (PREDICTIONS, INNER, COEFFICIENTS)]
        return tables[0], tables[1], pd.DataFrame([scores]), tables[2]

    predictions, inner = cross_validate(expression, values, splits, chosen, alpha)
    rows = predictions.pop("row").to_numpy()
    predictions = predictions.assign(sample=obs["sample"].to_numpy()[rows], observed=values[rows])
    predictions = predictions[list(PREDICTIONS)].astype(PREDICTIONS)
    model = fit(expression[:, final], values, alpha)
    scores |= {"genes": len(final)} | score(predictions)
    return predictions, inner, pd.DataFrame([scores]), coefficients(model, genes.iloc[final])


if __name__ == "__main__":
    with job(snakemake) as out:  # noqa: F821
        sums = read_sums(snakemake.input.sums, snakemake.params.cell_type)  # noqa: F821
        predictions, inner, scores, table = ridge(*sums, **snakemake.params)  # noqa: F821
        predictions.to_parquet(out.predictions, index=False)
        inner.to_csv(out.inner, sep="\t", index=False)
        scores.to_csv(out.scores, sep="\t", index=False)
        table.to_parquet(out.coefficients, index=False)
        row = scores.iloc[0]
        print(
            f"ridge: {row.samples} samples of {row.donors} donors ({row.samples_not_used} not used, "
            f"{row.samples_without_target} without {row.target}), alpha {row.alpha:g}: "
            + (row.reason or f"R2 {row.r2:.3f}, mean absolute error {row.mae:.3g}, {row.genes} genes")
        )
