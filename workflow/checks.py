"""The checks of a config before any job: a line per problem names the key, the value and what to set.

Neither counts nor labels are read, only names, and whether files are there. `find_problems` lists all
problems of a config at once; where keys do not fit the schema, those alone.
"""

import difflib
import os
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path

from donors import is_curve, parse, variables_of
from job import CODES, InputError

# As in scripts/files/_columns.py, which takes too long to import here; a test holds them together.
OF_SAMPLES = {"donor", "pool", "log_cells", "log_depth", "pct_counts_mt"}  # made by load and pseudobulk
TAKEN = OF_SAMPLES | {"sample", "pools", "shard", "kept", "step", "reason", "used", "cell", "cells", "counts"}
TAKEN |= {"cell_type", "id", "label", "gene_id", "symbol"}
TEXT = ("donor", "pool")  # columns of samples that are categories
SWEPT = ("sweep", "stability", "pathvars")  # sections that a variant cannot set
DEMO = "<results>/simulate/"  # where the demo's files are


def find_problems(config: dict, schema: dict) -> list[str]:
    """All problems of a config, each in one line; empty when it can be run.

    config: complete, with the defaults; schema: of workflow/schemas/config.yaml.
    """
    if problems := list(check_schema(config, schema)):
        return problems
    covariates = {covariate["name"]: covariate["type"] for covariate in config["load"]["covariates"]}
    problems = [
        *check_names(config, covariates),
        *check_cohort(config),
        *check_pool(config),
        *check_warnings(**config["warnings"]),
        *check_sweep(config, schema),
    ]
    for contrast in config["contrasts"]:
        problems += check_contrast(contrast, covariates)
    if config["ridge"]["target"]:
        problems += check_baselines(config["ridge"]["target"], config["ridge"]["baselines"], covariates)
    return problems


def check_schema(config: dict, schema: dict, prefix: str = "") -> Iterator[str]:
    """Keys that the closed schema does not know, and values that it refuses."""
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(schema).iter_errors(config)
    for error in sorted(errors, key=lambda error: [str(key) for key in error.absolute_path]):
        key = ".".join(str(key) for key in error.absolute_path) or "config"
        yield f"{prefix}{key}: {error.message}; see config/README.md"


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
    for file in config["gene_sets"]:
        if file.startswith(DEMO):
            if path or url:
                yield f"gene_sets: {file} belongs to the demo cohort; name GMT files or set it to []"
        elif not Path(file).is_file():
            yield f"gene_sets: {file} does not exist"


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


def check_names(config: dict, covariates: dict[str, str]) -> Iterator[str]:
    """Covariates, contrasts, strata and the target name what exists, once."""
    listed = {
        "load.covariates": [covariate["name"] for covariate in config["load"]["covariates"]],
        "contrasts": [contrast["name"] for contrast in config["contrasts"]],
    }
    for key, names in listed.items():
        for name in _repeated(names):
            yield f"{key}: {name!r} is there more than once; rename one"
    for name in covariates:
        if name in TAKEN:
            yield f"load.covariates: the name {name!r} is taken; choose another"
    strata = {"cell_type", "donor", "sample", "pool"} | covariates.keys()
    for stratum in config["cells"]["strata"]:
        if stratum["column"] not in strata:
            known = ", ".join(sorted(strata))
            yield f"cells.strata: {stratum['column']!r} is not a column; use one of {known}"
    target = config["ridge"]["target"]
    if target and covariates.get(target) not in ("numeric", "stage"):
        yield (
            f"ridge.target: {target!r} is not a numeric covariate; name one of load.covariates "
            "or set it to null"
        )


def check_contrast(contrast: dict, covariates: dict[str, str]) -> Iterator[str]:
    """A contrast has formulas of known columns, and a unit or levels as its tested term needs."""
    key, test = f"contrasts.{contrast['name']}", contrast["test"]
    known = sorted(OF_SAMPLES | covariates.keys())
    try:
        variables, _ = variables_of(parse(contrast["design"], f"{key}.design"))
        tree = parse(test, f"{key}.test")
    except InputError as error:
        yield str(error)
        return
    tested, _ = variables_of(tree)
    for variable in variables:
        if variable not in known:
            yield (
                f"{key}.design: {variable!r} is not a column of a sample; add it to load.covariates "
                f"or use one of {', '.join(known)}"
            )
    if not set(tested) <= set(variables):
        yield f"{key}.test: {test!r} is not in the design {contrast['design']!r}"
    categories = [name for name in tested if name in TEXT or covariates.get(name) == "categorical"]
    yield from _check_unit(key, test, contrast.get("unit"), set(tested) - set(categories), is_curve(tree))
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


def check_baselines(target: str, baselines: list[dict], covariates: dict[str, str]) -> Iterator[str]:
    """Each baseline of ridge has a name of its own and columns that a sample has, not the target."""
    names = ["mean", "expression", *(baseline["name"] for baseline in baselines)]
    known = sorted(((OF_SAMPLES - {"donor"}) | covariates.keys() | {"composition"}) - {target})
    for name in _repeated(names):
        yield f"ridge.baselines: the name {name!r} is taken; choose another"
    for baseline in baselines:
        for column in baseline["columns"]:
            if column not in known:
                yield (
                    f"ridge.baselines.{baseline['name']}: {column!r} is not a column that it can use; "
                    f"use {', '.join(known)}"
                )


def check_warnings(accept: list[str], error: list[str]) -> Iterator[str]:
    """Every code is one that a step may warn of, and is either accepted or an error."""
    for key, codes in {"warnings.accept": accept, "warnings.error": error}.items():
        for code in codes:
            if code not in CODES:
                near = difflib.get_close_matches(code, CODES, n=1) or ["one of docs/warnings.md"]
                yield f"{key}: {code!r} is not a warning code; use {near[0]}"
    for code in accept:
        if code in error:
            yield f"warnings: {code!r} is in accept and in error; remove it from one of them"


def check_sweep(config: dict, schema: dict) -> Iterator[str]:
    """Each variant has a name of its own, keys that the schema knows, and changes something."""
    variants = config["sweep"]
    for name in _repeated(variant["name"] for variant in variants):
        yield f"sweep: {name!r} is there more than once; rename one"
    for variant in variants:
        key = f"sweep.{variant['name']}.set"
        outside = [section for section in SWEPT if section in variant["set"]]
        for section in outside:
            yield f"{key}: {section} is of the sweep, not of a variant; remove it"
        if outside:
            continue
        settings = variant_config(config, variant["set"])
        yield from check_schema(settings, schema, f"{key}.")
        if settings == config:
            yield f"{key}: changes nothing; give a key another value or remove the variant"


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
