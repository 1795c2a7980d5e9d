"""Random cohorts with flaws combined: files, labels and settings, and what is true of each cell."""

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from odd_files import PLACES, REFUSED, WRITERS, Part
from odd_truth import CENSORED, Odd
from small_cohort import AGE, SETTINGS, SEX

FLAWS = (
    *("missing labels", "blanks", "missing ages", "odd ages", "two ages", "copies", "two datasets"),
    *("barcodes of two files", "barcodes of two donors", "barcodes of one donor", "numeric donors"),
    *("repeated symbols", "missing symbols", "repeated ids", "versions", "other genes", "antibodies"),
    *("one genome", "two genomes", "empty file", "no counts", "large counts", "excel", "hard names"),
    *(
        "rows without cells",
        "cells without rows",
        "fractions",
        "another matrix",
        "exclude",
        "untidy",
        "bare",
        "huge counts",
    ),
)
ANNDATA = ("h5ad", "zarr", "h5mu")
MISSING = ["", " ", "NA", "nan", "Unknown", "unassigned ", "n/a", None, np.nan]
TYPES = ["T cell", "t cell", "B/plasma", "NK", "Ä 'x' \"y\""]
AGES = {"33": 33.0, "45y": 45.0, "52 years": 52.0, "41.5": 41.5, "1e1": 10.0}
NAMES = ["a", "b c", "d'e", 'f"g', "h(v2)", "ü", "i,j", "k.l", "#m", "n{o}", "p%q", "-r"]
PEOPLE = [
    "D1",
    "d 1",
    "D/2",
    'D"3',
    "007",
    "Ä",
    "a'b",
    "1.0",
    "#6",
    "D,7",
    "=1+1",
    "日本",
    "1e5",
    '"q"',
    "-",
    "x:y",
]
NUMBER = {
    "bool": 1,
    "uint16": 65_535,
    "uint64": 10**6,
    "uint8": 255,
    "int32": 10**6,
    "int64": 10**6,
    "float32": 10**6,
    "float64": 2 * 10**9,
}
label = st.one_of(
    st.sampled_from(PEOPLE), st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=5)
).filter(
    lambda text: text.lower() not in {"nan", "na", "n/a", "<na>", "null", "unknown", "pooled", "missing"}
)


def draw_genes(rng, flaws: set[str], number: int, file: int) -> tuple[list[str], list[str], list[str] | None]:
    """Ids, symbols and kinds of a file's features."""
    chosen = (
        rng.permutation(number)[: rng.integers(2, number + 1)] if "other genes" in flaws else range(number)
    )
    ids, symbols, kinds = [], [], []
    for gene in chosen:
        version = f".{file + 1}" if "versions" in flaws else ""
        genome = {"one genome": "GRCh38_", "two genomes": ("GRCh38_", "mm10___")[gene % 2]}
        front = next((genome[flaw] for flaw in genome if flaw in flaws), "")
        symbol = f"G{gene // 2 if 'repeated symbols' in flaws else gene}"
        symbol = "" if "missing symbols" in flaws and gene == 0 else front + symbol
        ids, symbols, kinds = (
            [*ids, f"{front}ENSG{gene:011d}{version}"],
            [*symbols, symbol],
            [*kinds, "Gene Expression"],
        )
    if "repeated ids" in flaws and file == 0:
        ids[-1] = ids[0]
    if "antibodies" in flaws and file % 2 == 0:
        at = int(rng.integers(0, len(ids) + 1))
        ids[at:at], symbols[at:at], kinds[at:at] = ["CD3"], ["CD3_TotalSeqB"], ["Antibody Capture"]
    return ids, symbols, kinds if "antibodies" in flaws or rng.random() < 0.3 else None


def draw_part(
    rng, flaws: set[str], file: int, name: str, kind: str, cells: pd.DataFrame, obs: pd.DataFrame, genes: int
) -> Part:
    """One matrix of the cells of a file."""
    ids, symbols, kinds = draw_genes(rng, flaws, genes, file)
    dtype, place = str(rng.choice(list(NUMBER))), str(rng.choice(list(PLACES)))
    counts = rng.poisson(0.8, (len(cells), len(ids))) * ("no counts" not in flaws or file > 0)
    counts = np.minimum(counts, NUMBER[dtype]).astype(np.int64)
    if "large counts" in flaws:
        counts = counts * (NUMBER[dtype] // max(counts.max(initial=1), 1))
    if kind not in ANNDATA:
        place = "X"
    elif file == 0 and counts.size and flaws & {*REFUSED, "huge counts"}:
        place, dtype = next((flaw for flaw in REFUSED if flaw in flaws), "X"), "float64"
        counts[-1, -1], counts[0, 0] = max(counts[-1, -1], 1), 2**31 + 5 if "huge counts" in flaws else 1
    columns = 3 if kinds else int(rng.integers(1, 4))
    return Part(
        name,
        kind,
        list(cells["barcode"]),
        obs,
        ids,
        [*ids] if kind == "tenx folder" and columns == 1 else symbols,
        kinds,
        counts,
        matrix=str(rng.choice(["csr", "csc", "dense"])),
        dtype=dtype,
        place=place,
        seed=int(rng.integers(99)),
        zipped=bool(rng.random() < 0.5),
        by_gene=bool(rng.random() < 0.5),
        untidy="untidy" in flaws,
        bare="bare" in flaws,
        columns=columns,
    )


def draw_layout(draw, flaws: set[str]) -> tuple[str, str, int, list[str]]:
    """Where labels come from, how files are listed, how many, and their kinds; drops flaws that cannot be."""
    labels_from = draw(st.sampled_from(["obs", "obs", "sheet", "table", "none"]))
    files = draw(st.integers(1, 3))
    if labels_from != "obs":  # what the other ways cannot say
        flaws -= {"copies", "two datasets", "barcodes of one donor", "two ages"}
    flaws -= {"exclude"} if labels_from == "none" else set()
    flaws -= {"barcodes of two donors"} if labels_from == "table" else set()
    flaws -= {"one genome"} if "two genomes" in flaws else set()
    layouts = {1: ["sheet", "single"], 2: ["sheet", "prefixes"], 3: ["sheet", "prefixes"]}[files]
    layout = draw(st.sampled_from(layouts))
    if labels_from == "sheet" or (layout == "prefixes" and labels_from == "obs"):
        layout = "sheet"
    fitting = [*ANNDATA, "loom"] if labels_from == "obs" else list(WRITERS)
    fitting = ["tenx folder"] if layout == "prefixes" else fitting
    return (
        labels_from,
        layout,
        files,
        draw(st.lists(st.sampled_from(fitting), min_size=files, max_size=files)),
    )


@st.composite
def odd_cohorts(draw) -> Odd:
    """Files, labels and settings with some flaws."""
    flaws = draw(st.sets(st.sampled_from(FLAWS), max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels_from, layout, files, kinds = draw_layout(draw, flaws)
    people = draw(st.lists(label, min_size=1, max_size=4, unique=True))
    people = [str(n + 1) for n in range(len(people))] if "numeric donors" in flaws else people
    names = draw(st.permutations(NAMES if "hard names" in flaws else ["a", "b", "c"]))[:files]
    names = sorted(names) if layout == "prefixes" else names  # the order of a folder
    covariates = [c for c in (AGE, SEX) if labels_from != "none" and draw(st.booleans())]
    by_sample, shards = draw(st.booleans()), draw(st.sampled_from([1, 1, 2]))
    beside = labels_from == "obs" and bool(covariates) and not flaws & {"two datasets", "two ages"}
    beside = beside and draw(st.booleans())
    genome = draw(st.sampled_from([None, "GRCh38"])) if "two genomes" in flaws else None
    genes = draw(st.integers(3, 6))

    sizes = rng.integers(1, 7, files)
    sizes[0] = 0 if "empty file" in flaws else sizes[0]
    cells, written = draw_cells(rng, flaws, labels_from, people, names, sizes, by_sample)
    parts = []
    for file, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        here = (cells["file"] == name).to_numpy()
        obs = written[here] if labels_from == "obs" else written.loc[here, []]
        obs = obs.drop(columns=["age", "sex"]) if beside else obs
        parts.append(draw_part(rng, flaws, file, name, kind, cells[here], obs, genes))
    settings = SETTINGS | {"covariates": covariates, "shards": shards, "genome": genome}
    settings |= {} if by_sample else {"sample": "donor"}
    settings |= {"sample": None, "donor": None, "cell_type": None} if labels_from == "none" else {}
    settings |= {"exclude": [{"column": "cell_type", "values": ["NK"]}]} if "exclude" in flaws else {}
    settings.pop("block_values")
    return Odd(flaws, parts, labels_from, layout, written, cells, settings, beside, genome)


def draw_cells(rng, flaws, labels_from, people, names, sizes, by_sample) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is true of each cell, and its labels as they are written."""
    number, file = int(sizes.sum()), np.repeat(np.array(names, dtype=object), sizes)
    person = rng.integers(0, len(people), number)
    if labels_from == "sheet":
        person = np.repeat(rng.integers(0, len(people), len(names)), sizes)
    shared = "two datasets" in flaws and len(people) > 1
    labels = np.array([people[0], people[0], *people[2:]] if shared else people, dtype=object)
    ages = rng.choice(
        list(AGES) + CENSORED * ("odd ages" in flaws) + ["NA"] * ("missing ages" in flaws), len(people)
    )
    visit = person % 2 if labels_from == "sheet" else rng.integers(0, 2, number)
    cells = pd.DataFrame({"file": file, "donor": labels[person], "age": ages.astype(object)[person]})
    cells["sample"] = (
        cells["donor"] + pd.Series([f"-{v}" for v in visit], dtype=object) if by_sample else cells["donor"]
    )
    cells["sex"] = np.array(["male", "female"], dtype=object)[person % 2]
    kinds = rng.choice(TYPES, number)
    if labels_from == "sheet":
        kinds = np.repeat(rng.choice(TYPES, len(names)), sizes)
    cells["cell_type"] = kinds.astype(object)
    barcodes = [f"{''.join(rng.choice(list('ACGT'), 8))}{n}-1" for n in range(number)]
    starts = np.cumsum(sizes) - sizes
    if "barcodes of two files" in flaws and len(sizes) > 1 and sizes[:2].all():
        barcodes[starts[1]] = barcodes[starts[0]]
    for flaw, same in (("barcodes of two donors", False), ("barcodes of one donor", True)):
        for first, second in zip(range(number - 1), range(1, number), strict=True):
            if flaw in flaws and file[first] == file[second] and (person[first] == person[second]) == same:
                barcodes[second] = barcodes[first]
                break
    cells["barcode"] = pd.Series(barcodes, dtype=object)
    if "two ages" in flaws and number:
        cells.loc[number - 1, "age"] = "77"
    cells["without_row"] = (rng.random(number) < 0.3) & (
        labels_from == "table" and "cells without rows" in flaws
    )
    written = cells[["sample", "donor", "cell_type", "age", "sex"]].astype(object)
    if "blanks" in flaws:
        written = written.map(lambda text: f" {text} " if rng.random() < 0.3 else text)
        if not by_sample:
            written["sample"] = written["donor"]
    unit = pd.Series(file) if labels_from == "sheet" else pd.Series(range(number))
    for role in ("sample", "donor", "cell_type"):
        if "missing labels" in flaws:
            groups = {group: rng.random() < 0.25 for group in sorted(set(unit))}
            word = MISSING[int(rng.integers(len(MISSING)))]
            lost = unit.map(groups).astype(bool).to_numpy()
            written.loc[lost, role] = word
            cells.loc[lost, role] = None
    written = written.astype(object)
    if labels_from == "sheet" and number:  # one row for all cells of a file
        for column in ("age", "cell_type", "sample", "donor", "sex"):
            first = ~pd.Series(file).duplicated()
            written[column] = pd.Series(file).map(written[column][first].set_axis(file[first]))
    if "numeric donors" in flaws and labels_from == "obs":
        donor = cells["donor"].map(lambda text: np.nan if text is None else float(text))
        written["donor"] = donor.astype(float) if donor.isna().any() else donor.astype(int)
    return finish_cells(rng, flaws, labels_from, cells, written, person, shared, by_sample)


def finish_cells(rng, flaws, labels_from, cells, written, person, shared, by_sample):
    """Copies, datasets, reasons and numbers of ages."""
    if labels_from == "none":
        cells = cells.assign(sample=cells["file"], donor=cells["file"], cell_type="all cells")
    cells["written_type"] = written["cell_type"].map(lambda text: "" if pd.isna(text) else str(text).strip())
    lacking = cells["without_row"]
    cells.loc[lacking, ["sample", "donor", "cell_type", "age", "sex"]] = None
    cells.loc[lacking, "written_type"] = ""
    if not by_sample and labels_from != "none":
        cells["sample"] = cells["donor"]
    copy = pd.Series(False, index=cells.index)
    if "copies" in flaws and len(cells):
        written["is_primary_data"] = rng.random(len(cells)) < 0.6
        copy = ~written["is_primary_data"] & written["is_primary_data"].any()
    cells["qualified"] = False
    if "two datasets" in flaws and labels_from == "obs":
        dataset = np.where(person % 2, "ds-B", "ds-A").astype(object)
        written["dataset_id"] = dataset
        known = cells[~copy & cells["donor"].notna()]
        both = known.groupby("donor")["sex"].agg(lambda sexes: len(set(sexes))) > 1
        if shared and both.any():
            cells["qualified"] = cells["donor"].isin(both.index[both]) & ~copy
            for role in ("sample", "donor"):
                front = cells["qualified"] & cells[role].notna()
                cells[role] = cells[role].where(~front, dataset + ":" + cells[role].fillna(""))
    reasons = {"excluded_cell_type": cells["written_type"].eq("NK") & ("exclude" in flaws)}
    reasons |= {"copy_in_another_dataset": copy}
    reasons |= {f"missing_{role}": cells[role].isna() for role in ("sample", "donor", "cell_type")}
    cells["reason"] = np.select(list(reasons.values()), list(reasons), default="")
    cells["age_value"] = cells["age"].map(AGES | {"77": 77.0}).astype(float)
    cells["sex_value"] = cells["sex"]
    return cells, written
