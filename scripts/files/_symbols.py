"""Gene symbols as the patterns of the config see them, and their species, which `load` decides."""

import json
import re
from pathlib import Path

import pandas as pd

from job import InputError


def match_symbols(symbols: pd.Series, pattern: str, setting: str) -> pd.Series:
    """Which symbols (bool, same index) a regular expression matches as a whole.

    Symbols are read in upper case and with hyphens for dots, as R's make.names writes MT.ND1 for MT-ND1.
    Raises InputError, which names the setting, for a pattern that is not a regular expression.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"{setting}: {pattern!r} is not a regular expression ({error}); correct it"
        ) from None
    read = symbols.astype(str).str.upper().str.replace(".", "-", regex=False)
    matches = [compiled.fullmatch(symbol) is not None for symbol in read]
    return pd.Series(matches, index=symbols.index, dtype=bool)


def read_species(cohort: str | Path) -> str:
    """Species of the symbols: `human`, `mouse` or another key of qc.patterns. cohort: load/cohort.json."""
    return json.loads(Path(cohort).read_text(encoding="utf-8"))["species"]
