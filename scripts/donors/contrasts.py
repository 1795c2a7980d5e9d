"""Check one contrast in every cell type before any gene is tested.

For each cell type of pseudobulk/cell_types.tsv: which samples take part once those outside the subset and
those without a covariate are out, how many coefficients and residual degrees of freedom the model has,
whether the effect can be estimated, and how far the rest of the design is confounded with it (_design.py).
`differential` tests by the same functions and stops if it comes to another verdict.

Raises InputError when the contrast can be tested in no cell type that `pseudobulk` has tested.
"""

import pandas as pd

from donors._contrast import Contrast, resolve_contrast
from donors._design import Design, build, choose_samples
from files import SAMPLE_COLUMNS, read_cell_types, read_obs, write_tsv
from job import InputError, conclude, job


def judge(
    contrast: Contrast, obs: pd.DataFrame, cell_types: pd.DataFrame, *, min_samples: int, min_residual_df: int
) -> pd.DataFrame:
    """One row per cell type: what a test of the contrast has to go on, or the reason why there is none.

    obs: of all sums; cell_types: pseudobulk/cell_types.tsv. A reason there is kept here.
    """
    rows = []
    for row in cell_types.itertuples():
        own = obs[obs["cell_type"] == row.id]
        if row.tested:
            design = build(contrast, own, min_samples=min_samples, min_residual_df=min_residual_df)
        else:
            message = "so says pseudobulk/cell_types.tsv"
            design = Design(choose_samples(own, contrast), reason=row.reason, message=message)
        rows.append({"contrast": contrast.name, "cell_type": row.id, "label": row.label} | describe(design))
    return pd.DataFrame(rows).astype({"coefficients": "Int64", "effects": "Int64", "residual_df": "Int64"})


def describe(design: Design) -> dict:
    """What a row says of a design."""
    return {
        "samples": len(design.samples),
        "samples_used": int(design.samples["used"].sum()),
        "coefficients": design.coefficients,
        "effects": None if design.hypothesis is None else len(design.hypothesis),
        "coefficient": design.coefficient,
        "residual_df": design.residual_df,
        "vif": design.vif,
        "correlate": design.correlate,
        "correlation": design.correlation,
        "reason": design.reason,
        "message": design.message,
    }


def check_any(verdicts: pd.DataFrame, tested: pd.Series) -> None:
    """Raise InputError when cell types are tested, but none for this contrast."""
    refused = verdicts[tested.to_numpy()]
    if len(refused) and (refused["reason"] != "").all():
        why = ", ".join(f"{code} {number}" for code, number in refused["reason"].value_counts().items())
        first = refused.iloc[0]
        raise InputError(
            f"contrasts.{first['contrast']}: can be tested in none of {len(refused)} cell types ({why}); "
            f"{first['label']}: {first['message']}; correct the design or lower pseudobulk.min_samples"
        )


def summary(verdicts: pd.DataFrame) -> str:
    """One line: how many types can be tested, why not the others, and the strongest confounding."""
    fine = verdicts[verdicts["reason"] == ""]
    lost = verdicts.loc[verdicts["reason"] != "", "reason"].value_counts()
    why = ", ".join(f"{code} {number}" for code, number in lost.items())
    line = f"{verdicts['contrast'].iloc[0]} can be tested in {len(fine)} of {len(verdicts)} types"
    line += f" ({why})" if why else ""
    if fine.empty:
        return line
    worst = fine.loc[fine["vif"].idxmax()]
    line += f"; largest variance inflation {worst['vif']:.2f} in {worst['label']}"
    return line + (
        f", r = {worst['correlation']:.2f} with {worst['correlate']}" if worst["correlate"] else ""
    )


if __name__ == "__main__":
    with job(snakemake) as out:
        params = dict(snakemake.params.items())
        obs = read_obs(snakemake.input.sums)
        types = read_cell_types(snakemake.input.cell_types)
        limits = {name: params[name] for name in ("min_samples", "min_residual_df")}
        contrast = resolve_contrast(params["contrast"], obs[[*SAMPLE_COLUMNS, *params["covariates"]]])
        verdicts = judge(contrast, obs, types, **limits)
        check_any(verdicts, types["tested"])
        write_tsv(verdicts, out.cell_types)
        conclude(summary(verdicts))
