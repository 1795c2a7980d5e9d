"""A small cohort in every format, and the outputs of load on it."""

import gzip
import json
from types import SimpleNamespace

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy.io import mmwrite
from scipy.sparse import coo_array, csr_matrix

from cohort import load
from job import collect_warnings

CELLS, GENES = 60, 25

SETTINGS = {
    "counts": "auto",
    "round": False,
    "symbols": "feature_name",
    "genome": None,
    "modality": None,
    "species": "auto",
    "empty_droplets": "refuse",
    "sample_table": None,
    "cell_table": None,
    "missing": [],
    "sample": "sample",
    "donor": "donor",
    "cell_type": "cell_type",
    "pool": None,
    "covariates": [],
    "exclude": [],
    "shards": 1,
    "shard_by": "donor",
    "block_values": 1000,
}

AGE = {"name": "age", "column": "age", "type": "numeric"}

SEX = {"name": "sex", "column": "sex", "type": "categorical"}


def cohort(seed=0, cells=CELLS, genes=GENES) -> ad.AnnData:
    """Interleaved cells of 6 donors with two samples each; a gene and a cell without counts."""
    random = np.random.default_rng(seed)
    counts = random.poisson(0.7, (cells, genes)) * random.choice([1, 300], (cells, genes), p=[0.95, 0.05])
    counts[3], counts[:, 4] = 0, 0
    donor = np.arange(cells) % 6
    obs = pd.DataFrame(
        {
            "donor": [f"1000_{d}" for d in donor],
            "sample": [f"1000_{d}-{'ab'[i // 6 % 2]}" for i, d in enumerate(donor)],
            "cell_type": random.choice(["CD4-positive, alpha-beta T cell", "B/plasma"], cells),
            "age": donor * 10.0 + 20,
            "sex": pd.Categorical(np.where(donor % 2, "female", "male")),
            "pool_number": donor // 2,
        },
        index=[f"cell{i}" for i in range(cells)],
    )
    var = pd.DataFrame(
        {"feature_name": [f"S{g}" for g in range(genes)]}, index=[f"ENSG{g}" for g in range(genes)]
    )
    return ad.AnnData(csr_matrix(counts.astype(np.float32)), obs=obs, var=var)


def written(data: ad.AnnData, folder, name="cohort.h5ad", **options):
    # the default of this setting asks a deprecated pandas option
    with ad.settings.override(allow_write_nullable_strings=False):
        data.write_h5ad(folder / name, **options)
    return folder / name


def run(folder, *files, read=slice(None), **settings) -> SimpleNamespace:
    """The outputs of load, read back; read: which shards."""
    out = SimpleNamespace(
        shards=[str(folder / f"{shard:02d}.h5ad") for shard in range(settings.get("shards", 1))],
        **{name: str(folder / f"{name}.parquet") for name in ("cells", "samples", "genes")},
        cohort=str(folder / "cohort.json"),
    )
    with collect_warnings() as notes:
        facts = load.load([str(file) for file in files], out, **SETTINGS | settings)
        load.warn_of(facts, settings.get("counts", "auto"))
    assert facts == json.loads((folder / "cohort.json").read_text())
    tables = {name: pd.read_parquet(getattr(out, name)) for name in ("cells", "samples", "genes")}
    return SimpleNamespace(
        shards=[ad.read_h5ad(path) for path in out.shards[read]], facts=facts, warnings=notes, **tables
    )


def some_genes(data: ad.AnnData, genes: slice) -> ad.AnnData:
    return ad.AnnData(csr_matrix(data.X[:, genes]), obs=data.obs.copy(), var=data.var.iloc[genes].copy())


def expected(data: ad.AnnData) -> pd.DataFrame:
    return pd.DataFrame(
        data.X.toarray().astype(np.int32), data.obs_names.astype(str), data.var_names.astype(str)
    )


def dense(shards) -> pd.DataFrame:
    """Counts of all shards, cells x genes."""
    return pd.concat(shard.to_df() for shard in shards)


def assert_counts(result, wanted: pd.DataFrame):
    """Each usable cell's counts exactly, wherever it is, and the totals of the gene table."""
    assert all(shard.X.has_canonical_format for shard in result.shards)
    found = dense(result.shards)
    assert found.dtypes.eq(np.int32).all()
    pd.testing.assert_frame_equal(found.loc[wanted.index], wanted, check_names=False)
    assert len(found) == len(wanted)
    assert result.genes["counts"].tolist() == wanted.sum(dtype=None).astype(int).tolist()
    assert result.genes["cells"].tolist() == (wanted > 0).sum().tolist()
    assert result.facts["counts"]["usable"] == wanted.to_numpy(dtype=np.int64).sum()


def as_raw(data):
    data.raw = data
    data.X = data.X.log1p()
    return data


def with_x(kind, data):
    data.X = kind(data.X)
    return data


def tenx_h5(data, path, version):
    """A Cell Ranger h5 as its documentation describes it, with an antibody as the second feature."""
    x = np.insert(data.X.toarray(), 1, 7, axis=1) if version == 3 else data.X.toarray()
    x = csr_matrix(x.astype(np.int32))
    ids, names = list(data.var_names), list(data.var["feature_name"])
    if version == 3:
        ids, names = [ids[0], "CD3", *ids[1:]], [names[0], "CD3_TotalSeqB", *names[1:]]
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "hg19")
        features = group.create_group("features") if version == 3 else group
        features["id" if version == 3 else "genes"] = np.array(ids, dtype="S")
        features["name" if version == 3 else "gene_names"] = np.array(names, dtype="S")
        if version == 3:
            kinds = ["Antibody Capture" if name == "CD3" else "Gene Expression" for name in ids]
            features["feature_type"] = np.array(kinds, dtype="S")
        group["barcodes"] = np.array(data.obs_names, dtype="S")
        group["data"], group["indices"], group["indptr"] = x.data, x.indices.astype(np.int64), x.indptr
        group["shape"] = x.shape[::-1]
    return path


def tenx_folder(data, folder, version, zipped, by_gene):
    """A Cell Ranger matrix folder; by_gene: lines in another order than 10x writes them."""
    folder.mkdir()
    x = coo_array(data.X.astype(int).T.tocsr() if by_gene else data.X.astype(int).T.tocsc())
    mmwrite(folder / "matrix.mtx", x, field="integer")
    table = pd.DataFrame({"id": data.var_names, "name": data.var["feature_name"].to_numpy()})
    if version == 3:
        table["kind"] = "Gene Expression"
    name = "features.tsv" if version == 3 else "genes.tsv"
    table.to_csv(folder / name, sep="\t", header=False, index=False)
    (folder / "barcodes.tsv").write_text("".join(f"{cell}\n" for cell in data.obs_names))
    for file in list(folder.iterdir()) if zipped else ():
        (folder / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    return sorted(folder.iterdir())


NO_LABELS = {"sample": None, "donor": None, "cell_type": None}
