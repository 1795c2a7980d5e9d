"""A random cohort as `odd_cohorts` draws it, and what load must make of it, worked out apart from load.

`Odd.write` writes the files and gives the settings. `Odd.cells` has a row per input cell: its file, barcode,
labels without blanks (None where missing), age as written, and why it cannot be used. `Odd.refusals` are the
messages of which one must come; without them load must succeed.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from odd_files import REFUSED, WRITERS, Part, write_table, write_tenx_folder

CENSORED = ["60-69", ">89", "90+"]


@dataclass(repr=False)
class Odd:
    """A cohort as drawn."""

    flaws: set[str]
    parts: list[Part]
    labels_from: str  # obs, sheet, table or none
    layout: str  # single, sheet or prefixes
    written: pd.DataFrame  # sample, donor, cell_type, age, sex of each cell as the file has them
    cells: pd.DataFrame
    settings: dict
    beside: bool  # ages and sexes come by a table of donors
    genome: str | None

    def __repr__(self) -> str:
        files = [(p.name, p.kind, p.place, p.matrix, p.dtype, p.counts.shape) for p in self.parts]
        return f"{sorted(self.flaws)}, labels from {self.labels_from}, {self.layout} of {files}"

    def write(self, folder: Path) -> tuple[Path, dict]:
        """Write the files; the path of the cohort, and config section load."""
        excel, settings = "excel" in self.flaws, dict(self.settings)
        prefixed = self.layout == "prefixes"
        paths = [
            write_tenx_folder(part, folder, f"{part.name}_") if prefixed else WRITERS[part.kind](part, folder)
            for part in self.parts
        ]
        if self.labels_from == "table":
            rows = self.written.assign(cell=self.cells["barcode"], file=self.cells["file"])
            rows = rows[~self.cells["without_row"]].to_dict("records")
            rows = [{name: "" if pd.isna(v) else v for name, v in row.items()} for row in rows]
            rows += [{"cell": "nobody", "file": self.parts[0].name}] * ("rows without cells" in self.flaws)
            write_table(folder / "cells.txt", ["cell", "file", *self.written], rows, excel=excel)
            settings["cell_table"] = str(folder / "cells.txt")
        if self.beside:
            rows = self.cells[["donor", "age", "sex"]].dropna(subset="donor").drop_duplicates("donor")
            rows = rows.fillna("").to_dict("records")
            rows += [{"donor": "nobody", "age": "3"}] * ("rows without cells" in self.flaws)
            write_table(folder / "donors.txt", ["donor", "age", "sex"], rows, excel=excel)
            settings["sample_table"] = str(folder / "donors.txt")
        if self.layout != "sheet":
            return folder if prefixed else folder / paths[0], settings
        rows = [{"path": path} for path in paths]
        if self.labels_from == "sheet":
            first = ~self.cells["file"].duplicated()
            of_file = self.written[first].set_axis(self.cells["file"][first])
            for row, part in zip(rows, self.parts, strict=True):
                known = of_file.loc[part.name] if part.name in of_file.index else pd.Series(dtype=object)
                row |= {name: "" if pd.isna(value) else value for name, value in known.items()}
        columns = [*self.written] if self.labels_from == "sheet" else []
        write_table(folder / "sheet.tsv", ["path", *columns], rows, excel=excel)
        return folder / "sheet.tsv", settings

    @property
    def usable(self) -> pd.DataFrame:
        """The cells without a reason."""
        return self.cells[self.cells["reason"] == ""]

    def genes_of(self, part: Part) -> dict[str, int]:
        """Gene id without a genome in front -> column, of the features that count as genes."""
        names = [re.sub(r"^(GRCh38_|mm10___)", "", name) for name in part.ids]
        wanted = [
            (part.kinds is None or part.kinds[n] == "Gene Expression")
            and not (self.genome and "two genomes" in self.flaws and not name.startswith(self.genome))
            for n, name in enumerate(part.ids)
        ]
        return {name: n for n, name in enumerate(names) if wanted[n]}

    def expected(self) -> pd.DataFrame:
        """Counts of all input cells (rows) in the genes that all files have, in the order of the first."""
        found = [self.genes_of(part) for part in self.parts]
        short = [{name.split(".")[0]: column for name, column in genes.items()} for genes in found]
        if len(found) > 1 and len(set.intersection(*map(set, short))) > len(
            set.intersection(*map(set, found))
        ):
            found = short
        shared = [name for name in found[0] if all(name in genes for genes in found)]
        rows = [
            part.counts[:, [genes[name] for name in shared]]
            for part, genes in zip(self.parts, found, strict=True)
        ]
        return pd.DataFrame(np.concatenate(rows), columns=pd.Index(shared, dtype=object))

    def symbols(self) -> list[str]:
        """Symbols of these genes, the id where one is missing."""
        first, found = self.parts[0], self.genes_of(self.parts[0])
        by_id = {name: first.symbols[column].split("_")[-1] for name, column in found.items()}
        by_id = by_id | {name.split(".")[0]: symbol for name, symbol in by_id.items()}
        return [by_id[name] or name for name in self.expected().columns]

    def names(self) -> tuple[list[str], bool] | None:
        """Names of the cells, and whether they had to change; None when nothing tells cells apart."""
        cells = self.cells
        sample, donor = (
            cells[role].where(cells[role].notna(), cells["file"]) for role in ("sample", "donor")
        )
        plain = sample + "_" + cells["barcode"] if self.layout == "sheet" else cells["barcode"]
        choices = [plain, cells["file"] + "_" + cells["barcode"], donor + "_" + cells["barcode"]]
        return next(((list(names), names is not plain) for names in choices if names.is_unique), None)

    def refusals(self) -> list[str]:
        """Patterns of messages, one of which must come."""
        used, messages = self.usable, []
        covariates = {covariate["name"] for covariate in self.settings["covariates"]}
        for part in self.parts:
            if not len(part.barcodes):
                messages.append("holds no cell; ")
            if part.place in REFUSED and len(part.barcodes):
                messages.append("load.counts: .*no raw counts there|none of which contains the others")
            if part.counts.max(initial=0) >= 2**31:
                messages.append("not a count")
            if not part.counts.any() and not part.kind.startswith("tenx"):
                messages.append("no raw counts")
            if (
                len(self.genes_of(part))
                < sum(k in (None, "Gene Expression") for k in part.kinds or [None] * len(part.ids))
                and "repeated ids" in self.flaws
            ):
                messages.append("gene ids repeat|none of which contains the others")
            if (
                "two genomes" in self.flaws
                and not self.genome
                and len({name[:4] for name in part.ids if name[0] != "C"}) > 1
            ):
                messages.append("load.genome")
            if (
                "two genomes" in self.flaws
                and self.genome
                and not any(n.startswith(self.genome) for n in part.ids)
            ):
                messages.append("load.genome")
        if self.expected().shape[1] == 0:
            messages.append("share no gene id|no gene")
        if self.names() is None:
            messages.append("cell names repeat within a file and a donor")
        if "exclude" in self.flaws and "NK" not in set(self.cells["written_type"]):
            messages.append("load.exclude: cell_type is never 'NK'")
        if used.empty:
            messages.append("none of .* cells is usable|no row of .* matches")
        if used["donor"].nunique() < self.settings["shards"]:
            messages.append("load.shards: ")
        if self.labels_from == "table" and (
            self.cells["without_row"].all() or self.cells.duplicated(["file", "barcode"]).any()
        ):
            messages.append("no row of .* matches|several rows for")
        if self.beside and self.cells["donor"].isna().all():
            messages.append("no row of .* matches|cannot be read|no column")
        for name in covariates:
            values = used[f"{name}_value"]
            pairs = used.assign(value=values).dropna(subset="value").groupby("sample")["value"].nunique()
            if (pairs > 1).any():
                messages.append(f"{name} is .* and .*; let load.sample")
            if values.isna().all():
                messages.append(f"load.covariates: {name} has no")
        return messages

    def codes(self) -> tuple[set[str], set[str]]:
        """Codes that must be warned of, and those that may be."""
        must, may = set(), {"levels_alike"}
        genes = self.expected().shape[1]
        sizes = [len(self.genes_of(part)) for part in self.parts]
        if any(size < len(part.ids) for size, part in zip(sizes, self.parts, strict=True)):
            must.add("features_left_out")
        if any(size > genes for size in sizes):
            must.add("genes_not_shared")
        if self.names()[1]:
            must.add("cell_names_changed")
        if {"T cell", "t cell"} <= set(self.usable["cell_type"]):
            must.add("levels_alike")
        if self.cells["qualified"].any():
            must.add("donors_of_two_datasets")
        if (
            any(c["name"] == "age" for c in self.settings["covariates"])
            and self.usable["age"].isin(CENSORED).any()
        ):
            must.add("values_not_parsed")
        if any(part.place in ("raw.X, some in X", "layers/z", "X, rounded copy") for part in self.parts):
            may.add("other_counts")
        if self.labels_from == "table" or self.beside:
            must |= {"table_rows_unmatched"} & (
                {"table_rows_unmatched"} if "rows without cells" in self.flaws else set()
            )
            lacking = (
                self.cells["without_row"].any()
                if self.labels_from == "table"
                else self.cells["donor"].isna().any()
            )
            must |= {"cells_without_table_row"} if lacking else set()
        return must, may
