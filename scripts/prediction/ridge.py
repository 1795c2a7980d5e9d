"""Predict a covariate of each sample from the sums of a cell type, out of fold, for one ridge alpha.

x = ln(1 + 10,000 * count / counts of the sample); an offset of one count per 10,000 is of the size of a
shallow sum, so depth has less influence than in log2(CPM + 1). In each training set, genes with a count in
`min_share` of the samples are eligible, and the `n_top_genes` with the largest variance are standardised: z =
(x - mean) / sd. Ridge regression minimises sum (y - b0 - z b)^2 + alpha sum b^2, y being the target (Hoerl &
Kennedy 1970, Technometrics 12:55; scikit-learn). For a target of two levels, y is 1 for the level and 0 for
the reference, and the prediction, cut to 0..1, is the probability of the level (regression of an indicator:
Hastie, Tibshirani & Friedman 2009, The Elements of Statistical Learning, section 4.2; docs/methods.md
compares it with logistic regression).

Folds have whole donors and are the same for every alpha (_folds.py). The error in inner folds, within each
outer training set, is that by which ridge_summary chooses alpha, without the samples on which it is scored.
The null repeats everything with the target permuted between donors. The choice of genes does not depend on
the target, so all permutations use the same genes and factorisation of each training set.
"""

from itertools import batched

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from files import read_obs, read_types, stack_tables, write_tsv
from job import conclude, job, track_progress
from prediction._expression import log_expression
from prediction._folds import Split, choose_samples, make_splits, permute, read_tested_types, training_sets
from prediction._target import Levels, bound, find_levels

PREDICTIONS = {
    "repeat": "int64",
    "fold": "int64",
    "sample": "str",
    "donor": "str",
    "observed": "float64",
    "predicted": "float64",
}
INNER = {"repeat": "int64", "fold": "int64", "inner_mse": "float64"}
NULL = {
    "permutation": "int64",
    "repeat": "int64",
    "fold": "int64",
    "inner_mse": "float64",
    "sse": "float64",
    "sst": "float64",
}
COEFFICIENTS = {
    "gene_id": "str",
    "symbol": "str",
    "coefficient": "float64",
    "mean": "float64",
    "sd": "float64",
}
INTERCEPT = "(intercept)"


def choose_genes(
    expression: np.ndarray, training: list[np.ndarray], *, n_top_genes: int, min_share: float
) -> list[np.ndarray]:
    """Columns for each training set, chosen by the rows of that set alone, in ascending order.

    expression: (samples, genes) log expression. Among the genes with a count in min_share of the rows, those
    with the largest variance over the rows (ties: the first). Three matrix products for all sets together
    replace a pass over the matrix for each set.
    """
    member = np.zeros((len(training), len(expression)))
    for number, rows in enumerate(training):
        member[number, rows] = 1
    size = member.sum(axis=1, keepdims=True)
    share = member @ (expression > 0) / size
    variance = member @ expression**2 / size - (member @ expression / size) ** 2
    columns = []
    for shares, variances in zip(share, variance, strict=True):
        eligible = np.flatnonzero(shares >= min_share)
        best = np.argsort(-variances[eligible], kind="stable")[:n_top_genes]
        columns.append(np.sort(eligible[best]))
    return columns


def prepare(
    counts: csr_array, genes: pd.DataFrame, training: list[np.ndarray], **settings: float
) -> tuple[np.ndarray, pd.DataFrame, list[np.ndarray]]:
    """Dense log expression (samples, genes), its genes, and the columns of choose_genes.

    Genes that are not eligible in any training set are left out.
    """
    logged = log_expression(counts)
    possible = logged.count_nonzero(axis=0) / min(map(len, training)) >= settings["min_share"]
    expression = logged[:, possible].toarray(order="F")
    return expression, genes[possible], choose_genes(expression, training, **settings)


def fit(expression: np.ndarray, target: np.ndarray, alpha: float):
    """Fitted pipeline of standardisation and ridge regression."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge(alpha=alpha, solver="cholesky")).fit(expression, target)


def predict(
    expression: np.ndarray,
    targets: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    genes: np.ndarray,
    alpha: float,
    levels: Levels | None,
) -> np.ndarray:
    """Targets of the test rows, predicted from the columns `genes` by a model of the training rows."""
    table = expression[:, genes]
    return bound(fit(table[train], targets[train], alpha).predict(table[test]), levels)


def cross_validate(
    expression: np.ndarray,
    targets: np.ndarray,
    splits: list[Split],
    columns: list[np.ndarray],
    alpha: float,
    levels: Levels | None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Predict the test rows of each split from its training rows, and the same in each inner fold.

    targets: (samples, 1 + permutations), the true target first. columns: of each of training_sets(splits).
    Returns predictions (repeat, fold, row, predicted), every row once per repeat; inner (repeat, fold,
    inner_mse: mean over all rows of the training set); and for each permutation inner_mse, sse and sst, the
    sums over the test rows of squared errors and of squared distances from the mean.
    """
    predictions, inner, null = [], [], []
    sets = 1 + len(splits[0].inner)
    distances = (targets - targets.mean(axis=0)) ** 2
    for split, (genes, *inner_genes) in zip(splits, batched(columns, sets), strict=True):
        where = {"repeat": split.repeat, "fold": split.fold}
        predicted = predict(expression, targets, split.train, split.test, genes, alpha, levels)
        predictions.append(pd.DataFrame({**where, "row": split.test, "predicted": predicted[:, 0]}))
        errors = [
            predict(expression, targets, train, test, genes, alpha, levels) - targets[test]
            for (train, test), genes in zip(split.inner, inner_genes, strict=True)
        ]
        mse = np.mean(np.concatenate(errors) ** 2, axis=0)
        inner.append({**where, "inner_mse": mse[0]})
        sums = {"sse": (predicted - targets[split.test]) ** 2, "sst": distances[split.test]}
        sums = {name: squares.sum(axis=0)[1:] for name, squares in sums.items()}
        number = np.arange(1, targets.shape[1])
        null.append(pd.DataFrame({"permutation": number, **where, "inner_mse": mse[1:], **sums}))
    tables = pd.concat(predictions, ignore_index=True), pd.DataFrame(inner), pd.concat(null)
    return tables[0], tables[1].astype(INNER), tables[2].astype(NULL).reset_index(drop=True)


def coefficients(model, genes: pd.DataFrame) -> pd.DataFrame:
    """Table of a fitted pipeline: the intercept, then the genes by absolute coefficient.

    Prediction = intercept + sum of coefficient * (x - mean) / sd, x: log expression; coefficients in units of
    the target.
    """
    scaler, regression = model
    table = genes.assign(coefficient=regression.coef_, mean=scaler.mean_, sd=scaler.scale_)
    table = table.sort_values("coefficient", key=np.abs, ascending=False, kind="stable")
    intercept = pd.DataFrame([{"gene_id": INTERCEPT, "symbol": "", "coefficient": regression.intercept_}])
    return pd.concat([intercept, table], ignore_index=True)[list(COEFFICIENTS)].astype(COEFFICIENTS)


def ridge(
    counts: csr_array,
    obs: pd.DataFrame,
    genes: pd.DataFrame,
    *,
    target: str,
    levels: Levels | None,
    alpha: float,
    n_top_genes: int,
    min_share: float,
    folds: int,
    repeats: int,
    inner_folds: int,
    permutations: int,
    random_state: int,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Nested cross-validation and final model of one cell type and alpha.

    counts, obs, genes: as read_types yields them; samples that are not used or have no target are left out.
    Returns predictions, inner errors, a status row, the coefficients of the model on all samples, and the
    errors with permuted targets. If there are too few samples or genes, the status has the reason and the
    other tables are empty. levels: as find_levels finds them in all cell types.
    """
    choice = {"target": target, "levels": levels, "folds": folds, "inner_folds": inner_folds}
    takes_part, values, facts = choose_samples(obs, **choice)
    status, obs = {"alpha": alpha, **facts, "genes": 0}, obs[takes_part]
    if status["status"] == "predicted":
        splits = make_splits(
            obs["donor"].to_numpy(object),
            folds=folds,
            repeats=repeats,
            inner_folds=inner_folds,
            random_state=random_state,
        )
        training = [*training_sets(splits), np.arange(len(obs))]  # the last: all samples
        choice = {"n_top_genes": n_top_genes, "min_share": min_share}
        expression, genes, (*columns, final) = prepare(counts[takes_part], genes, training, **choice)
        if min(map(len, [*columns, final])) == 0:
            status["status"] = "no_eligible_genes"
            status["reason"] = f"no gene is counted in {min_share:g} of the samples (ridge.min_share)"
    if status["status"] != "predicted":
        predictions, inner, table, null = map(make_empty, (PREDICTIONS, INNER, COEFFICIENTS, NULL))
        return predictions, inner, pd.DataFrame([status]), table, null

    seed = {"permutations": permutations, "random_state": random_state}
    targets = np.column_stack([values, permute(values, obs["donor"].to_numpy(object), **seed)])
    predictions, inner, null = cross_validate(expression, targets, splits, columns, alpha, levels)
    rows = predictions.pop("row").to_numpy()
    about = obs[["sample", "donor"]].iloc[rows].reset_index(drop=True)
    predictions = pd.concat([predictions, about], axis=1).assign(observed=values[rows])
    predictions = predictions[list(PREDICTIONS)].astype(PREDICTIONS)
    model = fit(expression[:, final], values, alpha)
    status["genes"] = len(final)
    return predictions, inner, pd.DataFrame([status]), coefficients(model, genes.iloc[final]), null


def make_empty(columns: dict[str, str]) -> pd.DataFrame:
    """A table without rows."""
    return pd.DataFrame(columns=list(columns)).astype(columns)


if __name__ == "__main__":
    with job(snakemake) as out:
        tested = read_tested_types(snakemake.input.cell_types)
        settings = dict(snakemake.params.items())
        names = {name: settings.pop(name) for name in ("level", "reference")}
        levels = find_levels(read_obs(snakemake.input.sums), target=settings["target"], **names)
        types = track_progress(read_types(snakemake.input.sums, tested), len(tested), "cell types")
        results = [ridge(*sums, levels=levels, **settings) for sums in types]
        predictions, inner, status, table, null = (
            stack_tables(dict(zip(tested, tables, strict=True))) for tables in zip(*results, strict=True)
        )
        predictions.to_parquet(out.predictions, index=False)
        write_tsv(inner, out.inner)
        write_tsv(status, out.status)
        table.to_parquet(out.coefficients, index=False)
        null.to_parquet(out.null, index=False)
        predicted = (status["status"] == "predicted").sum()
        conclude(f"{predicted} of {len(tested)} cell types predicted with alpha {settings['alpha']:g}")
