# The variants of the config: checked, merged, and what of their results is compared. Included by sweep.smk.
from copy import deepcopy

from snakemake.utils import update_config

VARIANTS = {variant["name"]: variant["set"] for variant in config["sweep"]}


def variant_config(name):
    """The config of a variant: that of the run with the variant's keys."""
    settings = deepcopy(config)
    update_config(settings, deepcopy(VARIANTS[name]))
    return settings


def check_variants():
    """Each variant has a name of its own, keys that the schema knows, and changes something."""
    names = [variant["name"] for variant in config["sweep"]]
    for name in names:
        key = f"sweep.{name}"
        refuse(names.count(name) > 1, f"sweep: {name!r} is there more than once; rename one")
        for section in ("sweep", "stability", "pathvars"):
            refuse(
                section in VARIANTS[name],
                f"{key}.set: {section} is of the sweep, not of a variant; remove it",
            )
        settings = variant_config(name)
        check_schema(settings, f"{key}.set.")
        refuse(
            settings == config, f"{key}.set: changes nothing; give a key another value or remove the variant"
        )


check_variants()


def changes(overlay, path=""):
    """An overlay in words: `qc.max_pct_mt: 10; preprocess.n_top_genes: 200`."""
    parts = [
        changes(value, f"{path}{key}.") if isinstance(value, dict) else f"{path}{key}: {json.dumps(value)}"
        for key, value in overlay.items()
    ]
    return "; ".join(parts)


def about(name):
    """What the table of stability says about a variant."""
    other = [section for section in ("simulate", "cohort") if section in VARIANTS[name]]
    note = f"another cohort ({', '.join(other)}): cells and genes are matched by name" if other else ""
    return {"changes": changes(VARIANTS[name]), "note": note}


def compared_tables():
    """(variant, kind, key) -> path of what stability reads; variant "" is the run itself.

    A variant is compared in the contrasts, resolutions and target that it shares with the run.
    """
    tables = {}
    for name in ("", *VARIANTS):
        folder = f"<results>/sweep/{name}" if name else "<results>"
        settings = variant_config(name) if name else config
        tables[name, "cells", ""] = f"{folder}/cells/cells.parquet"
        for contrast in CONTRASTS:
            if contrast in [each["name"] for each in settings["contrasts"]]:
                tables[name, "effects", contrast] = f"{folder}/synthesis/{contrast}/effects.parquet"
        for value in settings["cluster"]["resolution"]:
            if value in config["cluster"]["resolution"]:
                tables[name, "clusters", f"{value:g}"] = f"{folder}/cluster/resolution_{value}.parquet"
        if config["ridge"]["target"] and settings["ridge"]["target"] == config["ridge"]["target"]:
            tables[name, "prediction", ""] = f"{folder}/ridge/summary.tsv"
    return tables
