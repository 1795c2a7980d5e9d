"""Write one matrix of cells x features in the formats that people have, from arrays."""

import csv
import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem
from scipy.sparse import coo_array, csc_matrix, csr_matrix

SPARSE = {"csr": csr_matrix, "csc": csc_matrix, "dense": np.asarray}
OLDER = {"allow_write_nullable_strings": False}  # text as every reader of h5ad knows it


@dataclass
class Part:
    """One matrix of a cohort: its counts, and how they are written."""

    name: str
    kind: str  # a key of WRITERS
    barcodes: list[str]
    obs: pd.DataFrame  # labels as the file has them; without columns for 10x
    ids: list[str]
    symbols: list[str]
    kinds: list[str] | None  # of features; None: not written
    counts: np.ndarray  # (cells, features) whole numbers
    matrix: str = "csr"
    dtype: str = "float32"
    place: str = "X"  # a key of PLACES
    seed: int = 0
    zipped: bool = True
    by_gene: bool = False
    untidy: bool = False  # stored zeros, values in two parts, columns in any order; line ends of Windows
    bare: bool = False  # without the attributes that say what a group holds
    columns: int = 3  # of a 10x folder's features

    def to_anndata(self) -> ad.AnnData:
        """The matrix with its counts in X."""
        var = pd.DataFrame({"feature_name": self.symbols}, index=pd.Index(self.ids, dtype=object))
        var["feature_name"] = var["feature_name"].astype(object)
        if self.kinds is not None:
            var["feature_types"] = pd.Categorical(self.kinds)
        obs = self.obs.set_axis(pd.Index(self.barcodes, dtype=object))
        return ad.AnnData(self.stored(self.counts), obs=obs, var=var)

    def stored(self, counts: np.ndarray):
        """Counts as the matrix and the type of number that the file has."""
        if not self.untidy or self.matrix == "dense" or not counts.size:
            return SPARSE[self.matrix](counts.astype(self.dtype))
        lines = counts if self.matrix == "csr" else counts.T
        order = np.random.default_rng(self.seed).permutation(2 * lines.shape[1])
        halves = np.hstack([lines - lines // 2, lines // 2])[:, order].astype(self.dtype)
        parts = (
            halves.ravel(),
            np.tile(order % lines.shape[1], len(lines)),
            np.arange(len(lines) + 1) * len(order),
        )
        return (csr_matrix if self.matrix == "csr" else csc_matrix)(parts, shape=counts.shape)


def in_x(part: Part, data: ad.AnnData) -> ad.AnnData:
    return data


def in_raw(part: Part, data: ad.AnnData) -> ad.AnnData:
    """Counts of all genes in raw, log values of the last ones in X."""
    data.raw = data.copy()
    small = data[:, data.n_vars // 2 :].copy()
    small.X = np.log1p(part.counts[:, data.n_vars // 2 :].astype(np.float32))
    return small


def in_raw_with_some_in_x(part: Part, data: ad.AnnData) -> ad.AnnData:
    """Counts of all genes in raw, the same counts of the last ones in X."""
    data.raw = data.copy()
    return data[:, data.n_vars // 2 :].copy()


def in_layer(part: Part, data: ad.AnnData) -> ad.AnnData:
    data.layers["my counts"] = data.X.copy()
    data.X = np.log1p(part.counts.astype(np.float32))
    return data


def with_parts_of_the_sum(part: Part, data: ad.AnnData) -> ad.AnnData:
    """X and a layer are parts; the whole is in a layer with a name that comes last."""
    spliced = np.random.default_rng(part.seed).binomial(part.counts, 0.5)
    data.layers["a"], data.layers["z"] = part.stored(part.counts - spliced), data.X.copy()
    data.X = part.stored(spliced)
    return data


def with_rounded_copy(part: Part, data: ad.AnnData) -> ad.AnnData:
    """A layer without the ambient counts, rounded, and one with its fractions."""
    share = np.random.default_rng(part.seed).random(part.counts.shape)
    data.layers["rounded"] = np.floor(part.counts * share)
    data.layers["corrected"] = part.counts * share
    return data


def with_fractions(part: Part, data: ad.AnnData) -> ad.AnnData:
    """No counts at all: normalised values."""
    data.X = np.log1p(part.counts * 0.7)
    return data


def with_another_matrix(part: Part, data: ad.AnnData) -> ad.AnnData:
    """A layer of whole numbers that is here larger and there smaller than X."""
    other = part.counts.copy()
    other[0, 0] += 1
    other[-1, -1] -= 1
    data.layers["other"] = part.stored(other)
    return data


def in_layer_without_x(part: Part, data: ad.AnnData) -> ad.AnnData:
    data.layers["only"], data.X = data.X.copy(), None
    return data


PLACES = {
    "X": in_x,
    "layers/only": in_layer_without_x,
    "raw.X": in_raw,
    "raw.X, some in X": in_raw_with_some_in_x,
    "layers/my counts": in_layer,
    "layers/z": with_parts_of_the_sum,
    "X, rounded copy": with_rounded_copy,
}
REFUSED = {"fractions": with_fractions, "another matrix": with_another_matrix}


def write_h5ad(part: Part, folder: Path) -> str:
    path = folder / f"{part.name}.h5ad"
    with ad.settings.override(**OLDER):
        (PLACES | REFUSED)[part.place](part, part.to_anndata()).write_h5ad(path)
    if part.bare:
        with h5py.File(path, "r+") as file:
            for group in (file["obs"], file["var"]):
                for name in list(group.attrs):
                    del group.attrs[name]
    return path.name


def write_zarr(part: Part, folder: Path) -> str:
    with ad.settings.override(**OLDER):
        (PLACES | REFUSED)[part.place](part, part.to_anndata()).write_zarr(folder / f"{part.name}.zarr")
    return f"{part.name}.zarr"


def write_h5mu(part: Part, folder: Path) -> str:
    data = (PLACES | REFUSED)[part.place](part, part.to_anndata())
    data.strings_to_categoricals()
    with ad.settings.override(**OLDER), h5py.File(folder / f"{part.name}.h5mu", "w") as file:
        write_elem(file, "obs", data.obs[[]])
        write_elem(file.create_group("mod"), "rna", data)
        write_elem(file["mod"], "prot", ad.AnnData(np.ones((len(part.barcodes), 2)), obs=data.obs[[]]))
        file["obsmap/rna"] = np.arange(1, len(part.barcodes) + 1)
    return f"{part.name}.h5mu"


def write_loom(part: Part, folder: Path) -> str:
    with h5py.File(folder / f"{part.name}.loom", "w") as file:
        file["matrix"] = part.counts.T.astype(part.dtype)
        rows = {"Accession": part.ids, "Gene": part.symbols}
        rows |= {} if part.kinds is None else {"feature_types": part.kinds}
        columns = {"CellID": part.barcodes}
        columns |= {name: ["" if pd.isna(v) else str(v) for v in part.obs[name]] for name in part.obs}
        for axis, attributes in (("row_attrs", rows), ("col_attrs", columns)):
            for name, values in attributes.items():
                texts = np.array([str(value) for value in values], dtype=object)
                file.create_dataset(f"{axis}/{name}", data=texts, dtype=h5py.string_dtype())
    return f"{part.name}.loom"


def write_tenx_h5(part: Part, folder: Path) -> str:
    x = csr_matrix(part.counts.astype(np.int32))
    with h5py.File(folder / f"{part.name}.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array([name.encode() for name in part.barcodes], dtype="S32")
        group["data"], group["indices"] = x.data, x.indices.astype(np.int64)
        group["indptr"], group["shape"] = x.indptr.astype(np.int64), x.shape[::-1]
        texts = {"id": part.ids, "name": part.symbols}
        texts["feature_type"] = part.kinds or ["Gene Expression"] * len(part.ids)
        for name, values in texts.items():
            group[f"features/{name}"] = np.array([str(value).encode() for value in values], dtype="S64")
    return f"{part.name}.h5"


def write_tenx_folder(part: Part, folder: Path, prefix: str = "") -> str:
    place = folder if prefix else folder / part.name
    place.mkdir(exist_ok=True)
    kinds = part.kinds or ["Gene Expression"] * len(part.ids)
    rows = [row[: part.columns] for row in zip(part.ids, part.symbols, kinds, strict=True)]
    features = "".join("\t".join(row) + "\n" for row in rows)
    x = coo_array(part.counts)
    order = np.lexsort((x.row, x.col) if part.by_gene else (x.col, x.row))
    lines = [f"{x.col[n] + 1} {x.row[n] + 1} {x.data[n]}\n" for n in order]
    head = f"%%MatrixMarket matrix coordinate integer general\n%\n{x.shape[1]} {x.shape[0]} {x.nnz}\n"
    texts = {"matrix.mtx": head + "".join(lines), "features.tsv": features}
    texts["barcodes.tsv"] = "".join(f"{name}\n" for name in part.barcodes)
    for name, text in texts.items():
        text = text.replace("\n", "\r\n") if part.untidy else text
        content = gzip.compress(text.encode()) if part.zipped else text.encode()
        (place / f"{prefix}{name}{'.gz' * part.zipped}").write_bytes(content)
    return part.name


WRITERS = {
    "h5ad": write_h5ad,
    "zarr": write_zarr,
    "h5mu": write_h5mu,
    "loom": write_loom,
    "tenx h5": write_tenx_h5,
    "tenx folder": write_tenx_folder,
}


def write_table(path: Path, columns: list[str], rows: list[dict], *, excel: bool) -> None:
    """Rows as text separated by tabs; as Excel saves it, with its mark, line ends and an empty row."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="\t", lineterminator="\r\n" if excel else "\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([row.get(name, "") for name in columns])
    lines = text.getvalue() + ("\t" * (len(columns) - 1) + "\r\n") * excel
    path.write_bytes(b"\xef\xbb\xbf" * excel + lines.encode())
