"""The species of a cohort's genes, by which patterns of symbols are chosen.

It is mouse where most gene ids are Ensembl's of mouse (ENSMUSG), or where more symbols are capitalised (Actb,
mt-Nd1) than upper case (ACTB, MT-ND1); human otherwise. Human symbols with small letters, such as C1orf112,
are neither.
"""

import pandas as pd

ENSEMBL, MOUSE_IDS = r"ENS[A-Z]*G\d", r"ENSMUSG\d"
CAPITALISED = r"(?:mt[-.])?[A-Z][a-z]"
UPPER = r"[A-Z][A-Z0-9]+(?:[-.][A-Z0-9]+)*$"


def find_species(gene_ids: pd.Series, symbols: pd.Series) -> str:
    """`human` or `mouse`, by the rule in this module's docstring. gene_ids, symbols: one per gene."""
    symbols = symbols[~symbols.str.match(ENSEMBL)]  # ids of genes without a symbol
    capitalised, upper = (symbols.str.match(pattern).sum() for pattern in (CAPITALISED, UPPER))
    is_mouse = gene_ids.str.match(MOUSE_IDS).mean() > 0.5 or capitalised > upper
    return "mouse" if is_mouse else "human"
