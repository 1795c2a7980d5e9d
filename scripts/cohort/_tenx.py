"""10x Genomics' matrices: the h5 file and the folder of three texts, of Cell Ranger v2 and v3.

Format: Cell Ranger's "Feature-barcode matrices",
https://www.10xgenomics.com/support/software/cell-ranger
"""

import csv
from functools import partial
from pathlib import Path

import h5py
import pandas as pd

from cohort._blocks import order_rows, read_hdf5, read_matrix_market, read_matrix_market_shape
from cohort._entries import Entry
from cohort._features import choose_genes
from cohort._source import Source, Wanted, join_names, select_columns
from job import InputError


def open_h5(file: h5py.File, entry: Entry, wanted: Wanted) -> Source:
    """Group `matrix` of v3, or a group per genome of v2: genes x cells by column, so CSR of cells."""
    groups = [key for key, group in file.items() if isinstance(group, h5py.Group) and "barcodes" in group]
    if len(groups) > 1 and wanted.genome in groups:
        groups = [wanted.genome]
    if len(groups) > 1:
        raise InputError(
            f"load.genome: {entry.path} has {len(groups)} genomes ({join_names(groups)}); "
            "set load.genome to one of them"
        )
    if not groups:
        raise InputError(
            f"{entry.path}: neither h5ad nor 10x h5 (it has: {join_names(file)}); "
            "correct cohort.path or the sheet"
        )
    group = file[groups[0]]
    features = group.get("features", group)
    ids, names = (
        features[v3 if v3 in features else v2].asstr()[:]
        for v3, v2 in (("id", "genes"), ("name", "gene_names"))
    )
    kinds = {"feature_type": features["feature_type"].asstr()[:]} if "feature_type" in features else {}
    genomes = features["genome"].asstr()[:] if "genome" in features else None
    obs = select_columns(entry.path, group["barcodes"].asstr()[:], [], None, entry.row, wanted)
    symbols = pd.Series(names, index=ids, dtype=object)
    genes, columns, left_out = choose_genes(entry.path, symbols, kinds, wanted.genome, genomes)
    blocks = partial(read_hdf5, entry.path, group.name, len(obs), len(ids))
    return Source(
        entry.name, entry.row is not None, obs, genes, columns, groups[0], blocks, left_out=left_out
    )


def open_folder(entry: Entry, wanted: Wanted) -> Source:
    """genes.tsv of v2 or features.tsv of v3 with barcodes.tsv and matrix.mtx."""
    features, barcodes, matrix = (entry.parts[kind] for kind in ("features", "barcodes", "matrix"))
    table = _read_headerless(features)
    obs = select_columns(entry.path, _read_headerless(barcodes)[0], [], None, entry.row, wanted)
    shape = read_matrix_market_shape(matrix)
    if shape != (len(table), len(obs)):
        raise InputError(
            f"{matrix}: {shape[0]} genes x {shape[1]} cells, but {features.name} has {len(table)} lines and "
            f"{barcodes.name} {len(obs)}; put files of one run together"
        )
    kinds = {"feature_type": table[2].to_numpy(dtype=object)} if 2 in table else {}
    names = table[1 if 1 in table else 0].to_numpy(dtype=object)
    symbols = pd.Series(names, index=table[0].to_numpy(dtype=object))
    genes, columns, left_out = choose_genes(entry.path, symbols, kinds, wanted.genome)
    blocks = partial(order_rows, partial(read_matrix_market, matrix), len(obs), len(table))
    return Source(
        entry.name, entry.row is not None, obs, genes, columns, matrix.name, blocks, left_out=left_out
    )


def _read_headerless(path: Path) -> pd.DataFrame:
    """A TSV without header as text; columns 0, 1, ..."""
    text = {"dtype": str, "keep_default_na": False, "quoting": csv.QUOTE_NONE}
    try:
        return pd.read_csv(path, sep="\t", header=None, **text)
    except pd.errors.EmptyDataError:
        return pd.DataFrame({0: []}, dtype=str)
