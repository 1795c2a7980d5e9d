"""docs/input.md lists what is read and what is refused: each row is made here and goes through load."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cohort import list_files
from job import InputError
from odd_files import WRITERS, Part, write_tenx_folder
from small_cohort import AGE, assert_counts, cohort, expected, run, tenx_h5, written

PAGE = (Path(__file__).parent.parent.parent.parent / "docs/input.md").read_text(encoding="utf-8")


def rows_of(heading: str) -> dict[str, str]:
    """First and second cell of the rows of the table below a heading."""
    lines = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("|")][2:]
    return {first.strip(): second.strip() for first, second in cells}


def part_of(data, kind, name="a", **how) -> Part:
    labels = data.obs[["donor", "sample", "cell_type", "age"]]
    counts = data.X.toarray().astype(int)
    symbols = list(data.var["feature_name"])
    return Part(name, kind, list(data.obs_names), labels, list(data.var_names), symbols, None, counts, **how)


def as_file(kind):
    return lambda folder, data: folder / WRITERS[kind](part_of(data, kind), folder)


def with_prefixes(folder, data):
    for name, cells in (("GSM1_a", data[:30]), ("GSM2_b", data[30:])):
        write_tenx_folder(part_of(cells, "tenx folder"), folder, f"{name}_")
    return folder


def outs(folder, data):
    (folder / "outs").mkdir()
    write_tenx_folder(part_of(data, "tenx folder", "filtered_feature_bc_matrix"), folder / "outs")
    return folder / "outs"


def sheet(folder, data):
    written(data, folder, "a.h5ad")
    (folder / "sheet.tsv").write_bytes(b"\xef\xbb\xbfpath\tpool\r\na.h5ad \tp\r\n\t\r\n")
    return folder / "sheet.tsv"


ACCEPTED = {
    "`.h5ad`": as_file("h5ad"),
    "`.zarr` folder": as_file("zarr"),
    "`.h5mu`": as_file("h5mu"),
    "`.loom`": as_file("loom"),
    "10x `.h5`": lambda folder, data: tenx_h5(data, folder / "a.h5", 3),
    "10x folder": as_file("tenx folder"),
    "folder with prefixes (GEO)": with_prefixes,
    "Cell Ranger's `outs/`": outs,
    "`.tsv` sample sheet": sheet,
}


def load(folder, path, **settings):
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return run(out, *list_files(path), **settings)


def test_every_accepted_input_of_the_page_is_read(tmp_path):
    assert set(rows_of("Accepted")) == set(ACCEPTED)
    for number, make in enumerate(ACCEPTED.values()):
        folder, data = tmp_path / str(number), cohort()
        folder.mkdir()
        result = load(folder, make(folder, data), sample=None, donor=None, cell_type=None)
        wanted = expected(data)
        names = result.cells["cell"].str.removeprefix("a_")
        assert names.tolist() == wanted.index.tolist()
        assert_counts(result, wanted.set_axis(result.cells["cell"]))


def named(name, content="x"):
    def make(folder):
        (folder / name).write_text(content)
        return folder / name

    return make


def h5ad(change, **settings):
    def make(folder):
        data = cohort()
        return written(change(data) or data, folder), settings

    return make


def with_layer(data):
    one, other = data.X.toarray(), data.X.toarray()
    one[-1, -1], other[-1, -1] = 1, 0
    other[0, 0] = one[0, 0] + 1
    data.X, data.layers["b"] = csr_matrix(one), csr_matrix(other)


def with_fractions(data):
    x = data.X.toarray()
    x[::3] *= 0.7
    data.X = csr_matrix(x)


def scaled(data):
    data.X = csr_matrix(np.log1p(data.X.toarray()))


def one_odd_value(data):
    data.X.data[5] = 2**31 + 4


def genomes(data):
    data.var_names = [f"{('GRCh38_', 'mm10___')[n % 2]}G{n}" for n in range(data.n_vars)]


def one_genome(data):
    data.var_names = [f"mm10___G{n}" for n in range(data.n_vars)]


def repeated_genes(data):
    data.var_names = ["G0", *data.var_names[1:-1], "G0"]
    data.var["feature_name"] = data.var_names


def repeated_cells(data):
    data.obs_names = ["c", *data.obs_names[1:6], "c", *data.obs_names[7:]]
    data.obs["donor"] = "d"


def two_donors(data):
    data.obs["sample"] = "s"


def ages(data):
    data.obs["age"] = np.arange(data.n_obs)


def words(data):
    data.obs["age"] = "old"


def old(folder):
    with h5py.File(folder / "a.h5ad", "w") as file:
        file["obs"] = np.zeros(3, dtype=[("index", "S3")])
    return folder / "a.h5ad"


def cut(folder):
    path = written(cohort(), folder)
    path.write_bytes(path.read_bytes()[:2000])
    return path


def empty(folder):
    return folder / WRITERS["h5ad"](part_of(cohort()[:0].copy(), "h5ad"), folder)


def open_modality(folder):
    path = folder / WRITERS["h5mu"](part_of(cohort(), "h5mu"), folder)
    with h5py.File(path, "r+") as file:
        file["mod"].move("rna", "other")
    return path


def lacking(folder):
    (folder / "barcodes.tsv").write_text("a\n")
    (folder / "matrix.mtx").write_text("")
    return folder


def of_two(folder):
    written(cohort(), folder, "a.h5ad")
    other = cohort()
    other.var_names = other.var["feature_name"]
    written(other, folder, "b.h5ad")
    return named("sheet.tsv", "path\na.h5ad\nb.h5ad\n")(folder)


def table(text):
    def make(folder):
        return written(cohort(), folder), {"sample_table": str(named("donors.txt", text)(folder))}

    return make


def nothing(data):
    return None


REFUSED = {
    "a path that does not exist": lambda folder: folder / "a.h5ad",
    "another ending": named("a.bam"),
    "`.h5ad.gz`": named("a.h5ad.gz"),
    "`.rds`, `.RData`, `.Robj`": named("a.RData"),
    "`.csv`, `.txt`, `.csv.gz`, ...": named("a.csv.gz"),
    "`.xlsx`, `.xls`": named("a.xlsx"),
    "kallisto's `cells_x_genes.mtx`": lambda folder: named("cells_x_genes.mtx")(folder).parent,
    "another folder": lambda folder: named("notes")(folder).parent,
    "a 10x folder without one of its files": lacking,
    "h5ad of anndata before 0.7": old,
    "a damaged or truncated file": cut,
    "a file without cells": empty,
    "counts in several places, none of which contains the others": h5ad(with_layer),
    "no place with whole numbers": h5ad(scaled),
    "counts with fractions": h5ad(with_fractions),
    "one value that is not a count": h5ad(one_odd_value),
    "`.h5mu` in which it is open which modality has the genes": open_modality,
    "genes of several genomes": h5ad(genomes),
    "no gene of the genome that is set": h5ad(one_genome, genome="GRCh38"),
    "gene ids that repeat": h5ad(repeated_genes),
    "files without a shared gene id": of_two,
    "a missing column": h5ad(nothing, donor="person"),
    "cell names that repeat within a file and a donor": h5ad(repeated_cells),
    "a sample with two donors": h5ad(two_donors),
    "a sample with two values of a covariate": h5ad(ages, covariates=[AGE]),
    "a covariate without a number": h5ad(words, covariates=[AGE]),
    "a sheet without `path`": named("sheet.tsv", "file\na.h5ad\n"),
    "a sheet with a file twice": named("sheet.tsv", "path\na.h5ad\na.h5ad\n"),
    "a sheet or table with a quote that is not closed": table('donor\tage\n"1000_0\t3\n'),
    "a table with a name twice": table("donor\tage\n1000_0\t3\n1000_0\t3\n"),
    "a table that matches nothing": table("donor\tage\nx\t3\n"),
}


def test_the_page_lists_what_is_refused_here():
    assert set(rows_of("Refused")) == set(REFUSED)


@pytest.mark.filterwarnings("ignore:.*names are not unique")
@pytest.mark.parametrize("name", REFUSED)
def test_every_refused_input_gets_the_line_of_the_page(tmp_path, name):
    line = re.fullmatch("`(.*)`", rows_of("Refused")[name])[1]
    pattern = ".*".join(re.escape(words.strip()) for words in line.split("…"))
    made = REFUSED[name](tmp_path)
    path, settings = made if isinstance(made, tuple) else (made, {})
    with pytest.raises(InputError, match=pattern) as error:
        load(tmp_path, path, **settings)
    assert "\n" not in str(error.value)
