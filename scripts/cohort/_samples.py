"""One row per sample: its donor, pool and covariates, each of which a sample has once; and shards of donors.

Donors go to the smallest shard in descending order of cells (Graham 1969, SIAM J. Appl. Math. 17:416).
"""

import heapq

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cohort._values import parse_numbers
from job import InputError


def find_values(samples: pd.Series, values: pd.Series, what: str, remedy: str) -> pd.Series:
    """The value of each sample (the index) that has one. InputError when a sample has two."""
    pairs = pd.DataFrame({"sample": samples.astype(object), "value": values}).drop_duplicates().dropna()
    twice = pairs[pairs["sample"].duplicated(keep=False)].sort_values(["sample", "value"])
    if len(twice):
        sample, (first, second) = twice["sample"].iloc[0], twice["value"].tolist()[:2]
        raise InputError(f"sample {sample!r}: {what} is {first!r} and {second!r}; {remedy}")
    return pairs.set_index("sample")["value"].sort_index()


def describe_samples(cells: pd.DataFrame, values: pd.DataFrame, covariates: list[dict]) -> pd.DataFrame:
    """One row per sample, sorted: sample, donor, pool (of most cells), pools (number), covariates, cells.

    cells, values: of the usable cells. A sample's value counts for its cells without one. Raises InputError
    when a sample has two donors or two values of a covariate, and when no sample has a value.
    """
    remedy = "set load.sample to a column in which each value belongs to one donor"
    donor = find_values(cells["sample"], cells["donor"], "its donor", remedy)
    samples = pd.DataFrame({"donor": donor.astype(object)})
    pools = cells.groupby(["sample", "pool"], observed=True).size().reset_index(name="cells")
    pools = pools.sort_values(["cells", "pool"], ascending=[False, True]).astype({"sample": object})
    samples["pool"] = pools.drop_duplicates("sample").set_index("sample")["pool"].astype(object)
    samples["pool"] = samples["pool"].fillna("")
    samples["pools"] = pools["sample"].value_counts().reindex(samples.index, fill_value=0)
    for covariate in covariates:
        name, kind, column = covariate["name"], covariate["type"], values[covariate["column"]]
        parsed = (
            column.astype(object)
            if kind == "categorical"
            else parse_numbers(column, kind, covariate.get("unit"))
        )
        remedy = f"let load.sample tell these cells apart, or drop {name} from load.covariates"
        samples[name] = find_values(cells["sample"], parsed, name, remedy)
        if samples[name].isna().all():
            like = ", ".join(map(repr, column.unique()[:5]))
            raise InputError(f"load.covariates: {name} has no {kind} value (it is: {like}); correct its type")
    samples["cells"] = cells["sample"].astype(object).value_counts()
    return samples.rename_axis("sample").reset_index()


def assign_shards(cells: pd.DataFrame, shards: int, shard_by: str) -> pd.Series:
    """Shard ("00", ...) of each donor (index), balanced by cells; by pool, donors that share one stay so.

    cells: donor and pool of the usable cells, in any order. Raises InputError when there are fewer donors, or
    fewer sets of donors linked by pools, than shards.
    """
    sizes = cells["donor"].astype(object).value_counts().sort_index()
    group = pd.Series(np.arange(len(sizes)), index=sizes.index)
    if shard_by == "pool":
        linked = cells[["donor", "pool"]].drop_duplicates().dropna()
        donor = group[linked["donor"].astype(object)].to_numpy()
        pool = linked["pool"].cat.codes.to_numpy(dtype=int) + len(group)
        nodes = len(group) + len(linked["pool"].cat.categories)
        edges = coo_array((np.ones(len(linked)), (donor, pool)), shape=(nodes, nodes))
        group[:] = connected_components(edges, directed=False)[1][: len(group)]
    totals = sizes.groupby(group).sum()
    if shards > len(totals):
        what = "donors" if shard_by == "donor" else "sets of donors linked by pools"
        raise InputError(
            f"load.shards: {shards} for {len(totals)} {what} with usable cells; set load.shards lower"
        )
    loads, home = [(0, shard) for shard in range(shards)], {}
    descending = totals.sort_values(ascending=False, kind="stable")  # ties: by the first donor's label
    for number in descending.index:
        load, shard = heapq.heappop(loads)
        heapq.heappush(loads, (load + totals[number], shard))
        home[number] = f"{shard:02d}"
    return group.map(home)
