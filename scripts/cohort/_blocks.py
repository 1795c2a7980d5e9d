"""Matrices of cells x genes as blocks of rows of bounded size, from HDF5 or a MatrixMarket text.

No reader holds the whole matrix: CSR and dense are read in row blocks, a MatrixMarket text as a stream when
its lines are ordered by cell (as 10x writes them). Input that is ordered by gene (CSC, other texts) costs one
more pass over the file per `PASS_BLOCKS` blocks. Values keep the type that they have in the file.
"""

import contextlib
import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from job import CorruptedInput, InputError

PASS_BLOCKS = 16  # blocks that are put in order together when the input is ordered by gene; 8 bytes a value

SAMPLED_ROWS, PASS_VALUES = 32, 4_000_000  # rows that are compared between places; values read at a time

MISSING_PART = re.compile("unable to .*open|can't .*open", flags=re.IGNORECASE)  # h5py's words

Triplets = tuple[np.ndarray, np.ndarray, np.ndarray]  # row, column, value


def cut_lines(lengths: np.ndarray, block_values: int) -> Iterator[tuple[int, int]]:
    """Consecutive (start, stop) of lines with at most `block_values` values, or of one line that has more."""
    ends, start = np.concatenate([[0], np.cumsum(lengths)]), 0
    while start < len(lengths):
        stop = max(int(np.searchsorted(ends, ends[start] + block_values, side="right")) - 1, start + 1)
        yield start, stop
        start = stop


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading.

    InputError when it is missing or may not be read, CorruptedInput when it is not HDF5 or is cut off; other
    I/O errors stay.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if error.errno and not isinstance(error, FileNotFoundError | PermissionError):
            raise
        kind = InputError if error.errno else CorruptedInput
        raise kind(f"{path}: cannot be read ({error}); correct cohort.path or the sample sheet") from error
    with file:
        try:
            yield file
        except OSError as error:  # a chunk that cannot be unpacked; what the system reports has an errno
            if error.errno:
                raise
            raise CorruptedInput(f"{path}: damaged ({error}); get the file again") from error
        except KeyError as error:  # h5py's, for a dataset or an attribute; any other is a fault of ours
            if not MISSING_PART.search(str(error)):
                raise
            raise CorruptedInput(f"{path}: a part is missing ({error}); get the file again") from error


def is_array(element) -> bool:
    """Whether an element of a store is one array: an HDF5 dataset or a zarr array, not a group."""
    return hasattr(element, "shape")


def read_hdf5(path: Path, key: str, n_rows: int, n_columns: int, block_values: int) -> Iterator[csr_array]:
    """Blocks of rows of a CSR matrix of an HDF5 file. CorruptedInput when it is damaged."""
    yield from read_matrix(partial(open_hdf5, path), key, "csr", n_rows, n_columns, block_values)


def read_matrix(
    store: Callable, key: str, layout: str, n_rows: int, n_columns: int, block_values: int
) -> Iterator[csr_array]:
    """Blocks of rows of one matrix of a store. CorruptedInput when it is damaged.

    store: opens it. layout: `csr`, `csc`, `dense`, or `dense_by_gene` for genes x cells.
    """
    with store() as file:
        matrix = file[key]
        if layout == "dense":
            yield from _read_dense(matrix, block_values)
        elif layout == "dense_by_gene":
            yield from _read_dense_by_gene(matrix, block_values)
        elif layout == "csc":
            pieces = partial(_read_compressed, matrix, n_columns, n_rows)
            yield from order_rows(partial(_read_triplets, pieces), n_rows, n_columns, block_values)
        else:
            for _, *parts in _read_compressed(matrix, n_rows, n_columns, block_values):
                yield csr_array(tuple(parts), shape=(len(parts[2]) - 1, n_columns))


def sample_rows(matrix, layout: str, n_rows: int, n_columns: int, number: int = SAMPLED_ROWS) -> np.ndarray:
    """Rows spread evenly over a matrix, (rows, columns) float64: the same ones for matrices of one height."""
    rows = np.unique(np.linspace(0, n_rows - 1, min(number, n_rows), dtype=np.int64))
    if layout == "dense":
        return np.array([matrix[int(row)] for row in rows], dtype=float).reshape(len(rows), n_columns)
    sample = np.zeros((len(rows), n_columns))
    if layout == "csc":  # read once, in pieces
        for first, data, indices, indptr in _read_compressed(matrix, n_columns, n_rows, PASS_VALUES):
            inside = np.flatnonzero(np.isin(indices, rows))
            columns = first + np.searchsorted(indptr, inside, side="right") - 1
            np.add.at(sample, (np.searchsorted(rows, indices[inside]), columns), data[inside])
        return sample
    indptr = matrix["indptr"]
    for place, row in enumerate(rows):
        start, stop = (int(end) for end in indptr[int(row) : int(row) + 2])
        np.add.at(sample[place], matrix["indices"][start:stop], matrix["data"][start:stop])
    return sample


def _read_dense(matrix, block_values: int) -> Iterator[csr_array]:
    tall = matrix.chunks[0] if matrix.chunks else 1  # whole chunks, so that none is decompressed twice
    step = max(block_values // matrix.shape[1] // tall, 1) * tall
    for start in range(0, matrix.shape[0], step):
        yield csr_array(matrix[start : start + step])


def _read_dense_by_gene(matrix, block_values: int) -> Iterator[csr_array]:
    wide = matrix.chunks[1] if matrix.chunks else 1
    step = max(block_values // matrix.shape[0] // wide, 1) * wide
    for start in range(0, matrix.shape[1], step):
        yield csr_array(matrix[:, start : start + step].T)


def _read_compressed(matrix, lines: int, width: int, block_values: int) -> Iterator[tuple]:
    """(first line, data, indices, indptr) of consecutive lines of a CSR or CSC matrix, checked."""
    indptr = matrix["indptr"][:].astype(np.int64)
    sound = len(indptr) == lines + 1 and indptr[0] == 0 and (np.diff(indptr) >= 0).all()
    if not (sound and indptr[-1] == matrix["data"].shape[0] == matrix["indices"].shape[0]):
        raise CorruptedInput(
            f"{_name_file(matrix)}: index pointers of {matrix.name} are damaged; get the file again"
        )
    for start, stop in cut_lines(np.diff(indptr), block_values):
        inside = slice(int(indptr[start]), int(indptr[stop]))
        indices = matrix["indices"][inside]
        if len(indices) and not 0 <= indices.min() <= indices.max() < width:
            raise CorruptedInput(
                f"{_name_file(matrix)}: indices of {matrix.name} are damaged; get the file again"
            )
        yield start, matrix["data"][inside], indices, indptr[start : stop + 1] - indptr[start]


def _name_file(matrix) -> str:
    """The file, or the folder, that a matrix is in."""
    return matrix.file.filename if isinstance(matrix, h5py.Group) else str(matrix.store_path)


def _read_triplets(pieces: Callable, block_values: int) -> Iterator[Triplets]:
    """Row, column and value of consecutive columns of a CSC matrix."""
    for first, data, indices, indptr in pieces(block_values):
        columns = np.arange(first, first + len(indptr) - 1, dtype=np.int32)
        yield indices, np.repeat(columns, np.diff(indptr)), data


def order_rows(triplets: Callable, n_rows: int, n_columns: int, block_values: int) -> Iterator[csr_array]:
    """Blocks of rows from triplets in any order, in bounded memory.

    triplets: called with a block size, starts a pass over the input. The first pass counts. Then follows one
    pass in all when rows ascend, otherwise one pass per `PASS_BLOCKS` blocks.
    """
    lengths, ascending, last = np.zeros(n_rows, dtype=np.int64), True, 0
    for rows, _, _ in triplets(block_values):
        if len(rows):
            lengths += np.bincount(rows, minlength=n_rows)
            ascending = ascending and rows[0] >= last and bool((np.diff(rows) >= 0).all())
            last = rows[-1]
    stream, held = triplets(block_values), None
    for start, stop in cut_lines(lengths, block_values if ascending else PASS_BLOCKS * block_values):
        if not ascending:
            stream, held = triplets(block_values), None
        indptr = np.concatenate([[0], np.cumsum(lengths[start:stop])])
        free, indices, data = indptr[:-1].copy(), np.empty(indptr[-1], dtype=np.int32), np.empty(0)
        missing = len(indices)
        while missing:
            held = held or next(stream)
            rows, columns, values = held
            chosen = np.flatnonzero((rows >= start) & (rows < stop))
            chosen = chosen[np.argsort(rows[chosen], kind="stable")]
            row = rows[chosen] - start
            here = np.bincount(row, minlength=stop - start)
            place = free[row] + np.arange(len(row)) - np.repeat(np.cumsum(here) - here, here)
            data = data if len(data) else np.empty(len(indices), dtype=values.dtype)
            indices[place], data[place] = columns[chosen], values[chosen]
            free += here
            missing -= len(row)
            held = None if missing else held  # its last rows may belong to the next block
        block = csr_array((data, indices, indptr), shape=(stop - start, n_columns))
        for first, end in cut_lines(lengths[start:stop], block_values):
            yield block[first:end]
        del block, data, indices  # before the next ones are made


def read_matrix_market_shape(path: Path) -> tuple[int, int]:
    """(genes, cells) of a MatrixMarket text; InputError when it is none or holds no numbers."""
    with _open_text(path) as lines:
        return _read_header(path, lines)[:2]


def read_matrix_market(path: Path, block_values: int) -> Iterator[Triplets]:
    """Cell, gene and value of consecutive lines, counted from 0. CorruptedInput when the text is damaged."""
    with _open_text(path) as lines:
        n_genes, n_cells, expected = _read_header(path, lines)
        read = 0
        try:
            for chunk in _read_chunks(lines, block_values) if expected else ():
                genes, cells = chunk["gene"].to_numpy() - 1, chunk["cell"].to_numpy() - 1
                if min(genes.min(), cells.min()) < 0 or genes.max() >= n_genes or cells.max() >= n_cells:
                    raise ValueError(f"a line beyond {n_genes} genes x {n_cells} cells")
                read += len(chunk)
                yield cells, genes, chunk["value"].to_numpy()
            if read != expected:
                raise ValueError(f"{read:,} values of {expected:,}")
        except (EOFError, ValueError, gzip.BadGzipFile, zlib.error) as error:
            raise CorruptedInput(f"{path}: damaged or cut off ({error}); get the file again") from error


def _read_chunks(lines, block_values):
    types = {"gene": np.int32, "cell": np.int32, "value": np.float64}
    return pd.read_csv(lines, sep=r"\s+", header=None, names=list(types), dtype=types, chunksize=block_values)


def _open_text(path: Path):
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")


def _read_header(path: Path, lines) -> tuple[int, int, int]:
    """Genes, cells and number of values, leaving `lines` at the first value."""
    kind = next(lines, "").lower().split()
    if kind[:3] != ["%%matrixmarket", "matrix", "coordinate"] or kind[3] not in ("integer", "real"):
        raise InputError(
            f"{path}: starts with {' '.join(kind)[:40]!r}, not as a MatrixMarket of counts; replace it"
        )
    genes, cells, values = next(line for line in lines if not line.startswith("%")).split()
    return int(genes), int(cells), int(values)
