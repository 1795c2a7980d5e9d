"""Draw everything that was found into one HTML page that needs no other file and no network.

The page holds the published tables as they are: numbers are shortened to four significant digits, joined
by name and drawn; what is counted for a figure (histograms, cells per cluster and label) is counted here. One
thing is tested here, because nobody else asks it: whether the share of cells kept per sample goes with a
covariate (`_cells.dependence`). Data stand in the page as base64 of gzip, which no label can break out
of; text in its markup is escaped by Jinja, and the page's own policy forbids scripts and addresses other than
its own. plotly.js draws (from the package plotly), DataTables searches and sorts (page/vendor).
"""

import base64
import hashlib
import json
from pathlib import Path

import pandas as pd

from job import beside_benchmark, job
from report._cells import dependence, histograms, kept_by_sample, layers
from report._genes import donor_values, effects, heatmap, index_of_genes, pathways
from report._prediction import prediction
from report._tables import columns_of, pack, read_all, records, squeeze
from report._words import costs, failures, headline, losses, strata

SCRIPTS = [
    "core.js",
    "cells.js",
    "map.js",
    "genes.js",
    "across.js",
    "prediction.js",
    "stability.js",
    "start.js",
]
METRICS = ["total_counts", "n_genes_by_counts", "pct_counts_mt", "pct_counts_ribo", "doublet_score"]
MARKERS = 10  # named per cluster
FILTERS = {  # of the templates; a missing value is a dash
    "count": lambda value: "\u2013" if value is None else f"{round(value):,}",
    "fixed": lambda value, digits: "\u2013" if value is None else f"{value:.{digits}f}",
    "short": lambda value: "\u2013" if value is None else f"{value:.3g}",
    "pretty": lambda value: json.dumps(value, indent=1),
}


def cell_blocks(tables: dict, paths: object, params: object) -> tuple[dict, dict]:
    """Blocks about cells, by name, and what the template says about them.

    tables: as _report_tables.read_all returns them; paths, params: the named inputs and params of the rule.
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
    """Blocks about the map of cells and its clusters, its pictures, and the agreement for the template."""
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
    found, images = layers(table, params.pixels, numeric)
    agreement = [row for each in tables["clusters_agreement"].values() for row in records(each)]
    pictures = {f"map-{i}": image for i, image in enumerate(images)}
    return {"map": {"layers": found, "cells": len(table), "clusters": clusters}}, pictures, agreement


def markers(table: pd.DataFrame) -> dict[str, str]:
    """The first genes of each cluster, by name."""
    first = table[table["rank"] < table["rank"].min() + MARKERS].dropna(subset=["symbol"])
    return {str(name): ", ".join(part["symbol"]) for name, part in first.groupby("cluster", observed=True)}


def contrast_blocks(name: str, number: int, tables: dict, params: object, place: dict) -> tuple[dict, dict]:
    """Blocks of one contrast, and what the template says about it; place: gene id -> number in the page."""
    status = tables["differential_status"][name]
    about = {"name": name, **records(status)[0], "joint": bool(status["test"].isin(["LRT", "F"]).any())}
    table, types = tables["differential"][name], status["cell_type"].tolist()
    gsea = tables.get("gsea", {}).get(name)
    blocks = {}
    for i, cell_type in enumerate(types):
        mine = table[table["cell_type"] == cell_type]
        blocks[f"de-{number}-{i}"] = effects(mine, place, joint=about["joint"])
        if gsea is not None:
            mine = gsea[gsea["cell_type"] == cell_type]
            sets, tested = pathways(mine, terms=params.terms, fdr=params.gsea_fdr)
            blocks[f"sets-{number}-{i}"] = sets | {"all": tested}
    genes = tables["synthesis_genes"][name]
    found = genes[genes["pattern"] != "none"]
    blocks[f"across-{number}"] = {
        "heatmap": heatmap(
            tables["synthesis_effects"][name], genes, number=params.heatmap_genes, joint=about["joint"]
        ),
        "genes": columns_of(found),
        "all": len(genes),
        "fdr": params.synthesis_fdr,
        "patterns": genes["pattern"].value_counts().to_dict(),
        "composition": columns_of(tables["composition"][name]),
        "composition_status": records(tables["composition_status"][name])[0],
    }
    rows = headline(status, gsea, params.gsea_fdr)
    return blocks, about | {"rows": rows, "gsea": gsea is not None}


def gene_blocks(tables: dict, params: object) -> tuple[dict, list[dict]]:
    """Blocks about genes of every contrast, and what the template says about the contrasts."""
    if not tables.get("differential"):
        return {}, []
    place, genes = index_of_genes(tables["differential"])
    blocks, contrasts = {"genes": genes}, []
    for number, name in enumerate(tables["differential"]):
        mine, about = contrast_blocks(name, number, tables, params, place)
        blocks |= mine
        contrasts.append(about)
    sums, used = tables["sums"][""], tables["differential_samples"]
    values = donor_values(sums, tables["differential"], used, genes=params.genes)
    for number, name in enumerate(tables["differential"]):
        for i, cell_type in enumerate(tables["differential_status"][name]["cell_type"]):
            if cell_type in values[name]:
                mine = values[name][cell_type]
                blocks[f"samples-{number}-{i}"] = mine | {"genes": [place[gene] for gene in mine["genes"]]}
    return blocks, contrasts


def meta(tables: dict, contrasts: list[dict], params: object, config: dict) -> dict:
    """What every figure needs to know: contrasts, types, samples with covariates."""
    samples = tables["samples"][""]
    tested = {each["name"]: each["test"] for each in config["contrasts"]}
    fields = ("name", "effect", "design", "fdr", "joint", "unit")
    return {
        "contrasts": [
            {key: each[key] for key in fields}
            | {"test": tested[each["name"]], "status": each["rows"], "gsea_fdr": params.gsea_fdr}
            for each in contrasts
        ],
        "covariates": params.covariates,
        "samples": columns_of(samples[["sample", "donor", *params.covariates]]),
        "genes": params.genes,
        "title": params.title,
    }


def digest(script: str) -> str:
    """What the page's policy names a script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def gather(paths: object, params: object, benchmarks: Path) -> tuple[dict[str, str], dict]:
    """Blocks of data by name, squeezed, and the words of the template.

    paths, params: the named inputs and params of the rule; benchmarks: the folder of cost records.
    """
    tables = read_all(params.files, list(paths.files), params.contract, params.covariates)
    provenance = json.loads(Path(paths.provenance).read_text(encoding="utf-8"))
    blocks, cells = cell_blocks(tables, paths, params)
    mapped, pictures, agreement = map_blocks(tables, paths, params)
    genes, contrasts = gene_blocks(tables, params)
    predicted = prediction(tables)
    stability = [pd.read_csv(path, sep="\t", dtype={"label": str}) for path in paths.stability]
    blocks |= mapped | genes | ({"prediction": predicted} if predicted else {})
    blocks |= {"stability": columns_of(stability[0])} if stability else {}
    blocks["meta"] = meta(tables, contrasts, params, provenance["config"])
    words = {
        "title": params.title,
        "warnings": records(tables["warnings"][""]),
        "cells": cells,
        "agreement": agreement,
        "contrasts": contrasts,
        "prediction": records(tables["prediction_summary"][""]) if predicted else [],
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


def render(folder: Path, blocks: dict[str, str], words: dict) -> str:
    """The page. folder: templates and scripts; blocks: name -> squeezed data; words: for the template."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    plotly = get_plotlyjs()
    tables = (folder / "vendor/dataTables.min.js").read_text(encoding="utf-8")
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    page = environment.get_template("page.html.j2")
    return page.render(
        blocks=blocks | {"plotly": squeeze(plotly.encode())},
        style=(folder / "style.css").read_text(encoding="utf-8"),
        scripts=[tables, script],
        policy=" ".join(f"'{digest(text)}'" for text in (plotly, tables, script)),
        **words,
    )


if __name__ == "__main__":
    with job(snakemake) as out:
        benchmarks = beside_benchmark(Path(snakemake.log[0]), ".tsv").parent
        blocks, words = gather(snakemake.input, snakemake.params, benchmarks)
        page = render(Path(snakemake.scriptdir) / "page", blocks, words)
        Path(out.page).write_text(page, encoding="utf-8")
        largest = max(blocks, key=lambda name: len(blocks[name]))
        print(f"report: {len(page) / 1e6:.1f} MB, {len(blocks)} blocks, largest {largest}")
