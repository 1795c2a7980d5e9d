"""Look at a cohort file and write the config for it: `make init COHORT=my_cohort.h5ad`.

    python ops/init.py my_cohort.h5ad [--out my.yaml] [--donor COLUMN] [--covariate NAME=COLUMN:TYPE] ...

Shows the columns of the cells and their values, proposes what each is and why, asks when run on a terminal
(Enter takes the proposal), and writes an overlay of config/config.yaml. Of the matrix only a sample is read.
The overlay is written only when the workflow accepts it and the step `load` finds its labels.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import doctor
import guess
from _failures import CorruptedInput, InputError
from guess import Guess, Table
from look import Cohort, show

ROOT = Path(__file__).resolve().parent.parent
CELLS_PER_SHARD = 80_000
LIMITS = {"min_genes": (200, 100, 50), "min_counts": (500, 200, 100)}
MOST_LOST = 0.05  # share of these cells that a limit may drop


class Interview:
    """Takes what was given as an option, else answered on a terminal, else proposed; says which and why."""

    def __init__(self, table: Table, given: dict[str, str | None], ask: bool):
        self.table, self.given, self.ask = table, given, ask

    def column(self, role: str, proposed: Guess) -> Guess:
        """A column, or None for "none"."""
        chosen, why = proposed.value, proposed.why
        if self.given.get(role) is not None:
            chosen, why = self.checked(self.given[role], f"--{role.replace('_', '-')}"), "as asked"
        elif self.ask:
            also = f", or {', '.join(proposed.other)}" if proposed.other else ""
            answer = input(f"{proposed.setting} ({why}) [{chosen or 'none'}{also}]: ").strip()
            if answer:
                chosen, why = self.checked(answer, proposed.setting), "as answered"
        return self.told(Guess(proposed.setting, chosen, why, proposed.other))

    def checked(self, name: str, source: str) -> str | None:
        """The column of that name; exits with one line when there is none."""
        if name.lower() in ("none", "null", "-"):
            return None
        if name not in self.table:
            sys.exit(f"error: {source}: no column {name!r} (there are: {', '.join(self.table)})")
        return name

    def told(self, each: Guess) -> Guess:
        """Print a decision with its reason."""
        value = each.value if isinstance(each.value, str) else json.dumps(each.value)
        also = f"; {', '.join(each.other)} would fit too" if each.other and each.why != "as asked" else ""
        print(f"{each.setting}: {value}   ({each.why}{also})")
        return each


def covariates(interview: Interview, wanted: list[str]) -> list[dict]:
    """Entries of load.covariates: those asked for, else the first column for condition, age and sex."""
    if wanted:
        found = [asked_covariate(text, interview) for text in wanted]
        for each in found:
            interview.told(Guess(f"load.covariates ({each['name']})", each["column"], "as asked"))
        return found
    found = []
    for role in ("condition", "age", "sex"):
        column = interview.column(role, guess.find(role, interview.table)).value
        if column is not None:
            found.append(guess.covariate(role, column, interview.table, {each["name"] for each in found}))
    return found


def asked_covariate(text: str, interview: Interview) -> dict:
    """NAME=COLUMN:TYPE or COLUMN; the type is found when it is not said."""
    name, equal, column = text.rpartition("=")
    kinds = ("numeric", "categorical", "stage")
    kind = next((kind for kind in kinds if column.endswith(f":{kind}")), None)
    column = interview.checked(column.removesuffix(f":{kind}"), "--covariate")
    if column is None:
        sys.exit("error: --covariate none: leave the option out")
    found = interview.table[column]
    return {
        "name": name if equal else guess.covariate_name(column, set()),
        "column": column,
        "type": kind or guess.kind_of_number(found) or "categorical",
    }


def propose(cohort: Cohort, given: argparse.Namespace, ask: bool) -> dict:
    """The overlay, each of its decisions told."""
    interview = Interview(cohort.table, vars(given), ask)
    whole = f", so do {', '.join(cohort.also)}" if cohort.also else ""
    interview.told(Guess("load.counts", cohort.place, f"it holds whole numbers{whole}"))
    symbols = tell_symbols(cohort, interview)
    donor = interview.column("donor", guess.find("donor", cohort.table)).value
    if donor is None:
        sys.exit("error: load.donor: no donor, no test; name the column of donors: --donor COLUMN")
    cell_type = interview.column("cell_type", guess.find("cell_type", cohort.table)).value
    if cell_type is None:
        print("  all cells count as one type; label them before, or name the column: --cell-type COLUMN")
    chosen = covariates(interview, given.covariate)
    unit, left, chosen = guess.unit_of_replication(donor, chosen, cohort.table)
    for each in left:
        interview.told(each)
    sample = interview.column("sample", unit).value or donor
    pool = guess.find(
        "pool", {name: each for name, each in cohort.table.items() if name not in (donor, sample)}
    )
    pool = interview.column("pool", guess.judge_pool(pool, sample, cohort.table)).value
    exclude = guess.unusable([donor, *([cell_type] if cell_type else [])], cohort.table)
    interview.told(
        Guess(
            "load.exclude",
            exclude,
            "labels that say that there is none" if exclude else "all labels are labels",
        )
    )
    load = {
        "counts": cohort.place,
        "symbols": symbols,
        "sample": sample,
        "donor": donor,
        "cell_type": cell_type,
    }
    load |= {"pool": pool, "covariates": chosen, "exclude": exclude}
    load["shards"] = max(min(-(-cohort.cells // CELLS_PER_SHARD), 100), min(2, cohort.table[donor].nunique()))
    config = {"cohort": {"path": given.path_in_config}, "load": load}
    return config | questions(cohort, config, interview, given) | machine_room(cohort, config, interview)


def tell_symbols(cohort: Cohort, interview: Interview) -> str | None:
    """load.symbols; says when neither column nor index looks like symbols."""
    mitochondrial = int(cohort.symbols.astype(str).str.upper().str.startswith("MT-").sum())
    ensembl = cohort.symbols.astype(str).str.match(r"ENS\w*G\d{6,}").mean()
    why = "a column of the genes" if cohort.symbol_column else "no column of symbols: the index is taken"
    interview.told(Guess("load.symbols", cohort.symbol_column, f"{why}; {mitochondrial} MT- genes"))
    if ensembl > 0.5:
        has = ", ".join(cohort.gene_columns) or "none"
        print(
            f"  these are Ensembl ids (columns of the genes: {has}): no gene set and no MT- pattern matches"
        )
    elif not mitochondrial:
        print("  without MT- genes pct_counts_mt is 0 in every cell: qc.max_pct_mt drops nothing")
    return cohort.symbol_column


def questions(cohort: Cohort, config: dict, interview: Interview, given: argparse.Namespace) -> dict:
    """contrasts, gene_sets and ridge of the overlay."""
    load = config["load"]
    columns = {each["name"]: cohort.table[each["column"]] for each in load["covariates"]}
    donor = cohort.table[load["donor"]]
    paired = [name for name, column in columns.items() if not guess.constant(column, donor)]
    entry, why = guess.contrast(load["covariates"], paired, cohort.table)
    samples = usable_samples(cohort, load)
    coefficients = len(entry["design"].split("+")) + 1 if entry else 0
    if entry and "donor" in entry["design"]:
        coefficients += donor.nunique() - 2
    found = {"contrasts": [entry] if entry else []}
    if entry and samples - coefficients < 3:
        found, why = {"contrasts": []}, f"{samples} samples are too few for {entry['design']}"
    interview.told(Guess("contrasts", found["contrasts"], why))
    if found["contrasts"] and samples < 8:
        found["pseudobulk"] = {"min_samples": samples}
        interview.told(
            Guess("pseudobulk.min_samples", samples, "fewer than the usual 8: expect little power")
        )
    beside = sorted(str(path) for path in Path(given.path_in_config).parent.glob("*.gmt"))
    sets = given.gene_sets if given.gene_sets is not None else beside
    how = "as asked" if given.gene_sets is not None else "GMT files beside the cohort" if beside else ""
    found["gene_sets"] = sets
    interview.told(
        Guess("gene_sets", sets, how or "no GMT file beside the cohort: --gene-sets FILE adds one")
    )
    numbers = [each["name"] for each in load["covariates"] if each["type"] != "categorical"]
    target = next((name for name in numbers if samples >= 20), None)
    ridge: dict = {"target": target}
    if target and "sex" not in columns:
        ridge["baselines"] = [
            {"name": "technical", "columns": ["pool", "log_cells", "log_depth"]},
            {"name": "composition", "columns": ["composition"]},
        ]
    why = "a number to predict" if target else "no numeric covariate, or fewer than 20 samples"
    interview.told(Guess("ridge.target", target, why))
    return found | {"ridge": ridge}


def usable_samples(cohort: Cohort, load: dict) -> int:
    """Samples with a cell that is not excluded."""
    fine = pd.Series(True, index=range(cohort.cells))
    for rule in load["exclude"]:
        fine &= ~cohort.table[rule["column"]].isin(rule["values"]).to_numpy()
    return cohort.table[load["sample"]][fine.to_numpy()].nunique()


def machine_room(cohort: Cohort, config: dict, interview: Interview) -> dict:
    """Sections that follow from the size of the data and from its pools."""
    load, found = config["load"], {}
    batch = "pool" if load["pool"] else "none"
    why = (
        f"by {load['pool']}"
        if load["pool"]
        else "no pool; removing donors would remove what differs between them"
    )
    interview.told(Guess("preprocess.batch, dimred.harmonize", batch, why))
    found["preprocess"] = {"batch": batch, "n_top_genes": min(2000, max(len(cohort.genes) // 5, 100))}
    found["dimred"] = {"harmonize": batch}
    if cohort.sizes is None:
        print("qc: as in config/config.yaml   (the matrix is stored by gene: no cells were looked at)")
    else:
        found["qc"] = {name: limit(cohort.sizes[name], values) for name, values in LIMITS.items()}
        medians = cohort.sizes.median()
        lost = (cohort.sizes < pd.Series(found["qc"])).any(axis=1).mean()
        why = f"{len(cohort.sizes):,} cells have a median of {medians['min_genes']:,.0f} genes, "
        why += f"{medians['min_counts']:,.0f} counts; {lost:.1%} of them fall below"
        interview.told(Guess("qc", found["qc"], why))
    strata = [{"column": "cell_type"}]
    for each in load["covariates"]:
        column = cohort.table[each["column"]]
        if each["type"] == "categorical":
            strata.append({"column": each["name"]})
        else:
            numbers = guess.numbers(column, each["type"])
            quarters = numbers.quantile([0.25, 0.5, 0.75], interpolation="higher")
            breaks = sorted({float(f"{value:.3g}") for value in quarters})
            breaks = [int(value) if value.is_integer() else value for value in breaks]
            strata.append({"column": each["name"], "breaks": breaks})
    return found | {"cells": {"strata": strata}}


def limit(sizes: pd.Series, values: tuple[int, ...]) -> int:
    """The first value that drops few cells, else the last."""
    return next((value for value in values if (sizes < value).mean() <= MOST_LOST), values[-1])


def render(config: dict, path: Path) -> str:
    """The overlay as YAML: a line per section, the longer ones a line per key and entry."""

    def flow(value) -> str:
        return yaml.safe_dump(
            value, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True
        ).removesuffix("...\n")[:-1]

    def entries(values: list, indent: str) -> list[str]:
        return [f"{indent}- {flow(value)}" for value in values]

    lines = [f"# Written by ops/init.py for {path.name}; every key: config/README.md"]
    for section, content in config.items():
        if section == "load":
            lines.append("load:")
            for key, value in content.items():
                long = isinstance(value, list) and value
                lines += [f"  {key}:", *entries(value, "    ")] if long else [f"  {key}: {flow(value)}"]
        elif isinstance(content, list) and content:
            lines += [f"{section}:", *entries(content, "  ")]
        else:
            lines.append(f"{section}: {flow(content)}")
    return "\n".join(lines) + "\n"


def check(text: str, folder: Path) -> None:
    """Let the workflow and the step `load` judge the overlay; exits with their line when they refuse it."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        options = doctor.read_options(folder, [file.name], "profiles/local", "")
        for judge in (doctor.configuration, doctor.cohort):
            for finding in judge(options):
                if finding.level != "ok":
                    sys.exit(f"error: {finding.found}\n  nothing was written; {finding.remedy}")
                if judge is doctor.cohort:
                    print(f"\nload finds {finding.found}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    told = os.environ.get("COHORT")  # `make init COHORT=...`
    parser.add_argument("cohort", type=Path, nargs="?" if told else None, default=told, help="an .h5ad")
    parser.add_argument("--out", type=Path, help="where to write; default: the cohort's name with .yaml")
    for role in ("sample", "donor", "cell_type", "pool", "condition", "age", "sex"):
        parser.add_argument(f"--{role.replace('_', '-')}", metavar="COLUMN", help="a column, or none")
    parser.add_argument(
        "--covariate", action="append", default=[], metavar="NAME=COLUMN:TYPE", help="instead of those found"
    )
    parser.add_argument("--counts", default="auto", help="X, raw.X or layers/NAME")
    parser.add_argument("--gene-sets", nargs="*", help="GMT files")
    parser.add_argument("--yes", action="store_true", help="take every proposal, ask nothing")
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    given = parser.parse_args()
    given.cohort = Path(given.cohort)
    return given


def main() -> None:
    """Look, propose, check, write."""
    given = parse()
    out = given.out or Path(f"{given.cohort.stem}.yaml")
    if out.exists() and not given.force:
        sys.exit(f"error: {out} exists; name another with --out, or overwrite it with --force")
    as_seen_from_root = (lambda path: path) if Path.cwd() == ROOT else Path.resolve
    given.path_in_config = str(as_seen_from_root(given.cohort))
    if given.gene_sets is not None:
        given.gene_sets = [str(as_seen_from_root(Path(name))) for name in given.gene_sets]
    try:
        cohort = Cohort(given.cohort, given.counts)
    except CorruptedInput as error:
        sys.exit(f"error: {error}\n  get the file again and compare its size")
    except InputError as error:
        sys.exit(f"error: {error}")
    show(cohort)
    config = propose(cohort, given, ask=sys.stdin.isatty() and not given.yes)
    text = render(config, given.cohort)
    if yaml.safe_load(text) != config:
        raise RuntimeError(f"the overlay does not say what was meant:\n{text}")
    check(text, ROOT)
    out.write_text(text)
    print(f"wrote {out}; look at it, then:\n  snakemake --profile profiles/local --configfile {out}")


if __name__ == "__main__":
    main()
