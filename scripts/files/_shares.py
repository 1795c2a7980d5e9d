"""The proportion of each cell type among a sample's cells."""

import numpy as np
import pandas as pd


def count_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Cells per sample and cell type, (samples, types) int; 0 where a sample has none.

    rows: sample, label and cells of the pseudobulk sums.
    """
    return rows.pivot_table(index="sample", columns="label", values="cells", aggfunc="sum", fill_value=0)


def logit_shares(cells: pd.DataFrame) -> pd.DataFrame:
    """logit((k + 0.5) / (n + 1)) for k of n cells, natural log; finite also for 0 and for all cells."""
    total = cells.sum(axis=1)
    return np.log(cells + 0.5).sub(np.log(total.to_numpy()[:, None] - cells + 0.5))
