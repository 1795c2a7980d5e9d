"""Fit a cell type's model by the engine that the contrast asks for: DESeq2's, or limma-voom.

An engine makes one table of the same columns, whatever its model: _deseq2.py, _voom.py. Hidden factors
(_factors.py) are added to the design first.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from donors._contrast import Contrast
from donors._design import Design
from donors._replication import repeats
from donors._size_factors import genes_under

COLUMNS = {
    "gene_id": str,
    "symbol": str,
    "baseMean": float,
    "log2FoldChange": float,
    "lfcSE": float,
    "stat": float,
    "pvalue": float,
    "padj": float,
    "df": int,
    "log2Range": float,
    "log2FoldChange_shrunk": float,
    "lfcSE_shrunk": float,
    "dispersion": float,
    "dispersion_gene": float,
    "dispersion_trend": float,
    "dispersion_map": float,
    "dispersion_searched": bool,
    "converged": bool,
    "replaced": bool,
    "outlier": bool,
}
FACTORS = ["factor1", "factor2", "factor3", "factor4", "factor5"]
OF_ROWS = ["size_factor", "sample_weight", *FACTORS]
GENES_PER_FACTOR = 50  # at least
NUMBERS = ["factors", "in_contrast", "significant", "shared", "correlation", "vif", "variance"]
MEAN_TREND = "the trend of dispersions did not converge, one mean dispersion is taken for all genes"


def no_genes() -> pd.DataFrame:
    """The table of genes without a row, with its columns and types."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})


class Fit(NamedTuple):
    """What an engine makes of the genes that are tested."""

    genes: pd.DataFrame  # a row per gene, COLUMNS
    design: Design  # with hidden factors, where they are asked for
    rows: pd.DataFrame  # a row per row of the model matrix, OF_ROWS
    numbers: pd.DataFrame  # see Result
    facts: dict  # for the status

    @classmethod
    def without(cls, design: Design) -> "Fit":
        """Of a type that is not tested."""
        return cls(no_genes(), design, pd.DataFrame(columns=OF_ROWS), pd.DataFrame(columns=NUMBERS), {})


def fit(
    dense: pd.DataFrame, symbols: pd.Series, design: Design, contrast: Contrast, *, fdr: float, **settings
) -> Fit:
    """Find hidden factors, where they are asked for, and fit DESeq2's model or limma-voom.

    dense: (rows of the model matrix, genes) counts by gene id; symbols: (genes,); settings: of _deseq2.fit.
    """
    asked = {"block": bool(contrast.block), "weigh_samples": contrast.sample_weights}
    hidden, numbers = np.empty((len(dense), 0)), pd.DataFrame(columns=NUMBERS)
    if contrast.factors is not None:
        from donors import _factors

        values, matrix = dense.to_numpy(dtype=float), design.matrix.to_numpy()
        parts = _factors.split_values(_factors.scale_counts(values, matrix), matrix, design.reduced)
        numbers = _factors.compare_numbers(dense, design, parts, contrast.factors, fdr=fdr, **asked)
        hidden = _factors.find_factors(parts, contrast.factors)
        design = _factors.add_factors(design, hidden)
    if contrast.by_voom:
        from donors import _voom

        raw, rows, facts = _voom.fit(dense, design, **asked)
    else:
        from donors import _deseq2

        dense = dense.set_axis(design.matrix.index.astype(str))
        raw, size_factors, facts = _deseq2.fit(dense, design, fdr=fdr, **settings)
        rows = pd.DataFrame({"size_factor": size_factors, "sample_weight": np.nan})
    raw.insert(0, "symbol", symbols.to_numpy())
    table = raw.rename_axis("gene_id").reset_index()[list(COLUMNS)].astype(COLUMNS)
    table = table.sort_values(["pvalue", "gene_id"], ignore_index=True)
    rows = rows.assign(**dict.fromkeys(FACTORS, np.nan))
    rows[FACTORS[: hidden.shape[1]]] = hidden
    facts |= {"size_factor_genes": genes_under(dense.to_numpy(), facts["size_factors"])}
    return Fit(table, design, rows[OF_ROWS], numbers, facts)


def check_genes(tested: int, contrast: Contrast, min_count: int) -> tuple[str, str]:
    """Reason and message if too few genes are left to test; both empty if not."""
    if not tested:
        least = f"{min_count} counts in enough samples"
        return "no_genes", f"no gene passes differential.gene_filter ({least})"
    if tested < GENES_PER_FACTOR * (contrast.factors or 0):
        few = f"{tested} genes are too few for {contrast.factors} hidden factors"
        return "no_genes", f"{few} ({GENES_PER_FACTOR} each)"
    return "", ""


def describe_fit(fitted: Fit, contrast: Contrast) -> list[str]:
    """What the message says of a fit that is not the usual one."""
    alone = "no donor has several samples here, so none correlate"
    notes = {MEAN_TREND: fitted.facts["trend"] == "mean"}
    notes[alone] = bool(contrast.block) and not repeats(fitted.design.donors)
    return [note for note, applies in notes.items() if applies]
