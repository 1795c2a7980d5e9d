"""Genes that all files of a cohort have: their ids, symbols and which symbols repeat.

Ensembl ids may carry versions (ENSG00000012048.23), which differ between annotations.
"""

import re
from dataclasses import replace

import pandas as pd

from cohort._source import Source
from job import InputError

VERSION = re.compile(r"(ENS[A-Z]*G\d{11})\.\d+(?:_PAR_Y)?")  # an Ensembl gene id with its version


def find_shared_genes(sources: list[Source]) -> tuple[list[Source], pd.DataFrame]:
    """The sources, and the genes that all have: gene_id, symbol (the id if missing), duplicated_symbol.

    The order is the first file's. Versions of Ensembl ids are taken off where files then share more genes.
    Raises InputError for a repeated id, and when no gene is shared.
    """
    sources = remove_versions(sources)
    for source in sources:
        twice = source.symbols.index[source.symbols.index.duplicated()]
        if len(twice):
            raise InputError(
                f"{source.name}: {len(twice)} gene ids repeat, such as {twice[0]!r}; make them unique"
            )
    shared = sources[0].symbols
    for source in sources[1:]:
        shared = shared[shared.index.isin(source.symbols.index)]
    if shared.empty:
        ids = " and ".join(repr(source.symbols.index[0]) for source in sources[:2] if len(source.symbols))
        raise InputError(
            f"cohort: its files share no gene id ({ids}); give all of them the same kind of gene id"
        )
    missing = shared.isna() | (shared == "")
    genes = pd.DataFrame({"gene_id": shared.index.astype(str), "symbol": shared.to_numpy()})
    genes["symbol"] = genes["symbol"].where(~missing.to_numpy(), genes["gene_id"]).astype(str)
    genes["duplicated_symbol"] = genes["symbol"].duplicated(keep=False)
    return sources, genes


def remove_versions(sources: list[Source]) -> list[Source]:
    """The sources, Ensembl ids without versions where they then share more genes and no id repeats."""
    ids = [source.symbols.index for source in sources]
    short = [pd.Index([VERSION.sub(r"\1", str(gene)) for gene in index]) for index in ids]
    if len(ids) < 2 or any(index.has_duplicates for index in short):
        return sources
    shared = [set.intersection(*map(set, indexes)) for indexes in (ids, short)]
    if len(shared[1]) <= len(shared[0]):
        return sources
    return [
        replace(source, symbols=source.symbols.set_axis(index))
        for source, index in zip(sources, short, strict=True)
    ]
