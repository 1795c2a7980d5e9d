# The variants of the config, and what of their results is compared. Included by sweep.smk.
from workflow.checks import variant_config
from workflow.variants import describe_variant

VARIANTS = {variant["name"]: variant["set"] for variant in config["sweep"]}


def compared_tables():
    """(variant, kind, key) -> path of what stability reads; variant "" is the run itself.

    A variant is compared in the contrasts, resolutions and target that it shares with the run.
    """
    tables = {}
    for name in ("", *VARIANTS):
        folder = f"<results>/sweep/{name}" if name else "<results>"
        settings = variant_config(config, VARIANTS[name]) if name else config
        tables[name, "cells", ""] = f"{folder}/cells/cells.parquet"
        for contrast in CONTRASTS:
            if contrast in [other["name"] for other in settings["contrasts"]]:
                tables[name, "effects", contrast] = f"{folder}/synthesis/{contrast}/effects.parquet"
        for value in settings["cluster"]["resolution"]:
            if value in config["cluster"]["resolution"]:
                tables[name, "clusters", f"{value:g}"] = f"{folder}/cluster/resolution_{value}.parquet"
        if config["ridge"]["target"] and settings["ridge"]["target"] == config["ridge"]["target"]:
            tables[name, "prediction", ""] = f"{folder}/ridge/summary.tsv"
    return tables
