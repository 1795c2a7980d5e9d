"""Compare the results of each variant of a sweep with those of the run itself, in one table.

A row per variant and measure, and per contrast, cell type or resolution if the measure has one; base: the
run, other: the variant.

kept         kept cells; value: kept by both / kept by either
spearman     tested genes; value: rank correlation of the statistics of genes tested in both
overlap_K    the K genes with the smallest p-values (ties by gene_id; all, if fewer); value: share in both
significant  genes with padj below `fdr`; value: share of those of the run that are significant in the variant
ari          clusters at one resolution; value: adjusted Rand index (Hubert & Arabie 1985, J Classif 2:193) of
             cells clustered in both
r2           R2 of out-of-fold predictions; value: variant - run

`n` is the number of genes, cells or samples of the value. If one side has no result, the value is missing and
`reason` names the side. Cells, genes and cell types are matched by name.
"""

import textwrap

import numpy as np
import pandas as pd

from files import save_figure, write_tsv
from job import conclude, job

COLUMNS = ["variant", "changes", "note", "measure", "contrast", "label", "resolution", "n", "base", "other"]
COLUMNS += ["value", "reason"]


def explain_missing(base: pd.DataFrame, other: pd.DataFrame) -> str:
    """Why two tables cannot be compared; "" if both have rows."""
    sides = [name for name, table in (("run", base), ("variant", other)) if table.empty]
    return f"no answer in the {' and the '.join(sides)}" if sides else ""


def compare_genes(base: pd.DataFrame, other: pd.DataFrame, *, fdr: float, top: list[int]) -> list[dict]:
    """Rows spearman, overlap_K and significant of one contrast in one cell type.

    base, other: gene_id, stat, pvalue, padj of one cell type. A gene without p-value was not tested.
    """
    from scipy.stats import spearmanr

    base, other = (table.dropna(subset=["stat", "pvalue"]).set_index("gene_id") for table in (base, other))
    both = base.index.intersection(other.index)
    no_rows = explain_missing(base, other)
    reason = no_rows or ("fewer than 3 genes in both" if len(both) < 3 else "")
    rho = np.nan if reason else spearmanr(base.loc[both, "stat"], other.loc[both, "stat"]).statistic
    rows = [{"measure": "spearman", "n": len(both), "base": len(base), "other": len(other), "value": rho}]
    for k in top:
        first, second = (select_best(table, k) for table in (base, other))
        size = max(len(first), len(second))
        share = len(first & second) / size if first and second else np.nan
        rows.append({"measure": f"overlap_{k}", "n": size, "base": len(first), "other": len(second)})
        rows[-1]["value"] = share
    first, second = (set(table.index[table["padj"] < fdr]) for table in (base, other))
    again = len(first & second) / len(first) if first and not no_rows else np.nan
    rows.append({"measure": "significant", "n": len(both), "base": len(first), "other": len(second)})
    rows[-1]["value"] = again
    reasons = [
        reason,
        *[no_rows] * len(top),
        no_rows or ("no gene is significant in the run" if not first else ""),
    ]
    return [row | {"reason": reason} for row, reason in zip(rows, reasons, strict=True)]


def select_best(genes: pd.DataFrame, k: int) -> set[str]:
    """The k genes with the smallest p-values, ties by gene_id."""
    return set(genes.reset_index().sort_values(["pvalue", "gene_id"])["gene_id"].head(k))


def compare_effects(base: pd.DataFrame, other: pd.DataFrame, *, fdr: float, top: list[int]) -> list[dict]:
    """Rows of compare_genes for each cell type of either table; base, other: effects of synthesis."""
    labels = dict.fromkeys([*base["label"], *other["label"]])
    return [
        row | {"label": label}
        for label in labels
        for row in compare_genes(
            base[base["label"] == label], other[other["label"] == label], fdr=fdr, top=top
        )
    ]


def compare_clusters(base: pd.DataFrame, other: pd.DataFrame) -> list[dict]:
    """The row ari of one resolution; base, other: cell, cluster."""
    import igraph

    both = base.merge(other, on="cell", suffixes=("_base", "_other"))
    one, two = (pd.factorize(both[f"cluster_{side}"])[0].tolist() for side in ("base", "other"))
    row = {"measure": "ari", "n": len(both), "reason": "" if len(both) else "no cell in both"}
    row |= {"base": base["cluster"].nunique(), "other": other["cluster"].nunique(), "value": np.nan}
    if len(both):
        same = one == two  # numbered by appearance; igraph has no index for two trivial partitions
        row["value"] = 1.0 if same else igraph.compare_communities(one, two, method="adjusted_rand")
    return [row]


def compare_predictions(base: pd.DataFrame, other: pd.DataFrame) -> list[dict]:
    """The row r2 of each cell type; base, other: ridge/summary.tsv."""
    rows = []
    base, other = (table.set_index("label") for table in (base, other))
    for label in dict.fromkeys([*base.index, *other.index]):
        scores = [table["r2"].get(label, np.nan) for table in (base, other)]
        samples = [table["samples"].get(label, 0) for table in (base, other)]
        sides = [
            name for name, score in zip(("run", "variant"), scores, strict=True) if not np.isfinite(score)
        ]
        rows.append({"measure": "r2", "label": label, "n": min(samples), "base": scores[0]})
        rows[-1] |= {"other": scores[1], "value": scores[1] - scores[0]}
        rows[-1]["reason"] = f"no answer in the {' and the '.join(sides)}" if sides else ""
    return rows


def compare_cells(base: pd.DataFrame, other: pd.DataFrame) -> list[dict]:
    """Rows kept: over all cells, label "", and per cell type; base, other: cell, cell_type, kept."""
    cells = base.merge(other, on="cell", how="outer", suffixes=("", "_other"))
    cells["label"] = cells["cell_type"].astype(object).fillna(cells["cell_type_other"].astype(object))
    one, two = (cells[name].eq(True) for name in ("kept", "kept_other"))
    counts = pd.DataFrame({"base": one, "other": two, "both": one & two, "n": one | two}).astype(int)
    table = counts.groupby(cells["label"].astype(str), sort=True).sum()
    table = pd.concat([counts.sum().to_frame("").T, table])
    return [
        {"measure": "kept", "label": label, "n": row["n"], "base": row["base"], "other": row["other"]}
        | {"value": row["both"] / row["n"] if row["n"] else np.nan}
        | {"reason": "" if row["n"] else "no cell kept by either"}
        for label, row in table.iterrows()
    ]


COMPARISONS = {
    "cells": (compare_cells, ""),
    "effects": (compare_effects, "contrast"),
    "clusters": (compare_clusters, "resolution"),
    "prediction": (compare_predictions, ""),
}


def stability(
    tables: dict[tuple[str, str, str], pd.DataFrame],
    variants: dict[str, dict],
    *,
    fdr: float,
    top: list[int],
) -> pd.DataFrame:
    """Compare each variant with the run, see above.

    tables: (variant, kind, key) -> table; variant "" is the run itself, kind one of COMPARISONS, key its
    contrast or resolution. variants: name -> changes and note, two texts for the table.
    """
    rows = []
    for (name, kind, key), other in tables.items():
        if not name:
            continue
        compare, column = COMPARISONS[kind]
        settings = {"fdr": fdr, "top": top} if kind == "effects" else {}
        facts = {"variant": name, **variants[name]} | ({column: key} if column else {})
        rows += [facts | row for row in compare(tables["", kind, key], other, **settings)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    words = ["note", "contrast", "label", "resolution", "reason"]
    return table.assign(**{word: table[word].fillna("") for word in words})


def split_panels(table: pd.DataFrame, top: list[int]) -> list[tuple[str, pd.DataFrame]]:
    """Title and rows of each panel of the figure."""
    words = {
        "kept": "cells kept by both",
        "spearman": "statistics: rank correlation",
        f"overlap_{top[0]}": f"top {top[0]} genes: share in both",
        "ari": "clusters: ARI",
        "r2": "prediction: change in R2",
    }
    table = table[table["value"].notna() & ((table["measure"] != "kept") | (table["label"] == ""))]
    groups = table[table["measure"].isin(words)].groupby(["measure", "contrast"], sort=False)
    order = sorted(groups, key=lambda item: list(words).index(item[0][0]))
    return [(words[measure] + f"\n{contrast}".rstrip(), rows) for (measure, contrast), rows in order]


def name_dot(row) -> str:
    """The legend of a dot: a cell type, a resolution, or all cells."""
    return row.label or (f"resolution {row.resolution}" if row.resolution else "all cells")


def draw(table: pd.DataFrame, top: list[int]):
    """A panel per measure and contrast: variants as rows, a dot per cell type or resolution."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    panels = split_panels(table, top)
    names = list(dict.fromkeys(table["variant"]))
    keys = list(dict.fromkeys(name_dot(row) for _, rows in panels for row in rows.itertuples()))
    colours = dict(zip(keys, colormaps["tab20"](np.arange(len(keys)) % 20), strict=True))
    offsets = dict(zip(keys, np.linspace(-0.35, 0.35, len(keys) + 2)[1:-1], strict=True))
    changes = dict(zip(table["variant"], table["changes"], strict=True))
    height = 1.6 + 0.75 * len(names) + 0.2 * (len(keys) // 4 + 1)
    fig = Figure(figsize=(max(5.0, 2.9 + 2.4 * len(panels)), height), layout="constrained")
    axes_of = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0] if panels else []
    handles = {}
    for axes, (title, rows) in zip(axes_of, panels, strict=True):
        for row in rows.itertuples():
            key = name_dot(row)
            place = names.index(row.variant) + offsets[key]
            handles.setdefault(key, axes.scatter(row.value, place, s=24, color=colours[key]))
        is_change = rows["measure"].iloc[0] == "r2"
        axes.axvline(0 if is_change else 1, color="0.6", lw=0.8, ls=":")
        if not is_change:
            axes.set_xlim(min(rows["value"].min(), 0.9) - 0.02, 1.02)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.locator_params(axis="x", nbins=4)
        axes.set(ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), [textwrap.fill(f"{name}: {changes[name]}", 34) for name in names])
        axes.hlines(np.arange(1, len(names)) - 0.5, *axes.get_xlim(), color="0.85", lw=0.8)
    if not panels:
        fig.text(0.5, 0.5, "nothing to compare: see the reasons in stability.tsv", ha="center", va="center")
    else:
        fig.legend(handles.values(), handles, ncols=4, loc="outside lower center", fontsize=7, frameon=False)
    return fig


def read(kind: str, path: str) -> pd.DataFrame:
    """One table with the columns for its comparison."""
    if kind == "prediction":
        return pd.read_csv(path, sep="\t")
    columns = {
        "cells": ["cell", "cell_type", "kept"],
        "effects": ["gene_id", "label", "stat", "pvalue", "padj"],
        "clusters": ["cell", "cluster"],
    }
    return pd.read_parquet(path, columns=columns[kind])


if __name__ == "__main__":
    with job(snakemake) as out:
        settings = dict(snakemake.params.items())
        keys, variants = settings.pop("tables"), settings.pop("variants")
        paths = snakemake.input.tables
        tables = {tuple(key): read(key[1], path) for key, path in zip(keys, paths, strict=True)}
        table = stability(tables, variants, **settings)
        write_tsv(table, out.table)
        save_figure(draw(table, settings["top"]), out.figure)
        for name, rows in table.groupby("variant", sort=False):
            medians = rows.groupby("measure", sort=False)["value"].median()
            print(f"{name}: medians", ", ".join(f"{k} {v:.3f}" for k, v in medians.items()))
        conclude(f"{len(table):,} comparisons of {table['variant'].nunique()} variants with the run")
