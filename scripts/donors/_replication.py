"""The unit of replication is the donor: several samples of one donor are not several donors.

Samples of a donor share whatever is special about the donor, so a test that takes them as independent has
too many degrees of freedom where its question is about donors: of genes without effect 10 to 25 % are below
p = 0.05 with two or three samples of each donor. A design in which donors repeat names what is done about it.
"""

from functools import partial

import numpy as np
import pandas as pd
from scipy import sparse

from donors._contrast import Contrast, is_factor
from job import InputError

OF_SUMS = ("log_cells", "log_depth", "pct_counts_mt")  # said by the sums of themselves


def repeats(donors: pd.Series) -> bool:
    """Whether a donor has several of these samples."""
    return bool(donors.duplicated().any())


def varying(obs: pd.DataFrame, variables: list[str]) -> list[str]:
    """Variables with several values in the samples of one donor; missing values count as none.

    obs: (samples) donor and the variables.
    """
    numbers = obs.groupby("donor", observed=True)[variables].nunique()
    return [name for name in variables if (numbers[name] > 1).any()]


def names_donors(contrast: Contrast, obs: pd.DataFrame, name: str) -> bool:
    """Whether a category of the design, not tested, has one donor in each level: it stands for donor."""
    if name not in contrast.variables or name in contrast.tested or not is_factor(obs[name]):
        return False
    return obs[[name, "donor"]].astype(str).drop_duplicates()[name].is_unique


def check_replication(contrast: Contrast, obs: pd.DataFrame) -> None:
    """Raise InputError when samples of one donor would count as independent.

    obs: of the samples used. A table without column donor has one sample of each.
    """
    if contrast.block or contrast.aggregate or "donor" in contrast.variables:
        return
    if "donor" not in obs or not repeats(obs["donor"]) or any(map(partial(names_donors, contrast, obs), obs)):
        return
    where, differs = f"contrasts.{contrast.name}", varying(obs, contrast.tested)
    donors = obs["donor"].nunique()
    if differs:
        ways = (
            f"{', '.join(differs)} differs within donors: add donor to {where}.design, or set {where}.block: "
            f"donor; {where}.aggregate: donor is for what is the same in all samples of a donor"
        )
    else:
        ways = (
            f"{', '.join(contrast.tested)} is the same in all samples of a donor: set {where}.aggregate: "
            f"donor to sum them, or {where}.block: donor; donor in {where}.design is for what differs within"
            " donors"
        )
    raise InputError(
        f"{where}: {len(obs)} samples of {donors} donors would count as {len(obs)} donors; {ways}"
    )


def check_aggregate(contrast: Contrast, obs: pd.DataFrame) -> None:
    """Raise InputError when the samples of a donor cannot be summed: what is tested differs between them.

    obs: of the samples used. Also for a category of the design, which has no mean; a number that is not
    tested is averaged (sum_variables).
    """
    factors = [name for name in contrast.variables if is_factor(obs[name])]
    asked = [name for name in {*contrast.tested, *factors} if name not in OF_SUMS]
    if differs := sorted(varying(obs, asked)):
        where = f"contrasts.{contrast.name}"
        raise InputError(
            f"{where}.aggregate: {', '.join(differs)} differs between samples of one donor, which cannot be "
            f"summed then; use {where}.block: donor, put donor into {where}.design, or choose samples by "
            f"{where}.subset"
        )


def sum_variables(contrast: Contrast, obs: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The variables of each donor, (donors), and the row there of each sample, (samples,).

    obs: donor and variables of the samples used; donors come in its order. Categories are the same in all
    samples of a donor, numbers are averaged; log_cells, log_depth and pct_counts_mt are those of the sum.
    """
    rows, donors = pd.factorize(obs["donor"].astype(str))
    by_donor = obs.groupby(rows)
    values = {}
    for name in contrast.variables:
        if name in ("log_cells", "log_depth"):
            values[name] = np.log(np.exp(obs[name]).groupby(rows).sum())
        elif name == "pct_counts_mt":
            counts = np.exp(obs["log_depth"])
            values[name] = (obs[name] * counts).groupby(rows).sum() / counts.groupby(rows).sum()
        else:
            values[name] = by_donor[name].first() if is_factor(obs[name]) else by_donor[name].mean()
    return pd.DataFrame(values).set_axis(donors), rows


def sum_samples(counts, rows: np.ndarray) -> sparse.csr_array:
    """(donors, genes) sums of the samples of each donor. counts: (samples, genes); rows: (samples,)."""
    ones = np.ones(len(rows), dtype=np.int64)
    return sparse.csr_array(sparse.csr_array((ones, (rows, np.arange(len(rows))))) @ counts)
