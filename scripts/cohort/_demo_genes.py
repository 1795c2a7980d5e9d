"""The genes of the demo cohort: their symbols, what is planted in them, and gene sets to find it.

Symbols are real where a step looks at them or a reader may know them; all others are numbered. Gene ids look
like Ensembl's and are not (ENSG99...).
"""

import numpy as np
import pandas as pd

from job import InputError

# Label: share of a donor's cells, markers (real symbols). The last type is too rare to test; the two
# monocytes differ in punctuation only.
TYPES = {
    "CD4-positive, alpha-beta T cell": (0.32, "CD3D CD3E CD3G CD4 IL7R LTB LEF1 TCF7 CCR7 MAL"),
    "CD16- monocyte": (0.20, "CD14 LYZ S100A8 S100A9 S100A12 VCAN FCN1 CSF3R MNDA CD36"),
    "natural killer cell": (0.14, "NKG7 GNLY KLRD1 KLRF1 NCAM1 PRF1 GZMB FGFBP2 SPON2 XCL1"),
    "B cell": (0.13, "MS4A1 CD79A CD79B CD19 BANK1 CD22 BLK FCRL1 PAX5 CD74"),
    "CD16+ monocyte": (0.11, "FCGR3A MS4A7 CDKN1C RHOC LST1 HES4 TCF7L2 CSF1R LILRB2 SIGLEC10"),
    "platelet/megakaryocyte": (0.09, "PPBP PF4 GP9 ITGA2B TUBB1 GNG11 SPARC TREML1 CLU MYL9"),
    "plasmacytoid dendritic cell": (0.01, "LILRA4 CLEC4C IL3RA IRF7 TCF4 SERPINF1 PLD4 LAMP5 SCT PTCRA"),
}
MARKERS = 25  # per type: the named ones and fillers
RECEPTORS = {  # bursts of expression in their type, silent elsewhere
    "CD4-positive, alpha-beta T cell": "TRAC TRBC1 TRBC2 TRAV1-2 TRAV8-2 TRAV12-1 TRBV5-1 TRBV7-2 TRBV20-1",
    "B cell": "IGHM IGHD IGHA1 IGHG1 IGKC IGLC2 IGKV1-5 IGKV3-20 IGLV2-14 IGHV3-23",
}
PATHWAYS = {  # name: direction with age, genes
    "DEMO_INFLAMMATION": (
        1,
        "TNF IL1B IL6 CXCL8 NFKBIA NFKB1 RELB TNFAIP3 ICAM1 PTGS2 IRF1 CCL2 CCL3 JUNB FOSL1 BCL3 TNIP1 BIRC3 "
        "CD83 SOD2 TRAF1 CXCL2 PLAUR IER3 KLF6",
    ),
    "DEMO_RESPIRATION": (
        -1,
        "NDUFA1 NDUFA4 NDUFB2 NDUFB8 NDUFS3 NDUFV1 SDHA SDHB SDHD UQCRB UQCRC1 UQCRH CYC1 COX4I1 COX5B COX6C "
        "COX7A2 COX8A ATP5F1A ATP5F1B ATP5MC1 ATP5PO CYCS ETFA IDH3A",
    ),
}
WITHOUT_PATHWAYS = "platelet/megakaryocyte"  # the type in which the planted pathways do not move
AGE = "ZEB2 LRRN3 TBX21 CD248 PDCD1 NELL2 CDKN2A ROBO1 LGALS1 NOG CCL4 AK5 B3GAT1 SATB1"  # up, down, up, ...
FEMALE = "XIST TSIX"
MALE = "RPS4Y1 DDX3Y EIF1AY KDM5D UTY ZFY USP9Y"
MITOCHONDRIAL = "ND1 ND2 ND3 ND4 ND4L ND5 ND6 CO1 CO2 CO3 ATP6 ATP8 CYB"
PLAIN = {
    "ribosomal": "RPSA RPLP0 RPLP1 RPLP2 RPS2 RPS3 RPS3A RPS4X RPS5 RPS6 RPS7 RPS8 RPS12 RPS13 RPS14 RPS15A "
    "RPS18 RPS19 RPS23 RPS27A RPL3 RPL4 RPL5 RPL7 RPL7A RPL10 RPL10A RPL11 RPL13 RPL13A RPL15 RPL18A RPL21 "
    "RPL23A RPL30 RPL32 RPL34 RPL35A RPL36AL RPL39L",
    "haemoglobin": "HBA1 HBA2 HBB HBD",
    "decoy": "HBEGF HBS1L HBP1 RPS6KA1 RPS6KA3 TRADD",  # look like haemoglobin, ribosomal, receptor genes
    "duplicated": "TBCE TBCE MATR3 MATR3",  # two Ensembl ids each, as in GENCODE
    "sex": f"{FEMALE} {MALE}",
}
NULL_SETS, NULL_SIZES = 20, (15, 60)


def draw_genes(rng: np.random.Generator, *, genes: int, age_genes: int, pathway_genes: int) -> pd.DataFrame:
    """Gene id, symbol, role, program and direction of each gene, in random order.

    program is the cell type of a marker, receptor or age gene ("" in all types) or the name of a pathway;
    direction with age is 1, -1 or 0. A third of each type's age_genes is shared by all types, the others are
    its own. Raises InputError when the planted genes leave too few without a role.
    """
    rows = [("MT-" + name, "mitochondrial", "", 0) for name in MITOCHONDRIAL.split()]
    for role, symbols in PLAIN.items():
        rows += [(symbol, role, "", 0) for symbol in symbols.split()]
    for cell_type, symbols in RECEPTORS.items():
        rows += [(symbol, "receptor", cell_type, 0) for symbol in symbols.split()]
    shared = age_genes // 3
    age = {"": _fill_names(AGE, shared, "AGE")}
    for number, (cell_type, (_, symbols)) in enumerate(TYPES.items(), start=1):
        rows += [
            (symbol, "marker", cell_type, 0) for symbol in _fill_names(symbols, MARKERS, f"MARK{number}")
        ]
        age[cell_type] = _fill_names("", age_genes - shared, f"AGE{number}")
    for program, symbols in age.items():
        rows += [(symbol, "age", program, (-1) ** place) for place, symbol in enumerate(symbols)]
    for number, (pathway, (sign, symbols)) in enumerate(PATHWAYS.items(), start=1):
        rows += [
            (symbol, "pathway", pathway, sign)
            for symbol in _fill_names(symbols, pathway_genes, f"PATH{number}")
        ]
    need = len(rows) + 2 * NULL_SIZES[1]
    if genes < need:
        raise InputError(
            f"demo cohort: {genes} genes, {need} needed for what is planted; raise simulate.genes, or lower "
            "simulate.age_genes or simulate.pathway_genes"
        )
    rows += [(symbol, "background", "", 0) for symbol in _fill_names("", genes - len(rows), "GENE")]
    table = pd.DataFrame(rows, columns=["symbol", "role", "program", "direction"])
    table = table.iloc[rng.permutation(genes)].reset_index(drop=True)
    table.insert(0, "gene_id", [f"ENSG99{number:09d}" for number in range(1, genes + 1)])
    return table


def _fill_names(symbols: str, count: int, filler: str) -> list[str]:
    """The first count of symbols, filled up with numbered ones."""
    named = symbols.split()[:count]
    return named + [f"{filler}-{number:04d}" for number in range(1, count - len(named) + 1)]


def draw_gene_sets(rng: np.random.Generator, genes: pd.DataFrame) -> dict[str, list[str]]:
    """Sets of symbols: the planted pathways, one half of each among unchanged genes, and random null sets."""
    null = genes.loc[genes["role"].isin(["background", "duplicated"]), "symbol"].unique()
    sets = {}
    for pathway in PATHWAYS:
        sets[pathway] = sorted(genes.loc[genes["program"] == pathway, "symbol"])
        half = sets[pathway][::2]
        sets[f"{pathway}_HALF"] = sorted([*half, *rng.choice(null, len(half), replace=False)])
    for number in range(1, NULL_SETS + 1):
        size = rng.integers(NULL_SIZES[0], NULL_SIZES[1] + 1)
        sets[f"DEMO_NULL_{number:02d}"] = sorted(rng.choice(null, size, replace=False))
    return sets
