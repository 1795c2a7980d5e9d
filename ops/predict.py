"""Apply the final models of a run to another cohort's sums: `python ops/predict.py --help`.

The model is ridge/models in the results of the run that trained it, the sums are pseudobulk/sums.h5ad of a
run on the other cohort, so that its cells were chosen and summed in the same way. Cell types are matched by
label, genes by id. Prediction = intercept + sum of coefficient x (x - mean) / sd, with x = log1p(10,000 x
count / all counts of the sample); a gene that the cohort lacks enters at its training mean and adds nothing.
The output has the shares of genes and of the total absolute coefficient that the cohort has; if the latter is
below --min-weight, nothing is predicted.
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

FORMAT = 1  # of models.json, as ridge_summary writes it


def read_model(folder: Path) -> tuple[dict, pd.DataFrame]:
    """models.json and the coefficients of all cell types; SystemExit if they cannot be read here."""
    paths = folder / "models.json", folder / "coefficients.tsv"
    for path in paths:
        if not path.is_file():
            sys.exit(f"error: {path} does not exist; --model is ridge/models in the results of a run")
    description = json.loads(paths[0].read_text(encoding="utf-8"))
    if description["format"] != FORMAT:
        sys.exit(f"error: {paths[0]} has format {description['format']}, this program reads {FORMAT}")
    text = {"cell_type": str, "gene_id": str, "symbol": str}
    options = {"dtype": text, "keep_default_na": False}
    return description, pd.read_csv(paths[1], sep="\t", **options)


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


def match_types(description: dict, sums: str, only: list[str]) -> pd.DataFrame:
    """The cell types of the sums that have a model and are wanted: cell_type, label, and model, its id.

    only: labels of cell types, all if empty. SystemExit if one of them, or all, have no model or no sums.
    """
    known = {model["label"]: name for name, model in description["models"].items()}
    types = read_obs(sums)[["cell_type", "label"]].drop_duplicates()
    for label in only:
        if label not in known or label not in set(types["label"]):
            where = "model" if label not in known else "sum"
            sys.exit(f"error: there is no {where} of {label!r}; --cell-type is one of {', '.join(known)}")
    for label in sorted(set(types["label"]) - set(known)):
        print(f"predict: {label}: no model", file=sys.stderr)
    wanted = types[types["label"].isin(only or known) & types["label"].isin(known)]
    if wanted.empty:
        sys.exit(f"error: {sums} has none of the cell types of the models: {', '.join(known)}")
    return wanted.assign(model=wanted["label"].map(known))


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
    description: dict, coefficients: pd.DataFrame, sums: str, *, min_weight: float, only: list[str]
) -> pd.DataFrame:
    """One row per cell type and sample of the cohort for which there is a model.

    only: labels of the cell types wanted, all if empty. SystemExit as match_types and check_genes say.
    """
    tables, types = [], match_types(description, sums, only)
    rows = read_types(sums, types["cell_type"])
    for label, name, (counts, obs, genes) in zip(types["label"], types["model"], rows, strict=True):
        mine, model = coefficients[coefficients["cell_type"] == name], description["models"][name]
        found = overlap(mine, genes["gene_id"])[1]
        check_genes(label, genes["gene_id"], found, min_weight)
        settings = {"intercept": model["intercept"], "counts_per": description["expression"]["counts_per"]}
        predicted = apply(counts, genes["gene_id"], mine, **settings)
        low, high = model["training_range"]
        table = obs[["label", "sample", "donor", "cells", "used"]].assign(**found)
        beyond = (predicted < low) | (predicted > high)
        tables.append(table.assign(target=description["target"], predicted=predicted, extrapolated=beyond))
        print(
            f"predict: {label}: {len(obs)} samples, {found['genes_present']} of {found['genes']} genes, "
            f"{found['share_weight']:.1%} of the weight, trained on {model['donors']} donors of "
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
    options = parser.parse_args()
    if not Path(options.sums).is_file():
        sys.exit(f"error: {options.sums} does not exist; --sums is a pseudobulk/sums.h5ad of a run")
    table = predict(
        *read_model(options.model), options.sums, min_weight=options.min_weight, only=options.cell_type
    )
    table.to_csv(options.out, sep="\t", index=False)


if __name__ == "__main__":
    main()
