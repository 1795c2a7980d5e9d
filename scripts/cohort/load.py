"""Check the cohort and write it as shards: ordinary AnnData files of raw counts, each of whole donors.

Labels are checked before any count is read. A cell without sample, donor or cell type, or excluded, or
that load.empty_droplets calls a droplet without a cell, is unusable: it stays in `cells.parquet` with its
reason and nowhere else. Cells without any count are usable (qc drops them). Labels are text; an empty
label, NaN, "nan", "NaN" and "<NA>" are missing and written as "". Null for sample or donor means one per
file, named like the file; null for cell_type, one for all cells. Cells listed by a sample sheet are named
<sample>_<barcode>. Several files keep the genes that all of them have, in the order of the first, and the
loss is reported. Gene ids tell genes apart; symbols may repeat. Donors go to the smallest shard in
descending order of cells (Graham 1969, SIAM J. Appl. Math. 17:416). A stage is CELLxGENE's: "45-year-old
stage" is 45 years; other stages, and texts that are no number, are missing.
"""

import heapq
import json
import keyword
import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cohort._counts import Source, open_cohort
from cohort._empty_droplets import find_empty_droplets
from cohort._shards import shared_genes, write_shards
from cohort._species import find_species
from job import InputError, job, warn

BLOCK_VALUES = 4_000_000  # non-zeros held at a time: about 300 MB with the copies
VALUES_NAMED = 10  # in a warning
ROLES = ["sample", "donor", "cell_type", "pool"]
MISSING = ["", "nan", "NaN", "<NA>"]
STAGE = r"^(\d+(?:\.\d+)?)-year-old (?:human )?stage$"
TAKEN = {*ROLES, "cell", "cells", "pools", "shard", "kept", "used", "reason", "step", "id", "label", "counts"}
TAKEN |= {"log_cells", "log_depth", "pct_counts_mt", "gene_id", "symbol"}  # columns of later tables


def wanted_columns(
    roles: dict[str, str | None], covariates: list[dict], exclude: list[dict]
) -> dict[str, str]:
    """Obs column -> the setting that names it. InputError for a covariate's name that cannot be used."""
    names = [covariate["name"] for covariate in covariates]
    for name in names:
        if name in TAKEN or names.count(name) > 1:
            raise InputError(f"load.covariates: the name {name!r} is taken by another column; choose another")
        if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
            raise InputError(f"load.covariates: {name!r} cannot stand in a formula; name it like age_at_draw")
    columns = {covariate["column"]: f"load.covariates ({covariate['name']})" for covariate in covariates}
    columns |= {rule["column"]: "load.exclude" for rule in exclude}
    return columns | {column: f"load.{role}" for role, column in roles.items() if column is not None}


def text(value) -> str:
    """A label as text; a whole number without ".0", so that ids survive a column with missing values."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)


def labels(values: pd.Series) -> pd.Series:
    """Values of any type as categorical text in sorted categories, missing where the label is."""
    codes, unique = pd.factorize(values)
    names = [None if text(value).strip() in MISSING else text(value) for value in unique]
    order, categories = pd.factorize(np.array(names, dtype=object), sort=True)
    return pd.Series(pd.Categorical.from_codes(np.append(order, -1)[codes], categories), index=values.index)


def describe_cells(sources: list[Source], roles: dict[str, str | None]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(cell, sample, donor, cell_type, pool) and the wanted columns as labels, one row per input cell.

    Raises InputError when there is no cell, and when two have the same name.
    """
    obs = pd.concat([source.obs for source in sources])
    if obs.index.empty:
        raise InputError("cohort: its files hold no cell; correct cohort.path")
    barcodes, obs = obs.index.to_numpy(dtype=object), obs.reset_index(drop=True)
    sizes = [len(source.obs) for source in sources]
    file = pd.Series(np.repeat(np.array([source.name for source in sources], dtype=object), sizes))
    values = pd.DataFrame({column: labels(obs[column]) for column in obs}, index=obs.index)
    one_each = {"sample": file, "donor": file, "cell_type": "all cells", "pool": None}
    cells = pd.DataFrame(
        {
            role: labels(pd.Series(one_each[role], index=obs.index)) if column is None else values[column]
            for role, column in roles.items()
        }
    )
    prefixed = cells["sample"].astype(object).fillna(file) + "_" + barcodes
    listed = np.repeat([source.listed for source in sources], sizes)
    cells.insert(0, "cell", np.where(listed, prefixed, barcodes))
    twice = cells["cell"][cells["cell"].duplicated()]
    if len(twice):
        raise InputError(
            f"cohort: {len(twice):,} cell names repeat, such as {twice.iloc[0]!r}; make them unique"
        )
    return cells, values


def find_unusable(cells: pd.DataFrame, values: pd.DataFrame, exclude: list[dict]) -> pd.Series:
    """The first reason why a cell cannot be used, "" for none. InputError for a value that no cell has."""
    masks = {f"missing_{role}": cells[role].isna() for role in ("sample", "donor", "cell_type")}
    for rule in exclude:
        column, unwanted = values[rule["column"]], [text(value) for value in rule["values"]]
        for value in unwanted:
            if value not in column.cat.categories:
                has = ", ".join(column.cat.categories[:30])
                raise InputError(
                    f"load.exclude: {rule['column']} is never {value!r} (it is: {has}); correct it"
                )
        masks["excluded_" + re.sub(r"\W+", "_", rule["column"].lower()).strip("_")] = column.isin(unwanted)
    return pd.Series(np.select(list(masks.values()), list(masks), default=""), index=cells.index)


def numbers(values: pd.Series, kind: str) -> pd.Series:
    """Labels as float64: `numeric` as written, `stage` in years; NaN where that fails or is not finite."""
    names = pd.Series(values.cat.categories, dtype=object)
    names = names.str.extract(STAGE, expand=False) if kind == "stage" else names
    number = pd.to_numeric(names, errors="coerce").to_numpy(dtype=float)
    number = np.append(np.where(np.isfinite(number), number, np.nan), np.nan)
    return pd.Series(number[values.cat.codes], index=values.index)


def unparsed(values: pd.DataFrame, covariates: list[dict]) -> dict[str, dict[str, int]]:
    """Covariate -> label that is no number, or no stage, -> cells that have it."""
    found = {}
    for covariate in covariates:
        column, kind = values[covariate["column"]], covariate["type"]
        if kind != "categorical":
            bad = column[column.notna() & numbers(column, kind).isna()]
            found[covariate["name"]] = bad.astype(str).value_counts().sort_index().to_dict()
    return found


def one_per_sample(samples: pd.Series, values: pd.Series, what: str, remedy: str) -> pd.Series:
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
    remedy = "set load.sample to a column whose values each belong to one donor"
    donor = one_per_sample(cells["sample"], cells["donor"], "its donor", remedy)
    samples = pd.DataFrame({"donor": donor.astype(object)})
    pools = cells.groupby(["sample", "pool"], observed=True).size().reset_index(name="cells")
    pools = pools.sort_values(["cells", "pool"], ascending=[False, True]).astype({"sample": object})
    samples["pool"] = pools.drop_duplicates("sample").set_index("sample")["pool"].astype(object)
    samples["pool"] = samples["pool"].fillna("")
    samples["pools"] = pools["sample"].value_counts().reindex(samples.index, fill_value=0)
    for covariate in covariates:
        name, kind, column = covariate["name"], covariate["type"], values[covariate["column"]]
        parsed = column.astype(object) if kind == "categorical" else numbers(column, kind)
        remedy = f"let load.sample tell these cells apart, or drop {name} from load.covariates"
        samples[name] = one_per_sample(cells["sample"], parsed, name, remedy)
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


def shard_columns(cells: pd.DataFrame, samples: pd.DataFrame, covariates: list[dict]) -> pd.DataFrame:
    """Obs of the shards, for all input cells: labels, and covariates of the sample as category or float64."""
    obs = cells.set_index("cell")[ROLES]
    for covariate in covariates:
        kind = "category" if covariate["type"] == "categorical" else float
        of_sample = samples.set_index("sample")[covariate["name"]]
        obs[covariate["name"]] = obs["sample"].astype(object).map(of_sample).astype(kind)
    return obs


def describe_files(sources: list[Source], genes: pd.DataFrame) -> list[dict]:
    """What each file of the cohort brought."""
    return [
        {
            "name": source.name,
            "counts_from": source.place,
            "other_whole_numbers": source.also,
            "cells": len(source.obs),
            "genes": len(source.symbols),
            "genes_not_shared": len(source.symbols) - len(genes),
        }
        for source in sources
    ]


def load(
    files: list[str],
    out,
    *,
    sample: str | None,
    donor: str | None,
    cell_type: str | None,
    pool: str | None,
    counts: str,
    symbols: str | None,
    species: str,
    empty_droplets: str,
    covariates: list[dict],
    exclude: list[dict],
    shards: int,
    shard_by: str,
    block_values: int,
) -> dict:
    """Write the paths of `out` (shards, cells, samples, genes, cohort); returns the content of the last."""
    roles = dict(zip(ROLES, (sample, donor, cell_type, pool), strict=True))
    if shard_by == "pool" and pool is None:
        raise InputError(
            "load.shard_by: pool needs a column of pools; set load.pool, or load.shard_by to donor"
        )
    wanted = wanted_columns(roles, covariates, exclude)
    sources = open_cohort(files, counts=counts, symbols=symbols, wanted=wanted)
    genes = shared_genes(sources)
    cells, values = describe_cells(sources, roles)
    cells["reason"] = find_unusable(cells, values, exclude)
    captures = []
    if empty_droplets != "refuse":
        with_labels = cells["reason"] == ""
        empty, captures = find_empty_droplets(
            sources, genes, cells["sample"], with_labels, point=empty_droplets, block_values=block_values
        )
        cells.loc[empty, "reason"] = "empty_droplet"
    unusable = cells["reason"].value_counts().drop("", errors="ignore").sort_index().to_dict()
    usable = cells[cells["reason"] == ""]
    values = values.loc[usable.index]
    if usable.empty:
        raise InputError(
            f"cohort: none of {len(cells):,} cells is usable {unusable}; set load.sample, donor, ..."
        )
    samples = describe_samples(usable, values, covariates)
    home = assign_shards(usable, shards, shard_by)
    samples["shard"] = samples["donor"].map(home)
    cells["shard"] = cells["donor"].astype(object).map(home).where(cells["reason"] == "", "")
    cells[ROLES] = cells[ROLES].astype(object).fillna("").astype("category")
    obs = shard_columns(cells, samples, covariates)
    number = cells["shard"].replace("", "-1").to_numpy(dtype=int)
    found = write_shards(out.shards, sources, genes, obs, number, block_values=block_values)
    genes = genes.assign(counts=found["gene_counts"], cells=found["gene_cells"])
    cells[["cell", *ROLES, "shard", "reason"]].to_parquet(out.cells, index=False)
    samples.to_parquet(out.samples, index=False)
    genes.to_parquet(out.genes, index=False)
    facts = {
        "files": describe_files(sources, genes),
        "cells": {"input": len(cells), "usable": len(usable), "unusable": unusable},
        "counts": {"input": found["input_counts"], "usable": int(genes["counts"].sum())},
        "genes": {"kept": len(genes), "with_shared_symbol": int(genes["duplicated_symbol"].sum())},
        "species": find_species(genes["gene_id"], genes["symbol"]) if species == "auto" else species,
        "donors": len(home),
        "samples": len(samples),
        "values_per_shard": found["values"],
        "empty_droplets": captures,
        "not_parsed": unparsed(values, covariates),
    }
    Path(out.cohort).write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def summary(facts: dict) -> str:
    """The finding in a few lines, the last of which sums up."""
    cells, genes = facts["cells"], facts["genes"]
    lost = "; ".join(f"{reason} {n:,}" for reason, n in cells["unusable"].items())
    lines = [f"load: {genes['with_shared_symbol']} genes share their symbol with another"]
    lines.append(f"load: patterns of gene symbols are those of {facts['species']}")
    for file in facts["files"]:
        others = ", ".join(file["other_whole_numbers"])
        also = f", whole numbers also in {others}" * bool(others)
        left = f", {file['genes_not_shared']:,} genes left out" * bool(file["genes_not_shared"])
        lines.append(f"load: {file['name']}: counts from {file['counts_from']}{also}{left}")
    for capture in facts["empty_droplets"]:
        at = [
            f"{capture[f'barcodes_at_{point}']:,} at the {point} ({capture[point]:,} counts) or above"
            for point in ("knee", "inflection")
        ]
        where = f"{capture['file']}, sample {capture['sample']}"
        lines.append(f"load: {where}: {capture['barcodes']:,} barcodes, {', '.join(at)}")
    for name, odd in facts["not_parsed"].items():
        if odd:
            like = ", ".join(list(odd)[:5])
            lines.append(f"load: {name} is missing in {sum(odd.values()):,} cells where it is {like}")
    lines.append(
        f"load: {cells['input']:,} cells x {genes['kept']:,} genes, {facts['counts']['input']:,} counts, "
        f"{facts['samples']:,} samples of {facts['donors']:,} donors; "
        f"{cells['input'] - cells['usable']:,} unusable" + f" ({lost})" * bool(lost)
    )
    return "\n".join(lines)


def warn_of(facts: dict, counts: str) -> None:
    """Warn of genes, values and counts that the files hold and nobody uses. counts: config load.counts."""
    for file in facts["files"]:
        name, lost, others = file["name"], file["genes_not_shared"], ", ".join(file["other_whole_numbers"])
        if lost:
            what = f"{name}: {lost:,} of {file['genes']:,} genes are not in every file of the cohort"
            warn("genes_not_shared", f"{what}, they are left out", count=lost)
        if others and counts == "auto":
            what = f"{name}: counts are taken from {file['counts_from']}"
            warn("other_counts", f"{what}; whole numbers are also in {others}", setting="load.counts")
    for name, odd in facts["not_parsed"].items():
        if odd:
            like = ", ".join(
                f"{value} ({cells:,} cells)" for value, cells in list(odd.items())[:VALUES_NAMED]
            )
            more = f" and {len(odd) - VALUES_NAMED} more values" * (len(odd) > VALUES_NAMED)
            what = f"{name} is missing where its value is {like}{more}"
            warn("values_not_parsed", what, count=sum(odd.values()), setting="load.covariates")


if __name__ == "__main__":
    with job(snakemake) as out:
        facts = load(snakemake.input.cohort, out, block_values=BLOCK_VALUES, **snakemake.params)
        warn_of(facts, snakemake.params.counts)
        print(summary(facts))
