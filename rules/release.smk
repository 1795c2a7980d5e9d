# What a release consists of and what it says about the run: input functions and params of rules/publish.smk.
import itertools
from importlib import metadata

from workflow.provenance import code_sha256, commit_of, is_dirty, lock_sha256, profile_of, published_config

CONTRACT = yaml.safe_load(workflow_file("../workflow/schemas/publish.yaml"))
PACKAGES = """anndata formulaic gseapy h5py harmonypy igraph leidenalg matplotlib numba numpy pandas pyarrow
    pydeseq2 pynndescent scanpy scikit-learn scikit-misc scipy scrublet snakemake statsmodels umap-learn""".split()
os.environ.setdefault(
    "SCOHORT_PROFILE", profile_of(sys.argv)
)  # not a param: it must not make a job run again


def published_files():
    """Kind, path, wildcards and sources of every file that a release takes over from results.

    Several sources are the parts of one table, which are joined.
    """
    values = {"contrast": list(CONTRASTS), "resolution": RESOLUTIONS}
    there = {
        None: True,
        "contrasts": CONTRASTS,
        "gene_sets": CONTRASTS and config["gene_sets"],
        "prediction": config["ridge"]["target"] and tested_cell_types(),
    }
    files = []
    for kind, spec in CONTRACT["files"].items():
        if "source" in spec and there[spec.get("when")]:
            names = [name for name in values if f"{{{name}}}" in spec["path"]]
            parts = differential_parts() if "{part}" in spec["source"] else [""]
            for chosen in itertools.product(*(values[name] for name in names)):
                filled = dict(zip(names, chosen))
                sources = [f"<results>/{spec['source']}".format(**filled, part=part) for part in parts]
                file = {"kind": kind, "path": spec["path"].format(**filled), "sources": sources}
                files += [file | {"values": filled}] if sources else []
    return files


def warning_tables(wildcards):
    """The table of every job of a step that may warn, as far as the config asks for the step."""
    paths = ["<results>/warnings/load.tsv", "<results>/warnings/cells.tsv"]
    paths += ["<results>/warnings/preprocess.tsv", "<results>/warnings/dimred.tsv"]
    paths += expand(
        ["<results>/warnings/qc/{shard}.tsv", "<results>/warnings/doublets/{shard}.tsv"], shard=SHARDS
    )
    paths += ["<results>/warnings/samples.tsv"]
    if CONTRASTS:
        paths += expand(
            "<results>/warnings/differential/{contrast}/{part}.tsv",
            contrast=list(CONTRASTS),
            part=differential_parts(),
        )
    if CONTRASTS and config["gene_sets"]:
        paths += expand("<results>/warnings/gsea/{contrast}.tsv", contrast=list(CONTRASTS))
    if config["ridge"]["target"] and tested_cell_types():
        paths.append("<results>/warnings/ridge_summary.tsv")
    return paths


def published_sources(wildcards):
    """The sources of all published files, in their order."""
    return [source for file in published_files() for source in file["sources"]]


def published_places(wildcards):
    """What becomes of the sources, in their order."""
    return [
        {"kind": file["kind"], "path": file["path"], "parts": len(file["sources"])}
        for file in published_files()
    ]
