"""Which features of a file are genes of one genome.

Antibodies, guides and peaks stand among the genes in files of several assays: 10x names the kind of each
feature, anndata keeps it as `feature_types`. CELLxGENE names spike-ins in `feature_biotype`. Where reads
were aligned to several genomes, Cell Ranger writes the genome in front of ids and symbols (`GRCh38_`,
`mm10___`).
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from cohort._source import join_names
from job import InputError

GENES = {"feature_types": "Gene Expression", "feature_type": "Gene Expression", "feature_biotype": "gene"}
GENOME = re.compile(
    r"((?:GRCh|GRCm|GRCr|hg|mm|rn|Rnor|mRatBN|danRer|dm|BDGP|Mmul|Sscrofa)[\w.]*?\d[\w.-]*?)_+(?=[A-Za-z])"
)
AT_LEAST = 0.5  # share of features with a genome in front from which it is one


def choose_genes(
    path: Path,
    symbols: pd.Series,
    kinds: dict[str, np.ndarray],
    genome: str | None,
    genomes: np.ndarray | None = None,
) -> tuple[pd.Series, np.ndarray, dict[str, int]]:
    """Genes of a file: symbols by id, their columns, and the number of other features by kind.

    symbols: of all features, in the order of the columns, indexed by id. kinds: column of the file -> kind
    of each feature. genome: `load.genome`. genomes: of each feature, where the file says it apart from the
    names. A genome in front of ids and symbols is taken off. Raises InputError when genes are of several
    genomes and load.genome does not choose one, and when none is of the one it names.
    """
    keep, left_out = np.full(len(symbols), True), {}
    for column, gene in GENES.items():
        if column in kinds and (kinds[column] == gene).any():
            other = keep & (kinds[column] != gene)
            for kind, number in pd.Series(kinds[column][other].astype(str)).value_counts().items():
                left_out[kind or "without a kind"] = int(number)
            keep &= ~other
    written = _find_genomes(symbols, keep) if genomes is None else genomes
    if written is not None:
        found = sorted(set(written[keep]) - {""})
        if found and genome not in found and (genome is not None or len(found) > 1):
            counts = join_names(f"{name} {int((written[keep] == name).sum()):,}" for name in found)
            has = (
                f"genes of {len(found)} genomes"
                if genome is None
                else f"no gene of {genome!r}; its genomes are"
            )
            raise InputError(f"load.genome: {path} has {has} ({counts}); set load.genome to one of them")
        if len(found) > 1:
            for name in found:
                if name != genome:
                    left_out[f"gene of {name}"] = int((keep & (written == name)).sum())
            keep &= written == genome
    chosen = symbols[keep]
    if _find_genomes(symbols, keep) is not None:
        chosen = pd.Series(
            [GENOME.sub("", str(symbol), count=1) for symbol in chosen],
            index=[GENOME.sub("", str(gene), count=1) for gene in chosen.index],
            dtype=object,
        )
    return chosen, np.flatnonzero(keep), left_out


def _find_genomes(symbols: pd.Series, keep: np.ndarray) -> np.ndarray | None:
    """The genome in front of each id, or symbol; None unless most of the features to keep have one."""
    for names in (symbols.index, symbols):
        found = [GENOME.match(str(name)) for name in names]
        if keep.any() and np.mean([match is not None for match in np.array(found)[keep]]) >= AT_LEAST:
            return np.array([match[1] if match else "" for match in found], dtype=object)
    return None
