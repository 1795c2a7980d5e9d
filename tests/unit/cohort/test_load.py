"""Every format gives the same exact counts, every bad cohort one clear line, and every donor one shard."""

import gzip
import tracemalloc
from functools import partial

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_matrix, csr_array, csr_matrix

from cohort import _blocks, _choice, _samples, _shards, _values, load
from cohort._open import open_cohort
from cohort._source import Wanted
from files import _h5ad
from job import InputError, collect_warnings
from small_cohort import (
    AGE,
    CELLS,
    GENES,
    NO_LABELS,
    SEX,
    as_raw,
    assert_counts,
    cohort,
    expected,
    run,
    some_genes,
    tenx_folder,
    tenx_h5,
    with_x,
    written,
)

# ---------------------------------------------------------------- real data


def test_kang(shared_data, tmp_path):
    path = shared_data / "kang_pbmc_ifnb_16samples.h5ad"
    covariates = [{"name": name, "column": name, "type": "categorical"} for name in ("condition", "donor_id")]
    exclude = [
        {"column": "donor_id", "values": ["unassigned"]},
        {"column": "cell_type", "values": ["unlabelled"]},
    ]
    result = run(
        tmp_path,
        path,
        sample="sample_id",
        donor="donor_id",
        covariates=covariates,
        exclude=exclude,
        shards=3,
        block_values=300_000,
    )
    raw = ad.read_h5ad(path)
    assert len(result.cells) == 2000
    assert result.cells["cell"].tolist() == raw.obs_names.tolist()
    assert result.facts["counts"]["input"] == 3_081_827
    unassigned = (raw.obs["donor_id"] == "unassigned").to_numpy()
    unlabelled = (raw.obs["cell_type"] == "unlabelled").to_numpy() & ~unassigned
    reasons = result.cells["reason"].value_counts()
    assert reasons["excluded_donor_id"] == unassigned.sum()
    assert reasons["excluded_cell_type"] == unlabelled.sum()
    assert_counts(result, expected(raw)[~unassigned & ~unlabelled])
    assert len(result.samples) == 16
    assert result.samples.groupby("donor")["shard"].nunique().eq(1).all()
    assert set(result.samples["condition"]) == {"ctrl", "stim"}


def test_pbmc3k_has_no_labels(shared_data, tmp_path):
    files = sorted((shared_data / "pbmc3k_10x").iterdir())
    with pytest.raises(
        InputError, match=r"load.sample: .*pbmc3k_10x has no column 'sample' .*none.*set load.sample"
    ):
        run(tmp_path, *files)
    result = run(tmp_path, *files, sample=None, donor=None, cell_type=None, block_values=300_000)
    shard = result.shards[0]
    assert shard.shape == (2700, 32738)
    assert shard.X.sum(dtype=np.int64) == result.facts["counts"]["input"] == 6_390_631
    assert shard.var["symbol"].str.startswith("MT-").sum() == 13
    assert set(shard.obs["sample"]) == set(shard.obs["donor"]) == {"pbmc3k_10x"}
    assert set(shard.obs["cell_type"]) == {"all cells"}
    assert result.genes["duplicated_symbol"].sum() == result.genes["symbol"].duplicated(keep=False).sum() > 0


# ---------------------------------------------------------------- formats


def as_layer(name, data):
    data.layers[name] = data.X.copy()
    data.X = data.X.log1p()
    return data


H5AD = {
    "csr": lambda data: data,
    "csc": partial(with_x, csc_matrix),
    "dense": partial(with_x, lambda x: x.toarray()),
    "int64": partial(with_x, lambda x: x.astype(np.int64)),
    "uint8 dense": partial(with_x, lambda x: np.minimum(x.toarray(), 255).astype(np.uint8)),
    "raw": as_raw,
    "layer": partial(as_layer, "my counts"),
}


@pytest.mark.parametrize(("block_values", "compression"), [(40, "gzip"), (100_000, None)])
@pytest.mark.parametrize("kind", H5AD)
def test_h5ad_of_any_encoding(tmp_path, kind, compression, block_values):
    data = cohort()
    if kind == "uint8 dense":
        data.X = csr_matrix(np.minimum(data.X.toarray(), 255))
    wanted = expected(data)
    path = written(H5AD[kind](data), tmp_path, compression=compression)
    result = run(tmp_path, path, shards=3, block_values=block_values)
    assert_counts(result, wanted)
    place = {"raw": "raw.X", "layer": "layers/my counts"}.get(kind, "X")
    assert result.facts["files"][0]["counts_from"] == place


@pytest.mark.parametrize("block_values", [7, 100_000])
@pytest.mark.parametrize("version", [2, 3])
def test_10x_h5(tmp_path, version, block_values):
    data = cohort()
    path = tenx_h5(data, tmp_path / "run1.h5", version)
    result = run(tmp_path, path, block_values=block_values, **NO_LABELS)
    assert_counts(result, expected(data))
    assert result.genes["symbol"].tolist() == data.var["feature_name"].tolist()
    assert set(result.cells["sample"]) == {"run1"}
    antibodies = 7 * CELLS * (version == 3)
    assert result.facts["counts"]["input"] == data.X.sum(dtype=np.int64) + antibodies


@pytest.mark.parametrize("block_values", [40, 100_000])
@pytest.mark.parametrize(
    ("version", "zipped", "by_gene"), [(2, False, False), (3, True, True), (3, False, False)]
)
def test_10x_folder(tmp_path, version, zipped, by_gene, block_values):
    data = cohort()
    files = tenx_folder(data, tmp_path / "run 1", version, zipped, by_gene)
    result = run(tmp_path, *files, block_values=block_values, **NO_LABELS)
    assert_counts(result, expected(data))
    assert result.genes["gene_id"].tolist() == data.var_names.tolist()
    assert set(result.cells["donor"]) == {"run 1"}


def test_old_h5ad_categories(tmp_path):
    """The layout of anndata 0.7, where the codes of a column point at its categories."""
    data = cohort()
    path = written(data, tmp_path)
    with h5py.File(path, "r+") as file:
        obs = file["obs"]
        labels = data.obs["sex"].cat
        del obs["sex"], obs["_index"], obs["cell_type"], obs["donor"], obs["sample"]
        obs.attrs["encoding-version"] = "0.1.0"
        obs["__categories/sex"] = np.array(labels.categories, dtype=object)
        obs["sex"] = labels.codes.to_numpy()
        obs["sex"].attrs["categories"] = obs["__categories/sex"].ref
        for name in ("cell_type", "donor", "sample"):
            obs[name] = data.obs[name].astype(object).to_numpy()
        obs["_index"] = data.obs_names.astype(object).to_numpy()
    with pytest.warns(ad.OldFormatWarning):
        result = run(tmp_path, path, covariates=[SEX])
    assert result.shards[0].obs["sex"].astype(str).tolist() == data.obs["sex"].astype(str).tolist()


def test_a_sheet_joins_files_of_every_format(tmp_path):
    parts = [cohort(seed) for seed in range(4)]
    parts[2] = some_genes(parts[2], slice(None, None, -1))  # the same genes in another order
    parts[3] = some_genes(parts[3], slice(5, None))  # five genes fewer
    parts[3].obs["age"] = "unknown"
    written(parts[0], tmp_path, "a.h5ad")
    tenx_h5(parts[1], tmp_path / "b.h5", 3)
    tenx_folder(parts[2], tmp_path / "c", 3, True, False)
    written(with_x(csc_matrix, parts[3].copy()), tmp_path, "d.h5ad")
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text(
        "path\tsample\tdonor\tcell_type\tage\na.h5ad\ts1\td1\tT\t30\nb.h5\ts2\td1\tT\t30\n"
        "c\ts3\t007\tT\t\nd.h5ad\ts4\td4\tT\t55.5\n"
    )
    result = run(tmp_path, sheet, shards=2, covariates=[AGE], block_values=50)
    genes = parts[0].var_names[5:]
    named = [
        part.to_df()[genes].astype(np.int32).set_axis(f"s{i}_" + part.obs_names)
        for i, part in enumerate(parts, 1)
    ]
    assert_counts(result, pd.concat(named))
    assert result.samples["sample"].tolist() == ["s1", "s2", "s3", "s4"]
    assert result.samples["donor"].tolist() == ["d1", "d1", "007", "d4"]
    assert result.samples["age"].fillna(-1).tolist() == [30, 30, -1, 55.5]
    assert [file["genes_not_shared"] for file in result.facts["files"]] == [5, 5, 5, 0]
    assert any("left out" in line for line in load.list_facts(result.facts))
    antibodies = 7 * CELLS
    assert result.facts["counts"]["input"] == sum(part.X.sum(dtype=np.int64) for part in parts) + antibodies


def test_null_in_a_sheet_means_one_per_file(tmp_path):
    for folder in ("run1", "run2"):
        (tmp_path / folder).mkdir()
        tenx_h5(cohort(), tmp_path / folder / "counts.h5", 2)
    (tmp_path / "sheet.tsv").write_text("path\nrun1/counts.h5\nrun2/counts.h5\n")
    result = run(tmp_path, tmp_path / "sheet.tsv", shards=2, **NO_LABELS)
    assert result.samples["sample"].tolist() == ["run1/counts", "run2/counts"]
    assert result.cells["cell"].iloc[0] == "run1/counts_cell0"


# ---------------------------------------------------------------- bounded memory


def sources(tmp_path, random, n_rows, n_columns):
    """The same matrix as a source of each kind."""
    x = csr_matrix((random.poisson(0.3, (n_rows, n_columns))).astype(np.float32))
    names = [f"g{i}" for i in range(n_columns)]
    obs = pd.DataFrame({"sample": "s"}, index=[f"c{i}" for i in range(n_rows)])
    data = ad.AnnData(x, obs=obs, var=pd.DataFrame({"feature_name": names}, index=names))
    made = {
        "csr": [written(data, tmp_path, "csr.h5ad", compression="gzip")],
        "csc": [written(with_x(csc_matrix, data.copy()), tmp_path, "csc.h5ad")],
        "dense": [written(with_x(lambda x: x.toarray(), data.copy()), tmp_path, "dense.h5ad")],
        "by cell": tenx_folder(data, tmp_path / "by_cell", 2, False, False),
        "by gene": tenx_folder(data, tmp_path / "by_gene", 2, False, True),
    }
    for kind, files in made.items():
        files = [str(file) for file in files]
        wanted = Wanted({}, (), frozenset(), "auto", "feature_name", None, None)
        yield kind, x, open_cohort(files, wanted, rounded=False)[0]


def test_blocks_are_small_and_in_order(tmp_path):
    for kind, x, source in sources(tmp_path, np.random.default_rng(0), 30, 10):
        for block_values in (3, 19, 10**6):
            blocks = list(source.blocks(block_values))
            joined = np.concatenate([block.toarray() for block in blocks])
            np.testing.assert_array_equal(joined, x.toarray(), err_msg=kind)
            limit = max(block_values, np.diff(x.indptr).max())
            if kind != "dense":  # a dense block is as tall as its HDF5 chunks
                assert max(block.nnz for block in blocks) <= limit, kind
            assert (len(blocks) == 1) == (block_values == 10**6) or kind == "dense"


def test_memory_does_not_grow_with_the_matrix(tmp_path):
    peaks = {}
    for n_rows in (2000, 5000):
        folder = tmp_path / str(n_rows)
        folder.mkdir()
        for kind, x, source in sources(folder, np.random.default_rng(0), n_rows, 100):
            assert x.nnz > 2000 * _blocks.PASS_BLOCKS
            tracemalloc.start()
            for block in source.blocks(2000):
                del block
            peaks[kind, n_rows] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    for kind in ("csr", "csc", "dense", "by cell", "by gene"):
        added = 3000 * 40  # bytes: lengths and pointers of the added rows
        assert peaks[kind, 5000] < 1.1 * peaks[kind, 2000] + added, kind


@given(
    lengths=st.lists(st.integers(0, 9), max_size=30),
    block_values=st.integers(1, 20),
)
def test_cuts_cover_each_line_once(lengths, block_values):
    cuts = list(_blocks.cut_lines(np.array(lengths, dtype=int), block_values))
    assert [line for start, stop in cuts for line in range(start, stop)] == list(range(len(lengths)))
    for start, stop in cuts:
        assert sum(lengths[start:stop]) <= block_values or stop == start + 1


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_order_of_triplets_gives_the_same_rows(data):
    shape = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 5))
    x = np.array(
        data.draw(st.lists(st.integers(0, 3), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    )
    x = x.reshape(shape)
    rows, columns = np.nonzero(x)
    order = np.array(data.draw(st.permutations(range(len(rows)))), dtype=int)
    if data.draw(st.booleans()):
        order = np.sort(order)

    def triplets(size):
        for start in range(0, len(order), size):
            part = order[start : start + size]
            yield rows[part], columns[part], x[rows[part], columns[part]]

    blocks = list(_blocks.order_rows(triplets, *shape, data.draw(st.integers(1, 12))))
    np.testing.assert_array_equal(np.concatenate([block.toarray() for block in blocks]), x)


def test_results_do_not_depend_on_blocks_or_shards(tmp_path):
    path = written(cohort(), tmp_path)
    tables = []
    for block_values, shards in ((1, 1), (40, 4), (10**6, 2)):
        result = run(tmp_path, path, block_values=block_values, shards=shards, covariates=[AGE, SEX])
        tables.append(
            (result.genes, result.cells.drop(columns="shard"), result.samples.drop(columns="shard"))
        )
        for shard in result.shards:  # input order within each
            assert shard.obs_names.map(cohort().obs_names.get_loc).is_monotonic_increasing
    for other in tables[1:]:
        for first, second in zip(tables[0], other, strict=True):
            pd.testing.assert_frame_equal(first, second)


# ---------------------------------------------------------------- where the counts are


def test_of_equal_places_x_is_taken_then_raw_then_layers_of_counts(tmp_path):
    data = cohort()
    data.layers["ambient"] = data.layers["umi_counts"] = data.X.copy()
    data.raw = data
    path = written(data, tmp_path)
    keys = {"X": "X", "raw.X": "raw/X", "layers/umi_counts": "layers/umi_counts", "layers/ambient": ""}
    for place, key in keys.items():
        result = run(tmp_path, path)
        assert result.facts["files"][0]["counts_from"] == place
        assert result.warnings == []
        if key:
            with h5py.File(path, "r+") as file:
                file[key]["data"][...] = np.log1p(file[key]["data"][:])
    with pytest.raises(
        InputError,
        match=r"^load.counts: X: .* no raw counts there \(X: 100% fractions, normalised\? such as 0.69",
    ):
        run(tmp_path, path, counts="X")
    with pytest.raises(
        InputError, match=r"load.counts: .* has no layers/raw \(it has: X, raw.X, layers/umi_counts, "
    ):
        run(tmp_path, path, counts="layers/raw")


@pytest.mark.parametrize("by_gene", [False, True])
def test_the_place_that_contains_the_others_is_taken_and_told(tmp_path, by_gene):
    """Total = spliced + unspliced + ambiguous, in a layer whose name comes last; X is a part."""
    data = cohort()
    total = data.X.toarray()
    random = np.random.default_rng(0)
    spliced = random.binomial(total.astype(int), 0.4)
    shape = csc_matrix if by_gene else csr_matrix
    data.layers["a_part"] = shape((total - spliced).astype(np.float32))
    data.layers["z_total"] = csr_matrix(total)
    data.X = shape(spliced.astype(np.float32))
    result = run(tmp_path, written(data, tmp_path))
    assert result.facts["files"][0]["counts_from"] == "layers/z_total"
    assert result.facts["counts"]["input"] == total.sum()
    (warning,) = [row for row in result.warnings if row["code"] == "other_counts"]
    assert "X has 4" in warning["message"]
    assert "layers/a_part has " in warning["message"]


def test_places_of_which_none_contains_the_others_are_named(tmp_path):
    data = cohort()
    data.layers["other"] = data.X[::-1].copy()
    with pytest.raises(
        InputError, match=r"holds counts in 2 places, none of which contains the others"
    ) as error:
        run(tmp_path, written(data, tmp_path))
    assert "X: 25 genes, " in str(error.value)
    assert "set load.counts to one" in str(error.value)
    assert run(tmp_path, tmp_path / "cohort.h5ad", counts="X").facts["files"][0]["counts_from"] == "X"


def test_all_genes_in_raw_contain_the_variable_genes_in_x(tmp_path):
    data = cohort()
    few = some_genes(data, slice(5))
    few.raw = data
    result = run(tmp_path, written(few, tmp_path))
    assert result.facts["files"][0]["counts_from"] == "raw.X"
    assert_counts(result, expected(data))
    assert "X has 5 of 25 genes" in result.warnings[0]["message"]


def test_corrected_counts_are_refused_or_rounded_and_counted(tmp_path):
    data = cohort()
    data.X.data[::3] -= 0.4
    path = written(data, tmp_path)
    with pytest.raises(InputError, match=r"roundToInt = TRUE\)\), or set load.round: true"):
        run(tmp_path, path)
    result = run(tmp_path, path, round=True)
    assert result.facts["counts"]["input"] == int(np.rint(data.X.data).sum())
    (warning,) = [row for row in result.warnings if row["code"] == "counts_rounded"]
    assert warning["number"] == len(data.X.data[::3])


def test_raw_has_genes_of_its_own(tmp_path):
    data = as_raw(cohort())
    wanted = pd.DataFrame(data.raw.X.toarray().astype(np.int32), data.obs_names, data.raw.var_names)
    few = some_genes(data, slice(5))
    few.raw = data.raw.to_adata()
    assert_counts(run(tmp_path, written(few, tmp_path)), wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.log1p(), r"X: \d+% fractions, normalised\? such as"),
        (lambda x: x * -1, r"X: 100% negative or not finite, scaled\? such as -"),
        (lambda x: x * np.float32(np.inf), r"X: 100% negative or not finite, scaled\? such as inf"),
        (lambda x: x * 0, "X: only zeros"),
    ],
)
def test_a_cohort_without_counts_is_refused_in_one_line(tmp_path, change, message):
    with pytest.raises(
        InputError, match=f"^load.counts: .*{message}.*set load.counts to their place$"
    ) as error:
        run(tmp_path, written(with_x(change, cohort()), tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [0.5, -1, np.nan, np.inf, 3e9])
def test_one_bad_value_that_no_sample_saw_is_found(value):
    x = csr_array(np.array([[0, 1, 2], [0, 0, 0], [3, value, 0]]))
    with pytest.raises(
        InputError, match=r"^file: X: cell 'c' has (0.5|-1|nan|inf|3e\+09), not a count; set load.counts"
    ):
        _shards.check_counts(x, "file: X", pd.Index(["a", "b", "c"]))


def test_bad_values_of_later_blocks_are_found(tmp_path):
    data = cohort(cells=3000, genes=80)
    last = np.linspace(0, data.X.nnz - _choice.VALUES, _choice.STRETCHES).astype(int)[-1]
    data.X.data[last - 1] = 0.5  # between the last two stretches that are looked at
    cell = np.searchsorted(data.X.indptr, last - 1, side="right") - 1
    with pytest.raises(InputError, match=rf"^cohort: X: cell 'cell{cell}' has 0.5, not a count"):
        run(tmp_path, written(data, tmp_path))


def test_whole_numbers_are_canonical():
    x = csr_array((np.array([5.0, 1, 0, 2]), np.array([2, 0, 1, 2]), np.array([0, 3, 4])), shape=(2, 3))
    made = _shards.check_counts(x, "X", pd.Index(["a", "b"]))
    assert made.dtype == np.int32
    assert made.has_canonical_format
    assert made.nnz == 3  # the stored zero is no count
    np.testing.assert_array_equal(made.toarray(), [[1, 0, 5], [0, 0, 2]])


# ---------------------------------------------------------------- damaged and wrong files


def test_files_that_cannot_be_read(tmp_path):
    text = tmp_path / "text.h5ad"
    text.write_text("not HDF5")
    short = written(cohort(), tmp_path, "short.h5ad")
    short.write_bytes(short.read_bytes()[:-4000])
    with pytest.raises(InputError, match=r"^cohort.path: .*absent.h5ad does not exist; correct it$"):
        run(tmp_path, tmp_path / "absent.h5ad")
    for path in (text, short):
        with pytest.raises(InputError, match=rf"^{path}: cannot be read \(.*\); correct cohort.path"):
            run(tmp_path, path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["something"] = 1
    with pytest.raises(InputError, match=r"neither h5ad nor 10x h5 \(it has: something\)"):
        run(tmp_path, tmp_path / "other.h5")


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("indptr", lambda v: v - 1, "index pointers of /X are damaged"),
        ("indptr", lambda v: np.roll(v, 3), "index pointers of /X are damaged"),
        ("indptr", lambda v: v // 2, "index pointers of /X are damaged"),
        ("indptr", lambda v: np.maximum(v, 1), "index pointers of /X are damaged"),
        ("indptr", lambda v: np.r_[v[0], v[-2:0:-1], v[-1]], "index pointers of /X are damaged"),
        ("indices", lambda v: v + 1, "indices of /X are damaged"),
        ("indices", lambda v: v - 1, "indices of /X are damaged"),
    ],
)
@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_damaged_matrices(tmp_path, kind, part, change, message):
    path = written(H5AD[kind](cohort()), tmp_path)
    with h5py.File(path, "r+") as file:
        file["X"][part][...] = change(file["X"][part][:])
        if (kind, part) == ("csc", "indices"):  # there are more rows than columns
            file["X/indices"][0] = -1
    with pytest.raises(InputError, match=f"{message}.*get the file again"):
        run(tmp_path, path)


def test_a_matrix_of_another_shape(tmp_path):
    path = written(cohort(), tmp_path)
    with h5py.File(path, "r+") as file:
        file["X"].attrs["shape"] = [CELLS, GENES + 1]
    with pytest.raises(InputError, match=r"X is \[60, 26\] for 60 cells and 25 genes"):
        run(tmp_path, path)


def test_damaged_folders(tmp_path):
    folder = tmp_path / "run"
    files = tenx_folder(cohort(), folder, 2, False, False)
    matrix = folder / "matrix.mtx"
    text = matrix.read_text()
    lines = text.splitlines(keepends=True)

    def refused(match):
        with pytest.raises(InputError, match=match):
            run(tmp_path, *files, **NO_LABELS)

    matrix.write_text("".join(lines[:-1]))
    refused(r"matrix.mtx: damaged or cut off \([\d,]+ values of [\d,]+\)")
    matrix.write_text("".join(lines[:-1]) + "26 1 1\n")
    refused("damaged or cut off .a line beyond 25 genes x 60 cells")
    matrix.write_text("".join(lines[:-1]) + "1 1 one\n")
    refused("damaged or cut off")
    matrix.write_text("".join(lines[:-1]) + "1 1 0.5\n")
    refused("matrix.mtx: cell 'cell0' has .*not a count")
    matrix.write_text("1\t2\n")
    refused("not .* MatrixMarket")
    matrix.write_text(text.replace("integer", "pattern"))
    refused("pattern.*not .* MatrixMarket")
    matrix.write_text(text)
    (folder / "barcodes.tsv").write_text("one\n")
    refused("25 genes x 60 cells, but genes.tsv has 25 lines and barcodes.tsv 1;")
    (folder / "barcodes.tsv").unlink()
    refused("run is a 10x folder without barcodes.tsv; add it")
    matrix.unlink()
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress(text.encode())[:-20])
    (folder / "barcodes.tsv").write_text("".join(f"{cell}\n" for cell in cohort().obs_names))
    refused("damaged or cut off .*get the file again")


def test_wrong_sheets(tmp_path):
    written(cohort(), tmp_path, "a.h5ad")
    sheet = tmp_path / "sheet.tsv"
    for text, message in (
        ("file\na.h5ad\n", "sheet.tsv: .*file.*'path'"),
        ("path\n", "sheet.tsv: 0 rows"),
        ("path\na.h5ad\na.h5ad\n", "'a.h5ad' is listed twice"),
        ("path\nb.h5ad\n", "sheet.tsv: path: .*b.h5ad does not exist"),
    ):
        sheet.write_text(text)
        with pytest.raises(InputError, match=message):
            run(tmp_path, sheet)
    other = cohort()
    other.var_names = other.var["feature_name"]
    written(other, tmp_path, "b.h5ad")
    sheet.write_text("path\na.h5ad\nb.h5ad\n")
    with pytest.raises(InputError, match=r"share no gene id .'ENSG0' and 'S0'."):
        run(tmp_path, sheet)


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([12, 7, 12], ["12", "7", "12"]),
        ([12.0, np.nan, 7.0], ["12", None, "7"]),
        ([1.5, 2.0, 1.5], ["1.5", "2", "1.5"]),
        (["0012", "NA", "x "], ["0012", None, "x"]),
        ([None, "", "nan", "<NA>", " ", "a"], [None, None, None, None, None, "a"]),
        ([1, "1", 2], ["1", "1", "2"]),
        ([True, False], ["True", "False"]),
        (pd.Categorical([3, None, 1]), ["3", None, "1"]),
        (pd.array([3, None], dtype="Int64"), ["3", None]),
        (np.array([0.25, 7], dtype=np.float32), ["0.25", "7"]),
        ([], []),
    ],
)
def test_labels_are_text(values, wanted):
    made = _values.clean_labels(pd.Series(values))
    assert made.astype(object).where(made.notna(), None).tolist() == wanted
    assert made.cat.categories.tolist() == sorted({label for label in wanted if label is not None})


def test_integer_donors_of_a_file_are_text_in_every_table(tmp_path):
    data = cohort()
    data.obs["donor"] = np.arange(CELLS) % 6 + 100
    result = run(tmp_path, written(data, tmp_path), shards=2)
    assert set(result.samples["donor"]) == {str(d) for d in range(100, 106)}
    assert all(isinstance(donor, str) for shard in result.shards for donor in shard.obs["donor"])


def test_unusable_cells_by_first_reason(tmp_path):
    data = cohort()
    for column in ("donor", "sample", "cell_type"):
        data.obs[column] = data.obs[column].astype(object)
    data.obs["Batch No."] = "fine"
    name = data.obs_names
    data.obs.loc[name[:2], "sample"] = None
    data.obs.loc[name[1:4], "donor"] = np.nan
    data.obs.loc[name[5], "cell_type"] = ""
    data.obs.loc[name[[0, 6, 7]], "Batch No."] = "odd"
    data.obs.loc[name[7:9], "cell_type"] = "junk"
    exclude = [{"column": "Batch No.", "values": ["odd"]}, {"column": "cell_type", "values": ["junk"]}]
    result = run(tmp_path, written(data, tmp_path), exclude=exclude, shards=2)
    reasons = ["excluded_batch_no", "missing_sample"] + ["missing_donor"] * 2 + ["", "missing_cell_type"]
    reasons += ["excluded_batch_no"] * 2 + ["excluded_cell_type"]
    assert result.cells["reason"].tolist() == reasons + [""] * (CELLS - 9)
    assert (result.cells["shard"] == "").tolist() == (result.cells["reason"] != "").tolist()
    assert result.cells["donor"].iloc[2] == result.cells["cell_type"].iloc[5] == ""
    assert result.facts["cells"]["unusable"] == {
        "excluded_batch_no": 3, "excluded_cell_type": 1,
        "missing_cell_type": 1, "missing_donor": 2, "missing_sample": 1,
    }  # fmt: skip
    assert_counts(result, expected(cohort())[(result.cells["reason"] == "").to_numpy()])
    assert "8 unusable (excluded_batch_no 3; " in load.summarise(result.facts)


def test_a_cell_without_counts_stays_usable(tmp_path):
    result = run(tmp_path, written(cohort(), tmp_path))
    assert result.cells["reason"].iloc[3] == ""
    assert "cell3" in result.shards[0].obs_names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"sample": "who"},
            r"^load.sample: .* no column 'who' for its cells \(it has: donor, .*set load.sample, or bring",
        ),
        ({"donor": "who"}, "^load.donor: "),
        ({"cell_type": "who"}, "^load.cell_type: "),
        ({"pool": "who"}, "^load.pool: "),
        ({"covariates": [AGE | {"column": "who"}]}, r"^load.covariates \(age\): .*'who'"),
        ({"exclude": [{"column": "who", "values": ["x"]}]}, "^load.exclude: .*'who'"),
        ({"symbols": "who"}, r"^load.symbols: .*'who' .*\(it has: feature_name\); .* null"),
        (
            {"exclude": [{"column": "sex", "values": ["male", "mael"]}]},
            r"^load.exclude: sex is never 'mael' \(it is: female, male\)",
        ),
        (
            {"exclude": [{"column": "sex", "values": ["male", "female"]}]},
            "^cohort: none of 60 cells is usable .*excluded_sex",
        ),
        ({"covariates": [AGE | {"name": "donor"}]}, "^load.covariates: the name 'donor' is taken"),
        ({"covariates": [AGE, AGE]}, "^load.covariates: the name 'age' is taken"),
        ({"covariates": [AGE | {"name": "age at draw"}]}, "'age at draw' cannot be used in a formula"),
        ({"covariates": [AGE | {"name": "class"}]}, "'class' cannot be used in a formula"),
        (
            {"covariates": [SEX | {"column": "cell_type"}]},
            "^sample '1000_0-a': sex is 'B/plasma' and 'CD4-positive, .*let load.sample tell",
        ),
        (
            {"covariates": [AGE | {"column": "sex"}]},
            r"^load.covariates: age has no numeric value .it is: '(fe)?male', '(fe)?male'.; correct",
        ),
        ({"covariates": [AGE | {"type": "stage"}]}, r"age has no stage value \(it is: '20'"),
        (
            {"sample": "donor", "donor": "sample"},
            "^sample '1000_0': its donor is '1000_0-a' and '1000_0-b'; set load.sample",
        ),
        ({"shards": 7}, "^load.shards: 7 for 6 donors with usable cells; set load.shards lower"),
        (
            {"shards": 4, "shard_by": "pool", "pool": "pool_number"},
            "^load.shards: 4 for 3 sets of donors linked by pools",
        ),
        ({"shard_by": "pool"}, "^load.shard_by: pool needs a column of pools; set load.pool"),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path, settings, message):
    with pytest.raises(InputError, match=message) as error:
        run(tmp_path, written(cohort(), tmp_path), **settings)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "00.h5ad").exists()  # before the counts are read


def test_names_must_tell_cells_and_genes_apart(tmp_path):
    data = cohort()
    data.obs_names = ["x", *data.obs_names[1:6], "x", *data.obs_names[7:]]  # of one donor
    with pytest.raises(
        InputError, match="cohort: 1 cell names repeat within a file and a donor, such as 'x'"
    ):
        run(tmp_path, written(data, tmp_path))
    data = cohort()
    data.var_names = ["x", "x", *data.var_names[2:]]
    with pytest.raises(InputError, match="cohort: 1 gene ids repeat, such as 'x'"):
        run(tmp_path, written(data, tmp_path))


def test_symbols_may_repeat_or_be_missing(tmp_path):
    data = cohort()
    data.var["feature_name"] = data.var["feature_name"].astype(object)
    data.var.loc[data.var_names[:3], "feature_name"] = ["TWIN", "TWIN", None]
    path = written(data, tmp_path)
    result = run(tmp_path, path)
    assert result.genes["symbol"].tolist()[:4] == ["TWIN", "TWIN", "ENSG2", "S3"]
    assert result.genes["duplicated_symbol"].tolist()[:4] == [True, True, False, False]
    assert result.shards[0].var["symbol"].tolist() == result.genes["symbol"].tolist()
    assert result.shards[0].var_names.tolist() == result.genes["gene_id"].tolist()
    assert run(tmp_path, path, symbols=None).genes["symbol"].iloc[0] == "ENSG0"


# ---------------------------------------------------------------- covariates and samples


def test_covariates_are_typed_in_every_table(tmp_path):
    data = cohort()
    data.obs["stage"] = [f"{20 + 10 * (i % 6)}-year-old stage" for i in range(CELLS)]
    data.obs.loc[data.obs["donor"] == "1000_1", "stage"] = "33-year-old human stage"
    data.obs.loc[data.obs["donor"] == "1000_2", "stage"] = "80 year-old and over stage"
    data.obs.loc[data.obs_names[::36], "age"] = np.nan  # only some cells of a sample
    data.obs["sex"] = data.obs["sex"].astype(object).where(data.obs["donor"] != "1000_3", None)
    stage = {"name": "years", "column": "stage", "type": "stage"}
    result = run(tmp_path, written(data, tmp_path), covariates=[stage, AGE, SEX], shards=2)
    samples = result.samples.set_index("sample")
    assert samples["years"].dtype == samples["age"].dtype == float
    assert samples["years"].fillna(-1).tolist() == [20, 20, 33, 33, -1, -1, 50, 50, 60, 60, 70, 70]
    assert samples["age"].tolist() == [20, 20, 30, 30, 40, 40, 50, 50, 60, 60, 70, 70]
    assert samples["sex"].isna().tolist() == [False] * 6 + [True] * 2 + [False] * 4
    obs = pd.concat(shard.obs for shard in result.shards).loc[data.obs_names]
    for name in ("years", "age", "sex"):
        of_sample = obs["sample"].astype(str).map(samples[name])
        assert (obs[name].astype(object).eq(of_sample) | of_sample.isna()).all()
        assert obs[name].isna().eq(of_sample.isna()).all()
    assert all(shard.obs["years"].dtype == float for shard in result.shards)
    assert all(isinstance(shard.obs["sex"].dtype, pd.CategoricalDtype) for shard in result.shards)
    assert result.facts["not_parsed"] == {"years": {"80 year-old and over stage": 10}, "age": {}}
    line = "years is missing in 10 cells where it is 80 year-old and over stage"
    assert line in load.list_facts(result.facts)


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        (["45-year-old stage", "9-year-old human stage", None], "stage", [45, 9, -1]),
        (["third decade stage", "6-month-old stage", "45"], "stage", [-1, 0.5, -1]),
        (["45", "1e2", "-3.5", "inf", "forty", None], "numeric", [45, 100, -3.5, -1, -1, -1]),
        (["45y", "52 years", "33 yr", "7 year-old"], "numeric", [45, 52, 33, 7]),
        (["60-69", ">89", "90+", "1_0", "5 kg"], "numeric", [-1] * 5),
    ],
)  # fmt: skip
def test_numbers(values, kind, wanted):
    made = _values.parse_numbers(_values.clean_labels(pd.Series(values, dtype=object)), kind)
    assert made.fillna(-1).tolist() == wanted


def test_one_number_written_in_two_ways_is_one_value(tmp_path):
    data = cohort()
    data.obs["age"] = [f"{20 + 10 * (i % 6)}{'' if i < 30 else '.0'}" for i in range(CELLS)]
    result = run(tmp_path, written(data, tmp_path), covariates=[AGE])
    assert result.samples["age"].min() == 20


def test_samples_know_their_pools(tmp_path):
    data = cohort()
    cell_of_sample = np.arange(CELLS) // 12  # each sample has five cells
    data.obs["pool"] = np.array(["p2", "p1", "p2", "p2", None], dtype=object)[cell_of_sample]
    even = np.array(["p2", "p1", "p2", "p1", None], dtype=object)[cell_of_sample]
    data.obs["pool"] = data.obs["pool"].where(data.obs["donor"] != "1000_3", even)
    path = written(data, tmp_path)
    result = run(tmp_path, path, pool="pool")
    samples = result.samples.set_index("donor")
    assert (samples["pools"] == 2).all()
    assert set(samples["pool"].drop("1000_3")) == {"p2"}
    assert set(samples["pool"].loc["1000_3"]) == {"p1"}  # the first name of two as large
    assert samples["cells"].tolist() == [5] * 12
    assert (result.cells["pool"] == "").sum() == 12
    none = run(tmp_path, path)
    assert set(none.samples["pool"]) == set(none.shards[0].obs["pool"]) == {""}
    assert set(none.samples["pools"]) == {0}


# ---------------------------------------------------------------- shards

tables = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5) | st.none()), min_size=1, max_size=80)


def frame(rows):
    donor, pool = zip(*rows, strict=True)
    return pd.DataFrame(
        {
            "donor": _values.clean_labels(pd.Series(donor)),
            "pool": _values.clean_labels(pd.Series(pool, dtype=object)),
        }
    )


@settings(deadline=None, max_examples=60)
@given(tables, st.integers(1, 5), st.sampled_from(["donor", "pool"]), st.randoms(use_true_random=False))
def test_shards_hold_whole_donors_and_are_balanced(rows, shards, shard_by, random):
    cells = frame(rows)
    try:
        home = _samples.assign_shards(cells, shards, shard_by)
    except InputError:
        units = {donor for donor, _ in rows}
        assert shard_by == "pool" or len(units) < shards
        return
    assert set(home.index) == set(cells["donor"])
    shard = cells["donor"].astype(object).map(home)
    assert set(shard) == {f"{number:02d}" for number in range(shards)}  # none is empty
    if shard_by == "pool":
        assert shard.groupby(cells["pool"], observed=True).nunique().le(1).all()
    else:
        loads = shard.value_counts()
        assert loads.max() - loads.min() <= cells["donor"].value_counts().max()
    random.shuffle(rows)
    pd.testing.assert_series_equal(_samples.assign_shards(frame(rows), shards, shard_by), home)


def test_descending_donors_go_to_the_smallest_shard():
    rows = [(donor, None) for donor, cells in enumerate([5, 3, 3, 2, 2, 1]) for _ in range(cells)]
    home = _samples.assign_shards(frame(rows), 2, "donor")
    assert home.tolist() == ["00", "01", "01", "00", "01", "00"]  # 5; 3; 3+3; 5+2; 6+2; 7+1


def test_pools_link_donors_transitively():
    rows = [(1, 1), (2, 1), (2, 2), (3, 2), (4, 3), (5, None), (6, None)]
    home = _samples.assign_shards(frame(rows), 4, "pool")
    assert home["1"] == home["2"] == home["3"]
    assert home.nunique() == 4  # 5 and 6 lack a pool, which links nobody


def test_many_donors_pools_and_shards(tmp_path):
    data = cohort(cells=204, genes=5)
    donor = np.arange(204) % 102
    data.obs["donor"] = data.obs["sample"] = [f"d{d}" for d in donor]
    data.obs["pool_number"] = [f"p{d // 3}" for d in donor]
    path = written(data, tmp_path)
    result = run(tmp_path, path, shards=102, read=slice(9, 102, 46))  # more than two digits can count
    for number, shard in zip((9, 55, 101), result.shards, strict=True):
        there = result.cells["cell"][result.cells["shard"] == f"{number:02d}"]
        assert shard.obs_names.tolist() == there.tolist() != []
    home = run(tmp_path, path, shards=7, shard_by="pool", pool="pool_number").samples
    assert home.groupby("pool")["shard"].nunique().eq(1).all()
    assert home["pool"].nunique() == 34
    assert home["shard"].nunique() == 7


def test_cells_of_a_pool_share_a_shard_in_the_files(tmp_path):
    result = run(tmp_path, written(cohort(), tmp_path), shards=3, shard_by="pool", pool="pool_number")
    for shard in result.shards:
        assert len(set(shard.obs["pool"])) == 1
        assert shard.obs["donor"].nunique() == 2


def test_shards_are_h5ad_that_older_readers_know(tmp_path):
    run(tmp_path, written(cohort(), tmp_path), covariates=[AGE, SEX])
    encodings = []
    with h5py.File(tmp_path / "00.h5ad") as file:
        file.visititems(lambda name, item: encodings.append(item.attrs.get("encoding-type")))
        assert file["X/data"].dtype == file["X/indices"].dtype == file["X/indptr"].dtype == np.int32
    assert set(encodings) <= {None, "dataframe", "string-array", "categorical", "array", "csr_matrix"}


def test_index_pointers_are_wide_when_they_must_be(tmp_path, monkeypatch):
    monkeypatch.setattr(_h5ad, "INT32_MAX", 100)
    result = run(tmp_path, written(cohort(), tmp_path))
    with h5py.File(tmp_path / "00.h5ad") as file:
        assert file["X/indptr"].dtype == np.int64
    assert_counts(result, expected(cohort()))


def test_bytes_are_stable(tmp_path):
    path = written(cohort(), tmp_path)
    names = ["00.h5ad", "cells.parquet", "samples.parquet", "genes.parquet", "cohort.json"]
    kept = []
    for _ in range(2):
        run(tmp_path, path, covariates=[AGE, SEX])
        kept.append([(tmp_path / name).read_bytes() for name in names])
    assert kept[0] == kept[1]


def test_the_species_is_found_or_as_set(tmp_path):
    data = cohort()
    data.var["feature_name"] = [f"Gene{number}" for number in range(GENES)]
    path = written(data, tmp_path)
    assert run(tmp_path, path).facts["species"] == "mouse"
    assert run(tmp_path, path, species="human").facts["species"] == "human"


# droplets without a cell


def unfiltered(cells=70, background=400, genes=GENES) -> ad.AnnData:
    """Two samples with cells of about 3,000 counts and background of about 40, in random order."""
    random = np.random.default_rng(2)
    size = np.r_[3000 * random.lognormal(0, 0.3, 2 * cells), random.poisson(40, 2 * background)]
    counts = random.poisson(size[:, None] / genes * np.ones(genes))
    sample = np.r_[np.repeat(["a", "b"], cells), np.repeat(["a", "b"], background)]
    order = random.permutation(len(size))
    obs = pd.DataFrame({"sample": sample, "donor": sample, "cell_type": "T"}).iloc[order]
    obs.index = [f"{'cell' if i < 2 * cells else 'empty'}{i}" for i in order]
    var = pd.DataFrame(
        {"feature_name": [f"S{g}" for g in range(genes)]}, index=[f"ENSG{g}" for g in range(genes)]
    )
    return ad.AnnData(csr_matrix(counts[order].astype(np.float32)), obs=obs, var=var)


@pytest.mark.parametrize("point", ["inflection", "knee"])
def test_empty_droplets_leave_with_their_reason_and_nothing_is_lost(tmp_path, point):
    data = unfiltered()
    result = run(tmp_path, written(data, tmp_path), empty_droplets=point)
    empty = (result.cells["reason"] == "empty_droplet").to_numpy()
    assert result.cells.loc[~empty, "cell"].str.startswith("cell").all()
    assert (~empty).sum() >= {"inflection": 137, "knee": 100}[point]  # of 140
    assert result.facts["cells"] == {
        "input": 940,
        "usable": int((~empty).sum()),
        "unusable": {"empty_droplet": int(empty.sum())},
    }
    assert_counts(result, expected(data[~empty]))
    total = pd.Series(np.asarray(data.X.sum(axis=1)).ravel(), index=data.obs["sample"].to_numpy())
    assert result.facts["counts"]["input"] == total.sum()
    for capture, name in zip(result.facts["empty_droplets"], "ab", strict=True):
        assert (capture["file"], capture["sample"], capture["barcodes"]) == ("cohort", name, 470)
        assert capture["knee"] >= capture["inflection"]
        for at in ("knee", "inflection"):
            assert capture[f"barcodes_at_{at}"] == (total[name] >= capture[at]).sum()
        kept = (result.cells["sample"].eq(name) & ~empty).sum()
        assert capture[f"barcodes_at_{point}"] == kept
    assert any(line.startswith("cohort, sample a: 470 barcodes, ") for line in load.list_facts(result.facts))


def test_only_cells_with_labels_are_ranked_and_by_the_genes_of_all_files(tmp_path):
    data = unfiltered()
    data.obs["cell_type"] = pd.Series("T", data.obs_names).where(data.obs_names.str.startswith("cell"))
    written(data, tmp_path, "a.h5ad")
    written(some_genes(data, slice(0, 20)), tmp_path, "b.h5ad")
    (tmp_path / "sheet.tsv").write_text("path\tdonor\tsample\na.h5ad\tx\ta\nb.h5ad\ty\tb\n")
    files = [tmp_path / name for name in ("sheet.tsv", "a.h5ad", "b.h5ad")]
    result = run(tmp_path, *files, empty_droplets="inflection")
    a, b = result.facts["empty_droplets"]
    assert (a["file"], b["file"]) == ("a", "b")
    assert a["barcodes"] == b["barcodes"] == 140
    assert {key: a[key] for key in ("knee", "inflection")} == {key: b[key] for key in ("knee", "inflection")}
    assert result.facts["cells"]["unusable"]["missing_cell_type"] == 1600


def test_a_capture_without_a_knee_is_refused(tmp_path):
    data = cohort()
    data.X = data.X.minimum(1)
    with pytest.raises(InputError, match=r"sample '1000_0-a' of cohort has no knee, as fewer than three"):
        run(tmp_path, written(data, tmp_path), empty_droplets="knee")


def test_genes_counts_and_values_that_nobody_uses_are_warned_of():
    file = {
        "name": "b",
        "counts_from": "X",
        "other_whole_numbers": ["raw.X"],
        "genes": 9,
        "genes_not_shared": 4,
        "features_left_out": {"Antibody Capture": 3, "gene of mm10": 2},
    }
    odd = {f"{age}+": 2 for age in range(80, 92)}
    facts = {
        "files": [
            file,
            file | {"name": "a", "other_whole_numbers": [], "genes_not_shared": 0, "features_left_out": {}},
        ]
    }
    facts["not_parsed"] = {"age": odd, "bmi": {}}
    with collect_warnings() as warned:
        load.warn_of(facts, "auto")
    assert [(row["code"], row["number"]) for row in warned] == [
        ("genes_not_shared", 4),
        ("features_left_out", 5),
        ("other_counts", None),
        ("values_not_parsed", 24),
    ]
    assert warned[0]["message"].startswith("b: 4 of 9 genes are not in every file")
    assert "80+ (2 cells), 81+ (2 cells)" in warned[3]["message"]
    assert " and 2 more values (bounds and ranges are not numbers" in warned[3]["message"]
    with collect_warnings() as chosen:
        load.warn_of(facts, "X")  # the user has said where counts are
    assert "other_counts" not in [row["code"] for row in chosen]
