"""Type I error on real counts: ages of the naive CD4 sums of 100 donors, permuted within sex.

python bench/nulls.py [--data FOLDER] [--permutations 20] [--ways DESeq2 ...]; --draw makes the figure.

A way to test is a contrast and the samples it sees. `visits` are three samples of a donor: the counts of the
donor are split at random, so visits differ by counting noise only and what is special about the donor is in
all three. Their sums are the donor's counts again, so `aggregate: donor` gives the numbers of DESeq2.
Permuted ages have no effect: each gene at FDR 5 % is false, and 5 % of p-values should be below 0.05.
Permutation 0 keeps the ages. Genes: 2,000 of those with 10 counts in 20 % of the donors, drawn once.
Lines go to bench/nulls.tsv, the figure to docs/nulls.png.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from scipy import sparse

from _root import ROOT
from donors._contrast import resolve_contrast
from donors.differential import differential

SUMS = "onek1k_naive_cd4_sums_100donors.h5ad"
TABLE, FIGURE = ROOT / "bench/nulls.tsv", ROOT / "docs/nulls.png"
AGE = {"name": "age", "design": "~ age + sex", "test": "age", "unit": 10}
WAYS = {  # name -> what the contrast has beside AGE, visits of a donor, whether these count as donors
    "DESeq2": ({}, 1, False),
    "voom": ({"block": "donor"}, 1, False),
    "3 visits, block": ({"block": "donor"}, 3, False),
    "3 visits as independent": ({"block": "donor"}, 3, True),
}
GENES = 2000


def read_sums(folder: Path) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Counts (donors, genes), donors (age, sex) and genes (gene_id, symbol) that are tested."""
    sums = ad.read_h5ad(folder / SUMS)
    counts = sums.X.toarray().astype(np.int64)
    tested = (counts >= 10).mean(axis=0) >= 0.2
    obs = pd.DataFrame({"donor": sums.obs_names.astype(str), "age": sums.obs["age"].to_numpy(dtype=float)})
    obs["sex"] = np.where(sums.obs["sex_code"] == 0, "male", "female")
    genes = pd.DataFrame({"gene_id": sums.var_names[tested], "symbol": sums.var["feature_name"][tested]})
    some = np.sort(np.random.default_rng(0).permutation(len(genes))[:GENES])
    return counts[:, tested][:, some], obs, genes.astype(str).iloc[some].reset_index(drop=True)


def permute_ages(obs: pd.DataFrame, number: int) -> pd.DataFrame:
    """Donors with their ages permuted within sex; permutation 0 keeps them."""
    if number == 0:
        return obs
    rng = np.random.default_rng(number)
    ages = obs.groupby("sex")["age"].transform(lambda own: rng.permutation(own.to_numpy()))
    return obs.assign(age=ages)


def split_visits(counts: np.ndarray, obs: pd.DataFrame, visits: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Visits of each donor, who gets 20 to 60 % of the counts in each; sums are the donor's counts."""
    if visits == 1:
        return counts, obs.assign(sample=obs["donor"])
    rng = np.random.default_rng(0)
    parts = rng.dirichlet(np.full(visits, 10.0), len(obs))
    split = rng.multinomial(counts, parts[:, None, :])
    rows = obs.loc[obs.index.repeat(visits)].reset_index(drop=True)
    rows["sample"] = rows["donor"] + "_" + (rows.index % visits).astype(str)
    return np.moveaxis(split, 2, 1).reshape(-1, counts.shape[1]), rows


def measure(way: str, number: int, data: tuple, settings: dict) -> dict:
    """One line: p-values below 0.05 and genes at FDR 5 % of one way in one permutation."""
    (more, visits, independent), (counts, obs, genes) = WAYS[way], data
    counts, rows = split_visits(counts, permute_ages(obs, number), visits)
    if independent:
        rows["donor"] = rows["sample"]
    result = differential(
        sparse.csr_array(counts), genes, rows, resolve_contrast(AGE | more, rows), **settings
    )
    pvalues = result.genes["pvalue"].dropna()
    line = {"way": way, "permutation": number, "samples": len(rows), "genes": len(pvalues)}
    line |= {"below_0.05": (pvalues < 0.05).mean(), "below_0.001": (pvalues < 0.001).mean()}
    return line | {"fdr_5": result.status["significant"], "correlation": result.status["block_correlation"]}


def draw(table: pd.DataFrame) -> Figure:
    """Fraction of p-values below 0.05 in each permutation, and genes at FDR 5 %, by way."""
    permuted = table[table["permutation"] > 0]
    ways = [way for way in WAYS if way in set(permuted["way"])]
    figure, panels = plt.subplots(1, 2, figsize=(9, 1.2 + 0.4 * len(ways)), sharey=True, layout="constrained")
    for axes, column in zip(panels, ("below_0.05", "fdr_5"), strict=True):
        for place, way in enumerate(ways):
            own = permuted.loc[permuted["way"] == way, column]
            axes.plot(own, place + np.linspace(-0.25, 0.25, len(own)), "o", ms=4, color="#0072B2", alpha=0.6)
            axes.plot([own.mean()] * 2, [place - 0.35, place + 0.35], color="#D55E00")
    panels[0].axvline(0.05, color="0.6", linewidth=0.8, zorder=0)
    panels[0].set_yticks(range(len(ways)), ways)
    panels[0].invert_yaxis()
    panels[0].set_xlabel("p-values below 0.05, ages permuted; line: mean")
    panels[1].set_xscale("symlog", linthresh=1)
    panels[1].set_xlim(left=-0.5)
    panels[1].set_xlabel("genes at FDR 5 %, all false")
    return figure


def settings_of(config: Path) -> dict:
    """Settings of the workflow's default config, with the genes as they are."""
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    own = {name: value for name, value in values["differential"].items() if name != "cell_types_per_job"}
    own |= {"min_samples": 8, "shrink": False, "threads": 1, "fdr": 0.05}
    return own | {"gene_filter": "share", "min_count": 1, "min_count_samples": 0.01}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--permutations", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the permutation to begin with")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--draw", action="store_true", help="the figure of bench/nulls.tsv, and no test")
    options = parser.parse_args()
    if options.draw:
        draw(pd.read_csv(TABLE, sep="\t")).savefig(FIGURE, dpi=120, metadata={"Software": None})
        raise SystemExit
    data, settings = read_sums(options.data), settings_of(ROOT / "config/config.yaml")
    for way in options.ways:
        for number in range(options.first, options.permutations + 1):
            line = pd.DataFrame([measure(way, number, data, settings)])
            line.to_csv(
                TABLE, sep="\t", index=False, mode="a", header=not TABLE.exists(), float_format="%.6g"
            )
            print(line.to_string(header=False, index=False), flush=True)
