"""Open every file of a cohort by its format: labels and genes first, the counts later in blocks of rows."""

from cohort._anndata import choose_opener, open_anndata
from cohort._blocks import open_hdf5
from cohort._entries import Entry, match_files
from cohort._loom import open_loom
from cohort._mudata import open_mudata
from cohort._source import Source, Wanted
from cohort._tenx import open_folder, open_h5


def open_cohort(files: list[str], wanted: Wanted, *, rounded: bool) -> list[Source]:
    """Read labels and genes of every file; the first file names the format.

    10x and loom files bring their own symbols; `wanted.symbols` is for AnnData. rounded: `load.round`.
    Raises InputError for a missing or damaged file, a missing column, and when no place holds counts.
    """
    return [open_entry(entry, wanted, rounded=rounded) for entry in match_files(files)]


def open_entry(entry: Entry, wanted: Wanted, *, rounded: bool) -> Source:
    """One file or folder of a cohort."""
    if entry.parts:
        return open_folder(entry, wanted)
    if entry.path.suffix == ".zarr":
        with choose_opener(entry.path)() as store:
            return open_anndata(store, entry, wanted, rounded=rounded)
    with open_hdf5(entry.path) as file:
        if "matrix" in file and "col_attrs" in file:
            return open_loom(file, entry, wanted)
        if "mod" in file:
            return open_mudata(file, entry, wanted, rounded=rounded)
        if "obs" in file:
            return open_anndata(file, entry, wanted, rounded=rounded)
        return open_h5(file, entry, wanted)
