# What the other files here use: the checked config, input functions, digests of helpers, resources.
import csv
import functools
import json
import math
import os
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import urlsplit

import yaml


wildcard_constraints:
    shard=r"\d+",
    contrast=r"[a-z][a-z0-9_]*",
    part=r"\d+",
    resolution=r"[0-9.]+",
    alpha=r"[0-9.e+-]+",


def workflow_file(path):
    """Text of a file of this workflow, also when another workflow uses it as a module."""
    return Path(str(workflow.source_path(path))).read_text(encoding="utf-8")


def checkout():
    """The folder of this project; None where Snakemake reads it from a git host."""
    here = Path(workflow.current_basedir.get_path_or_uri(secret_free=True))
    return here.parent.resolve() if here.is_dir() else None


CHECKOUT = checkout()
MODULES = ("checks", "defaults", "digests", "provenance", "variants")
PROJECT = (
    CHECKOUT
    or [Path(str(workflow.source_path(f"../workflow/{name}.py"))) for name in MODULES][0].parent.parent
)
SCRIPTS = str(PROJECT / "scripts")
sys.path += [str(PROJECT), SCRIPTS]  # for this process: workflow/ and the parts; below, the parts for jobs
BESIDE = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ["", SCRIPTS]]
os.environ.update(PYTHONPATH=os.pathsep.join([SCRIPTS, *BESIDE]))

PYTHON = sys.executable if Path(sys.executable).exists() else shlex.split(sys.executable)[0]
sys.executable = shlex.quote(PYTHON)  # Snakemake gives it to a shell as it is, also with spaces in its path

from cohort import list_files
from workflow.defaults import DEMO, is_demo
from workflow.digests import Digests

digest = Digests(lambda path: workflow_file(f"../scripts/{path}")).digest
for step in ("donors/contrasts", "cohort/load"):
    digest(step)  # from a git host, this brings here what the checks import


if is_demo(config):

    configfile: DEMO


include: "checks.smk"


if is_demo(config) and workflow.is_main_process:
    print(f"no cohort is set (cohort.path, cohort.url): the demo of {DEMO} is analysed", file=sys.stderr)


SHARDS = [f"{shard:02d}" for shard in range(config["load"]["shards"])]
CONTRASTS = {contrast["name"]: contrast for contrast in config["contrasts"]}
RESOLUTIONS = [str(value) for value in config["cluster"]["resolution"]]
ALPHAS = [str(value) for value in config["ridge"]["alpha"]]


RESOURCES = yaml.safe_load(workflow_file("../workflow/resources.yaml"))


def requests(step, times=1):
    """Memory (MB), time limit (minutes) and number of the attempt of a step's job, which is told it nowhere else.

    Memory and time are a base and a share of the inputs, more with each attempt. times: how often a job does the
    step's work, one after the other.
    """
    model = RESOURCES[step]

    def mem_mb(wildcards, input, attempt):
        return int(attempt * (model["mem_mb"] + model["mem_mb_per_input_mb"] * input.size_mb))

    def runtime(wildcards, input, attempt):
        return int(attempt * times * (model["minutes"] + model["minutes_per_input_mb"] * input.size_mb))

    def number(wildcards, attempt):
        return attempt

    return {"mem_mb": mem_mb, "runtime": runtime, "attempt": number}


def settings(section, *keys):
    """Some keys of a config section, for a step that must not rerun when the others change."""
    return {key: config[section][key] for key in keys}


def downloaded_file(url):
    """Where fetch puts a download: the ending, which names the format, is that of the URL's path."""
    return f"<results>/fetch/cohort{Path(urlsplit(url).path).suffix}"


def cohort_files(wildcards):
    """Every file that the cohort consists of; the first names its format."""
    if config["cohort"]["url"]:
        return [downloaded_file(config["cohort"]["url"])]
    if not config["cohort"]["path"]:
        return ["<results>/simulate/cohort.h5ad"]
    return [str(file) for file in list_files(Path(config["cohort"]["path"]))]


def cohort_table(key):
    """A table beside the data, if the config names one: `sample_table` or `cell_table`."""
    return config["load"][key] or []


def gene_sets(wildcards):
    """The GMT files of the config."""
    return config["gene_sets"]


def tested_cell_types():
    """Ids of the cell types that the pseudobulk checkpoint found fit to be tested."""
    with checkpoints.pseudobulk.get().output.cell_types.open(encoding="utf-8") as table:
        return [row["id"] for row in csv.DictReader(table, delimiter="\t") if row["tested"] == "True"]


def differential_parts():
    """Numbers of the jobs of `differential` in a contrast; each tests some of the cell types, in their order."""
    jobs = math.ceil(len(tested_cell_types()) / config["differential"]["cell_types_per_job"])
    return [f"{part:02d}" for part in range(jobs)]


def differential_tables(wildcards):
    """The genes of all tested cell types."""
    path = "<results>/differential/{contrast}/{part}.parquet"
    return expand(path, contrast=wildcards.contrast, part=differential_parts())


def differential_status(wildcards):
    """What was done in each tested cell type."""
    path = "<results>/differential/{contrast}/{part}.status.tsv"
    return expand(path, contrast=wildcards.contrast, part=differential_parts())


def contrast_of_shares(wildcards):
    """The contrast of the config without what needs many genes."""
    contrast = CONTRASTS[wildcards.contrast]
    return {key: value for key, value in contrast.items() if key not in ("factors", "sample_weights")}


def embedding(wildcards):
    """What the embedding branch ends in."""
    return ["<results>/layout/umap.png"] + expand(
        [
            "<results>/cluster/resolution_{resolution}.agreement.tsv",
            "<results>/markers/resolution_{resolution}.parquet",
        ],
        resolution=RESOLUTIONS,
    )


def answers(wildcards):
    """What the donor branch ends in for each tested cell type."""
    paths = ["<results>/pseudobulk/cell_types.tsv", "<results>/samples/samples.tsv"]
    if CONTRASTS:
        paths += [
            "<results>/synthesis/{contrast}/genes.tsv",
            "<results>/composition/{contrast}/cell_types.tsv",
        ]
    if CONTRASTS and config["gene_sets"]:
        paths += [
            "<results>/gsea/{contrast}/terms.parquet",
            "<results>/overrepresentation/{contrast}/terms.parquet",
        ]
    if config["ridge"]["target"] and tested_cell_types():
        paths += ["<results>/ridge/summary.tsv"]
    return expand(paths, contrast=list(CONTRASTS))
