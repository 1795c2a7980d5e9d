"""What a path means: files, folders with prefixes, sheets; and a line of advice for everything else."""

import gzip

import pytest

from cohort import list_files
from cohort._entries import list_entries, match_files, read_sheet
from job import InputError

TRIO = ("matrix.mtx", "barcodes.tsv", "features.tsv")


def folder(path, prefix="", zipped=False, features="features.tsv"):
    """An empty 10x matrix."""
    path.mkdir(parents=True, exist_ok=True)
    for name in ("matrix.mtx", "barcodes.tsv", features):
        file = path / f"{prefix}{name}{'.gz' if zipped else ''}"
        file.write_bytes(gzip.compress(b"") if zipped else b"")
    return path


@pytest.mark.parametrize(("zipped", "features"), [(True, "features.tsv"), (False, "genes.tsv")])
def test_a_folder_is_one_matrix(tmp_path, zipped, features):
    folder(tmp_path / "run", zipped=zipped, features=features)
    (entry,) = list_entries(tmp_path / "run")
    assert (entry.name, entry.row, list(entry.parts)) == ("run", None, ["matrix", "barcodes", "features"])
    assert len(entry.files) == 3
    assert match_files([str(file) for file in list_files(tmp_path / "run")]) == [entry]


def test_each_prefix_of_a_folder_is_a_matrix(tmp_path):
    for prefix in ("GSM1_A_", "GSM2_B."):
        folder(tmp_path / "raw", prefix, zipped=True)
    entries = list_entries(tmp_path / "raw")
    assert [entry.name for entry in entries] == ["GSM1_A", "GSM2_B"]
    assert len(list_files(tmp_path / "raw")) == 6
    assert match_files([str(file) for file in list_files(tmp_path / "raw")]) == entries


def test_a_sheet_may_name_one_prefix(tmp_path):
    for prefix in ("GSM1_", "GSM2_"):
        folder(tmp_path / "raw", prefix)
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text("path\tdonor\nraw/GSM2_matrix.mtx\tb\n")
    (entry,) = list_entries(sheet)
    assert {file.name for file in entry.files} == {f"GSM2_{name}" for name in TRIO}
    assert list_files(sheet)[0] == sheet


def test_outs_of_cell_ranger_means_the_filtered_matrix(tmp_path):
    folder(tmp_path / "outs/filtered_feature_bc_matrix")
    folder(tmp_path / "outs/raw_feature_bc_matrix")
    (entry,) = list_entries(tmp_path / "outs")
    assert entry.path.name == "filtered_feature_bc_matrix"
    (tmp_path / "other").mkdir()
    (tmp_path / "other/filtered_feature_bc_matrix.h5").touch()
    (entry,) = list_entries(tmp_path / "other")
    assert entry.path.suffix == ".h5"


def test_a_sheet_as_excel_saves_it(tmp_path):
    """A mark in front, blanks around values, rows of tabs, line ends of Windows, a short row."""
    for name in "ab":
        (tmp_path / f"{name}.h5ad").touch()
    sheet = tmp_path / "sheet.tsv"
    sheet.write_bytes("\ufeffpath\tsex\tage\r\n a.h5ad \t female\t30\r\n\t\t\r\nb.h5ad\tmale\r\n".encode())
    rows = [entry.row for entry in list_entries(sheet)]
    assert rows == [
        {"path": "a.h5ad", "sex": "female", "age": "30"},
        {"path": "b.h5ad", "sex": "male", "age": ""},
    ]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("cohort.h5ad.gz", "a compressed h5ad; run gunzip"),
        ("cohort.rds", "zellkonverter::writeH5AD"),
        ("counts.csv.gz", "a text table"),
        ("sheet.csv", "separated by tabs and named .tsv"),
        ("sheet.xlsx", "an Excel file"),
        ("cohort.bam", "of no known format"),
    ],
)
def test_what_is_not_read_is_named_with_the_way_out(tmp_path, name, advice):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"^cohort.path: .*{name} is .*{advice}|{advice}") as error:
        list_entries(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_folder_of_kallisto_and_an_empty_one(tmp_path):
    (tmp_path / "cells_x_genes.mtx").touch()
    with pytest.raises(InputError, match="is kallisto's folder, cells by genes and unfiltered"):
        list_entries(tmp_path)
    (tmp_path / "cells_x_genes.mtx").unlink()
    with pytest.raises(InputError, match="is not a 10x folder"):
        list_entries(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,sex\na.h5ad,f\n", "columns path,sex; needs a header with a column 'path', separated by tabs"),
        ("path\tsex\na.h5ad\tf\tx\n", "row 1 has 3 fields for 2 columns"),
        ("path\tsex\n\tf\n", "a row has no path: 'f'"),
        ("path\na.h5ad\na.h5ad\n", "'a.h5ad' is listed twice"),
    ],
)
def test_a_sheet_with_a_fault_is_one_line(tmp_path, text, message):
    (tmp_path / "sheet.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        list_entries(tmp_path / "sheet.tsv")


def test_a_quote_that_is_not_closed_does_not_swallow_the_rows_after_it(tmp_path):
    """The rows of two files became one row of the first."""
    (tmp_path / "sheet.tsv").write_text('path\tdonor\tsex\na.h5ad\t"D3\tf\nb.h5ad\tD4\tm\n')
    with pytest.raises(
        InputError, match=r"^cohort.path: .*sheet.tsv has a quote that is not closed.* line 3"
    ):
        read_sheet(tmp_path / "sheet.tsv")


def test_a_sheet_with_two_columns_of_one_name_is_refused(tmp_path):
    (tmp_path / "sheet.tsv").write_text("path\tage\tage\na.h5ad\t1\t2\n")
    with pytest.raises(InputError, match="has two columns 'age'; remove one"):
        read_sheet(tmp_path / "sheet.tsv")


def test_letters_that_some_systems_take_for_line_ends_are_text(tmp_path):
    (tmp_path / "sheet.tsv").write_bytes("path\tdonor\ra\u2028b.h5ad\tD\x1c1\r".encode())
    assert read_sheet(tmp_path / "sheet.tsv") == [{"path": "a\u2028b.h5ad", "donor": "D\x1c1"}]
