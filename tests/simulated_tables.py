"""Tables as the workflow publishes them, of any size, with planted answers: the input of the report.

Only what the report reads is there. Some names hold markup on purpose: the page has to show them as they are.
"""

import base64
import json
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import yaml
from scipy import sparse

from workflow.defaults import complete_config

ROOT = Path(__file__).parent.parent
EVIL = '<script>document.title="broken"</script> & "T" cell\'s'  # a label of a cell type
EVIL_GENE = "<img src=x onerror=document.title='broken'>"
PLANTED = "PLANTED1"  # the symbol of the last gene of the table, raised in the first cell type
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
COVARIATES = {"age": "numeric", "sex": "categorical"}


class Tables:
    """Writes every table into a folder and remembers where."""

    def __init__(self, folder: Path, *, types: int, genes: int, samples: int, cells: int, terms: int, seed=1):
        self.folder, self.rng = folder, np.random.default_rng(seed)
        self.labels = [EVIL, *(f"cell type {i}" for i in range(1, types))]
        self.types = [f"type_{i}" for i in range(types)]
        self.genes = [f"ENSG{i:011d}" for i in range(genes)]
        self.symbols = [EVIL_GENE, *(f"GENE{i}" for i in range(1, genes - 1)), PLANTED]
        self.samples = [f"{i:03d}" for i in range(samples)]  # leading zeros must stay
        self.age = np.linspace(20, 90, samples).round()
        self.sex = np.where(np.arange(samples) % 2, "male", "female")
        self.cells, self.terms = cells, terms
        self.places, self.sources = [], []

    def add(self, kind: str, table, suffix: str, *, values=None, first=True) -> None:
        """Write one file and note what it is; not first: one more part of the table before."""
        path = self.folder / f"{len(self.sources):04d}_{kind}.{suffix}"
        if suffix == "tsv":
            table.to_csv(path, sep="\t", index=False)
        elif suffix == "parquet":
            table.to_parquet(path, index=False)
        elif suffix == "json":
            path.write_text(json.dumps(table))
        else:
            table.write_h5ad(path)
        self.sources.append(str(path))
        if first:
            self.places.append({"kind": kind, "values": values or {}, "parts": 0})
        self.places[-1]["parts"] += 1

    def cohort(self) -> None:
        """Cells, samples and what was lost."""
        n, rng = self.cells, self.rng
        sample, label = rng.integers(len(self.samples), size=n), rng.integers(len(self.labels), size=n)
        step = rng.choice(["", "qc", "doublets"], size=n, p=[0.9, 0.06, 0.04])
        self.table = pd.DataFrame(
            {
                "cell": [f"cell{i}" for i in range(n)],
                "sample": np.array(self.samples)[sample],
                "donor": np.array(self.samples)[sample],
                "cell_type": np.array(self.labels)[label],
                "pool": np.array([f"pool {i % 4}" for i in range(len(self.samples))])[sample],
                "shard": "00",
                "n_genes_by_counts": rng.lognormal(6, 0.4, n).round(),
                "total_counts": rng.lognormal(7, 0.5, n).round(),
                "pct_counts_in_top_20_genes": rng.uniform(10, 40, n),
                "pct_counts_mt": rng.gamma(2, 2, n),
                "pct_counts_ribo": rng.uniform(5, 30, n),
                "pct_counts_hb": np.zeros(n),
                "doublet_score": rng.beta(1, 9, n),
                "doublet": step == "doublets",
                "scored": True,
                "kept": step == "",
                "step": step,
                "reason": np.select([step == "qc", step == "doublets"], ["max_pct_mt", "doublet"], ""),
            }
        )
        self.add("cells", self.table, "parquet")
        self.add("samples", self.sample_table(), "tsv")
        self.add("attrition", self.attrition(), "tsv")
        self.add("warnings", self.warnings(), "tsv")
        names = pd.DataFrame({"id": self.types, "label": self.labels, "samples": len(self.samples)})
        names = names.assign(cells=100, tested=True, reason="")
        rare = {"id": "rare", "label": "rare <b>type</b>", "samples": 1, "cells": 3, "tested": False}
        names.loc[len(names)] = rare | {"reason": "too_few_samples"}
        self.add("cell_types", names, "tsv")
        genes = pd.DataFrame({"gene_id": self.genes, "symbol": self.symbols, "duplicated_symbol": False})
        self.add("genes", genes.assign(counts=10, cells=5), "parquet")
        self.add(
            "cohort_facts",
            {"files": [{"name": "cohort"}], "cells": {}, "counts": {}, "genes": {}, "species": "human"},
            "json",
        )

    def sample_table(self) -> pd.DataFrame:
        cells = self.table["sample"].value_counts().reindex(self.samples, fill_value=0).to_numpy()
        table = pd.DataFrame({"sample": self.samples, "donor": self.samples, "cells": cells, "kept": True})
        return table.assign(reason="", age=self.age, sex=self.sex)

    def warnings(self) -> pd.DataFrame:
        """Two warnings, one of a label that is markup, and one that the config accepts."""
        return pd.DataFrame(
            {
                "code": ["values_not_parsed", "pattern_matches_nothing", "genes_not_converged"],
                "step": ["load", "qc", "differential"],
                "message": ["age is missing where it is 90+", "no gene symbol matches", f"age, {EVIL}"],
                "number": [12, None, 3],
                "setting": ["load.covariates", "qc.patterns.mt", ""],
                "accepted": [False, True, False],
            }
        ).astype({"number": "Int64"})

    def sample_checks(self) -> None:
        """The first sample shows another sex, looks like the second one, and lies far out."""
        n = len(self.samples)
        table = self.sample_table()[["sample", "donor"]].assign(
            cells_in=100, doublets=4, cells=90, counts=9000
        )
        table = table.assign(share_lost=0.1, pct_counts_mt=5.5, types_used=2, used_in=EVIL, genes=800)
        table = table.assign(female_counts=3, male_counts=30, log2_ratio=-3.0, sex_shown="male")
        table = table.assign(sex_stated=self.sex, sex_check=np.where(np.arange(n) % 2, "agrees", "undecided"))
        table = table.assign(nearest=np.roll(self.samples, 1), nearest_z=2.5, outlying_in="")
        table.loc[0, ["sex_check", "outlying_in"]] = ["contradicts", "type_0"]
        self.add("sample_summary", table, "tsv")
        pair = {"sample": self.samples[0], "other": self.samples[1], "z": 12.5, "third": 2.0, "limit": 4.5}
        pair |= {"same_donor": False, "check": "alike", "control": "none"}
        self.add("sample_pairs", pd.DataFrame([pair]), "tsv")
        picture = base64.b64decode(PIXEL)
        (self.folder / "sex.png").write_bytes(picture)

    def attrition(self) -> pd.DataFrame:
        rows = []
        joined = self.table.merge(self.sample_table()[["sample", "sex"]], on="sample")
        for stratum in ("all", "sex"):
            for level, part in joined.groupby(np.array(["all"] * len(joined)) if stratum == "all" else "sex"):
                base = {"stratum": stratum, "level": level, "samples_lost": 0}
                rows.append(
                    base | {"step": "input", "reason": "", "cells": len(part), "samples": len(self.samples)}
                )
                for (step, reason), lost in part[~part["kept"]].groupby(["step", "reason"]):
                    rows.append(base | {"step": step, "reason": reason, "cells": len(lost), "samples": 1})
                kept = int(part["kept"].sum())
                rows.append(
                    base | {"step": "kept", "reason": "", "cells": kept, "samples": len(self.samples)}
                )
        return pd.DataFrame(rows)

    def embedding(self) -> None:
        """UMAP, clusters, their agreement and markers; one blob per type."""
        kept = self.table[self.table["kept"]]
        number = kept["cell_type"].map({label: i for i, label in enumerate(self.labels)}).to_numpy()
        angle = 2 * np.pi * number / len(self.labels)
        noise = self.rng.normal(scale=0.25, size=(len(kept), 2))
        points = pd.DataFrame({"cell": kept["cell"], "UMAP1": 5 * np.cos(angle) + noise[:, 0]})
        points = points.assign(UMAP2=5 * np.sin(angle) + noise[:, 1])
        points.to_parquet(self.folder / "umap.parquet", index=False)
        clusters = pd.DataFrame({"cell": kept["cell"], "cluster": number.astype(str)})
        clusters.to_parquet(self.folder / "clusters.parquet", index=False)
        agreement = {
            "resolution": 1.0,
            "clusters": len(self.labels),
            "ari": 1.0,
            "nmi": 1.0,
            "cells": len(kept),
            "cells_without_label": 0,
        }
        self.add("clusters_agreement", pd.DataFrame([agreement]), "tsv", values={"resolution": "1.0"})
        markers = pd.DataFrame(
            [
                {
                    "cluster": str(i),
                    "rank": k,
                    "gene_id": self.genes[k],
                    "symbol": self.symbols[k],
                    "reason": "",
                }
                for i in range(len(self.labels))
                for k in range(5)
            ]
        )
        self.add("markers", markers, "parquet", values={"resolution": "1.0"})

    def numbers(self) -> pd.DataFrame:
        """How the answer depends on the number of hidden factors; the contrast asks for one."""
        table = pd.DataFrame({"factors": [0, 1, 2], "in_contrast": [False, True, False]})
        return table.assign(
            significant=[4, 9, 8], shared=[4, 9, 8], correlation=[0.8, 1, 0.9], vif=1.2, variance=0.1
        )

    def contrast(self, name: str) -> None:
        """Tests of every type, gene sets, synthesis and composition; the planted gene is first in type_0."""
        values = {"contrast": name}
        tables = [self.tested(i) for i in range(len(self.types))]
        left_out = {"gene_id": "ENSG_low", "symbol": "LOW", "counts": 3, "samples_with_count": 0}
        left_out |= {"samples_needed": 4.0, "threshold": 90.0, "reason": "few_samples_with_count"}
        used = pd.DataFrame({"sample": self.samples, "used": True, "reason": "", "size_factor": 2.0})
        for kind, suffix, made in (
            ("differential_samples", "tsv", [used] * len(self.types)),
            ("differential_factors", "tsv", [self.numbers()] * len(self.types)),
            ("differential", "parquet", tables),
            ("differential_filtered", "parquet", [pd.DataFrame([left_out])] * len(self.types)),
            ("differential_status", "tsv", [self.status(name, i, t) for i, t in enumerate(tables)]),
        ):
            for i, table in enumerate(made):
                part = table.assign(cell_type=self.types[i])
                self.add(kind, part, suffix, values=values, first=i == 0)
        self.add("gsea", self.gsea(), "parquet", values=values)
        status = [
            {"cell_type": name, "label": label, "collection": "c"}
            for name, label in zip(self.types, self.labels, strict=True)
        ]
        self.add(
            "gsea_status", pd.DataFrame(status).assign(status="tested", sets=self.terms), "tsv", values=values
        )
        effects = pd.concat(
            [
                t.assign(cell_type=name, label=label, padj_all=t["padj"])
                for t, name, label in zip(tables, self.types, self.labels, strict=True)
            ]
        )
        self.add("synthesis_effects", effects, "parquet", values=values)
        self.add("synthesis_genes", self.synthesis(effects), "tsv", values=values)
        shares = pd.DataFrame({"cell_type": self.labels, "samples": len(self.samples), "odds_ratio": 1.1})
        shares = shares.assign(low=0.9, high=1.3, pvalue=0.2, padj=0.4)
        self.add("composition", shares, "tsv", values=values)
        about = {"contrast": name, "status": "tested", "message": "", "samples_used": len(self.samples)}
        self.add("composition_status", pd.DataFrame([about]), "tsv", values=values)

    def tested(self, i: int) -> pd.DataFrame:
        """Genes of one type; a tenth have an effect, some no p-value."""
        rng, n = self.rng, len(self.genes)
        effect = np.where(
            rng.uniform(size=n) < 0.1, rng.normal(scale=0.5, size=n), rng.normal(scale=0.1, size=n)
        )
        se = rng.uniform(0.05, 0.2, n)
        stat = effect / se
        pvalue = np.clip(2 * np.exp(-0.5 * stat**2 - np.abs(stat) * 0.3), 1e-30, 1)
        if i == 0:
            effect[-1], pvalue[-1] = 1.25, 1e-40
        pvalue[3] = np.nan
        order = np.argsort(np.argsort(np.nan_to_num(pvalue, nan=2)))
        padj = np.minimum(pvalue * n / (order + 1), 1)
        table = pd.DataFrame(
            {"gene_id": self.genes, "symbol": self.symbols, "baseMean": rng.lognormal(3, 1, n)}
        )
        return table.assign(log2FoldChange=effect, lfcSE=se, stat=stat, pvalue=pvalue, padj=padj)

    def status(self, name: str, i: int, table: pd.DataFrame) -> pd.DataFrame:
        found = table["padj"] < 0.05
        row = {
            "contrast": name, "cell_type": self.types[i], "label": self.labels[i], "status": "tested",
            "message": "", "samples": len(self.samples), "samples_used": len(self.samples),
            "genes": len(table) + 1, "genes_tested": len(table), "design": "~ age + sex",
            "coefficient": "age", "effect": "per 10 of age", "unit": 10.0, "test": "Wald",
            "size_factors": "ratio", "size_factor_genes": 40,
            "trend": "parametric", "filter_threshold": 1.5, "residual_df": len(self.samples) - 3, "vif": 1.0,
            "fdr": 0.05, "significant": found.sum(), "up": (found & (table["log2FoldChange"] > 0)).sum(),
            "down": (found & (table["log2FoldChange"] < 0)).sum(), "without_pvalue": 1, "not_converged": 0,
        }  # fmt: skip
        return pd.DataFrame([row])

    def gsea(self) -> pd.DataFrame:
        n, rng = self.terms, self.rng
        edge = ";".join(self.symbols[:20])
        parts = []
        for name, label in zip(self.types, self.labels, strict=True):
            part = pd.DataFrame({"term": [f"SET_{k}" for k in range(n)], "cell_type": name, "label": label})
            part = part.assign(
                nes=rng.normal(size=n), pvalue=rng.uniform(size=n), fdr=rng.uniform(0.01, 1, n)
            )
            part = part.assign(size=30, matched=25, leading_edge=edge, representative=True, collection="c")
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def synthesis(self, effects: pd.DataFrame) -> pd.DataFrame:
        found = effects.assign(found=effects["padj"] < 0.05)
        genes = found.groupby(["gene_id", "symbol"]).agg(
            tested=("found", "size"), significant=("found", "sum")
        )
        genes = genes.reset_index().assign(
            up=genes["significant"].to_numpy(), down=0, cell_types="x;y", max_abs_stat=1.0
        )
        genes["pattern"] = np.select(
            [genes["significant"] > 1, genes["significant"] == 1], ["shared", "single"], "none"
        )
        return genes.sort_values("significant", ascending=False)

    def sums(self) -> None:
        """Counts of all types; only genes that some type has among its first hundred are not 0."""
        n, types = len(self.samples), len(self.types)
        obs = pd.DataFrame(
            {"cell_type": np.repeat(self.types, n), "sample": np.tile(self.samples, types)}
        ).astype(object)
        chosen = set()
        for path in (p for p in self.sources if "_differential." in p):
            chosen |= set(pd.read_parquet(path).nsmallest(100, "pvalue")["gene_id"])
        columns = np.flatnonzero(np.isin(self.genes, list(chosen)))
        mean = self.rng.lognormal(5, 0.7, len(columns))
        values = self.rng.poisson(mean, size=(n * types, len(columns)))
        matrix = sparse.lil_array((n * types, len(self.genes)), dtype=np.int64).tocsr()
        parts = sparse.csr_array(values)
        matrix = sparse.csr_array((parts.data, columns[parts.indices], parts.indptr), shape=matrix.shape)
        if PLANTED in self.symbols:  # the planted gene counts 7 in the first sample of the first type
            row = matrix[[0]].tolil()
            row[0, len(self.genes) - 1] = 7
            matrix = sparse.vstack([row.tocsr(), matrix[1:]]).tocsr()
        var = pd.DataFrame(
            {"symbol": np.array(self.symbols, dtype=object)}, index=np.array(self.genes, dtype=object)
        )
        data = ad.AnnData(matrix, obs=obs.set_axis([f"s{i}" for i in range(len(obs))]), var=var)
        self.add("sums", data, "h5ad")

    def prediction(self) -> None:
        """Predictions of age for every type; the last one has none."""
        n, names = len(self.samples), list(zip(self.types, self.labels, strict=True))
        common = {"target": "age", "samples": n, "donors": n}
        done = {"status": "predicted", "reason": "", "alpha": 10.0, "alpha_edge": "", "permutations": 20}
        done |= {
            "best_baseline": "technical",
            "pvalue": 0.01,
            "padj": 0.02,
            "supported": True,
            "null_r2": -0.1,
        }
        done |= {"conditions_not_met": "", "kind": "number", "level": "", "reference": ""}
        done |= {"null_r2_low": -0.3, "null_r2_high": 0.05}
        numbers = (("gain_mae", 3.5), ("gain_r2", 0.3), ("r2", 0.5), ("mae", 9.0), ("rmse", 11.0))
        done |= {name: value for key, v in numbers for name, value in interval(key, v).items()}
        summary = [common | done | {"cell_type": name, "label": label} for name, label in names[:-1]]
        last = {"cell_type": names[-1][0], "label": names[-1][1], "status": "skipped"}
        last |= {"conditions_not_met": "", "kind": "number"}
        summary.append(common | last | {"reason": "too_few_samples"})
        self.add("prediction_summary", pd.DataFrame(summary), "tsv")
        types = [name for name, _ in names[:-1]]
        self.add("prediction_scores", pd.DataFrame([s for name in types for s in scores(name)]), "tsv")
        predicted = 30 + 0.5 * self.age + self.rng.normal(scale=4, size=(len(types), n))
        base = {"sample": self.samples, "donor": self.samples, "observed": self.age}
        base |= {"expected": 30 + 0.5 * self.age, "corrected_gap": 0.0}
        gaps = [
            pd.DataFrame({"cell_type": name, **base, "predicted": each, "gap": each - self.age})
            for name, each in zip(types, predicted, strict=True)
        ]
        self.add("prediction_gaps", pd.concat(gaps), "tsv")
        null = [
            {"cell_type": name, "permutation": i, "r2": -0.1 + i / 100} for name in types for i in range(20)
        ]
        self.add("prediction_null", pd.DataFrame(null), "tsv")

    def rest(self) -> None:
        """What the report reads that is no published table: limits, doublets, provenance."""
        limits = pd.DataFrame(
            {"sample": self.samples, "cells": 100, "mads": True, "min_counts": 100.0, "max_pct_mt": 20.0}
        )
        limits["mad_low_counts"] = np.linspace(200, 300, len(limits))
        limits.to_csv(self.folder / "limits.tsv", sep="\t", index=False)
        groups = pd.DataFrame(
            {"group": self.samples, "cells": 100, "status": "scored", "reason": "", "threshold": 0.3}
        )
        groups = groups.assign(
            threshold_from="automatic",
            called=4.0,
            called_share=0.04,
            automatic_share=0.04,
            expected_doublet_rate=0.06,
        )
        groups.loc[0, ["status", "reason", "threshold_from"]] = ["not_run", "too_few_cells", ""]
        groups.loc[0, ["threshold", "called", "called_share"]] = np.nan
        groups.to_csv(self.folder / "doublets.tsv", sep="\t", index=False)
        config = complete_config(ROOT, [])
        provenance = {"workflow_version": "0.0.0", "licence": "MIT", "citation": "Cite it.", "commit": None}
        provenance |= {"dirty": None, "code_sha256": "c" * 64}
        provenance |= {"lock_sha256": None, "config_sha256": "d" * 64, "config": config, "random_state": 1}
        provenance |= {"python": "3.12", "packages": {"numpy": "2"}}
        (self.folder / "provenance.json").write_text(json.dumps(provenance))


def interval(name: str, value: float) -> dict[str, float]:
    """A number with an interval around it."""
    return {name: value, f"{name}_low": value - 0.2, f"{name}_high": value + 0.2}


def scores(cell_type: str) -> list[dict]:
    """Scores of two penalties, of the chosen one, and of two baselines."""
    models = [("expression", "1.0", 0.4), ("expression", "10.0", 0.5), ("expression", "chosen", 0.5)]
    models += [("mean", "chosen", -0.02), ("technical", "chosen", 0.2)]
    return [
        {"cell_type": cell_type, "model": model, "alpha": alpha}
        | interval("r2", r2)
        | interval("mae", 20 * (1 - r2))
        | interval("rmse", 24 * (1 - r2))
        | interval("pearson", r2)
        for model, alpha, r2 in models
    ]


def write(folder: Path, **sizes) -> tuple[SimpleNamespace, SimpleNamespace]:
    """All tables of a cohort in a folder; returns the inputs and params of rule report."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Tables(folder, **sizes)
    made.cohort()
    made.sample_checks()
    made.embedding()
    made.contrast("age")
    made.sums()
    made.prediction()
    made.rest()
    paths = SimpleNamespace(
        files=made.sources,
        limits=[str(folder / "limits.tsv")],
        doublets=[str(folder / "doublets.tsv")],
        sample_figures=[str(folder / "sex.png")],
        umap=str(folder / "umap.parquet"),
        clusters=[str(folder / "clusters.parquet")],
        stability=[],
        provenance=str(folder / "provenance.json"),
    )
    contract = yaml.safe_load((ROOT / "workflow/schemas/publish.yaml").read_text())
    settings = yaml.safe_load((ROOT / "config/config.yaml").read_text())["report"]
    params = SimpleNamespace(
        **settings | {"title": "Simulated <cohort>"},
        files=made.places,
        published=[{"kind": "cells", "path": "cells.parquet"}, {"kind": "report", "path": "report.html"}],
        contract=contract,
        covariates=COVARIATES,
        pool=True,
        gsea_fdr=0.05,
        synthesis_fdr=0.05,
        resolutions=["1.0"],
    )
    return paths, params
