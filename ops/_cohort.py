"""The doctor's checks of the cohort: labels, genes and the place of the counts, and what a run will warn of.

Warnings are predicted by the functions of the steps, so code and words are those of the run. PREDICTED are
the codes that need no counts; where a step sees cells that passed qc, the run may warn of more.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import _root  # noqa: F401 makes the parts in scripts/ importable
from _finding import Finding, Options
from cohort import list_files
from cohort.filter import choose, count_cells, summarise
from cohort.load import Cohort, describe_cohort, describe_files, find_odd_values
from cohort.load import warn_of as warn_of_files
from job import CODES, CorruptedInput, InputError, classify, collect_warnings, warn

PREDICTED = (
    *("genes_not_shared", "values_not_parsed", "other_counts", "features_left_out", "donors_of_two_datasets"),
    *("cell_names_changed", "table_rows_unmatched", "cells_without_table_row", "levels_alike"),
    *("samples_mix_levels", "pattern_matches_nothing", "doublets_not_scored", "exclude_matches_nothing"),
    "batch_has_one_level",
)
LEAST_OVERLAP = 0.5  # share of the genes of gene sets that a cohort is expected to have


def check_cohort(options: Options) -> Iterator[Finding]:
    """Labels, genes and the place of the counts fit the settings of `load`; counts are not read in full."""
    found = read_cohort(options)
    yield found if isinstance(found, Finding) else describe(found)


def check_run(options: Options) -> Iterator[Finding]:
    """The same, and what a run will keep, refuse and warn of."""
    found = read_cohort(options)
    yield found if isinstance(found, Finding) else describe(found)
    if not isinstance(found, Finding):
        yield from predict_findings(found, options)


def read_cohort(options: Options) -> Cohort | Finding:
    """The cohort without its counts, or why there is none."""
    settings, path = options.config["load"], options.config["cohort"]["path"]
    if not path:
        source = "is downloaded first" if options.config["cohort"]["url"] else "the demo is simulated"
        return Finding("cohort", "ok", f"not checked: {source}")
    try:
        with contextlib.chdir(options.folder):
            return describe_cohort([str(file) for file in list_files(Path(path))], **settings)
    except CorruptedInput as error:
        return Finding("cohort", "FAULT", str(error), "get the file again and compare its size or sha256")
    except InputError as error:
        return Finding("cohort", "FAULT", str(error), "correct the setting that is named")
    except (OSError, KeyError, ValueError) as error:
        failure = classify(error)
        what = f"{path}: {failure.category}: {failure.evidence}"
        return Finding("cohort", "FAULT", what, "is the file whole?")


def describe(found: Cohort) -> Finding:
    """The size of a cohort that fits, and why cells cannot be used."""
    reasons = found.cells["reason"].value_counts().drop("", errors="ignore").sort_index()
    lost = ", ".join(f"{reason} {cells:,}" for reason, cells in reasons.items())
    what = (
        f"{len(found.usable):,} of {len(found.cells):,} cells usable" + f" ({lost})" * bool(lost) + f", "
        f"{len(found.genes):,} genes, {len(found.samples):,} samples; counts from {found.sources[0].place}"
    )
    return Finding("cohort", "ok", what)


def predict_findings(found: Cohort, options: Options) -> Iterator[Finding]:
    """What filter keeps, the doublet rate, gene sets, and the warnings of a run."""
    for check in (check_filter, check_doublet_rate, check_gene_sets):
        try:
            with contextlib.chdir(options.folder):
                yield from check(found, options.config)
        except InputError as error:
            yield Finding("predicted", "FAULT", str(error), "correct the setting that is named")
    settings = options.config["warnings"]
    for row in predict_warnings(found, options.config):
        level = "FAULT" if row["code"] in settings["error"] else "warning"
        level = "ok" if row["code"] in settings["accept"] else level
        remedy = f"see {row['setting'] or 'docs/warnings.md'}" if level != "ok" else ""
        yield Finding("predicted", level, f"{row['code']}: {row['message']}", remedy)


def predict_warnings(found: Cohort, config: dict) -> list[dict]:
    """Code, message, number and setting of what a run will warn of, as far as labels and genes tell."""
    from cells.qc import match_groups, warn_of_patterns
    from embedding.preprocess import match_nuisance
    from embedding.preprocess import warn_of as warn_of_exclude

    symbols, species = found.genes["symbol"], found.species
    with collect_warnings() as rows, contextlib.redirect_stdout(io.StringIO()):
        warn_of_labels(found, config["load"])
        warn_of_patterns(match_groups(symbols, config["qc"]["patterns"], species), species)
        exclude = config["preprocess"]["exclude"]
        warn_of_exclude(match_nuisance(symbols, exclude, species), exclude, species)
        warn_of_small_groups(found, config["doublets"])
        warn_of_one_batch(found, config["dimred"]["harmonize"])
    return [row for code in CODES for row in rows if row["code"] == code]


def warn_of_labels(found: Cohort, load: dict) -> None:
    """Warn of what load finds in labels, genes and files."""
    for note in found.notes:
        warn(note.code, note.message, count=note.number, setting=note.setting)
    files = describe_files(found.sources, found.genes)
    odd = find_odd_values(found.values, load["covariates"])
    warn_of_files({"files": files, "not_parsed": odd}, load["counts"])


def warn_of_small_groups(found: Cohort, doublets: dict) -> None:
    """Warn of donors or pools with too few usable cells to be scored for doublets, before qc drops any."""
    from cells.doublets import warn_of

    groups = found.usable[doublets["by"]].astype(object).fillna("").value_counts().sort_index()
    small = pd.DataFrame({"group": groups.index, "cells": groups.to_numpy(), "status": "not_run"})
    small["reason"] = "too_few_cells"
    small.loc[small["group"] == "", "reason"] = "no_pool"
    warn_of(small[(small["cells"] < doublets["min_cells"]) | (small["group"] == "")])


def warn_of_one_batch(found: Cohort, harmonize: str) -> None:
    """Warn of a batch with one level among the usable cells."""
    if harmonize in found.usable and len(set(found.usable[harmonize].astype(object).fillna(""))) == 1:
        from embedding.dimred import warn_of

        warn_of({"converged": None, "reason": "one_level"}, harmonize)


def check_filter(found: Cohort, config: dict) -> Iterator[Finding]:
    """How many samples and cell types have enough cells; given labels are those of the run."""
    reason, types = choose(count_cells(found.cells), **config["filter"])
    samples, kinds = summarise(reason == "", reason), summarise(types["reason"] == "", types["reason"])
    yield Finding("predicted", "ok", f"filter: samples {samples}, cell types {kinds}")


def check_doublet_rate(found: Cohort, config: dict) -> Iterator[Finding]:
    """The expected doublet rate of each group is one of a capture."""
    from cells.doublets import choose_rates

    settings = config["doublets"]
    names = ("expected_doublet_rate", "rate_per_1000_cells")
    covariates = found.samples.set_index("sample").drop(columns=["donor", "pool"])
    cells = found.usable[["sample", "donor", "pool"]].astype(object).fillna("")
    rates = choose_rates(
        cells.join(covariates, on="sample"), settings["by"], **{n: settings[n] for n in names}
    )
    yield Finding(
        "predicted", "ok", f"doublets: expected rate {min(rates.values()):.3g} to {max(rates.values()):.3g}"
    )


def check_gene_sets(found: Cohort, config: dict) -> Iterator[Finding]:
    """The cohort has most genes of the gene sets; few are a sign of another species or of ids as symbols."""
    from cohort._species import find_species
    from pathways._gene_sets import read_collections

    symbols = set(found.genes["symbol"])
    for collection in read_collections([path for path in config["gene_sets"] if Path(path).is_file()]):
        genes = pd.Series(
            sorted({gene for names in collection.sets.values() for gene in names}), dtype=object
        )
        share = genes.isin(symbols).mean()
        species = find_species(genes, genes)
        what = f"gene sets {collection.name}: {share:.0%} of {len(genes):,} genes are in the cohort"
        if share >= LEAST_OVERLAP:
            yield Finding("predicted", "ok", what)
        else:
            other = f"; their symbols look like {species}, the cohort is {found.species}" * (
                species != found.species
            )
            yield Finding("predicted", "warning", what + other, "see gene_sets and load.symbols")


def measure_cohort(options: Options) -> float:
    """Size of the cohort in MB: of the files, the download or the demo."""
    setting = options.config["cohort"]
    if setting["path"]:
        try:
            with contextlib.chdir(options.folder):
                files = list_files(Path(setting["path"]))
                return sum(file.stat().st_size for file in files if file.is_file()) / 2**20
        except InputError:  # said by the check of the cohort
            return 0.0
    if setting["url"]:
        return (setting["size"] or 0) / 2**20
    demo = options.config["simulate"]
    return demo["donors"] * demo["cells_per_donor"] * demo["genes"] / 1e6  # about a byte per cell and gene
