# What the other files here use: the checked config, input functions, digests of helpers, resources.
import ast
import csv
import functools
import hashlib
import json
import math
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from jsonschema import Draft202012Validator


wildcard_constraints:
    shard=r"\d+",
    contrast=r"[a-z][a-z0-9_]*",
    part=r"\d+",
    resolution=r"[0-9.]+",
    alpha=r"[0-9.e+-]+",


def workflow_file(path):
    """Text of a file of this workflow, also when another workflow uses it as a module."""
    return Path(str(workflow.source_path(path))).read_text()


include: "checks.smk"


SHARDS = [f"{shard:02d}" for shard in range(config["load"]["shards"])]
CONTRASTS = {contrast["name"]: contrast for contrast in config["contrasts"]}
RESOLUTIONS = [str(value) for value in config["cluster"]["resolution"]]
ALPHAS = [str(value) for value in config["ridge"]["alpha"]]


def workflow_folder(path):
    """A folder of this workflow, where it lies; where Snakemake keeps its copies when it comes from a git host."""
    folder = Path(workflow.current_basedir.join(f"../{path}").get_path_or_uri(secret_free=True))
    return (
        folder if folder.is_dir() else Path(workflow.source_path(f"../{path}/__init__.py")).parent
    ).resolve()


SCRIPTS = workflow_folder("scripts/job").parent
PROGRAMS = ("verify", "_contents", "_facts")  # of scripts/publish, which also run without the rest
sys.path.append(str(SCRIPTS))  # where this process finds the parts, and where its jobs do
OTHERS = [
    path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", str(SCRIPTS))
]
os.environ["PYTHONPATH"] = os.pathsep.join([str(SCRIPTS), *OTHERS])


@functools.cache
def module_text(module):
    """Text of a module of scripts/, like `cells.qc`; of a part, like `files`, what it offers."""
    path = f"../scripts/{module.replace('.', '/')}"
    return workflow_file(f"{path}.py" if "." in module else f"{path}/__init__.py")


@functools.cache
def modules(module):
    """Modules of scripts/ that a module imports itself; behind `from files import read_obs`, that of `read_obs`."""
    part, found = module.split(".")[0], set()
    module_text(
        part
    )  # imported with the module: where the workflow comes from a git host, this brings it here
    for node in ast.walk(ast.parse(module_text(module))):
        if isinstance(node, ast.ImportFrom) and node.module in ("job", "files"):
            found |= {homes(node.module)[alias.name] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == part:
            found |= {f"{part}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module.startswith(f"{part}."):
            found.add(node.module)
        elif isinstance(node, ast.ImportFrom) and node.module in PROGRAMS:
            found.add(f"{part}.{node.module}")
    return found


@functools.cache
def homes(part):
    """The module behind each name that a part offers."""
    nodes = [node for node in ast.walk(ast.parse(module_text(part))) if isinstance(node, ast.ImportFrom)]
    for node in nodes:
        module_text(node.module)
    return {alias.name: node.module for node in nodes for alias in node.names}


def digest(script):
    """Digest of the modules that a script imports, so that their edit reruns its step; script: `cells/qc`."""
    own = script.replace("/", ".")
    pending, found = [own], set()
    while pending:
        new = modules(pending.pop()) - found
        found |= new
        pending += new
    texts = [module_text(module) for module in sorted(found - {own})]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:12]


RESOURCES = yaml.safe_load(workflow_file("../workflow/resources.yaml"))


def mem_mb(step):
    """Memory request of a step in MB: a base and a share of its inputs, more with each attempt."""
    model = RESOURCES[step]

    def request(wildcards, input, attempt):
        return int(attempt * (model["mem_mb"] + model["mem_mb_per_input_mb"] * input.size_mb))

    return request


def runtime(step, times=1):
    """Time limit of a step in minutes: a base and a share of its inputs, more with each attempt.

    times: how often a job does the step's work, one after the other.
    """
    model = RESOURCES[step]

    def request(wildcards, input, attempt):
        return int(attempt * times * (model["minutes"] + model["minutes_per_input_mb"] * input.size_mb))

    return request


def attempt(wildcards, attempt):
    """Which attempt of the job this is, from 1; a job is told nowhere else."""
    return attempt


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
    path = Path(config["cohort"]["path"])
    return [str(path)] if path.suffix != ".tsv" and not path.is_dir() else sheet_or_folder(path)


def sheet_or_folder(path):
    """A sample sheet with the files that it lists, or the three files of a 10x mtx folder."""
    if path.is_dir():
        wanted = ("matrix.mtx", "barcodes.tsv", "features.tsv", "genes.tsv")
        found = sorted(str(file) for file in path.iterdir() if file.name.removesuffix(".gz") in wanted)
        refuse(len(found) < 3, f"cohort.path: {path} is no 10x folder; it lacks one of {', '.join(wanted)}")
        return found
    with open(path, newline="") as sheet:
        rows = list(csv.DictReader(sheet, delimiter="\t"))
    refuse(
        not rows or "path" not in rows[0],
        f"cohort.path: {path} needs a header with a column 'path' and a row per file",
    )
    files = [str(path)]
    for row in rows:
        file = path.parent / row["path"]
        files += sheet_or_folder(file) if file.is_dir() else [str(file)]
    return files


def gene_sets(wildcards):
    """The GMT files of the config."""
    return config["gene_sets"]


def tested_cell_types():
    """Ids of the cell types that the pseudobulk checkpoint found fit to be tested."""
    with checkpoints.pseudobulk.get().output.cell_types.open() as table:
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
    paths = ["<results>/pseudobulk/cell_types.tsv"]
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
