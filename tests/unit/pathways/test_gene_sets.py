"""GMT files as collections, and one gene per symbol."""

import hashlib

import pandas as pd
import pytest

from job import InputError, collect_warnings
from pathways._gene_sets import (
    Collection,
    describe,
    name_genes,
    rank_symbols,
    read_collections,
    read_gmt,
    warn_of_unknown,
)


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def test_a_gmt_is_read_with_its_digest(tmp_path):
    path = write(
        tmp_path / "small.v1.gmt", "A\tabout A\tG1\tG2\tG1\t", "", "B\t\tG3,0.5\tG4", "EMPTY\tno genes"
    )
    name, sha256, sets = read_gmt(path)
    assert name == "small.v1"
    assert sets == {"A": ["G1", "G2"], "B": ["G3", "G4"], "EMPTY": []}
    assert sha256 == hashlib.sha256((tmp_path / "small.v1.gmt").read_bytes()).hexdigest()


def test_a_gmt_reads_as_gseapy_reads_it(shared_data):
    from gseapy.parser import read_gmt as gseapy_read_gmt

    path = str(shared_data / "hallmark_v2026.1.gmt")
    assert read_gmt(path).sets == gseapy_read_gmt(path)
    assert len(read_gmt(path).sets) == 50


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "gene_sets: .*small.gmt has no gene sets"),
        (["A\td\tG1", "A\td\tG2"], "gene_sets: .*small.gmt has the set A twice"),
        (["A\td\tG1", "B d G1"], "gene_sets: .*small.gmt line 2 is not a gene set"),
        (["\td\tG1"], "gene_sets: .*small.gmt line 1 is not a gene set"),
    ],
)
def test_a_file_that_is_not_a_gmt_is_refused(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read_gmt(write(tmp_path / "small.gmt", *lines))


def test_a_packed_file_is_refused(tmp_path):
    (tmp_path / "packed.gmt").write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
    with pytest.raises(InputError, match=r"gene_sets: .*packed.gmt is not UTF-8 text"):
        read_gmt(str(tmp_path / "packed.gmt"))


def test_two_files_of_one_name_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    paths = [write(folder / "sets.gmt", "A\td\tG1") for folder in (tmp_path, tmp_path / "other")]
    with pytest.raises(InputError, match="gene_sets: 2 files are named sets"):
        read_collections(paths)
    assert [collection.name for collection in read_collections(paths[:1])] == ["sets"]


def genes():
    rows = [
        ("E1", "A", 1.0, 0.3),
        ("E2", "A", -2.0, 0.05),  # stronger than E1
        ("E3", "B", 0.5, 0.6),
        ("E4", "B", -0.5, 0.6),  # as strong as E3, which comes first
        ("E5", "", 3.0, 0.001),  # no symbol
        ("E6", "C", 5.0, float("nan")),  # an outlier: no p-value
        ("E0", "D", 0.5, 0.6),  # tied with E3
    ]
    return pd.DataFrame(rows, columns=["gene_id", "symbol", "stat", "pvalue"])


def test_the_strongest_gene_of_a_symbol_stays():
    ranked = rank_symbols(genes())
    assert list(zip(ranked["gene_id"], ranked["symbol"], ranked["stat"], strict=True)) == [
        ("E5", "E5", 3.0),
        ("E0", "D", 0.5),
        ("E3", "B", 0.5),
        ("E2", "A", -2.0),
    ]


def test_the_ranking_does_not_depend_on_the_order_of_rows():
    expected = rank_symbols(genes())
    for seed in range(5):
        shuffled = genes().sample(frac=1, random_state=seed)
        pd.testing.assert_frame_equal(rank_symbols(shuffled), expected)


def test_what_a_status_row_says(tmp_path):
    collection = read_gmt(write(tmp_path / "s.gmt", "X\t\tA\tB\tC", "Y\t\tB\tZ"))
    row = describe(collection, genes(), rank_symbols(genes()))
    assert row["sets"] == 2
    assert row["genes_ranked"] == 4
    assert row["genes_without_pvalue"] == 1
    assert row["duplicated_symbols"] == 2  # E1 and E4
    assert row["tied_share"] == 0.5  # E0 and E3 of four
    assert row["overlap"] == 0.5  # A, B of A, B, C, Z


def test_a_collection_of_another_species_is_warned_of_once():
    genes = name_genes(pd.DataFrame({"gene_id": ["E1", "E2", "E3"], "symbol": ["CD3E", "MS4A1", ""]}))
    assert genes == {"CD3E", "MS4A1", "E3"}
    mouse = Collection("mouse", "", {"a": ["Cd3e", "Ms4a1"], "b": ["Ms4a1", "Lyz2"]})
    few = Collection("few", "", {"a": ["CD3E", *(f"X{i}" for i in range(10))]})
    enough = Collection("enough", "", {"a": ["CD3E", *(f"X{i}" for i in range(9))]})
    with collect_warnings() as warned:
        for _ in range(2):  # of each contrast
            warn_of_unknown([mouse, few, enough], genes)
    assert [(row["code"], row["number"], row["setting"]) for row in warned] == [
        ("gene_sets_unknown", 3, "gene_sets"),
        ("gene_sets_unknown", 10, "gene_sets"),
    ]
    assert warned[0]["message"].startswith("mouse: 0 of 3 genes are in the cohort; the sets may be of")
    assert warned[1]["message"].startswith("few: 1 of 11 genes")
