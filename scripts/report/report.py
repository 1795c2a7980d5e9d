"""Write all results as one HTML page that needs no other file and no network.

The page has the published tables, with numbers rounded to four significant digits. Counts for figures
(histograms, cells per cluster and label) are computed here, and one test: the association of the share of
cells kept per sample with each covariate (`_cells.dependence`). Data are base64 of gzip, so that a label
cannot contain markup; text is escaped by Jinja; the content security policy of the page allows only its own
scripts and no network. Figures are drawn by plotly.js (package plotly), tables by DataTables (page/vendor).
"""

import json
from pathlib import Path

import pandas as pd

from files import DISTINCT_COLOURS
from job import beside_benchmark, conclude, job
from report._cells import dependence, hex_colours, histograms, kept_by_sample, layers
from report._genes import donor_values, effects, heatmap, index_of_genes, pathways
from report._page import render
from report._prediction import find_predicted_levels, prediction, prediction_rows
from report._samples import sample_blocks
from report._tables import columns_of, pack, read_all, records
from report._words import costs, failures, headline, losses, strata

METRICS = ["total_counts", "n_genes_by_counts", "pct_counts_mt", "pct_counts_ribo", "doublet_score"]
MARKERS = 10  # named per cluster


def cell_blocks(tables: dict, paths: object, params: object) -> tuple[dict, dict]:
    """Blocks about cells, by name, and the values for the template.

    tables: from read_all; paths, params: the named inputs and params of the rule.
    """
    cells, samples = tables["cells"][""], tables["samples"][""]
    text = dict.fromkeys(["sample", "group", "status", "reason", "threshold_from"], str)
    read_as = {"sep": "\t", "dtype": text, "keep_default_na": False, "na_values": [""]}
    limits = pd.concat([pd.read_csv(path, **read_as) for path in paths.limits])
    doublets = pd.concat([pd.read_csv(path, **read_as) for path in paths.doublets])
    doublets = doublets.fillna({"reason": "", "threshold_from": ""}).sort_values("group", kind="stable")
    kept = kept_by_sample(cells, samples)
    attrition = tables["attrition"][""]
    blocks = {
        "cells": {
            "losses": losses(attrition),
            "strata": strata(attrition),
            "histograms": histograms(cells, limits, doublets),
            "doublets": columns_of(doublets),
            "kept": columns_of(kept),
            "limits": columns_of(limits),
        }
    }
    groups = doublets.groupby(["status", "threshold_from", "reason"]).size()
    about = {
        "losses": losses(attrition),
        "strata": strata(attrition),
        "dependence": dependence(kept, params.covariates),
        "doublets": records(groups.reset_index(name="groups")),
    }
    return blocks, about


def map_blocks(tables: dict, paths: object, params: object) -> tuple[dict, dict[str, str], list[dict]]:
    """Blocks about the map of cells and its clusters, its images, and the agreement for the template."""
    cells, samples = tables["cells"][""], tables["samples"][""]
    kept = cells[cells["kept"]].set_index("cell")
    table = pd.read_parquet(paths.umap).set_index("cell")
    table["cell type"] = kept["cell_type"].astype(str)
    clusters = {}
    for resolution, path in zip(params.resolutions, paths.clusters, strict=True):
        name = f"cluster, resolution {resolution}"
        table[name] = pd.read_parquet(path).set_index("cell")["cluster"].astype(str)
        counts = pd.crosstab(table[name], table["cell type"])
        counts = counts.loc[sorted(counts.index, key=lambda c: (len(c), c))]
        clusters[resolution] = {
            "clusters": counts.index.tolist(),
            "types": counts.columns.tolist(),
            "counts": counts.to_numpy().tolist(),
            "markers": markers(tables["markers"][resolution]),
        }
    table["donor"] = kept["donor"].astype(str)
    if params.pool:
        table["pool"] = kept["pool"].astype(str)
    numeric = [name for name in METRICS if kept[name].notna().any()]
    by_sample = samples.set_index("sample")
    for name, kind in params.covariates.items():
        table[name] = by_sample[name].reindex(kept["sample"].astype(str)).set_axis(kept.index)
        numeric += [name] if kind != "categorical" else []
    for name in METRICS:
        table[name] = kept[name]
    descriptions, images = layers(table, params.pixels, numeric)
    agreement = [row for part in tables["clusters_agreement"].values() for row in records(part)]
    pictures = {f"map-{i}": image for i, image in enumerate(images)}
    return {"map": {"layers": descriptions, "cells": len(table), "clusters": clusters}}, pictures, agreement


def markers(table: pd.DataFrame) -> dict[str, str]:
    """The first genes of each cluster, by name."""
    first = table[table["rank"] < table["rank"].min() + MARKERS].dropna(subset=["symbol"])
    return {str(name): ", ".join(part["symbol"]) for name, part in first.groupby("cluster", observed=True)}


def contrast_blocks(name: str, number: int, tables: dict, params: object, place: dict) -> tuple[dict, dict]:
    """Blocks of one contrast, and its values for the template; place: gene id -> number in the page."""
    status = tables["differential_status"][name]
    about = {"name": name, **records(status)[0], "joint": bool(status["test"].isin(["LRT", "F"]).any())}
    table, types = tables["differential"][name], status["cell_type"].tolist()
    hidden = tables["differential_factors"][name]
    about["hidden_factors"] = len(hidden) > 0
    gsea = tables.get("gsea", {}).get(name)
    blocks = {}
    for i, cell_type in enumerate(types):
        rows = table[table["cell_type"] == cell_type]
        blocks[f"de-{number}-{i}"] = effects(rows, place, joint=about["joint"])
        own = hidden[hidden["cell_type"] == cell_type].drop(columns="cell_type")
        blocks[f"de-{number}-{i}"] |= {"factors": columns_of(own)} if len(own) else {}
        if gsea is not None:
            rows = gsea[gsea["cell_type"] == cell_type]
            sets, tested = pathways(rows, terms=params.terms, fdr=params.gsea_fdr)
            blocks[f"sets-{number}-{i}"] = sets | {"all": tested}
    genes = tables["synthesis_genes"][name]
    changed = genes[genes["pattern"] != "none"]
    blocks[f"across-{number}"] = {
        "heatmap": heatmap(
            tables["synthesis_effects"][name], genes, number=params.heatmap_genes, joint=about["joint"]
        ),
        "genes": columns_of(changed),
        "all": len(genes),
        "fdr": params.synthesis_fdr,
        "patterns": genes["pattern"].value_counts().to_dict(),
        "composition": columns_of(tables["composition"][name]),
        "composition_status": records(tables["composition_status"][name])[0],
    }
    rows = headline(status, gsea, params.gsea_fdr)
    left_out = tables["differential_filtered"][name]["reason"].value_counts().to_dict()
    return blocks, about | {"rows": rows, "gsea": gsea is not None, "left_out": left_out}


def gene_blocks(tables: dict, params: object) -> tuple[dict, list[dict]]:
    """Blocks about genes of every contrast, and the values of the contrasts for the template."""
    if not tables.get("differential"):
        return {}, []
    place, genes = index_of_genes(tables["differential"])
    blocks, contrasts = {"genes": genes}, []
    for number, name in enumerate(tables["differential"]):
        own, about = contrast_blocks(name, number, tables, params, place)
        blocks |= own
        contrasts.append(about)
    sums, used = tables["sums"][""], tables["differential_samples"]
    values = donor_values(sums, tables["differential"], used, genes=params.genes)
    for number, name in enumerate(tables["differential"]):
        for i, cell_type in enumerate(tables["differential_status"][name]["cell_type"]):
            if cell_type in values[name]:
                part = values[name][cell_type]
                blocks[f"samples-{number}-{i}"] = part | {"genes": [place[gene] for gene in part["genes"]]}
    return blocks, contrasts


def meta(tables: dict, contrasts: list[dict], params: object, config: dict) -> dict:
    """Data for all figures: contrasts, covariates, samples."""
    samples = tables["samples"][""]
    tests = {contrast["name"]: contrast["test"] for contrast in config["contrasts"]}
    fields = ("name", "effect", "design", "fdr", "joint", "unit")
    return {
        "contrasts": [
            {key: contrast[key] for key in fields}
            | {"test": tests[contrast["name"]], "status": contrast["rows"], "gsea_fdr": params.gsea_fdr}
            for contrast in contrasts
        ],
        "colours": hex_colours(DISTINCT_COLOURS),
        "covariates": params.covariates,
        "samples": columns_of(samples[["sample", "donor", *params.covariates]]),
        "genes": params.genes,
        "title": params.title,
    }


def gather(paths: object, params: object, benchmarks: Path) -> tuple[dict[str, str], dict]:
    """Blocks of data by name, compressed, and the values for the template.

    paths, params: the named inputs and params of the rule; benchmarks: the folder of cost records.
    """
    tables = read_all(params.files, list(paths.files), params.contract, params.covariates)
    provenance = json.loads(Path(paths.provenance).read_text(encoding="utf-8"))
    blocks, cells = cell_blocks(tables, paths, params)
    cell_map, pictures, agreement = map_blocks(tables, paths, params)
    genes, contrasts = gene_blocks(tables, params)
    predictions = prediction(tables)
    predicted = prediction_rows(tables["prediction_summary"][""]) if predictions else []
    own, drawn, samples = sample_blocks(tables, list(paths.sample_figures), params.covariates)
    pictures |= drawn
    stability = [pd.read_csv(path, sep="\t", dtype={"label": str}) for path in paths.stability]
    blocks |= cell_map | own | genes | ({"prediction": predictions} if predictions else {})
    blocks |= {"stability": columns_of(stability[0])} if stability else {}
    blocks["meta"] = meta(tables, contrasts, params, provenance["config"])
    words = {
        "title": params.title,
        "warnings": records(tables["warnings"][""]),
        "cells": cells,
        "agreement": agreement,
        "samples": samples,
        "contrasts": contrasts,
        "prediction": predicted,
        "predicted_levels": find_predicted_levels(predicted),
        "cell_types": records(tables["cell_types"][""]),
        "facts": tables["cohort_facts"][""],
        "genes_all": len(tables["genes"][""]),
        "stability": bool(stability),
        "config": provenance["config"],
        "provenance": provenance,
        "costs": costs(benchmarks),
        "failures": failures(benchmarks),
        "files": [params.contract["files"][file["kind"]] | file for file in params.published],
        "settings": params,
    }
    return {name: pack(block) for name, block in blocks.items()} | pictures, words


if __name__ == "__main__":
    with job(snakemake) as out:
        benchmarks = beside_benchmark(Path(snakemake.log[0]), ".tsv").parent
        blocks, words = gather(snakemake.input, snakemake.params, benchmarks)
        page = render(Path(snakemake.scriptdir) / "page", blocks, words)
        Path(out.page).write_text(page, encoding="utf-8")
        largest = max(blocks, key=lambda name: len(blocks[name]))
        conclude(f"{len(page) / 1e6:.1f} MB, {len(blocks)} blocks, largest {largest}")
