"""The numbers of a benchmark cohort: genes, donors, cells and counts, a block of cells at a time.

A cell's counts are a multinomial draw from the profile of its cell type in its donor: log-normal expression,
programs of lineages and types, effects of pool, donor, sex and age. Sizes follow OneK1K (Yazar et al. 2022,
Science 376:eabf3041): 1,273 cells a donor, 13 donors a pool, about 1,000 of 35,000 genes seen in a cell.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

TYPES = {  # label -> lineage, the most frequent first; 20 types that a cohort of this shape can test
    "central memory CD4-positive, alpha-beta T cell": "T",
    "naive thymus-derived CD4-positive, alpha-beta T cell": "T",
    "natural killer cell": "NK",
    "effector memory CD8-positive, alpha-beta T cell": "T",
    "naive B cell": "B",
    "naive thymus-derived CD8-positive, alpha-beta T cell": "T",
    "CD14-positive monocyte": "myeloid",
    "memory B cell": "B",
    "effector memory CD4-positive, alpha-beta T cell": "T",
    "gamma-delta T cell": "T",
    "regulatory T cell": "T",
    "transitional stage B cell": "B",
    "CD14-low, CD16-positive monocyte": "myeloid",
    "central memory CD8-positive, alpha-beta T cell": "T",
    "mucosal invariant T cell": "T",
    "CD4-positive, alpha-beta cytotoxic T cell": "T",
    "CD16-negative, CD56-bright natural killer cell, human": "NK",
    "NKT/T cell": "NK",
    "conventional dendritic cell": "myeloid",
    "double negative thymocyte": "T",
}
RARE = {  # too few cells per donor to be tested
    "plasmablast": "B",
    "plasmacytoid dendritic cell": "myeloid",
    "platelet/megakaryocyte": "progenitor",
    "erythrocyte": "progenitor",
}
RARE_SHARE = 0.0005  # of all cells, each
SMALLEST_SHARE = 0.012  # of all cells: the least frequent tested type, 15 cells of an average donor

MT = [f"MT-ND{number}" for number in ("1", "2", "3", "4", "4L", "5", "6")]
MT += [f"MT-CO{number}" for number in (1, 2, 3)] + ["MT-ATP6", "MT-ATP8", "MT-CYB"]
RIBO = [f"RPL{number}" for number in range(3, 42)] + [f"RPS{number}" for number in range(2, 30)]
HB = ["HBA1", "HBA2", "HBB", "HBD", "HBG1", "HBG2", "HBM", "HBQ1", "HBZ"]
SEGMENTS = [f"TR{chain}V{number}" for chain in "AB" for number in range(1, 31)]
SEGMENTS += [f"IG{chain}V{number}-{number}" for chain in ("H", "K", "L") for number in range(1, 21)]
DECOYS = ["HBEGF", "HBS1L", "RPS6KA1", "TRADD"]  # look like a nuisance gene and are none
SHARES = {"MT": (MT, 0.04), "RIBO": (RIBO, 0.25), "HB": (HB, 0.0005), "SEGMENTS": (SEGMENTS, 0.003)}

LOG_SD = 2.4  # natural log, spread of expression over genes; OneK1K's naive CD4 sums have 2 to 3
EXPRESSED = 0.35  # share of genes, the strongest, that programs and effects may touch
AGE_GENES, SEX_GENES = 300, 20  # per cell type; in all
AGE_SD, DONOR_SD, TYPE_SD, POOL_SD = 0.08, 0.15, 0.10, 0.10  # natural log; age is per decade
MEAN_COUNTS, COUNTS_SD = 2300, 0.35  # of a cell; natural log
DOUBLETS, DYING = 0.05, 0.02  # shares of cells


@dataclass(frozen=True)
class Model:
    """What is the same in every cell of a type."""

    labels: list[str]
    shares: np.ndarray  # (types,) of all cells
    weights: np.ndarray  # (types, genes) natural log of expression
    slopes: np.ndarray  # (types, genes) natural log per decade of age
    sex: np.ndarray  # (genes,) natural log, added in one sex
    counts: np.ndarray  # (types,) mean counts of a cell


def gene_table(n_genes: int) -> pd.DataFrame:
    """Ensembl-like ids (index) and symbols (`feature_name`), with the symbols that QC looks for."""
    known = [*MT, *RIBO, *HB, *SEGMENTS, *DECOYS, "XIST", "RPS4Y1"]
    if n_genes < 2 * len(known):
        raise ValueError(f"genes: {n_genes}, at least {2 * len(known)} needed; raise --genes")
    symbols = known + [f"GENE{number}" for number in range(1, n_genes - len(known) + 1)]
    ids = [f"ENSG{number:011d}" for number in range(n_genes)]
    # object, not pandas' str: anndata writes that in a way which files of CELLxGENE do not have
    return pd.DataFrame({"feature_name": symbols}, index=pd.Index(ids, dtype=object), dtype=object)


def model(symbols: list[str], seed: int) -> Model:
    """Draw profiles of all cell types over genes with these symbols."""
    rng = np.random.default_rng([seed, 0])
    place = {symbol: column for column, symbol in enumerate(symbols)}
    base = rng.normal(0, LOG_SD, len(symbols))
    special = [place[symbol] for names, _ in SHARES.values() for symbol in names]
    expressed = np.setdiff1d(np.argsort(-base)[: int(EXPRESSED * len(symbols))], special)
    sex = np.zeros(len(symbols))
    sex[rng.choice(expressed, SEX_GENES, replace=False)] = rng.normal(0, 1, SEX_GENES)
    sex[[place["XIST"], place["RPS4Y1"]]] = 5, -5
    return Model(
        labels=[*TYPES, *RARE],
        shares=_shares(),
        weights=_weights(base, expressed, place, rng),
        slopes=_slopes(len(base), expressed, rng),
        sex=sex,
        counts=MEAN_COUNTS * rng.uniform(0.8, 1.2, len(TYPES) + len(RARE)),
    )


def _shares() -> np.ndarray:
    """Share of each type in all cells, falling from about 18 to about 2 percent, then the rare ones."""
    sizes = np.geomspace(15, 1, len(TYPES))
    free = 1 - len(TYPES) * SMALLEST_SHARE - len(RARE) * RARE_SHARE
    return np.concatenate([SMALLEST_SHARE + free * sizes / sizes.sum(), np.full(len(RARE), RARE_SHARE)])


def _weights(base, expressed, place, rng) -> np.ndarray:
    """Natural log of expression per type: base, lineage and type programs, fixed shares of known genes."""
    lineages = [*TYPES.values(), *RARE.values()]
    programs = {
        lineage: _program(len(base), expressed, 0.02, 1.0, rng) for lineage in dict.fromkeys(lineages)
    }
    own = [_program(len(base), expressed, 0.01, 1.5, rng) for _ in lineages]
    weights = base + np.stack([programs[lineage] for lineage in lineages]) + np.stack(own)
    special = [place[symbol] for names, _ in SHARES.values() for symbol in names]
    rest = np.log(np.exp(np.delete(weights, special, axis=1)).sum(axis=1, keepdims=True))
    for names, share in SHARES.values():
        parts = rng.lognormal(0, 0.7, len(names))
        weights[:, [place[name] for name in names]] = rest + np.log(share * parts / parts.sum())
    weights[len(TYPES) + list(RARE).index("erythrocyte"), [place[symbol] for symbol in HB]] += 7
    return weights


def _slopes(n_genes, expressed, rng) -> np.ndarray:
    """Natural log per decade: some genes of each type's own, and genes that move alike in all types."""
    shared = rng.choice(expressed, AGE_GENES // 3, replace=False)
    slopes = np.zeros((len(TYPES) + len(RARE), n_genes))
    for row in slopes:
        own = rng.choice(expressed, AGE_GENES - len(shared), replace=False)
        row[own] = rng.normal(0, AGE_SD, len(own))
    slopes[:, shared] = AGE_SD * np.where(np.arange(len(shared)) % 2, 1.5, -1.5)
    return slopes


def _program(n_genes, expressed, share, height, rng) -> np.ndarray:
    """A set of expressed genes that are higher by about `height` (natural log), zero elsewhere."""
    program = np.zeros(n_genes)
    size = int(share * len(expressed))
    program[rng.choice(expressed, size, replace=False)] = np.abs(rng.normal(height, height / 3, size))
    return program


def donor_table(cells: int, donors: int, seed: int) -> pd.DataFrame:
    """One row per donor: donor_id, pool_number, age, sex, cells (they add up); one in 50 is small."""
    rng = np.random.default_rng([seed, 1])
    pools = max(2, -(-donors // 13))
    weights = rng.lognormal(0, 0.35, donors)
    weights[rng.choice(donors, donors // 50 + (donors >= 12), replace=False)] *= 0.02
    return pd.DataFrame(
        {
            "donor_id": [f"{number}_{number + 1}" for number in range(1000, 1000 + donors)],
            "pool_number": [str(1 + donor * pools // donors) for donor in range(donors)],
            "age": np.clip(rng.normal(62, 17, donors), 19, 97).astype(int),
            "sex": rng.choice(["female", "male"], donors),
            "cells": rng.multinomial(cells, weights / weights.sum()),
        }
    )


def cell_table(donors: pd.DataFrame, model: Model, seed: int) -> pd.DataFrame:
    """One row per cell in file order: pool after pool, the donors of a pool mixed.

    Columns: donor and type (row numbers of donors and of the model), counts, and for a doublet the type and
    counts of its second cell (-1 and 0 for others); dying cells have `mt` counts more.
    """
    rng = np.random.default_rng([seed, 2])
    donor = np.repeat(np.arange(len(donors)), donors["cells"])
    pool = donors["pool_number"].astype(int).to_numpy()[donor]
    donor = donor[np.lexsort((rng.random(len(donor)), pool))]
    mixes = np.stack([rng.dirichlet(60 * model.shares) for _ in range(len(donors))]).cumsum(axis=1)

    def types(donor):
        draws = (rng.random(len(donor))[:, None] > mixes[donor]).sum(axis=1)
        return np.minimum(draws, len(model.labels) - 1)

    def sizes(type_):
        spread = rng.lognormal(-(COUNTS_SD**2) / 2, COUNTS_SD, len(type_))
        return (model.counts[type_] * spread).astype(np.int64) + 1

    cells = pd.DataFrame({"donor": donor, "type": types(donor)})
    cells["counts"] = sizes(cells["type"])
    second = types(donor)
    double = rng.random(len(cells)) < DOUBLETS
    cells["second_type"] = np.where(double, second, -1)
    cells["second_counts"] = np.where(double, sizes(second), 0)
    dying = rng.random(len(cells)) < DYING
    cells["mt"] = np.where(dying, cells["counts"] // 2, 0)
    return cells


def counts(
    cells: pd.DataFrame, donors: pd.DataFrame, model: Model, symbols: list[str], seed: int, block: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of a block of cells as CSR: data (float32), indices (int32, ascending in a row), row lengths.

    Every cell has exactly its counts. Rows x genes must stay below 2^32.
    """
    n_genes = len(symbols)
    if len(cells) * n_genes >= 2**32:
        raise ValueError(f"block of {len(cells)} cells x {n_genes} genes passes 2^32; make blocks smaller")
    rng = np.random.default_rng([seed, 3, block])
    rows = np.arange(len(cells))
    parts = pd.DataFrame(
        {
            "row": np.concatenate([rows, rows]),
            "donor": np.concatenate([cells["donor"], cells["donor"]]),
            "type": np.concatenate([cells["type"], cells["second_type"]]),
            "size": np.concatenate([cells["counts"], cells["second_counts"]]),
        }
    )
    keys = np.empty(parts["size"].sum() + cells["mt"].sum(), dtype=np.uint32)
    end = 0
    for donor, of_donor in parts[parts["size"] > 0].groupby("donor"):
        effect = _donor_effect(donors.iloc[donor], donor, n_genes, model, seed)
        for type_, group in of_donor.groupby("type"):
            own = np.random.default_rng([seed, 4, donor, type_]).normal(0, TYPE_SD, n_genes)
            decades = (donors["age"].iloc[donor] - 60) / 10
            expression = np.exp(model.weights[type_] + model.slopes[type_] * decades + effect + own)
            start, end = end, end + group["size"].sum()
            _fill(keys[start:end], group["row"], group["size"], expression, rng)
    mt = np.zeros(n_genes)
    mt[[symbols.index(symbol) for symbol in MT]] = 1
    _fill(keys[end:], rows, cells["mt"], mt, rng)
    keys.sort()
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    data = np.diff(np.append(first, len(keys))).astype(np.float32)
    row, gene = np.divmod(keys[first], np.uint32(n_genes))
    return data, gene.astype(np.int32), np.bincount(row, minlength=len(cells))


def _donor_effect(person, donor, n_genes, model, seed) -> np.ndarray:
    """Natural-log effects of pool, donor and sex on each gene; the same in every block."""
    pool = np.random.default_rng([seed, 5, int(person["pool_number"])]).normal(0, POOL_SD, n_genes)
    own = np.random.default_rng([seed, 6, donor]).normal(0, DONOR_SD, n_genes)
    return pool + own + model.sex * (person["sex"] == "female")


def _fill(keys, rows, sizes, expression, rng) -> None:
    """Write row x genes + gene for each count: `sizes` counts for each of `rows`, genes by `expression`."""
    drawn = rng.multinomial(len(keys), expression / expression.sum())
    genes = np.repeat(np.arange(len(expression), dtype=np.uint32), drawn)
    rng.shuffle(genes)
    np.multiply(np.repeat(np.asarray(rows, dtype=np.uint32), sizes), np.uint32(len(expression)), out=keys)
    keys += genes
