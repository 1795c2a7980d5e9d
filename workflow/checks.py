"""The checks of a config before any job: a line per problem names the key, the value and what to set.

Neither counts nor labels are read, only names, and whether files exist. `find_problems` lists all problems of
a config at once: what does not fit the schema, and what is wrong in the sections that do fit.
"""

import difflib
import os
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path

from cohort import list_files
from donors import is_curve, parse, variables_of
from job import CODES, InputError
from workflow.defaults import DEMO as DEMO_OVERLAY
from workflow.defaults import is_demo

# As in scripts/files/_columns.py, which takes too long to import here; a test holds them together.
OF_SAMPLES = {"donor", "pool", "log_cells", "log_depth", "pct_counts_mt"}  # made by load and pseudobulk
TAKEN = OF_SAMPLES | {"sample", "pools", "shard", "kept", "step", "reason", "used", "cell", "cells", "counts"}
TAKEN |= {"cell_type", "id", "label", "gene_id", "symbol"}
TEXT = ("donor", "pool")  # columns of samples that are categories
SWEPT = ("sweep", "stability", "pathvars")  # sections that a variant cannot set
DEMO = "<results>/simulate/"  # where the demo's files are


def find_problems(config: dict, schema: dict) -> list[str]:
    """All problems of a config, each in one line; empty when it can be run.

    config: complete, with the defaults; schema: of workflow/schemas/config.yaml. Relative paths in the config
    are those of the working directory.
    """
    problems = find_problems_of_run(config, schema)
    if "sweep" in fitting_sections(config, schema):
        problems += check_sweep(config, schema, problems)
    return problems


def find_problems_of_run(config: dict, schema: dict) -> list[str]:
    """The same without the variants of the sweep."""
    problems, fitting = list(check_schema(config, schema)), fitting_sections(config, schema)
    for check, sections in CHECKS.items():
        if fitting.issuperset(sections):
            problems += check(config)
    return problems


def check_schema(config: dict, schema: dict) -> Iterator[str]:
    """Keys that the closed schema does not know, and values that it refuses."""
    for path, message in _schema_errors(config, schema):
        yield f"{'.'.join(path) or 'config'}: {message}; see config/README.md"


def fitting_sections(config: dict, schema: dict) -> set[str]:
    """Sections of the config that the schema accepts; the other checks read no others."""
    refused = {path[0] for path, _ in _schema_errors(config, schema) if path}
    return schema["properties"].keys() & config.keys() - refused


def _schema_errors(config: dict, schema: dict) -> list[tuple[list[str], str]]:
    """Path of keys and message of each value that the schema refuses."""
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(schema).iter_errors(config)
    return sorted(([str(key) for key in error.absolute_path], error.message) for error in errors)


def check_cohort(config: dict) -> Iterator[str]:
    """The cohort is one thing, verified or there; gene sets are files, or the demo's."""
    path, url, sha256, size = (config["cohort"][key] for key in ("path", "url", "sha256", "size"))
    if path and url:
        yield "cohort.path and cohort.url are both set; set one of them to null"
    if url and not (sha256 or size):
        yield "cohort.url: a download is verified; set cohort.sha256 or cohort.size"
    if path and not Path(path).exists():
        yield f"cohort.path: {path} does not exist"
    elif path and not os.access(path, os.R_OK):
        yield f"cohort.path: {path} cannot be read; check its permissions"
    elif path:
        try:
            list_files(Path(path))
        except InputError as error:
            yield str(error)
    for file in config["gene_sets"]:
        if file.startswith(DEMO):
            if path or url:
                yield f"gene_sets: {file} belongs to the demo cohort; name GMT files or set it to []"
        elif not Path(file).is_file():
            yield f"gene_sets: {file} does not exist"


def check_demo(config: dict) -> Iterator[str]:
    """The demo is analysed with its own settings: the neutral ones would make all its cells one donor."""
    if is_demo(config) and config["load"]["donor"] is None:
        yield f"cohort.path: no cohort is set; set it, or add {DEMO_OVERLAY} before your config for the demo"


def check_tables(config: dict) -> Iterator[str]:
    """The tables beside the data are there."""
    for key in ("sample_table", "cell_table"):
        table = config["load"][key]
        if table and not os.access(table, os.R_OK):
            yield f"load.{key}: {table} does not exist or cannot be read; correct it or set it to null"


def check_pool(config: dict) -> Iterator[str]:
    """What goes by pools has them."""
    users = {
        "doublets.by": config["doublets"]["by"],
        "load.shard_by": config["load"]["shard_by"],
        "preprocess.batch": config["preprocess"]["batch"],
        "dimred.harmonize": config["dimred"]["harmonize"],
    }
    for key, value in users.items():
        if value == "pool" and not config["load"]["pool"]:
            yield f"{key}: pool needs a column of pools; set load.pool or choose another {key}"
    if config["doublets"]["by"] == "pool" and config["load"]["shard_by"] != "pool":
        yield "doublets.by: pool needs whole pools in each shard; set load.shard_by: pool"


def covariate_types(config: dict) -> dict[str, str]:
    """Type of each covariate by its name."""
    return {covariate["name"]: covariate["type"] for covariate in config["load"]["covariates"]}


def check_covariates(config: dict) -> Iterator[str]:
    """Each covariate has a name of its own."""
    names = [covariate["name"] for covariate in config["load"]["covariates"]]
    for name in _repeated(names):
        yield f"load.covariates: {name!r} is there more than once; rename one"
    for name in dict.fromkeys(names):
        if name in TAKEN:
            yield f"load.covariates: the name {name!r} is taken; choose another"


def check_strata(config: dict) -> Iterator[str]:
    """Attrition is counted within columns that cells have."""
    strata = {"cell_type", "donor", "sample", "pool"} | covariate_types(config).keys()
    for stratum in config["cells"]["strata"]:
        if stratum["column"] not in strata:
            known = ", ".join(sorted(strata))
            yield f"cells.strata: {stratum['column']!r} is not a column; use one of {known}"


def check_contrasts(config: dict) -> Iterator[str]:
    """Each contrast has a name of its own and fits the covariates."""
    for name in _repeated(contrast["name"] for contrast in config["contrasts"]):
        yield f"contrasts: {name!r} is there more than once; rename one"
    covariates = covariate_types(config)
    for contrast in config["contrasts"]:
        yield from check_contrast(contrast, covariates)


def check_contrast(contrast: dict, covariates: dict[str, str]) -> Iterator[str]:
    """A contrast has formulas of known columns, and a unit or levels as its tested term needs."""
    key, test = f"contrasts.{contrast['name']}", contrast["test"]
    known = sorted(OF_SAMPLES | covariates.keys())
    trees = {}
    for part in ("design", "test"):
        try:
            trees[part] = parse(contrast[part], f"{key}.{part}")
        except InputError as error:
            yield str(error)
    if len(trees) < 2:
        return
    (variables, _), (tested, _) = variables_of(trees["design"]), variables_of(trees["test"])
    for variable in variables:
        if variable not in known:
            yield (
                f"{key}.design: {variable!r} is not a column of a sample; add it to load.covariates "
                f"or use one of {', '.join(known)}"
            )
    if not set(tested) <= set(variables):
        yield f"{key}.test: {test!r} is not in the design {contrast['design']!r}"
    categories = [name for name in tested if name in TEXT or covariates.get(name) == "categorical"]
    yield from _check_unit(
        key, test, contrast.get("unit"), set(tested) - set(categories), is_curve(trees["test"])
    )
    yield from _check_levels(key, test, contrast.get("level"), contrast.get("reference"), categories)
    yield from _check_donors(key, contrast, variables)
    for variable in contrast.get("references") or {}:
        if variable not in variables:
            yield f"{key}.references: {variable!r} is not in the design {contrast['design']!r}"
    for column in contrast.get("subset") or {}:
        if column not in known:
            yield f"{key}.subset: {column!r} is not a column of a sample; use one of {', '.join(known)}"


def _check_unit(key: str, test: str, unit: float | None, numeric: set[str], curve: bool) -> Iterator[str]:
    """A number has a unit, a category and a curve have none."""
    if curve and unit is not None:
        yield f"{key}.unit: {test} is a curve, tested as a whole; remove unit"
    if numeric and unit is None and not curve:
        yield f"{key}.unit: {sorted(numeric)} is a number; say per how many, like unit: 1"
    if not numeric and unit is not None:
        yield f"{key}.unit: {test} is a category; remove unit"


def _check_levels(key: str, test: str, level, reference, categories: list[str]) -> Iterator[str]:
    """Level and reference go together, with a category."""
    if (level or reference) and not categories:
        yield f"{key}: {test} has no category; remove level and reference"
    if len(categories) == 1 and bool(level) != bool(reference):
        yield (
            f"{key}: {categories} is a category; set level and reference, the two levels compared, "
            "or neither to test all levels together"
        )


def _check_donors(key: str, contrast: dict, variables: list[str]) -> Iterator[str]:
    """One way to deal with several samples of a donor: in the design, as a block, or summed."""
    ways = [way for way in ("block", "aggregate") if contrast.get(way)]
    if len(ways) > 1:
        yield f"{key}: block and aggregate are both set; remove one of them"
    for way in ways:
        if "donor" in variables:
            yield f"{key}.{way}: donor is in the design {contrast['design']!r} already; remove one"


def check_ridge(config: dict) -> Iterator[str]:
    """The target is a number, or a category with two levels; each baseline has a name and columns of its own.

    The target is not one of the columns.
    """
    target, baselines = config["ridge"]["target"], config["ridge"]["baselines"]
    level, reference = config["ridge"]["level"], config["ridge"]["reference"]
    if not target:
        return
    covariates = covariate_types(config)
    if target not in covariates:
        yield f"ridge.target: {target!r} is not a covariate; name one of load.covariates or set it to null"
    elif covariates[target] in ("numeric", "stage"):
        if level is not None or reference is not None:
            yield f"ridge.level, ridge.reference: {target!r} is a number; set both to null"
    elif level is None or reference is None:
        yield (
            f"ridge.target: {target!r} is a category; set ridge.level and ridge.reference, the two levels "
            "compared, or ridge.target to a number or null"
        )
    elif level == reference:
        yield f"ridge.reference: {reference!r} is the level itself; name another level"
    for name in _repeated(["mean", "expression", *(baseline["name"] for baseline in baselines)]):
        yield f"ridge.baselines: the name {name!r} is taken; choose another"
    known = sorted(((OF_SAMPLES - {"donor"}) | covariates.keys() | {"composition"}) - {target})
    for baseline in baselines:
        for column in baseline["columns"]:
            if column not in known:
                yield (
                    f"ridge.baselines.{baseline['name']}: {column!r} is not a column that it can use; "
                    f"use {', '.join(known)}"
                )


def check_species(config: dict) -> Iterator[str]:
    """Both sections have patterns for a species that is named."""
    species = config["load"]["species"]
    for key in ("qc.patterns", "preprocess.exclude"):
        section, _, name = key.partition(".")
        known = ["auto", *config[section][name]]
        if species not in known:
            others = ", ".join(known)
            yield f"load.species: {species!r} has no patterns in {key}; add them there or use {others}"


def check_doublets(config: dict) -> Iterator[str]:
    """An expected rate that is a word is `auto` or a numeric covariate."""
    rate, covariates = config["doublets"]["expected_doublet_rate"], config["load"]["covariates"]
    known = ["auto", *(covariate["name"] for covariate in covariates if covariate["type"] == "numeric")]
    if isinstance(rate, str) and rate not in known:
        yield (
            f"doublets.expected_doublet_rate: {rate!r} is not a share, auto, or a numeric covariate; "
            f"use one of {', '.join(known)} or a number"
        )


def check_warnings(config: dict) -> Iterator[str]:
    """Every code is one that a step may warn of, and is either accepted or an error."""
    accept, error = config["warnings"]["accept"], config["warnings"]["error"]
    for key, codes in {"warnings.accept": accept, "warnings.error": error}.items():
        for code in codes:
            if code not in CODES:
                near = difflib.get_close_matches(code, CODES, n=1) or ["one of docs/warnings.md"]
                yield f"{key}: {code!r} is not a warning code; use {near[0]}"
    for code in accept:
        if code in error:
            yield f"warnings: {code!r} is in accept and in error; remove it from one of them"


def check_sweep(config: dict, schema: dict, of_run: list[str]) -> Iterator[str]:
    """Each variant has a name of its own, changes something, and makes a config without problems.

    of_run: problems of the run's own config, which are not repeated for each variant.
    """
    variants = config["sweep"]
    for name in _repeated(variant["name"] for variant in variants):
        yield f"sweep: {name!r} is there more than once; rename one"
    for variant in variants:
        key = f"sweep.{variant['name']}.set"
        outside = [section for section in SWEPT if section in variant["set"]]
        for section in outside:
            yield f"{key}: a variant cannot set {section}; remove it"
        if outside:
            continue
        settings = variant_config(config, variant["set"])
        if settings == config:
            yield f"{key}: changes nothing; give a key another value or remove the variant"
        for problem in find_problems_of_run(settings, schema):
            if problem not in of_run:
                yield f"{key}.{problem}"


def variant_config(config: dict, overlay: dict) -> dict:
    """The config of a variant: that of the run with the variant's keys."""
    from snakemake.utils import update_config

    settings = deepcopy(config)
    update_config(settings, deepcopy(overlay))
    return settings


def _repeated(names: Iterable[str]) -> list[str]:
    """Names that occur more than once, in order."""
    names = list(names)
    return list(dict.fromkeys(name for name in names if names.count(name) > 1))


CHECKS = {  # the sections that each reads
    check_covariates: ["load"],
    check_strata: ["load", "cells"],
    check_ridge: ["load", "ridge"],
    check_cohort: ["cohort", "gene_sets"],
    check_demo: ["cohort", "load"],
    check_tables: ["load"],
    check_pool: ["load", "doublets", "preprocess", "dimred"],
    check_species: ["load", "qc", "preprocess"],
    check_doublets: ["load", "doublets"],
    check_warnings: ["warnings"],
    check_contrasts: ["load", "contrasts"],
}
