"""Make the reference tables of this folder with R: `make oracle`. See README.md.

Reads the real naive CD4 sums and the Hallmark sets of the shared data (SCOHORT_DATA names another folder),
draws the demo cohort by the workflow, runs the R scripts beside this file and stores what they say as
parquet and TSV, with versions, commands and sha256 of all inputs and outputs in oracle.json.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DATA = Path(os.environ.get("SCOHORT_DATA", ROOT.parent / "shared" / "data"))
NAIVE, HALLMARK = "onek1k_naive_cd4_sums_100donors.h5ad", "hallmark_v2026.1.gmt"
DEMO = {"demo_cd4": "CD4-positive, alpha-beta T cell", "demo_b": "B cell"}
MIN_CELLS = 10  # a demo donor needs them in the type
MIN_COUNT = 10  # a gene is tested when this count is reached in this share of samples
MIN_SHARE = {"naive_cd4": 0.2, "demo_cd4": 0.3, "demo_b": 0.3}
GSEA = {"min_size": 15, "max_size": 500, "permutations": 20000, "seed": 1}
POOR = ["s05", "s20", "s31", "s32"]  # samples that are disturbed
PACKAGES = ["base", "DESeq2", "edgeR", "limma", "splines", "statmod"]


def simulated_cohort(folder: Path) -> ad.AnnData:
    """The demo cohort of the default config, made by the workflow in a folder."""
    snakemake = Path(sys.executable).with_name("snakemake")
    command = [
        snakemake,
        "--snakefile",
        ROOT / "workflow/Snakefile",
        "--configfile",
        ROOT / "config/config.yaml",
        ROOT / "config/demo.yaml",
    ]
    subprocess.run([*command, "--cores", "1", "--quiet", "all", "--", "simulate"], cwd=folder, check=True)
    return ad.read_h5ad(folder / "results/simulate/cohort.h5ad")


def naive_sums() -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Counts (genes x donors), donors (age, sex) and symbols of the real naive CD4 sums."""
    sums = ad.read_h5ad(DATA / NAIVE)
    counts = pd.DataFrame(sums.X.toarray().T.astype(np.int64), index=sums.var_names, columns=sums.obs_names)
    samples = pd.DataFrame(
        {"age": sums.obs["age"], "sex": sums.obs["sex_code"].map({0: "male", 1: "female"})}
    )
    return counts, samples, sums.var["feature_name"].astype(str)


def ranked(genes: pd.DataFrame) -> pd.DataFrame:
    """Symbol and Wald statistic of the genes with a p-value; of genes with one symbol the largest |stat|."""
    genes = genes.dropna(subset=["stat", "pvalue"]).assign(size=lambda table: table["stat"].abs())
    genes = genes.sort_values(["size", "gene_id"], ascending=[False, True]).drop_duplicates("symbol")
    return genes.sort_values(["stat", "gene_id"], ascending=[False, True])[["symbol", "stat"]]


def demo_sums(cohort: ad.AnnData, label: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts (genes x donors) of all cells of a type, and donors (age, sex), without those with few."""
    here = cohort[cohort.obs["cell_type"] == label]
    cells = here.obs["donor_id"].astype(str).value_counts()
    donors = sorted(cells.index[cells >= MIN_CELLS])
    of = here.obs["donor_id"].astype(str).to_numpy()
    sums = {donor: np.asarray(here.X[of == donor].sum(axis=0, dtype=np.int64)).ravel() for donor in donors}
    about = here.obs.assign(donor_id=of).drop_duplicates("donor_id").set_index("donor_id").loc[donors]
    return pd.DataFrame(sums, index=here.var_names), about[["age", "sex"]].astype({"sex": str})


def demo_composition(cohort: ad.AnnData) -> pd.DataFrame:
    """Cells per donor and type of the whole demo cohort, long, zeros included."""
    obs = cohort.obs.astype({"donor_id": str, "cell_type": str, "sex": str})
    cells = pd.crosstab(obs["donor_id"], obs["cell_type"])
    cells = cells.melt(ignore_index=False, value_name="cells").rename_axis("donor").reset_index()
    donors = obs.drop_duplicates("donor_id").set_index("donor_id")[["age", "sex"]]
    table = cells.join(donors, on="donor")
    return table.assign(case="demo")[["case", "donor", "age", "sex", "cell_type", "cells"]]


def drawn_composition(case: str, *, types: int, spread: float, random_state: int) -> pd.DataFrame:
    """Cells of 24 donors, long; residual SDs of types vary by spread (natural log), the first has a slope."""
    rng = np.random.default_rng(random_state)
    age, sex = rng.integers(20, 90, 24), rng.permutation(np.repeat(["female", "male"], 12))
    sd = 0.4 * np.exp(spread * rng.standard_normal(types))
    level = rng.normal(0, 0.7, types) + sd * rng.standard_normal((24, types))
    level[:, 0] += 0.02 * (age - age.mean())
    share = np.exp(level)
    counts = rng.multinomial(rng.integers(2000, 4000, 24), share / share.sum(axis=1, keepdims=True))
    rows = [
        (case, f"d{donor:02d}", age[donor], sex[donor], f"type{kind:02d}", counts[donor, kind])
        for donor in range(24)
        for kind in range(types)
    ]
    return pd.DataFrame(rows, columns=["case", "donor", "age", "sex", "cell_type", "cells"])


def drawn_visits(*, genes: int, random_state: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts (genes x samples) and samples of 18 donors with 1 to 4 visits each, who differ between them.

    The first 20 genes change with age, the next 20 with stimulation, which some visits have.
    """
    rng = np.random.default_rng(random_state)
    donor = np.repeat(np.arange(18), np.tile([1, 2, 3, 4, 2, 3], 3))
    visit = pd.Series(donor).groupby(donor).cumcount().to_numpy()
    samples = pd.DataFrame(
        {
            "donor": [f"d{number:02d}" for number in donor],
            "age": rng.integers(20, 80, 18)[donor],
            "sex": np.array(["female", "male"])[donor % 2],
            "condition": np.array(["ctrl", "stim"])[(visit + donor // 2) % 2],
        },
        index=[f"s{number:02d}" for number in range(len(donor))],
    )
    level = rng.normal(4, 1.5, genes) + rng.normal(0, 0.4, (18, genes))[donor]
    level[:, :20] += 0.02 * (samples["age"].to_numpy() - 50)[:, None]
    level[:, 20:40] += 0.8 * (samples["condition"] == "stim").to_numpy()[:, None]
    mean = np.exp(level) * rng.lognormal(0, 0.4, len(donor))[:, None]
    counts = rng.negative_binomial(8, 8 / (8 + mean))
    names = [f"g{number:03d}" for number in range(genes)]
    table = pd.DataFrame(counts.T, index=names, columns=samples.index)
    return table[(table >= MIN_COUNT).mean(axis=1) >= 0.3], samples


def disturb(counts: pd.DataFrame, samples: list[str], *, random_state: int) -> pd.DataFrame:
    """Counts (genes x samples) with noise of 0.8 (natural log) in all genes of some samples."""
    rng, counts = np.random.default_rng(random_state), counts.copy()
    for name in samples:
        counts[name] = rng.poisson(counts[name] * rng.lognormal(0, 0.8, len(counts)))
    return counts


def drawn_groups(*, genes: int, random_state: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts (genes x samples) and samples of 12 donors with two each, 4 of state case.

    Genes are on in some samples only: those of the cases, of one stage, of one half of each donor, or any.
    """
    rng = np.random.default_rng(random_state)
    number = np.arange(24)
    samples = pd.DataFrame(
        {
            "donor": [f"d{place:02d}" for place in number // 2],
            "half": np.array(["first", "second"])[number % 2],
            "state": np.repeat(["case", "control"], [4, 20]),
            "stage": np.repeat(["early", "late", "middle"], [9, 3, 12])[rng.permutation(24)],
            "sex": np.array(["female", "male"])[number // 2 % 2],
            "age": rng.integers(20, 80, 12)[number // 2],
        },
        index=[f"s{place:02d}" for place in number],
    )
    patterns = [
        (samples["state"] == "case").to_numpy(),
        (samples["stage"] == "late").to_numpy(),
        (samples["half"] == "second").to_numpy(),
        *(rng.permutation(24) < on for on in range(1, 13)),
    ]
    on = np.array(patterns)[rng.integers(0, len(patterns), genes)]
    mean = rng.lognormal(3, 1, genes)[:, None] * np.where(on, 1, 0.02) * rng.lognormal(0, 0.3, 24)
    names = [f"g{place:03d}" for place in range(genes)]
    return pd.DataFrame(rng.poisson(mean), index=names, columns=samples.index), samples


class Oracle:
    """Runs R scripts in a folder, stores their tables beside this file and remembers how."""

    def __init__(self, folder: Path):
        self.folder, self.commands, self.inputs, self.outputs = folder, [], {}, {}

    def given(self, name: str, table: pd.DataFrame | None = None) -> str:
        """Note an input by its sha256: a file of the shared data, or a table that is written for R as TSV."""
        path = DATA / name if table is None else self.folder / name
        if table is not None:
            table.to_csv(path, sep="\t", index=False)
        self.inputs[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return str(path)

    def run(self, script: str, *arguments: str | int) -> None:
        """Run an R script in the folder; paths are written down without their folders."""
        names = [Path(str(argument)).name for argument in arguments]
        self.commands.append(" ".join(["Rscript", script, *names]))
        environment = os.environ | {"LC_ALL": "C"}  # R sorts labels by locale
        command = ["Rscript", HERE / script, *map(str, arguments)]
        subprocess.run(command, cwd=self.folder, env=environment, check=True)

    def read(self, name: str) -> pd.DataFrame:
        """Read a TSV that an R script wrote; NA is missing."""
        return pd.read_csv(self.folder / name, sep="\t", keep_default_na=False, na_values=["NA"])

    def keep(self, name: str, table: pd.DataFrame) -> None:
        """Store a table, as TSV or parquet by its name."""
        path = HERE / name
        if path.suffix == ".tsv":
            table.to_csv(path, sep="\t", index=False, na_rep="NA")
        else:
            table.to_parquet(path, index=False, compression="zstd")
        self.outputs[name] = hashlib.sha256(path.read_bytes()).hexdigest()

    def versions(self) -> dict[str, str]:
        """Package -> version, by R itself; base is R."""
        call = r"for (p in commandArgs(TRUE)) cat(p, format(packageVersion(p)), sep = '\t', fill = TRUE)"
        lines = subprocess.run(["Rscript", "-e", call, *PACKAGES], check=True, capture_output=True, text=True)
        return dict(line.split("\t") for line in lines.stdout.splitlines())


def of_sums(oracle: Oracle, case: str, counts: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Run DESeq2 and edgeR's filter on one table of sums; returns DESeq2's Wald table."""
    counts, samples = counts.rename_axis("gene_id"), samples.rename_axis("sample")
    tested = (counts >= MIN_COUNT).mean(axis=1) >= MIN_SHARE[case]
    about = oracle.given(f"{case}.samples.tsv", samples.reset_index())
    some = oracle.given(f"{case}.tested.tsv", counts[tested].reset_index())
    everything = oracle.given(f"{case}.counts.tsv", counts.reset_index())
    deseq2 = [f"{case}.{table}.tsv" for table in ("wald", "lrt", "deseq2_samples", "fit")]
    oracle.run("deseq2.R", some, about, *deseq2)
    oracle.run("edger.R", everything, about, f"{case}.filter.tsv", f"{case}.filter_numbers.tsv")
    for name in ("wald", "lrt", "filter"):
        oracle.keep(f"{case}.{name}.parquet", oracle.read(f"{case}.{name}.tsv"))
    for name in ("deseq2_samples", "fit", "filter_numbers"):
        oracle.keep(f"{case}.{name}.tsv", oracle.read(f"{case}.{name}.tsv"))
    return oracle.read(f"{case}.wald.tsv")


def of_samples(oracle: Oracle, counts: pd.DataFrame, samples: pd.DataFrame) -> None:
    """Run limma with weights of samples on the visits, four of them disturbed."""
    counts = disturb(counts, POOR, random_state=2)
    samples = samples.assign(library=counts.sum()).reset_index()
    counts = counts.reset_index()
    given = [oracle.given("weights.counts.tsv", counts), oracle.given("weights.samples.tsv", samples)]
    oracle.run("weights.R", *given, "weights.genes.tsv", "weights.numbers.tsv", "weights.weights.tsv")
    oracle.keep("weights.sums.parquet", counts)
    weights = oracle.read("weights.weights.tsv")
    oracle.keep("weights.samples.tsv", samples.merge(weights, on="sample"))
    oracle.keep("weights.genes.parquet", oracle.read("weights.genes.tsv"))
    oracle.keep("weights.numbers.tsv", oracle.read("weights.numbers.tsv"))


def main(folder: Path) -> None:
    """Make all tables."""
    oracle = Oracle(folder)
    cohort = simulated_cohort(folder)
    for case, label in DEMO.items():
        counts, samples = demo_sums(cohort, label)
        of_sums(oracle, case, counts, samples)
        oracle.keep(f"{case}.sums.parquet", counts.rename_axis("gene_id").reset_index())
        oracle.keep(f"{case}.donors.tsv", samples.rename_axis("sample").reset_index())

    oracle.given(NAIVE)
    counts, samples, symbols = naive_sums()
    wald = of_sums(oracle, "naive_cd4", counts, samples)
    ranking = ranked(wald.assign(symbol=wald["gene_id"].map(symbols)))
    oracle.keep("gsea.ranking.parquet", ranking)
    oracle.run(
        "gsea.R",
        oracle.given("gsea.ranking.tsv", ranking),
        oracle.given(HALLMARK),
        *GSEA.values(),
        "gsea.terms.tsv",
    )
    oracle.keep("gsea.terms.tsv", oracle.read("gsea.terms.tsv"))

    counts, samples = drawn_visits(genes=400, random_state=1)
    samples["library"] = counts.sum()
    counts, samples = counts.rename_axis("gene_id").reset_index(), samples.rename_axis("sample").reset_index()
    given = [oracle.given("visits.counts.tsv", counts), oracle.given("visits.samples.tsv", samples)]
    oracle.run("voom.R", *given, "visits.genes.tsv", "visits.numbers.tsv")
    oracle.keep("visits.sums.parquet", counts)
    oracle.keep("visits.samples.tsv", samples)
    oracle.keep("visits.genes.parquet", oracle.read("visits.genes.tsv"))
    oracle.keep("visits.numbers.tsv", oracle.read("visits.numbers.tsv"))

    of_samples(oracle, counts.set_index("gene_id"), samples.set_index("sample"))
    counts, samples = drawn_groups(genes=600, random_state=1)
    counts, samples = counts.rename_axis("gene_id").reset_index(), samples.rename_axis("sample").reset_index()
    given = [oracle.given("groups.counts.tsv", counts), oracle.given("groups.samples.tsv", samples)]
    oracle.run("filter.R", *given, "groups.genes.tsv")
    oracle.keep("groups.sums.parquet", counts)
    oracle.keep("groups.samples.tsv", samples)
    oracle.keep("groups.genes.parquet", oracle.read("groups.genes.tsv"))

    composition = pd.concat(
        [
            demo_composition(cohort),
            drawn_composition("3_types", types=3, spread=0.8, random_state=1),
            drawn_composition("20_types", types=20, spread=0.4, random_state=2),
            drawn_composition("infinite_prior_df", types=8, spread=0.0, random_state=2),
        ],
        ignore_index=True,
    )
    oracle.keep("composition.cells.parquet", composition)
    oracle.run("limma.R", oracle.given("composition.cells.tsv", composition), "types.tsv", "prior.tsv")
    oracle.keep("composition.types.tsv", oracle.read("types.tsv"))
    oracle.keep("composition.prior.tsv", oracle.read("prior.tsv"))

    record = {
        "versions": oracle.versions(),
        "gene_filter": {"min_count": MIN_COUNT, "min_count_samples": MIN_SHARE},
        "gsea": GSEA,
        "commands": oracle.commands,
        "inputs_sha256": oracle.inputs,
        "outputs_sha256": oracle.outputs,
    }
    (HERE / "oracle.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
