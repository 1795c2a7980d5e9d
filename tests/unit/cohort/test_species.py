"""The species of a cohort, by its gene ids and by the case of its symbols."""

import pandas as pd
import pytest

from cohort._species import find_species

HUMAN = ["ACTB", "MT-ND1", "C1orf112", "HLA-A", "RPL13A", "A1BG"]
MOUSE = ["Actb", "mt-Nd1", "Gm1234", "H2-K1", "Rpl13a", "0610010K14Rik"]


@pytest.mark.parametrize(
    ("ids", "symbols", "species"),
    [
        (HUMAN, HUMAN, "human"),
        (MOUSE, MOUSE, "mouse"),
        (
            [symbol.replace("-", ".") for symbol in HUMAN],
            [symbol.replace("-", ".") for symbol in HUMAN],
            "human",
        ),
        ([f"ENSG{n:011d}" for n in range(6)], HUMAN, "human"),
        ([f"ENSG{n:011d}" for n in range(6)], MOUSE, "mouse"),  # patterns match symbols
        ([f"ENSMUSG{n:011d}.3" for n in range(6)], HUMAN, "mouse"),  # mouse in capitals
        ([f"ENSMUSG{n:011d}" for n in range(2)] + HUMAN[:4], HUMAN, "human"),
        ([f"ENSMUSG{n:011d}" for n in range(6)], [f"ENSMUSG{n:011d}" for n in range(6)], "mouse"),
        (["g1", "g2", "g3"], ["Actb", "ENSG00000000001", "ENSG00000000002"], "mouse"),  # ids are not symbols
        (["g1", "g2"], ["actb1", "mt-nd1"], "human"),  # neither kind: a pattern without a gene is warned of
    ],
)
def test_mouse_by_ids_or_by_the_case_of_symbols(ids, symbols, species):
    assert find_species(pd.Series(ids), pd.Series(symbols)) == species
