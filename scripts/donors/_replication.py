"""The unit of replication is the donor: several samples of one donor are not several donors.

Samples of a donor share whatever is special about the donor, so a test that takes them as independent has
too many degrees of freedom where its question is about donors: of genes without effect 10 to 25 % are below
p = 0.05 with two or three samples of each donor. A design in which donors repeat names what is done about it.
"""

import pandas as pd

from donors._contrast import Contrast
from job import InputError


def repeats(donors: pd.Series) -> bool:
    """Whether a donor has several of these samples."""
    return bool(donors.duplicated().any())


def varying(obs: pd.DataFrame, variables: list[str]) -> list[str]:
    """Variables with several values in the samples of one donor; missing values count as none.

    obs: (samples) donor and the variables.
    """
    numbers = obs.groupby("donor", observed=True)[variables].nunique()
    return [name for name in variables if (numbers[name] > 1).any()]


def check_replication(contrast: Contrast, obs: pd.DataFrame) -> None:
    """Raise InputError when samples of one donor would count as independent.

    obs: of the samples used. A table without column donor has one sample of each.
    """
    if "donor" not in obs or "donor" in contrast.variables or not repeats(obs["donor"]):
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
