"""The config of a run: the defaults, the demo's settings where no cohort is set, and the user's overlays."""

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path

import yaml

DEFAULTS = "config/config.yaml"
DEMO = "config/demo.yaml"


def is_demo(config: dict) -> bool:
    """Whether no cohort is set, so that the embedded demo is analysed."""
    cohort = config.get("cohort")
    return isinstance(cohort, dict) and not (cohort.get("path") or cohort.get("url"))


def complete_config(folder: Path, overlays: Iterable[dict]) -> dict:
    """The config as Snakemake puts it together in rules/common.smk.

    folder: of the project. overlays: the contents of the files of `--configfile`, in order.
    """
    from snakemake.utils import update_config

    config = read_settings(folder / DEFAULTS)
    own: dict = {}
    for overlay in overlays:
        update_config(own, deepcopy(overlay))
    update_config(config, deepcopy(own))
    if is_demo(config):
        update_config(config, read_settings(folder / DEMO))
        update_config(config, own)
    return config


def read_settings(path: Path) -> dict:
    """The content of a config file of the project."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))
