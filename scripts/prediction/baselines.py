"""Predict the target without gene expression, in the folds of `ridge`.

`mean` predicts the mean of the training samples. Every other baseline is a ridge regression on a few columns
of the samples: numbers (a missing value becomes the training mean), categories as indicators of each level
(missing is a level), and `composition` as logit((k + 0.5) / (n + 1)), with k of the n kept cells of a sample
in each cell type (Phipson et al. 2022, Bioinformatics 38:4720). Columns are standardised by the training
samples. The penalty is chosen from `baseline_alpha` in each training set by the leave-one-out error (Golub,
Heath & Wahba 1979, Technometrics 21:215; RidgeCV of scikit-learn), so that a baseline with many columns does
not overfit. For a target of two levels, `mean` is the share of the level, and predictions are cut to 0..1.
"""

import numpy as np
import pandas as pd

from files import count_cells, logit_shares, read_obs, stack_tables, write_tsv
from job import conclude, job, track_progress
from prediction._folds import Split, choose_samples, make_splits, read_tested_types
from prediction._target import Levels, bound, find_levels

MEAN = "mean"
COMPOSITION = "composition"
PREDICTIONS = ["cell_type", "baseline", "repeat", "fold", "sample", "donor", "observed", "predicted"]
FEATURES = ["cell_type", "baseline", "column", "kind", "features", "missing", "constant"]


def design(obs: pd.DataFrame, column: str, shares: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, object]]:
    """The features of one column without constant ones, and a record of their number and missing values.

    obs: samples that take part; shares: logit proportions of all cell types, rows by sample.
    """
    if column == COMPOSITION:
        kind, table = "composition", shares.loc[obs["sample"]].reset_index(drop=True)
        missing = 0
    elif obs[column].dtype.kind in "iufb":
        kind, table = "number", obs[[column]].astype(float).reset_index(drop=True)
        missing = int(obs[column].isna().sum())
    else:
        kind, table = "category", pd.get_dummies(obs[column], dtype=float).reset_index(drop=True)
        missing = int((obs[column] == "").sum())
    table = table.loc[:, table.max() > table.min()]
    record = {"column": column, "kind": kind, "features": table.shape[1], "missing": missing}
    return table, record | {"constant": table.shape[1] == 0}


def predict(features: np.ndarray, target: np.ndarray, split: Split, alphas: list[float]) -> np.ndarray:
    """Target of the split's test rows by a ridge regression on its training rows.

    features: (samples, features), missing values NaN. Without features: the mean of the training rows.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if features.shape[1] == 0:
        return np.full(len(split.test), target[split.train].mean())
    impute = SimpleImputer(keep_empty_features=True)
    model = make_pipeline(impute, StandardScaler(), RidgeCV(alphas=alphas))
    return model.fit(features[split.train], target[split.train]).predict(features[split.test])


def baselines(
    obs: pd.DataFrame,
    shares: pd.DataFrame,
    *,
    target: str,
    levels: Levels | None,
    baselines: list[dict],
    baseline_alpha: list[float],
    folds: int,
    repeats: int,
    inner_folds: int,
    random_state: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Out-of-fold predictions of each baseline for one cell type, and a row for each of their columns.

    obs: the rows of that cell type; samples that are not used or have no target are left out as in `ridge`.
    Both tables are empty if nothing can be predicted; the status of `ridge` has the reason.
    """
    choice = {"target": target, "levels": levels, "folds": folds, "inner_folds": inner_folds}
    takes_part, values, facts = choose_samples(obs, **choice)
    if facts["status"] != "predicted":
        return pd.DataFrame(columns=PREDICTIONS[1:]), pd.DataFrame(columns=FEATURES[1:])
    obs = obs[takes_part].reset_index(drop=True)
    seed = {"inner_folds": inner_folds, "random_state": random_state}
    splits = make_splits(obs["donor"].to_numpy(object), folds=folds, repeats=repeats, **seed)
    predictions, records = [], []
    for baseline in [{"name": MEAN, "columns": []}, *baselines]:
        parts = [design(obs, column, shares) for column in baseline["columns"]]
        records += [{"baseline": baseline["name"], **record} for _, record in parts]
        tables = [table.to_numpy() for table, _ in parts]
        features = np.hstack([np.empty((len(obs), 0)), *tables])
        for split in splits:
            part = obs.loc[split.test, ["sample", "donor"]].assign(
                baseline=baseline["name"],
                repeat=split.repeat,
                fold=split.fold,
                observed=values[split.test],
                predicted=bound(predict(features, values, split, baseline_alpha), levels),
            )
            predictions.append(part)
    table = pd.concat(predictions, ignore_index=True)[PREDICTIONS[1:]]
    return table, pd.DataFrame(records, columns=FEATURES[1:])


if __name__ == "__main__":
    with job(snakemake) as out:
        rows = read_obs(snakemake.input.sums)
        tested = read_tested_types(snakemake.input.cell_types)
        shares, settings = logit_shares(count_cells(rows)), dict(snakemake.params.items())
        names = {name: settings.pop(name) for name in ("level", "reference")}
        levels = find_levels(rows, target=settings["target"], **names)
        results = [
            baselines(rows[rows["cell_type"] == name], shares, levels=levels, **settings)
            for name in track_progress(tested, len(tested), "cell types")
        ]
        predictions, features = (
            stack_tables(dict(zip(tested, tables, strict=True))) for tables in zip(*results, strict=True)
        )
        predictions[PREDICTIONS].to_parquet(out.predictions, index=False)
        write_tsv(features[FEATURES], out.features)
        constant = features[features["constant"].astype(bool)]
        for row in constant.itertuples():
            print(f"{row.cell_type}: {row.column} of {row.baseline} is constant and has no effect")
        conclude(f"{len(tested)} cell types, {len(settings['baselines']) + 1} baselines")
