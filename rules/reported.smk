# What the report is made of: input functions and params of rules/report.smk.
digest("report/report")  # from a git host, this brings here what is imported
from report._page import PAGE_FILES

SAMPLE_FIGURES = ["components", "associations", "variance", "sex", "pairs"]

REPORTED = [
    "warnings",
    "cell_types",
    "samples",
    "genes",
    "cohort_facts",
    "cells",
    "attrition",
    "sums",
    "clusters_agreement",
    "sample_summary",
    "sample_pairs",
]
REPORTED += ["markers", "differential_samples", "differential", "differential_status", "gsea"]
REPORTED += ["differential_filtered"]
REPORTED += ["differential_factors"]
REPORTED += [
    "synthesis_effects",
    "synthesis_genes",
    "composition",
    "composition_status",
    "prediction_summary",
]
REPORTED += ["prediction_scores", "prediction_gaps", "prediction_null"]


def reported_files():
    """The published files whose tables are in the report."""
    return [file for file in published_files() if file["kind"] in REPORTED]


def reported_sources(wildcards):
    """Their sources, in their order."""
    return [source for file in reported_files() for source in file["sources"]]


def reported_places(wildcards):
    """What the sources are, in their order."""
    return [
        {"kind": file["kind"], "values": file["values"], "parts": len(file["sources"])}
        for file in reported_files()
    ]


def published_paths(wildcards):
    """Kind and path of every file of the release, for the report's list."""
    made = [
        {"kind": kind, "path": spec["path"]}
        for kind, spec in CONTRACT["files"].items()
        if "source" not in spec
    ]
    return made + [{"kind": file["kind"], "path": file["path"]} for file in published_files()]


def compared_variants(wildcards):
    """The table of a sweep that was made, if any; making it is `make sweep`."""
    table = Path(workflow.pathvars.apply("<results>/sweep/stability.tsv"))
    return [str(table)] if VARIANTS and table.exists() else []
