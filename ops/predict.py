"""Apply the final models of a run to another cohort's sums: `python ops/predict.py --help`.

The model is ridge/models in the results of the run that trained it, the sums are pseudobulk/sums.h5ad of a
run on the other cohort, so that its cells were chosen and summed in the same way. Cell types are matched by
label, genes by id. Prediction = intercept + sum of coefficient x (x - mean) / sd, with x = log1p(10,000 x
count / all counts of the sample); a gene that the cohort lacks enters at its training mean and adds nothing.
The prediction of a target of two levels is cut to 0..1.

A model knows its cell type: `profile_correlation` is the correlation of x with the mean of the training
samples, `profile_lowest` the lowest that a training sample has with the mean of the others, and
`nearest_model` the model with the largest correlation. Nothing is predicted if a cell type has no model of
its label, if most of its samples are nearer to another model (--with-model applies one anyway), or if less
than --min-weight of the total absolute coefficient is measured. Column `warnings` has the codes of WARNINGS
for each sample.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

import _root  # noqa: F401
from files import read_obs, read_types

FORMAT = 2  # of models.json, as ridge_summary writes it
WARNINGS = {  # code -> what is said of the samples that have it
    "extrapolated": "are predicted outside of the {low:g} to {high:g} of the training samples",
    "profile_mismatch": "correlate less with the training samples than these do (below {lowest:.2f})",
    "nearer_to_another_model": "are nearer to the model of another cell type",
}


def read_model(folder: Path) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """models.json, coefficients and profiles of all cell types; SystemExit if they cannot be read here."""
    paths = folder / "models.json", folder / "coefficients.tsv", folder / "profiles.parquet"
    where = "--model is ridge/models in the results of a run"
    if not paths[0].is_file():
        sys.exit(f"error: {paths[0]} does not exist; {where}")
    description = json.loads(paths[0].read_text(encoding="utf-8"))
    if description["format"] != FORMAT:
        sys.exit(
            f"error: {paths[0]} has format {description['format']}, this program reads {FORMAT}; "
            "run the cohort of the model again"
        )
    for path in paths[1:]:
        if not path.is_file():
            sys.exit(f"error: {path} does not exist; {where}")
    text = {"cell_type": str, "gene_id": str, "symbol": str}
    options = {"dtype": text, "keep_default_na": False}
    return description, pd.read_csv(paths[1], sep="\t", **options), pd.read_parquet(paths[2])


def overlap(coefficients: pd.DataFrame, gene_ids: pd.Series) -> tuple[np.ndarray, dict[str, float]]:
    """Which of a model's genes are there, and how much of the model that is.

    Returns a mask (genes,) and genes, genes_present, share_genes and share_weight: share of the total
    absolute coefficient.
    """
    present = coefficients["gene_id"].isin(gene_ids).to_numpy()
    weight = coefficients["coefficient"].abs().to_numpy()
    return present, {
        "genes": len(present),
        "genes_present": int(present.sum()),
        "share_genes": float(present.mean()),
        "share_weight": float(weight[present].sum() / weight.sum()) if weight.any() else 1.0,
    }


def apply(
    counts: csr_array, gene_ids: pd.Series, coefficients: pd.DataFrame, *, intercept: float, counts_per: float
) -> np.ndarray:
    """Predicted target of each sample, NaN for one without counts.

    counts: (samples, genes) with gene_ids (genes,); coefficients: gene_id, coefficient, mean, sd.
    """
    present, _ = overlap(coefficients, gene_ids)
    table = coefficients[present]
    columns = pd.Index(gene_ids).get_indexer(table["gene_id"])
    total = counts.sum(axis=1).astype(float)
    rate = counts[:, columns].toarray() * (counts_per / np.where(total > 0, total, np.nan))[:, None]
    z = (np.log1p(rate) - table["mean"].to_numpy()) / table["sd"].to_numpy()
    return intercept + z @ table["coefficient"].to_numpy()


def match_types(description: dict, sums: str, only: list[str], with_model: str | None) -> pd.DataFrame:
    """The cell types of the sums that have a model and are wanted: cell_type, label, and model, its id.

    only: labels of cell types, all if empty. with_model: the label of the model that all of them get,
    whatever their own label; only must name them. SystemExit if one of them, or all, have no model or sums.
    """
    known = {model["label"]: name for name, model in description["models"].items()}
    types = read_obs(sums)[["cell_type", "label"]].drop_duplicates()
    if with_model is not None and with_model not in known:
        sys.exit(f"error: there is no model of {with_model!r}; --with-model is one of {', '.join(known)}")
    if with_model is not None and not only:
        sys.exit(f"error: --with-model {with_model!r} needs --cell-type, the cell type that it is applied to")
    for label in only:
        if label not in set(types["label"]):
            labels = ", ".join(types["label"])
            sys.exit(f"error: there is no sum of {label!r}; --cell-type is one of {labels}")
        if label not in known and with_model is None:
            sys.exit(
                f"error: there is no model of {label!r}, only of {', '.join(known)}; --with-model applies "
                "one of them to it anyway"
            )
    if with_model is not None:
        return types[types["label"].isin(only)].assign(model=known[with_model])
    for label in sorted(set(types["label"]) - set(known)):
        print(f"predict: {label}: no model", file=sys.stderr)
    wanted = types[types["label"].isin(only or known) & types["label"].isin(known)]
    if wanted.empty:
        sys.exit(f"error: {sums} has none of the cell types of the models: {', '.join(known)}")
    return wanted.assign(model=wanted["label"].map(known))


def correlate(counts: csr_array, gene_ids: pd.Series, profile: pd.DataFrame, counts_per: float) -> np.ndarray:
    """Pearson's correlation of the log expression of each sample with a profile, over the genes in both.

    counts: (samples, genes) with gene_ids; profile: gene_id, mean. NaN for a sample without counts, and where
    fewer than half of the profile's genes are in the cohort.
    """
    genes = len(profile)
    profile = profile[profile["gene_id"].isin(gene_ids)]
    if 2 * len(profile) < max(genes, 4):
        return np.full(counts.shape[0], np.nan)
    total = counts.sum(axis=1).astype(float)
    columns = pd.Index(gene_ids).get_indexer(profile["gene_id"])
    x = np.log1p(counts[:, columns].toarray() * (counts_per / np.where(total > 0, total, np.nan))[:, None])
    x -= x.mean(axis=1, keepdims=True)
    mean = profile["mean"].to_numpy() - profile["mean"].mean()
    return x @ mean / np.sqrt((x**2).sum(axis=1) * (mean**2).sum())


def lowest_of(model: dict) -> float:
    """The lowest correlation of a training sample with the mean of the others; NaN if it has no profile."""
    lowest = model["profile"]["lowest_correlation"]
    return np.nan if lowest is None else lowest


def compare_profiles(
    counts: csr_array, gene_ids: pd.Series, profiles: pd.DataFrame, description: dict, name: str
) -> pd.DataFrame:
    """profile_correlation, profile_lowest and nearest_model (a label) of each sample; name: of the model."""
    per = description["expression"]["counts_per"]
    models = description["models"]
    table = pd.DataFrame(
        {key: correlate(counts, gene_ids, profiles[profiles["cell_type"] == key], per) for key in models}
    )
    known = table.fillna(-2)  # below any correlation
    nearest = known.idxmax(axis=1).map({key: model["label"] for key, model in models.items()})
    return pd.DataFrame(
        {
            "model": models[name]["label"],
            "profile_correlation": table[name],
            "profile_lowest": lowest_of(models[name]),
            "nearest_model": nearest.where(known.max(axis=1) > -2, ""),
        }
    )


def check_cell_type(label: str, table: pd.DataFrame) -> None:
    """SystemExit with one line when most samples are nearer to another model; table: a row per sample."""
    used = table[table["used"].astype(bool) & (table["nearest_model"] != "")]
    others = used[used["nearest_model"] != used["model"]]
    if 2 * len(others) > len(used):
        nearest, first = others["nearest_model"].value_counts().index[0], others.iloc[0]
        sys.exit(
            f"error: {label}: {len(others)} of {len(used)} samples are nearer to the model of {nearest!r} "
            f"than to that of {first['model']!r} (correlation {others['profile_correlation'].median():.2f}, "
            f"in training {first['profile_lowest']:.2f} or more); check the labels, or apply it anyway with "
            f"--cell-type {label!r} --with-model {first['model']!r}"
        )


def list_warnings(table: pd.DataFrame, model: dict) -> pd.Series:
    """The codes of WARNINGS that each sample has, joined by commas; prints each code once with its number."""
    has = {
        "extrapolated": table["extrapolated"],
        "profile_mismatch": ~(table["profile_correlation"] >= table["profile_lowest"]),
        "nearer_to_another_model": ~table["nearest_model"].isin(["", model["label"]]),
    }
    low, high = model["training_range"]
    for code, rows in has.items():
        if rows.any():
            what = WARNINGS[code].format(low=low, high=high, lowest=lowest_of(model))
            about = f"{table['label'].iloc[0]}: {rows.sum()} of {len(table)} samples {what}"
            print(f"warning: {code}: {about}", file=sys.stderr)
    codes = [[code for code, rows in has.items() if rows.iloc[number]] for number in range(len(table))]
    return pd.Series([",".join(names) for names in codes], index=table.index)


def check_genes(label: str, gene_ids: pd.Series, found: dict[str, float], min_weight: float) -> None:
    """SystemExit with one line when a gene is there twice, or more of the model is missing than allowed."""
    if not gene_ids.is_unique:
        twice = gene_ids[gene_ids.duplicated()].iloc[0]
        sys.exit(f"error: {label}: gene {twice} is in the sums twice; sum or rename its genes")
    if found["share_weight"] < min_weight:
        sys.exit(
            f"error: {label}: {found['genes_present']} of {found['genes']} genes of its model are there, "
            f"{found['share_weight']:.0%} of its weight; --min-weight asks for {min_weight:.0%}"
        )


def predict(
    description: dict,
    coefficients: pd.DataFrame,
    profiles: pd.DataFrame,
    sums: str,
    *,
    min_weight: float,
    only: list[str],
    with_model: str | None,
) -> pd.DataFrame:
    """One row per cell type and sample of the cohort for which there is a model.

    only, with_model: see match_types. SystemExit as match_types, check_genes and check_cell_type say.
    """
    tables, types = [], match_types(description, sums, only, with_model)
    rows = read_types(sums, types["cell_type"])
    for label, name, (counts, obs, genes) in zip(types["label"], types["model"], rows, strict=True):
        mine, model = coefficients[coefficients["cell_type"] == name], description["models"][name]
        found = overlap(mine, genes["gene_id"])[1]
        check_genes(label, genes["gene_id"], found, min_weight)
        settings = {"intercept": model["intercept"], "counts_per": description["expression"]["counts_per"]}
        predicted = apply(counts, genes["gene_id"], mine, **settings)
        low, high = model["training_range"]
        if description["kind"] == "levels":
            predicted = np.clip(predicted, 0, 1)
        beyond = (predicted < low) | (predicted > high)
        table = obs[["label", "sample", "donor", "cells", "used"]].assign(**found)
        table = table.assign(target=description["target"], predicted=predicted, extrapolated=beyond)
        alike = compare_profiles(counts, genes["gene_id"], profiles, description, name)
        table = pd.concat([table, alike], axis=1)
        if with_model is None:
            check_cell_type(label, table)
        tables.append(table.assign(level=description["level"], warnings=list_warnings(table, model)))
        applied = f" by the model of {model['label']}" if model["label"] != label else ""
        print(
            f"predict: {label}{applied}: {len(obs)} samples, {found['genes_present']} of {found['genes']} "
            f"genes, {found['share_weight']:.1%} of the weight, trained on {model['donors']} donors of "
            f"{low:g} to {high:g}"
        )
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    """Read the command line, predict, write one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="ridge/models in the results of a run")
    parser.add_argument("--sums", required=True, help="pseudobulk/sums.h5ad of the other cohort")
    parser.add_argument("--out", type=Path, required=True, help="a TSV to write")
    parser.add_argument("--min-weight", type=float, default=0.8, help="least share of a model; default 0.8")
    parser.add_argument("--cell-type", action="append", default=[], help="a label; may be repeated")
    parser.add_argument(
        "--with-model", help="a label: apply its model to every --cell-type, whatever their labels"
    )
    options = parser.parse_args()
    if not Path(options.sums).is_file():
        sys.exit(f"error: {options.sums} does not exist; --sums is a pseudobulk/sums.h5ad of a run")
    table = predict(
        *read_model(options.model),
        options.sums,
        min_weight=options.min_weight,
        only=options.cell_type,
        with_model=options.with_model,
    )
    table.to_csv(options.out, sep="\t", index=False)


if __name__ == "__main__":
    main()
