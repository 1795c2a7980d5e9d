"""Check the cohort and write it as shards: ordinary AnnData files of raw counts, each of whole donors.

Labels are checked before any count is read. A cell without sample, donor or cell type, excluded, a copy of a
cell of another dataset, or a droplet without a cell (load.empty_droplets), is unusable: it stays in
`cells.parquet` with its reason and nowhere else. Cells without any count are usable (qc drops them). Labels
are text without blanks around it; words that mean missing are "" (`_values.MISSING` and load.missing). Null
for sample or donor means one per file, named like the file; null for cell_type, one for all cells. Cells
listed by a sample sheet are named <sample>_<barcode>; where names repeat, the file or the donor is put in
front. Several files keep the genes that all of them have, in the order of the first. Gene ids tell genes
apart; symbols may repeat.
"""

import json
import keyword
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cohort._cells import describe_cells, find_unusable
from cohort._empty_droplets import find_empty_droplets
from cohort._genes import find_shared_genes
from cohort._open import open_cohort
from cohort._samples import assign_shards, describe_samples
from cohort._shards import write_shards
from cohort._source import Note, Source, Wanted, join_names
from cohort._species import find_species
from cohort._tables import Known, read_cell_table, read_sample_table
from cohort._values import count_unparsed, find_alike, is_censored
from cohort._who import OPTIONAL, find_mixed
from files import RESERVED_COLUMNS
from job import InputError, conclude, job, warn

BLOCK_VALUES = 4_000_000  # non-zeros held at a time: about 300 MB with the copies
VALUES_NAMED = 10  # in a warning
ROLES = ["sample", "donor", "cell_type", "pool"]


def name_columns(roles: dict[str, str | None], covariates: list[dict], exclude: list[dict]) -> dict[str, str]:
    """Obs column -> the setting that names it. InputError for a covariate's name that cannot be used."""
    names = [covariate["name"] for covariate in covariates]
    for name in names:
        if name in RESERVED_COLUMNS or names.count(name) > 1:
            raise InputError(f"load.covariates: the name {name!r} is taken by another column; choose another")
        if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
            raise InputError(
                f"load.covariates: {name!r} cannot be used in a formula; name it like age_at_draw"
            )
    columns = {covariate["column"]: f"load.covariates ({covariate['name']})" for covariate in covariates}
    columns |= {rule["column"]: "load.exclude" for rule in exclude}
    return columns | {column: f"load.{role}" for role, column in roles.items() if column is not None}


def describe_shards(cells: pd.DataFrame, samples: pd.DataFrame, covariates: list[dict]) -> pd.DataFrame:
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
            "features_left_out": source.left_out,
        }
        for source in sources
    ]


def find_odd_values(values: pd.DataFrame, covariates: list[dict]) -> dict[str, dict[str, int]]:
    """Covariate -> label that is not a number, or not a stage, -> cells that have it."""
    return {
        covariate["name"]: count_unparsed(
            values[covariate["column"]], covariate["type"], covariate.get("unit")
        )
        for covariate in covariates
        if covariate["type"] != "categorical"
    }


@dataclass(frozen=True)
class Cohort:
    """A checked cohort; its counts are not read yet."""

    sources: list[Source]
    genes: pd.DataFrame
    cells: pd.DataFrame  # all input cells, with reason and shard
    values: pd.DataFrame  # labels of the usable cells
    samples: pd.DataFrame
    species: str
    captures: list[dict]  # what empty_droplets finds in each
    notes: list[Note]

    @property
    def usable(self) -> pd.DataFrame:
        """The cells without a reason."""
        return self.cells[self.cells["reason"] == ""]


def describe_cohort(
    files: list[str],
    *,
    sample: str | None,
    donor: str | None,
    cell_type: str | None,
    pool: str | None,
    counts: str,
    symbols: str | None,
    genome: str | None,
    modality: str | None,
    species: str,
    empty_droplets: str,
    covariates: list[dict],
    missing: list[str],
    exclude: list[dict],
    sample_table: str | None,
    cell_table: str | None,
    round: bool,
    shards: int,
    shard_by: str,
    block_values: int | None = None,
) -> Cohort:
    """Everything that is known before counts are written. InputError for what cannot be used.

    block_values: of counts that are read at a time to find empty droplets; None: they are not looked for.
    """
    roles = dict(zip(ROLES, (sample, donor, cell_type, pool), strict=True))
    if shard_by == "pool" and pool is None:
        raise InputError(
            "load.shard_by: pool needs a column of pools; set load.pool, or load.shard_by to donor"
        )
    columns = name_columns(roles, covariates, exclude)
    known = Known(
        missing=tuple(missing),
        excluded=tuple(rule["column"] for rule in exclude),
        person=tuple(covariate["column"] for covariate in covariates),
        cells=read_cell_table(cell_table),
        samples=read_sample_table(sample_table, sample, donor),
    )
    wanted = Wanted(columns, OPTIONAL, known.columns, counts, symbols, genome, modality)
    sources, genes = find_shared_genes(open_cohort(files, wanted, rounded=round))
    described = describe_cells(sources, roles, known)
    cells = described.table.assign(reason=find_unusable(described, exclude))
    captures = []
    if empty_droplets != "refuse" and block_values:
        empty, captures = find_empty_droplets(
            sources,
            genes,
            cells["sample"],
            cells["reason"] == "",
            point=empty_droplets,
            block_values=block_values,
        )
        cells.loc[empty, "reason"] = "empty_droplet"
    usable = cells[cells["reason"] == ""]
    if usable.empty:
        lost = cells["reason"].value_counts().sort_index().to_dict()
        raise InputError(
            f"cohort: none of {len(cells):,} cells is usable {lost}; set load.sample, donor, ..."
        )
    values = described.values.loc[usable.index]
    samples = describe_samples(usable, values, covariates)
    home = assign_shards(usable, shards, shard_by)
    samples["shard"] = samples["donor"].map(home)
    cells["shard"] = cells["donor"].astype(object).map(home).where(cells["reason"] == "", "")
    notes = described.notes + describe_labels(usable, values, covariates, set(columns))
    species = find_species(genes["gene_id"], genes["symbol"]) if species == "auto" else species
    return Cohort(sources, genes, cells, values, samples, species, captures, notes)


def describe_labels(
    cells: pd.DataFrame, values: pd.DataFrame, covariates: list[dict], used: set[str]
) -> list[Note]:
    """What to warn of in labels: levels that are written alike, and samples that mix conditions."""
    notes = []
    categories = {
        covariate["name"]: values[covariate["column"]]
        for covariate in covariates
        if covariate["type"] == "categorical"
    }
    for name, column in {"cell_type": cells["cell_type"], "donor": cells["donor"], **categories}.items():
        for group in find_alike(column.cat.remove_unused_categories()):
            what = f"{name} is written in {len(group)} ways that count apart: {join_names(map(repr, group))}"
            notes.append(Note("levels_alike", what, len(group), "load"))
    for column, (samples, levels) in find_mixed(cells, values, used).items():
        shown = join_names(levels[:5])
        what = f"{samples} samples hold cells of several levels of {column} ({shown}), which are summed"
        notes.append(Note("samples_mix_levels", what, samples, "load.sample"))
    return notes


def load(files: list[str], out, *, covariates: list[dict], block_values: int, **settings) -> dict:
    """Write the paths of `out` (shards, cells, samples, genes, cohort); returns the content of the last.

    settings: config section `load`, see `describe_cohort`.
    """
    cohort = describe_cohort(files, covariates=covariates, block_values=block_values, **settings)
    cells, samples = cohort.cells, cohort.samples
    cells[ROLES] = cells[ROLES].astype(object).fillna("").astype("category")
    obs = describe_shards(cells, samples, covariates)
    number = cells["shard"].replace("", "-1").to_numpy(dtype=int)
    rounded = settings["round"]
    made = write_shards(
        out.shards, cohort.sources, cohort.genes, obs, number, block_values=block_values, rounded=rounded
    )
    genes = cohort.genes.assign(counts=made["gene_counts"], cells=made["gene_cells"])
    cells[["cell", *ROLES, "shard", "reason"]].to_parquet(out.cells, index=False)
    samples.to_parquet(out.samples, index=False)
    genes.to_parquet(out.genes, index=False)
    unusable = cells["reason"].value_counts().drop("", errors="ignore").sort_index().to_dict()
    facts = {
        "files": describe_files(cohort.sources, genes),
        "cells": {"input": len(cells), "usable": len(cohort.usable), "unusable": unusable},
        "counts": {"input": made["input_counts"], "usable": int(genes["counts"].sum())},
        "genes": {"kept": len(genes), "with_shared_symbol": int(genes["duplicated_symbol"].sum())},
        "species": cohort.species,
        "donors": samples["donor"].nunique(),
        "samples": len(samples),
        "values_per_shard": made["values"],
        "empty_droplets": cohort.captures,
        "not_parsed": find_odd_values(cohort.values, covariates),
    }
    if made["rounded"]:
        what = f"{made['rounded']:,} values with a fraction are rounded to whole counts"
        cohort.notes.append(Note("counts_rounded", what, made["rounded"], "load.round"))
    for note in cohort.notes:
        warn(note.code, note.message, count=note.number, setting=note.setting)
    Path(out.cohort).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return facts


def list_facts(facts: dict) -> list[str]:
    """What the log says of genes, files, captures and values: a line each."""
    lines = [f"{facts['genes']['with_shared_symbol']} genes share their symbol with another"]
    lines.append(f"patterns of gene symbols are those of {facts['species']}")
    for file in facts["files"]:
        others = ", ".join(file["other_whole_numbers"])
        also = f" ({others})" * bool(others)
        left = f", {file['genes_not_shared']:,} genes left out" * bool(file["genes_not_shared"])
        lines.append(f"{file['name']}: counts from {file['counts_from']}{also}{left}")
    for capture in facts["empty_droplets"]:
        at = [
            f"{capture[f'barcodes_at_{point}']:,} at the {point} ({capture[point]:,} counts) or above"
            for point in ("knee", "inflection")
        ]
        where = f"{capture['file']}, sample {capture['sample']}"
        lines.append(f"{where}: {capture['barcodes']:,} barcodes, {', '.join(at)}")
    for name, odd in facts["not_parsed"].items():
        if odd:
            like = ", ".join(list(odd)[:5])
            lines.append(f"{name} is missing in {sum(odd.values()):,} cells where it is {like}")
    return lines


def summarise(facts: dict) -> str:
    """Cells, genes, counts, samples and donors in one line, with the reasons why cells are unusable."""
    cells, genes = facts["cells"], facts["genes"]
    lost = "; ".join(f"{reason} {n:,}" for reason, n in cells["unusable"].items())
    return (
        f"{cells['input']:,} cells x {genes['kept']:,} genes, {facts['counts']['input']:,} counts, "
        f"{facts['samples']:,} samples of {facts['donors']:,} donors; "
        f"{cells['input'] - cells['usable']:,} unusable" + f" ({lost})" * bool(lost)
    )


def warn_of(facts: dict, counts: str) -> None:
    """Warn of genes, values and counts that the files hold and nobody uses. counts: config load.counts."""
    for file in facts["files"]:
        name, lost, others = file["name"], file["genes_not_shared"], ", ".join(file["other_whole_numbers"])
        if lost:
            what = f"{name}: {lost:,} of {file['genes']:,} genes are not in every file of the cohort"
            warn("genes_not_shared", f"{what}, they are left out", count=lost)
        if left_out := file["features_left_out"]:
            what = ", ".join(f"{number:,} {kind}" for kind, number in left_out.items())
            warn("features_left_out", f"{name}: {what}", count=sum(left_out.values()))
        if others and counts == "auto":
            what = f"{name}: counts are taken from {file['counts_from']}"
            warn("other_counts", f"{what}; {others}", setting="load.counts")
    for name, odd in facts["not_parsed"].items():
        if odd:
            like = ", ".join(
                f"{value} ({cells:,} cells)" for value, cells in list(odd.items())[:VALUES_NAMED]
            )
            more = f" and {len(odd) - VALUES_NAMED} more values" * (len(odd) > VALUES_NAMED)
            bounds = " (bounds and ranges are not numbers, and not missing at random)" * any(
                map(is_censored, odd)
            )
            what = f"{name} is missing where its value is {like}{more}{bounds}"
            warn("values_not_parsed", what, count=sum(odd.values()), setting="load.covariates")


if __name__ == "__main__":
    with job(snakemake) as out:
        settings = {**snakemake.params}
        for table in ("sample_table", "cell_table"):  # where the rule finds it
            settings[table] = snakemake.input[table] if settings[table] else None
        facts = load(snakemake.input.cohort, out, block_values=BLOCK_VALUES, **settings)
        warn_of(facts, snakemake.params.counts)
        print(*list_facts(facts), sep="\n")
        conclude(summarise(facts))
