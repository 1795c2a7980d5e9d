"""Draw the demo cohort: UMI counts of cells of donors, with planted truth and the traps of real data.

A cell's counts are gamma-Poisson (negative binomial): size x share of the gene in the cell's type
x 2^(effects of age, sex, donor and capture pool), sizes log-normal. The shares are not renormalised after
the effects, so that a planted log2 fold change is the true one. Effects of age are log2 fold changes
per decade. Source of the model: Crowell et al. 2020, Nature Communications 11:6077 (muscat's simData).

Planted besides: doublets (sums of two cells of different types of one donor), dying cells (mitochondrial
counts), red cells (haemoglobin counts), small donors, a rare type, fewer cells in older donors, labels
and symbols that trip pipelines.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from cohort._demo_genes import FEMALE, MALE, PATHWAYS, TYPES, WITHOUT_PATHWAYS, draw_gene_sets, draw_genes
from files import write_tsv
from job import InputError, conclude, job

SHARES = {"mitochondrial": 0.06, "ribosomal": 0.2, "haemoglobin": 0.0005}  # of a healthy cell's counts
DISPERSION, RECEPTOR_DISPERSION = 0.3, 8.0  # of counts between cells of one type in one donor
SMALL = (12, 28)  # cells in the smallest and in the largest of the small donors


class Truth(NamedTuple):
    """What a cohort is drawn from: genes, log2 effects (types, genes), shares (types, genes)."""

    genes: pd.DataFrame
    log2fc_per_decade: np.ndarray
    shares: np.ndarray


def draw_effects(
    rng: np.random.Generator,
    genes: pd.DataFrame,
    *,
    log2fc_per_decade: float,
    pathway_log2fc_per_decade: float,
) -> np.ndarray:
    """Log2 fold change per decade of age, (types, genes); 0 where nothing is planted.

    Sizes vary by a factor of 0.5 to 1.5 around the settings, from type to type and gene to gene.
    """
    size = genes["role"].map({"age": log2fc_per_decade, "pathway": pathway_log2fc_per_decade}).fillna(0)
    moved = np.array([genes["program"].isin(_list_programs(cell_type)) for cell_type in TYPES])
    planted = moved * (size * genes["direction"]).to_numpy()
    return planted * rng.uniform(0.5, 1.5, planted.shape)


def _list_programs(cell_type: str) -> list[str]:
    """The programs that change with age in a cell type."""
    return ["", cell_type, *([] if cell_type == WITHOUT_PATHWAYS else PATHWAYS)]


def draw_shares(rng: np.random.Generator, genes: pd.DataFrame) -> np.ndarray:
    """Share of each gene in a healthy cell's counts, (types, genes); rows sum to 1."""
    role, program = genes["role"].to_numpy(), genes["program"].to_numpy()
    level = rng.normal(0, 1.2, len(genes))  # natural log, as the terms below
    level[np.isin(role, ["marker", "mitochondrial", "ribosomal", "sex"])] *= 0.4
    planted = np.isin(role, ["age", "pathway"])
    level[planted] = 0.5 + 0.6 * level[planted]  # counted often enough to be tested in most types
    level[role == "marker"] -= 1.5
    level[role == "receptor"] = -5
    levels = level + rng.normal(0, 0.3, (len(TYPES), len(genes))) * (role == "background")
    own = program == np.array(list(TYPES))[:, None]
    levels[own & (role == "marker")] += 3
    levels[own & (role == "receptor")] += 5
    shares = np.exp(levels)
    shares /= shares.sum(axis=1, keepdims=True)
    for name, share in SHARES.items():
        shares = set_share(shares, role == name, np.full(len(TYPES), share))
    return shares


def set_share(rates: np.ndarray, chosen: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Rescale rows of rates so that the chosen columns hold the given share; row sums stay."""
    total = rates.sum(axis=1, keepdims=True)
    part = rates[:, chosen].sum(axis=1, keepdims=True)
    share = share[:, None]
    return np.where(chosen, rates * share * total / part, rates * (1 - share) * total / (total - part))


def draw_donors(
    rng: np.random.Generator,
    *,
    donors: int,
    cells_per_donor: float,
    age_range: tuple[float, float],
    cells_lost_per_decade: float,
    small_donors: int,
) -> pd.DataFrame:
    """One row per donor: donor_id, age, sex, pool_number and cells (to draw).

    Ages are spread evenly over age_range in random order; sexes and pools are balanced.
    Raises InputError when the ages are not a range or no donor is left besides the small ones.
    """
    youngest, oldest = age_range
    if not 0 <= youngest < oldest:
        raise InputError(
            f"demo cohort: ages {youngest} to {oldest} are not a range; set simulate.age_range to [low, high]"
        )
    if small_donors >= donors:
        raise InputError(
            f"demo cohort: {small_donors} of {donors} donors are small; lower simulate.small_donors"
        )
    age = rng.permutation(np.linspace(youngest, oldest, donors).round().astype(int))
    mean = cells_per_donor * (1 - cells_lost_per_decade) ** ((age - youngest) / 10)
    cells = np.maximum(np.round(mean * rng.lognormal(0, 0.1, donors)), 1).astype(int)
    small = rng.choice(donors, small_donors, replace=False)
    cells[small] = np.linspace(*SMALL, small_donors).round()
    return pd.DataFrame(
        {
            "donor_id": [f"{600 + number}_{601 + number}" for number in range(donors)],
            "age": age,
            "sex": np.array(["female", "male"])[rng.permutation(np.arange(donors) % 2)],
            "pool_number": np.array(["1", "2"])[rng.permutation(np.arange(donors) % 2)],
            "cells": cells,
        }
    )


def draw_cells(
    rng: np.random.Generator,
    rates: np.ndarray,
    role: np.ndarray,
    state: np.ndarray,
    *,
    counts_per_cell: float,
    counts_sd: float,
) -> np.ndarray:
    """Draw int32 counts (cells, genes) around rates, shares of a healthy cell's counts.

    state: (cells,) names; dying cells have 30 to 70 % mitochondrial counts in half the size, red cells 30 to
    80 % haemoglobin. counts_per_cell is the median size, counts_sd its standard deviation in natural log.
    """
    rates = rates.copy()
    for name, genes, low, high in (
        ("dying", "mitochondrial", 0.3, 0.7),
        ("red_cell", "haemoglobin", 0.3, 0.8),
    ):
        here = state == name
        rates[here] = set_share(rates[here], role == genes, rng.uniform(low, high, here.sum()))
    size = counts_per_cell * rng.lognormal(0, counts_sd, len(rates)) * np.where(state == "dying", 0.5, 1)
    dispersion = np.where(role == "receptor", RECEPTOR_DISPERSION, DISPERSION)
    bursts = rng.standard_gamma(1 / dispersion, size=rates.shape) * dispersion
    return rng.poisson(size[:, None] * rates * bursts).astype(np.int32)


def draw_donor(
    rng: np.random.Generator,
    truth: Truth,
    factor: np.ndarray,
    *,
    cells: int,
    doublet_rate: float,
    dying_rate: float,
    red_cell_rate: float,
    **size_settings: float,
) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    """Draw one donor's cells.

    factor: (types, genes) fold changes of this donor against the shares.
    Returns int32 counts (cells, genes) and one row per cell: cell_type, doublet, dying, red_cell. A doublet
    carries the label of its first cell.
    """

    def draw(kind, state):
        return draw_cells(rng, truth.shares[kind] * factor[kind], role, state, **size_settings)

    role = truth.genes["role"].to_numpy()
    share = np.array([share for share, _ in TYPES.values()])
    share = rng.dirichlet(60 * share)  # donors differ in composition
    states = {"doublet": doublet_rate, "dying": dying_rate, "red_cell": red_cell_rate}
    state = rng.choice([*states, "healthy"], cells, p=[*states.values(), max(0, 1 - sum(states.values()))])
    kind = rng.choice(len(TYPES), cells, p=share)
    counts = draw(kind, state)
    doublet = state == "doublet"
    other = np.where(np.arange(len(TYPES)) == kind[doublet][:, None], 0, share)
    other = np.cumsum(other / other.sum(axis=1, keepdims=True), axis=1)
    partner = (rng.random((len(other), 1)) > other[:, :-1]).sum(axis=1)
    counts[doublet] += draw(partner, np.full(len(partner), "healthy"))
    labels = pd.DataFrame(
        {"cell_type": np.array(list(TYPES))[kind]} | {name: state == name for name in states}
    )
    return sparse.csr_matrix(counts), labels


def draw_cohort(
    truth: Truth,
    donors: pd.DataFrame,
    *,
    sex_log2fc: float,
    donor_sd: float,
    pool_sd: float,
    random_state: int,
    **cell_settings: float,
) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    """Draw all donors: counts (cells, genes) and one row per cell, cells of donors interleaved at random.

    The effect of age is 0 at the middle of the donors' ages. Genes of the other sex are 2^sex_log2fc
    times lower. Raises InputError when the rates of doublets, dying and red cells exceed 1 together.
    """
    rates = [cell_settings[name] for name in ("doublet_rate", "dying_rate", "red_cell_rate")]
    if sum(rates) > 1:
        raise InputError(
            f"demo cohort: doublet, dying and red cells are {sum(rates):g} of all cells; lower "
            "simulate.doublet_rate, simulate.dying_rate or simulate.red_cell_rate"
        )
    rng = np.random.default_rng([random_state, 1])
    symbol = truth.genes["symbol"]
    lost = {"female": symbol.isin(MALE.split()).to_numpy(), "male": symbol.isin(FEMALE.split()).to_numpy()}
    pools = {pool: rng.normal(0, pool_sd, len(symbol)) for pool in sorted(donors["pool_number"].unique())}
    middle = (donors["age"].min() + donors["age"].max()) / 2
    blocks, tables = [], []
    for row in donors.itertuples():
        log2 = truth.log2fc_per_decade * (row.age - middle) / 10 + pools[row.pool_number]
        log2 = log2 + rng.normal(0, donor_sd, len(symbol)) - sex_log2fc * lost[row.sex]
        counts, cells = draw_donor(rng, truth, 2**log2, cells=row.cells, **cell_settings)
        blocks.append(counts)
        stage = f"{row.age}-year-old stage"
        about = {"donor_id": row.donor_id, "age": row.age, "sex": row.sex, "pool_number": row.pool_number}
        tables.append(cells.assign(**about, development_stage=stage))
    order = rng.permutation(sum(len(table) for table in tables))
    cells = pd.concat(tables, ignore_index=True).iloc[order].reset_index(drop=True)
    cells.insert(0, "cell", [f"cell{number:06d}" for number in range(1, len(cells) + 1)])
    return sparse.vstack(blocks, format="csr")[order], cells


def describe_effects(truth: Truth) -> pd.DataFrame:
    """One row per gene and cell type with a planted effect: log2fc_per_decade and pathway ("" if in none)."""
    kind, gene = np.nonzero(truth.log2fc_per_decade)
    genes = truth.genes.iloc[gene].reset_index(drop=True)
    table = genes[["gene_id", "symbol"]].assign(
        cell_type=np.array(list(TYPES))[kind],
        log2fc_per_decade=truth.log2fc_per_decade[kind, gene],
        pathway=genes["program"].where(genes["role"] == "pathway", ""),
    )
    return table.sort_values(["cell_type", "gene_id"], ignore_index=True)


def simulate(*, random_state: int, **settings):
    """Draw truth and cohort from the settings of config section simulate.

    Returns an AnnData (cells, genes) of int32 counts, the gene sets, the gene table, the effects and the
    true state of each cell.
    """
    import anndata as ad

    def take(*names):
        return {name: settings.pop(name) for name in names}

    rng = np.random.default_rng([random_state, 0])
    genes = draw_genes(rng, **take("genes", "age_genes", "pathway_genes"))
    effects = draw_effects(rng, genes, **take("log2fc_per_decade", "pathway_log2fc_per_decade"))
    truth = Truth(genes, effects, draw_shares(rng, genes))
    sizes = take("donors", "cells_per_donor", "age_range", "cells_lost_per_decade", "small_donors")
    donors = draw_donors(rng, **sizes)
    sets = draw_gene_sets(rng, genes)
    counts, cells = draw_cohort(truth, donors, random_state=random_state, **settings)
    obs = cells[["donor_id", "cell_type", "age", "sex", "pool_number", "development_stage"]]
    obs = obs.astype({name: "category" for name in obs.columns.drop("age")})
    var = pd.DataFrame({"feature_name": pd.Categorical(genes["symbol"])})
    # an index of pandas' own strings would be written in an encoding that older readers do not know
    obs.index = pd.Index(cells["cell"].to_numpy(), dtype=object)
    var.index = pd.Index(genes["gene_id"].to_numpy(), dtype=object)
    data = ad.AnnData(counts, obs=obs, var=var)
    states = cells[["cell", "doublet", "dying", "red_cell", "cell_type"]]
    return data, sets, genes, describe_effects(truth), states


if __name__ == "__main__":
    with job(snakemake) as out:
        data, sets, genes, effects, cells = simulate(**snakemake.params)
        data.write_h5ad(out.cohort, compression="gzip")
        with open(out.gene_sets, "w", encoding="utf-8") as handle:
            for name, symbols in sets.items():
                print(name, "simulated", *symbols, sep="\t", file=handle)
        write_tsv(genes, out.genes)
        write_tsv(effects, out.effects)
        cells.to_parquet(out.cells, index=False)
        conclude(
            f"{data.n_obs:,} cells x {data.n_vars:,} genes, "
            f"{data.obs['donor_id'].nunique()} donors, {int(data.X.sum()):,} counts, "
            f"{int(cells['doublet'].sum()):,} doublets, "
            f"{len(effects):,} planted effects"
        )
