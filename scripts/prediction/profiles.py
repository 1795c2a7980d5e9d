"""The mean expression of the samples that a model is trained on, by which `make predict` knows its cell type.

x = ln(1 + 10,000 * count / counts of the sample), as in `ridge`. The profile of a cell type is the mean of x
over the samples with a target, of the genes with a count in `min_share` of them. The correlation of each of
these samples with the mean of the others (Pearson, over the same genes) says how alike samples of a type are.
"""

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from files import read_obs, read_types, stack_tables, write_tsv
from job import conclude, job, track_progress
from prediction._expression import log_expression
from prediction._folds import read_tested_types
from prediction._target import Levels, code_target, find_levels

PROFILE = ["cell_type", "gene_id", "mean"]
CORRELATIONS = ["cell_type", "sample", "correlation"]


def measure_profile(
    counts: csr_array,
    obs: pd.DataFrame,
    genes: pd.DataFrame,
    *,
    target: str,
    levels: Levels | None,
    min_share: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Profile (gene_id, mean) of one cell type, and sample, correlation; empty below 3 samples or genes.

    counts, obs, genes: as read_types yields them; samples that are not used or have no target are left out.
    """
    takes_part = obs["used"].to_numpy(bool) & ~np.isnan(code_target(obs[target], levels))
    logged = log_expression(counts[takes_part])
    common = logged.count_nonzero(axis=0) / max(logged.shape[0], 1) >= min_share
    if min(takes_part.sum(), common.sum()) < 3:
        return pd.DataFrame(columns=PROFILE[1:]), pd.DataFrame(columns=CORRELATIONS[1:])
    expression = logged[:, common].toarray()
    correlations = correlate_with_others(expression)
    samples = obs.loc[takes_part, ["sample"]].assign(correlation=correlations)
    return genes.loc[common, ["gene_id"]].assign(mean=expression.mean(axis=0)), samples


def correlate_with_others(expression: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row with the mean of the other rows; expression: (samples, genes)."""
    others = (expression.sum(axis=0) - expression) / (len(expression) - 1)
    return np.array([np.corrcoef(own, rest)[0, 1] for own, rest in zip(expression, others, strict=True)])


if __name__ == "__main__":
    with job(snakemake) as out:
        tested = read_tested_types(snakemake.input.cell_types)
        settings = dict(snakemake.params.items())
        names = {name: settings.pop(name) for name in ("level", "reference")}
        levels = find_levels(read_obs(snakemake.input.sums), target=settings["target"], **names)
        types = track_progress(read_types(snakemake.input.sums, tested), len(tested), "cell types")
        results = [measure_profile(*sums, levels=levels, **settings) for sums in types]
        profiles, correlations = (
            stack_tables(dict(zip(tested, tables, strict=True))) for tables in zip(*results, strict=True)
        )
        profiles[PROFILE].to_parquet(out.profiles, index=False)
        write_tsv(correlations[CORRELATIONS], out.correlations)
        conclude(f"{len(profiles):,} means of genes in {profiles['cell_type'].nunique()} cell types")
