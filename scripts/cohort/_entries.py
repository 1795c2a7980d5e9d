"""The files that a cohort consists of, each with its name and its row of a sample sheet.

Only names are looked at, no content but that of the sheet, so that planning a run needs nothing else. A
sheet is a TSV with a column `path`, relative to itself, and columns that hold for all cells of a file. The
three files of a 10x matrix may have a prefix, as in GEO: each prefix is an entry. Of Cell Ranger's `outs/`
the filtered matrix is taken.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from cohort._texts import read_rows
from job import InputError

TENX = re.compile(r"(.*?)(matrix\.mtx|barcodes\.tsv|features\.tsv|genes\.tsv)(\.gz)?")
KINDS = {
    "matrix.mtx": "matrix",
    "barcodes.tsv": "barcodes",
    "features.tsv": "features",
    "genes.tsv": "features",
}
FILTERED = ("filtered_feature_bc_matrix", "filtered_gene_bc_matrices", "filtered_feature_bc_matrix.h5")
READ = (".h5ad", ".h5", ".h5mu", ".loom", ".zarr")
REFUSED = {  # how a name ends -> what it is, and what to do
    ".h5ad.gz": "a compressed h5ad; run gunzip on it and set {key} to the .h5ad",
    ".rds": "an R object; in R, zellkonverter::writeH5AD(sce, 'cohort.h5ad') writes a SingleCellExperiment, "
    "for Seurat first sce <- Seurat::as.SingleCellExperiment(object); then set {key} to the .h5ad",
    ".csv": "a text table; a sample sheet is separated by tabs and named .tsv, and counts come as h5ad or "
    "10x folder: write one with anndata.read_csv(path).T.write_h5ad('cohort.h5ad') and set {key} to it",
    ".xlsx": "an Excel file; save the sheet as text separated by tabs, named .tsv, and set {key} to it",
}
for ending in (".csv.gz", ".txt", ".txt.gz", ".tsv.gz"):
    REFUSED[ending] = REFUSED[".csv"]
REFUSED[".xls"], REFUSED[".rdata"], REFUSED[".robj"] = REFUSED[".xlsx"], REFUSED[".rds"], REFUSED[".rds"]


@dataclass(frozen=True)
class Entry:
    """One matrix of the cohort."""

    name: str  # of the file without suffix, or of the folder; in a sheet its path there
    path: Path  # the file, or the folder of a 10x matrix
    parts: dict[str, Path] | None  # matrix, barcodes and features of a 10x matrix
    row: dict[str, str] | None  # of the sheet

    @property
    def files(self) -> list[Path]:
        """The files to read."""
        return list(self.parts.values()) if self.parts else [self.path]


def list_entries(path: Path, key: str = "cohort.path") -> list[Entry]:
    """The entries of a cohort: a file, a folder, or a sample sheet of these.

    key: the setting that names the path. Raises InputError, one line, for what cannot be read.
    """
    if path.suffix != ".tsv":
        is_folder = path.is_dir() and path.suffix != ".zarr"
        return _list_path(path, path.name if is_folder else path.stem, None, key)
    entries = []
    for row in read_sheet(path):
        place = path.parent / row["path"]
        entries += _list_path(
            place, re.sub(r"\.(h5ad|h5mu|h5|loom|zarr)$", "", row["path"]), row, f"{path}: path"
        )
    return entries


def list_files(path: Path) -> list[Path]:
    """Every file of a cohort, a sheet before the files that it lists."""
    listed = [file for entry in list_entries(path) for file in entry.files]
    return [path, *listed] if path.suffix == ".tsv" else listed


def match_files(files: list[str]) -> list[Entry]:
    """The entries of a cohort again, from the list of its files."""
    first = Path(files[0])
    in_folder = TENX.fullmatch(first.name) and first.suffix != ".h5"
    if not in_folder:
        return list_entries(first)
    folder = first.parent.resolve()
    return _list_path(first.parent, folder.name, None, "cohort.path")


def read_sheet(sheet: Path) -> list[dict[str, str]]:
    """Rows of a sample sheet, values stripped, without empty rows. InputError when it is not one."""
    header, rows = read_rows(sheet, "cohort.path")
    if "path" not in header or not rows:
        has = ", ".join(header) or "none"
        raise InputError(
            f"{sheet}: {len(rows)} rows, columns {has}; needs a header with a column 'path', "
            "separated by tabs, and a row per file"
        )
    table = [dict(zip(header, row, strict=True)) for row in rows]
    paths = [row["path"] for row in table]
    for row in table:
        if not row["path"]:
            raise InputError(f"{sheet}: a row has no path: {' '.join(row.values()).strip()!r}; name its file")
        if paths.count(row["path"]) > 1:
            raise InputError(f"{sheet}: {row['path']!r} is listed twice; remove one of its rows")
    return table


def _list_path(path: Path, name: str, row: dict | None, key: str) -> list[Entry]:
    """The entries of one path that is not a sheet."""
    if path.is_dir() and path.suffix != ".zarr":
        return _list_folder(path, name, row, key)
    if not path.exists():
        raise InputError(f"{key}: {path} does not exist; correct it")
    tenx = TENX.fullmatch(path.name)
    if tenx:
        found = _find_matrices(path.parent).get(tenx[1], {})
        _check_complete(path.parent, tenx[1], found, key)
        return [Entry(tenx[1].strip("_.- ") or name, path.parent, found, row)]
    lower = path.name.lower()
    for ending in sorted(REFUSED, key=len, reverse=True):
        if lower.endswith(ending) and not (row is None and ending == ".txt" and path.suffix in READ):
            raise InputError(f"{key}: {path} is {REFUSED[ending].format(key=key)}")
    if path.suffix not in READ:
        raise InputError(
            f"{key}: {path} is of no known format; give {', '.join(READ)}, a 10x folder, "
            "or a .tsv sheet of these"
        )
    return [Entry(name, path, None, row)]


def _list_folder(path: Path, name: str, row: dict | None, key: str) -> list[Entry]:
    """The matrices of a folder: one, one per prefix, or the filtered one of Cell Ranger's `outs`."""
    matrices = _find_matrices(path)
    if not matrices:
        for inside in FILTERED:
            if (path / inside).exists():
                return _list_path(path / inside, name, row, key)
        if list(path.glob("*cells_x_genes*.mtx*")):
            raise InputError(
                f"{key}: {path} is kallisto's folder, cells by genes and unfiltered; let kb count write "
                "--cellranger --filter, or --h5ad --filter, and name that"
            )
        raise InputError(
            f"{key}: {path} is not a 10x folder; it lacks matrix.mtx, barcodes.tsv and features.tsv "
            "(or genes.tsv)"
        )
    for prefix, found in matrices.items():
        _check_complete(path, prefix, found, key)
    if len(matrices) == 1:
        return [Entry(name, path, next(iter(matrices.values())), row)]
    return [
        Entry(prefix.strip("_.- ") if row is None else f"{name}/{prefix.strip('_.- ')}", path, found, row)
        for prefix, found in matrices.items()
    ]


def _find_matrices(folder: Path) -> dict[str, dict[str, Path]]:
    """Prefix -> matrix, barcodes and features of the 10x matrices in a folder; plain text before gzip."""
    found = {}
    for file in sorted(folder.iterdir(), reverse=True):
        if match := TENX.fullmatch(file.name):
            found.setdefault(match[1], {})[KINDS[match[2]]] = file
    order = ("matrix", "barcodes", "features")
    return {
        prefix: {kind: parts[kind] for kind in order if kind in parts}
        for prefix, parts in sorted(found.items())
    }


def _check_complete(folder: Path, prefix: str, found: dict[str, Path], key: str) -> None:
    """Raise InputError unless the three files of a 10x matrix are there."""
    names = {"matrix": "matrix.mtx", "barcodes": "barcodes.tsv", "features": "features.tsv or genes.tsv"}
    lacking = [f"{prefix}{name}" for kind, name in names.items() if kind not in found]
    if lacking:
        raise InputError(
            f"{key}: {folder} is a 10x folder without {', '.join(lacking)}; add it or correct {key}"
        )
