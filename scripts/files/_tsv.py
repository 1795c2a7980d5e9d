"""Tables as TSV in UTF-8, read back as text, so that a donor 007 stays 007 and a gene NA is not missing."""

import pandas as pd

OPTIONS = {"sep": "\t", "encoding": "utf-8"}


def read_tsv(path: str) -> pd.DataFrame:
    """All columns as text; a missing value is ""."""
    return pd.read_csv(path, dtype=str, keep_default_na=False, **OPTIONS)


def write_tsv(table: pd.DataFrame, path: str) -> None:
    """Write a table without its index."""
    table.to_csv(path, index=False, lineterminator="\n", **OPTIONS)
