"""Files as people have them: zarr, loom, no encoding, features that are not genes, tables, and who is who."""

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cohort import _features, _tables, _values, _who
from job import InputError
from odd_files import WRITERS, Part
from small_cohort import CELLS, assert_counts, cohort, expected, run, tenx_folder, written


def test_a_zarr_store_gives_the_counts_of_the_h5ad(tmp_path):
    data = cohort()
    data.write_zarr(tmp_path / "cohort.zarr")
    assert_counts(run(tmp_path, tmp_path / "cohort.zarr"), expected(data))


def test_a_loom_file_gives_the_counts_of_the_h5ad(tmp_path):
    data = cohort()
    with h5py.File(tmp_path / "cohort.loom", "w") as file:
        file.create_dataset("matrix", data=data.X.toarray().T, chunks=(7, 11))
        file["row_attrs/Accession"] = data.var_names.to_numpy(dtype="S")
        file["row_attrs/Gene"] = data.var["feature_name"].to_numpy(dtype="S")
        file["col_attrs/CellID"] = data.obs_names.to_numpy(dtype="S")
        for column in ("donor", "sample", "cell_type"):
            file[f"col_attrs/{column}"] = data.obs[column].to_numpy(dtype="S")
        file.create_group("layers")
    result = run(tmp_path, tmp_path / "cohort.loom", symbols=None, block_values=300)
    assert_counts(result, expected(data))
    assert result.genes["symbol"].tolist() == data.var["feature_name"].tolist()


@pytest.mark.parametrize("attributes", ["none", "arrays"])
def test_groups_without_encoding_or_with_that_of_r(tmp_path, attributes):
    data = cohort()
    path = written(data, tmp_path)
    with h5py.File(path, "r+") as file:
        for name in ("obs", "var", "X"):
            for key, value in list(file[name].attrs.items()):
                del file[name].attrs[key]
                if attributes == "arrays" and isinstance(value, str):
                    file[name].attrs[key] = np.array([value], dtype=h5py.string_dtype())
                elif attributes == "arrays" or key == "shape":
                    file[name].attrs[key] = value
    assert_counts(run(tmp_path, path), expected(data))


def with_features(data, kinds, column="feature_types"):
    data.var[column] = pd.Categorical(kinds)
    return data


def test_features_that_are_not_genes_are_left_out_and_told(tmp_path):
    data = cohort()
    wanted = expected(data).iloc[:, :20]
    kinds = ["Gene Expression"] * 20 + ["Antibody Capture"] * 3 + ["CRISPR Guide Capture"] * 2
    result = run(tmp_path, written(with_features(data, kinds), tmp_path))
    assert_counts(result, wanted)
    (warning,) = [row for row in result.warnings if row["code"] == "features_left_out"]
    assert warning["number"] == 5
    assert "3 Antibody Capture, 2 CRISPR Guide Capture" in warning["message"]


def test_genes_of_two_genomes_are_refused_until_one_is_chosen(tmp_path):
    data = cohort()
    data.var_names = [
        f"GRCh38_{name}" if i < 15 else f"mm10___{name}" for i, name in enumerate(data.var_names)
    ]
    path = written(data, tmp_path)
    with pytest.raises(
        InputError, match=r"genes of 2 genomes \(GRCh38 15, mm10 10\); set load.genome to one"
    ):
        run(tmp_path, path)
    result = run(tmp_path, path, genome="GRCh38")
    assert result.genes["gene_id"].tolist() == [f"ENSG{i}" for i in range(15)]
    assert [row["number"] for row in result.warnings if row["code"] == "features_left_out"] == [10]


def test_one_genome_in_front_of_all_names_is_taken_off():
    symbols = pd.Series(["GRCh38_MT-ND1", "GRCh38_CD3E"], index=["GRCh38_ENSG1", "GRCh38_ENSG2"])
    genes, columns, left_out = _features.choose_genes("x", symbols, {}, None)
    assert genes.to_dict() == {"ENSG1": "MT-ND1", "ENSG2": "CD3E"}
    assert (columns.tolist(), left_out) == ([0, 1], {})


def test_symbols_that_begin_like_a_genome_stay():
    symbols = pd.Series(["mm10A_x", "CD3E", "HGF", "MM1"], index=list("abcd"))
    assert _features.choose_genes("x", symbols, {}, None)[0].tolist() == symbols.tolist()


# ---------------------------------------------------------------- names and tables


def test_barcodes_of_two_captures_of_a_donor_get_the_file_in_front(tmp_path):
    data = cohort()
    for name, rows in (("run1", slice(0, 30)), ("run2", slice(20, 60))):
        tenx_folder(data[rows].copy(), tmp_path / name, 3, True, False)
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text("path\tdonor\nrun1\td1\nrun2\td1\n")
    result = run(tmp_path, sheet, sample="donor", cell_type=None)
    assert result.cells["cell"].is_unique
    assert result.cells["cell"].iloc[0] == "run1_cell0"
    assert [(row["code"], row["number"]) for row in result.warnings if "names" in row["code"]] == [
        ("cell_names_changed", 10)
    ]


def test_names_that_repeat_between_donors_get_the_donor_in_front(tmp_path):
    data = cohort()
    data.obs_names = [f"c{i // 6}" for i in range(CELLS)]
    result = run(tmp_path, written(data, tmp_path))
    assert result.cells["cell"].iloc[0] == "1000_0_c0"
    assert result.cells["cell"].is_unique


def test_a_table_of_donors_brings_covariates(tmp_path):
    data = cohort()
    ages = data.obs.groupby("donor")["age"].first()
    del data.obs["age"]
    table = tmp_path / "donors.tsv"
    rows = [*(f"{donor}\t{age}" for donor, age in ages.iloc[:-1].items()), "nobody\t99"]
    table.write_text("donor\tage\n" + "\n".join(rows) + "\n")
    age = {"name": "age", "column": "age", "type": "numeric"}
    result = run(tmp_path, written(data, tmp_path), covariates=[age], sample_table=str(table))
    by_donor = result.samples.groupby("donor")["age"].first()
    assert by_donor.drop("1000_5").to_dict() == ages.drop("1000_5").to_dict()
    assert by_donor.isna()["1000_5"]
    notes = {row["code"]: row for row in result.warnings}
    assert notes["table_rows_unmatched"]["message"].endswith("match no cell: nobody")
    assert notes["cells_without_table_row"]["number"] == 10


def test_a_table_of_cells_brings_donors_of_a_hashed_capture(tmp_path):
    data = cohort()
    files = tenx_folder(data, tmp_path / "pool", 3, True, False)
    table = tmp_path / "hashes.tsv"
    data.obs[["donor", "sample", "cell_type"]].to_csv(table, sep="\t", index_label="barcode")
    result = run(tmp_path, *files, cell_table=str(table))
    assert result.samples["donor"].nunique() == 6
    assert_counts(result, expected(data))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\tage\n1000_0\t3\n", "load.sample_table: .* has no column that names its rows"),
        ("donor\tage\n1000_0\t3\n1000_0\t4\n", "has several rows for '1000_0'; keep one"),
        ('donor\tage\n"1000_0\t3\n1000_1\t4\n1000_2"\t5\n', "has a quote that is not closed, or text beside"),
        ("donor\tage\nx\t3\n", "no row of .* matches a cell of the cohort"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(tmp_path, text, message):
    (tmp_path / "donors.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        run(tmp_path, written(cohort(), tmp_path), sample_table=str(tmp_path / "donors.tsv"))


def test_barcodes_that_repeat_between_files_need_the_file_in_the_table():
    obs = pd.DataFrame(index=["a", "a"])
    table = _tables.Table("load.cell_table", "t.tsv", "cell", pd.DataFrame({"cell": ["a"], "donor": ["d"]}))
    with pytest.raises(InputError, match="barcodes repeat between files of the cohort; add a column 'file'"):
        _tables.add_cell_columns(obs, pd.Series(["f", "g"]), table)
    rows = pd.DataFrame({"file": ["f", "g"], "cell": ["a", "a"], "donor": ["d", "e"]})
    joined, lacking, unmatched = _tables.add_cell_columns(
        obs, pd.Series(["f", "g"]), _tables.Table("load.cell_table", "t.tsv", "cell", rows)
    )
    assert (joined["donor"].tolist(), lacking, unmatched) == (["d", "e"], 0, [])


# ---------------------------------------------------------------- who is who


def test_copies_are_unusable_and_two_people_of_one_id_are_told_apart(tmp_path):
    data = cohort()
    number = np.arange(CELLS)
    data.obs["dataset_id"] = np.select([number < 24, number < 48], ["A", "B"], "C")
    data.obs["is_primary_data"] = number < 48
    data.obs.loc[data.obs["dataset_id"] == "B", "sex"] = "male"  # other people than in A where it was female
    result = run(tmp_path, written(data, tmp_path), sample="donor", covariates=[])
    assert result.facts["cells"]["unusable"] == {"copy_in_another_dataset": 12}
    donors = set(result.samples["donor"])
    assert {"A:1000_1", "B:1000_1", "1000_0", "1000_2"} <= donors
    assert "donors_of_two_datasets" in {row["code"] for row in result.warnings}


def test_a_file_of_copies_only_is_used():
    values = pd.DataFrame({"is_primary_data": _values.clean_labels(pd.Series([False, False]))})
    assert _who.find_copies(values).tolist() == [False, False]


def test_one_person_in_two_datasets_stays_one(tmp_path):
    data = cohort()
    data.obs["dataset_id"] = np.where(np.arange(CELLS) < 30, "A", "B")
    result = run(tmp_path, written(data, tmp_path), sample="donor")
    assert result.samples["donor"].nunique() == 6


def test_samples_that_mix_tissues_and_labels_written_alike_are_warned_of(tmp_path):
    data = cohort()
    data.obs["tissue"] = np.where(np.arange(CELLS) % 12 < 6, "blood", "spleen")
    data.obs["cell_type"] = np.where(np.arange(CELLS) % 5 == 0, "b cell", "B cell")
    result = run(tmp_path, written(data, tmp_path), sample="donor")
    notes = {row["code"]: row["message"] for row in result.warnings}
    assert notes["samples_mix_levels"].startswith(
        "6 samples hold cells of several levels of tissue (blood, spleen)"
    )
    assert "cell_type is written in 2 ways that count apart: 'B cell', 'b cell'" in notes["levels_alike"]


def test_words_that_mean_missing(tmp_path):
    words = pd.Series(["NA", "n/a", "Unknown", "unassigned", "pooled", "", " none ", "x "])
    assert _values.clean_labels(words).isna().tolist() == [True] * 6 + [False] * 2
    assert _values.clean_labels(words, ("None",)).isna().sum() == 7
    assert _values.clean_labels(words, None).isna().sum() == 1


@pytest.mark.parametrize(
    ("label", "unit", "number"),
    [
        ("18m", "year", 1.5),
        ("18 months", "month", 18),
        ("2y", "month", 24),
        ("14d", "week", 2),
        ("18m", None, np.nan),
    ],
)
def test_ages_with_a_unit(label, unit, number):
    found = _values.parse_numbers(_values.clean_labels(pd.Series([label])), "numeric", unit).iloc[0]
    assert found == pytest.approx(number, nan_ok=True)


def test_bounds_and_ranges_are_known_as_such():
    assert all(map(_values.is_censored, ["90+", ">89", "60-69", "60 to 69", "80 year-old and over stage"]))
    assert not any(map(_values.is_censored, ["forty", "45y", "third decade stage"]))


def test_versions_of_gene_ids_are_taken_off_where_files_then_share_more(tmp_path):
    first, second = cohort(), cohort(1)
    first.var_names = [f"ENSG{i:011d}.{i % 3 + 1}" for i in range(first.n_vars)]
    second.var_names = [f"ENSG{i:011d}" for i in range(second.n_vars)]
    for name, data in (("a", first), ("b", second)):
        data.obs_names = f"{name}_" + data.obs_names
        written(data, tmp_path, f"{name}.h5ad")
    (tmp_path / "sheet.tsv").write_text("path\na.h5ad\nb.h5ad\n")
    result = run(tmp_path, tmp_path / "sheet.tsv")
    assert result.genes["gene_id"].tolist() == second.var_names.tolist()
    assert csr_matrix(first.X).sum() + second.X.sum() == result.facts["counts"]["input"]


# ---------------------------------------------------------------- smallest cases that random cohorts gave


@pytest.mark.parametrize("kind", ["tenx folder", "tenx h5", "h5ad", "loom"])
def test_a_file_without_cells_is_one_line(tmp_path, kind):
    """A folder of 10x ended in a traceback, an h5ad in advice on counts."""
    part = Part(
        "a", kind, [], pd.DataFrame(index=[]), ["g1", "g2"], ["A", "B"], None, np.zeros((0, 2), dtype=int)
    )
    WRITERS[kind](part, tmp_path)
    (tmp_path / "sheet.tsv").write_text(
        "path\tdonor\n" + "".join(f"{f.name}\td\n" for f in tmp_path.iterdir())
    )
    with pytest.raises(InputError, match=r"a\S*: holds no cell; correct cohort.path, or leave it out"):
        run(tmp_path, tmp_path / "sheet.tsv", sample="donor", cell_type=None)


def test_a_zarr_folder_names_cells_and_tables_without_its_suffix(tmp_path):
    cohort().write_zarr(tmp_path / "run1.zarr")
    result = run(tmp_path, tmp_path / "run1.zarr", sample=None, donor=None)
    assert set(result.cells["sample"]) == {"run1"}


def test_a_file_with_genes_of_another_genome_than_set_is_refused(tmp_path):
    data = cohort()
    data.var_names = [f"mm10___{name}" for name in data.var_names]
    with pytest.raises(
        InputError, match=r"load.genome: .* has no gene of 'GRCh38'; its genomes are \(mm10 25\)"
    ):
        run(tmp_path, written(data, tmp_path), genome="GRCh38")


def test_antibodies_do_not_hide_the_genomes_in_front_of_genes():
    ids = ["GRCh38_G1", "mm10___G2", "CD3", "CD4", "CD8"]
    symbols = pd.Series(ids, index=ids)
    kinds = {"feature_types": np.array(["Gene Expression"] * 2 + ["Antibody Capture"] * 3)}
    with pytest.raises(InputError, match="genes of 2 genomes"):
        _features.choose_genes("x", symbols, kinds, None)
    assert _features.choose_genes("x", symbols, kinds, "mm10")[0].tolist() == ["G2"]
