"""Tables stay what they are as text; colours of levels differ."""

import numpy as np
import pandas as pd

from files import PALETTE, colour, colours, read_cell_types, read_tsv, write_tsv


def test_a_table_is_the_same_text_after_it_was_read_and_written(tmp_path):
    content = 'donor\tsymbol\tnumber\n007\tNA\t1e5\n\tnaïve β\t"a\tb"\n'
    (tmp_path / "a.tsv").write_bytes(content.encode())
    table = read_tsv(tmp_path / "a.tsv")
    assert table["donor"].tolist() == ["007", ""]
    assert table["symbol"].tolist() == ["NA", "naïve β"]
    write_tsv(table, tmp_path / "b.tsv")
    assert (tmp_path / "b.tsv").read_bytes() == content.encode()


def test_a_missing_number_is_empty(tmp_path):
    write_tsv(pd.DataFrame({"a": [1.5, np.nan], "b": [True, False]}), tmp_path / "a.tsv")
    assert (tmp_path / "a.tsv").read_bytes() == b"a\tb\n1.5\tTrue\n\tFalse\n"


def test_cell_types_are_kept_or_tested(tmp_path):
    (tmp_path / "a.tsv").write_text("id\tlabel\ttested\na\tNA\tTrue\nb\tB\tFalse\n", encoding="utf-8")
    types = read_cell_types(tmp_path / "a.tsv")
    assert types["label"].tolist() == ["NA", "B"]
    assert types["tested"].tolist() == [True, False]
    assert "kept" not in types


def test_the_first_two_dozen_levels_have_colours_of_their_own():
    assert len({colour(i) for i in range(24)}) == 24
    assert all(0 <= value <= 1 for i in range(60) for value in colour(i))
    assert tuple(round(255 * part) for part in colour(0)) == (0x00, 0x72, 0xB2)
    assert colours(len(PALETTE) + 1).shape == (9, 3)
    assert colours(0).shape == (0, 3)
