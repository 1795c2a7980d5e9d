"""One row per sample: what came in, what is left, and how much of it."""

import numpy as np
import pandas as pd
from scipy import sparse


def describe_samples(cells: pd.DataFrame, sums: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Cells, losses, counts and cell types of every sample of filter/samples.tsv, in its order.

    cells: one row per input cell with sample, total_counts, pct_counts_mt, doublet and kept; sums: obs of the
    pseudobulk sums; samples: sample and donor. cells_in counts the cells that a sample brought, the unusable
    too; share_lost is NaN where there are none, pct_counts_mt where no counts are left.
    """
    by_sample = cells.groupby(cells["sample"].astype(str))
    kept = cells[cells["kept"]]
    mt = kept["pct_counts_mt"].astype(float) * kept["total_counts"]
    names = kept["sample"].astype(str)
    used = sums[sums["used"]]
    types = used.groupby(used["sample"].astype(str))["label"].agg(lambda labels: sorted(labels.astype(str)))
    columns = {
        "cells_in": by_sample.size(),
        "doublets": by_sample["doublet"].sum(),
        "cells": kept.groupby(names).size(),
        "counts": kept["total_counts"].groupby(names).sum(),
    }
    table = samples[["sample", "donor"]].astype(str)
    for name, values in columns.items():
        table[name] = table["sample"].map(values).fillna(0).astype(np.int64)
    table["share_lost"] = 1 - table["cells"] / table["cells_in"].where(table["cells_in"] > 0)
    weighted = table["sample"].map(mt.groupby(names).sum())
    table["pct_counts_mt"] = weighted / table["counts"].where(table["counts"] > 0)
    table["types_used"] = table["sample"].map(types.map(len)).fillna(0).astype(np.int64)
    table["used_in"] = table["sample"].map(types.map("; ".join)).fillna("")
    return table


def whole_samples(sums: pd.DataFrame, covariates: list[str]) -> pd.DataFrame:
    """One row per sample with a kept cell: covariates, and log_cells, log_depth, pct_counts_mt over all."""
    samples = sums[["sample", "donor", "pool", *covariates]].drop_duplicates("sample")
    samples = samples.set_index("sample", drop=False).sort_index()
    totals = sums.groupby(sums["sample"].astype(str))[["cells", "counts"]].sum()
    mt = (sums["pct_counts_mt"] * sums["counts"]).groupby(sums["sample"].astype(str)).sum()
    names = samples["sample"].astype(str)
    samples["log_cells"] = np.log(names.map(totals["cells"]))
    samples["log_depth"] = np.log(names.map(totals["counts"]).clip(lower=1))
    samples["pct_counts_mt"] = names.map(mt / totals["counts"].clip(lower=1))
    return samples.reset_index(drop=True)


class Totals:
    """Sums of each sample over all cell types, added up one type at a time."""

    def __init__(self, samples: list[str]):
        self.samples, self.counts = samples, None

    def add_(self, counts: sparse.csr_array, samples: pd.Series) -> None:
        """Add the sums of one cell type. counts: (rows, genes); samples: of each row."""
        rows = pd.Index(self.samples).get_indexer(samples.astype(str))
        ones = np.ones(len(rows), dtype=np.int64)
        place = sparse.csr_array((ones, (rows, np.arange(len(rows)))), shape=(len(self.samples), len(rows)))
        part = place @ sparse.csr_array(counts)
        self.counts = part if self.counts is None else self.counts + part

    def genes(self) -> np.ndarray:
        """(samples,) genes with a count."""
        return np.diff(sparse.csr_array(self.counts > 0).indptr)

    def column_sums(self, columns: np.ndarray) -> np.ndarray:
        """(samples,) counts of some genes (bool)."""
        return np.asarray(self.counts[:, np.flatnonzero(columns)].sum(axis=1)).ravel()
