"""Look at a cohort file and write the config for it: `make init COHORT=my_cohort.h5ad`.

    python ops/init.py my_cohort.h5ad [--out my.yaml] [--donor COLUMN] [--covariate NAME=COLUMN:TYPE] ...

Shows the columns of the cells and their values, proposes what each is and why, asks when run on a terminal
(Enter takes the proposal), and writes an overlay of config/config.yaml. Of the matrix only a sample is read.
The overlay is written only when the workflow accepts it and the step `load` finds its labels.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

import _guess as guess
import doctor
from _guess import Guess
from _interview import Interview, choose_covariates
from _look import Cohort, show
from _root import ROOT
from job import CorruptedInput, InputError

CELLS_PER_SHARD = 80_000
USUAL_SAMPLES = 8  # pseudobulk.min_samples of config/config.yaml
LEAST_RESIDUAL_DF = 3  # differential.min_residual_df
SAMPLES_TO_PREDICT = 20
LIMITS = {"min_genes": (200, 100, 50), "min_counts": (500, 200, 100)}
NO_POOL = Guess("load.pool", None, "no donors: one sample, no batch to remove")
MOST_LOST_BY_ALL = 0.5  # share of these cells above which no limit is written
MOST_LOST = 0.05  # share of these cells that a limit may drop


def propose(cohort: Cohort, given: argparse.Namespace, ask: bool) -> dict:
    """The overlay; prints each decision with its reason."""
    interview = Interview(cohort.table, vars(given), ask)
    whole = f", so do {', '.join(cohort.also)}" if cohort.also else ""
    interview.report(Guess("load.counts", cohort.place, f"it holds whole numbers{whole}"))
    symbols = propose_symbols(cohort, interview)
    proposed = guess.find_column("donor", cohort.table)
    donor = interview.column("donor", proposed).value
    if donor is None and given.donor is None and guess.MANY_VALUES in proposed.why and not ask:
        sys.exit(
            f"error: load.donor: {proposed.why}; a file of sums has a row per donor: "
            "name the column with --donor COLUMN, or --donor none for cells without donors"
        )
    if donor is None:
        print("  no donors: cells, clusters and their marker genes can be answered, nothing between donors;")
        print("  name the column with --donor COLUMN if there is one")
    cell_type = interview.column("cell_type", guess.find_column("cell_type", cohort.table)).value
    if cell_type is None:
        print("  all cells count as one type; label them before, or name the column: --cell-type COLUMN")
    chosen = choose_covariates(interview, given.covariate)
    if donor is None:
        sample, chosen = None, drop_covariates(chosen, interview)
    else:
        samples = interview.check(given.sample, "--sample") if given.sample else None
        unit, left, chosen = guess.choose_sample_column(donor, chosen, cohort.table, samples)
        if left and given.covariate:
            sys.exit(f"error: --covariate: {left[0].why}")
        for each in left:
            interview.report(each)
        sample = interview.column("sample", unit).value or donor
    pool = guess.find_column(
        "pool", {name: each for name, each in cohort.table.items() if name not in (donor, sample)}
    )
    pool = interview.column("pool", guess.judge_pool(pool, sample, cohort.table) if sample else NO_POOL).value
    labels = [column for column in (donor, cell_type) if column is not None]
    exclude = guess.find_missing_labels(labels, cohort.table)
    interview.report(
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
    donors = cohort.table[donor].nunique() if donor else 1
    load["shards"] = min(max(-(-cohort.cells // CELLS_PER_SHARD), 2), 100, donors)
    config = {"cohort": {"path": given.path_in_config}, "report": {"title": cohort.path.stem}, "load": load}
    config |= propose_contrasts(cohort, load, interview, given.test)
    config |= {
        "gene_sets": propose_gene_sets(interview, given),
        "ridge": propose_prediction(cohort, load, interview),
    }
    return config | propose_sizes(cohort, load, interview)


def propose_symbols(cohort: Cohort, interview: Interview) -> str | None:
    """load.symbols; says when neither column nor index looks like symbols."""
    mitochondrial = int(cohort.symbols.astype(str).str.upper().str.startswith("MT-").sum())
    ensembl = cohort.symbols.astype(str).str.match(r"ENS\w*G\d{6,}").mean()
    why = "a column of the genes" if cohort.symbol_column else "no column of symbols: the index is taken"
    interview.report(Guess("load.symbols", cohort.symbol_column, f"{why}; {mitochondrial} MT- genes"))
    if ensembl > 0.5:
        has = ", ".join(cohort.gene_columns) or "none"
        print(
            f"  these are Ensembl ids (columns of the genes: {has}): no gene set and no MT- pattern matches"
        )
    elif not mitochondrial:
        print("  without MT- genes pct_counts_mt is 0 in every cell: qc.max_pct_mt drops nothing")
    return cohort.symbol_column


def drop_covariates(covariates: list[dict], interview: Interview) -> list[dict]:
    """Without donors a cohort is one sample, which has no covariates; each is reported."""
    for entry in covariates:
        why = f"{entry['column']} needs samples: name their column with --donor COLUMN"
        interview.report(Guess(f"load.covariates ({entry['name']})", None, why))
    return []


def propose_contrasts(cohort: Cohort, load: dict, interview: Interview, wanted: str | None) -> dict:
    """Contrasts of the overlay, and pseudobulk where samples are few."""
    if load["sample"] is None:
        if wanted is not None:
            sys.exit(f"error: --test: {wanted!r} needs samples of donors; name their column: --donor COLUMN")
        interview.report(Guess("contrasts", [], "no donors: nothing between donors can be tested"))
        return {"contrasts": []}
    usable = {name: column[select_usable(cohort, load)] for name, column in cohort.table.items()}
    columns = {each["name"]: usable[each["column"]] for each in load["covariates"]}
    if wanted is not None and wanted not in columns:
        sys.exit(f"error: --test: no covariate {wanted!r} (there are: {', '.join(columns) or 'none'})")
    paired = [
        name for name, column in columns.items() if not guess.is_constant(column, usable[load["donor"]])
    ]
    entry, why = guess.propose_contrast(load["covariates"], paired, usable, wanted)
    samples = usable[load["sample"]].nunique()
    if entry and not guess.is_constant(usable[load["sample"]], usable[load["donor"]]):
        entry, why = guess.handle_repeated_donors(entry, why)
        samples = usable[load["donor"]].nunique() if "aggregate" in entry else samples
    if entry:
        needed = guess.count_coefficients(entry, load, usable) + LEAST_RESIDUAL_DF
        if samples < needed:
            why = f"{samples} samples are too few for {entry['design']}, which needs {needed}"
            entry = None
    found: dict = {"contrasts": [entry] if entry else []}
    interview.report(Guess("contrasts", found["contrasts"], why))
    if entry and samples < USUAL_SAMPLES:
        found["pseudobulk"] = {"min_samples": samples}
        why = f"fewer than the usual {USUAL_SAMPLES}: expect little power"
        interview.report(Guess("pseudobulk.min_samples", samples, why))
    return found


def propose_gene_sets(interview: Interview, given: argparse.Namespace) -> list[str]:
    """gene_sets of the overlay: from the option, else the GMT files in the folder of the cohort."""
    beside = sorted(str(path) for path in Path(given.path_in_config).parent.glob("*.gmt"))
    why = (
        "GMT files next to the cohort" if beside else "no GMT file next to the cohort: `--gene-sets` adds one"
    )
    asked = given.gene_sets is not None
    chosen = Guess("gene_sets", given.gene_sets if asked else beside, "as asked" if asked else why)
    return interview.report(chosen).value


def propose_prediction(cohort: Cohort, load: dict, interview: Interview) -> dict:
    """Ridge of the overlay: the first number as target, with baselines of existing columns."""
    column = load["sample"]
    samples = cohort.table[column][select_usable(cohort, load)].nunique() if column else 1
    numbers = [each["name"] for each in load["covariates"] if each["type"] != "categorical"]
    target = next((name for name in numbers if samples >= SAMPLES_TO_PREDICT), None)
    why = f"no numeric covariate, or fewer than {SAMPLES_TO_PREDICT} samples"
    interview.report(Guess("ridge.target", target, "a number to predict" if target else why))
    if not target:
        return {"target": None}
    sex = ["sex"] if "sex" in [each["name"] for each in load["covariates"]] else []
    pool = ["pool"] if load["pool"] else []
    baselines = [{"name": "sex", "columns": sex}] if sex else []
    baselines.append({"name": "technical", "columns": [*sex, *pool, "log_cells", "log_depth"]})
    return {"target": target, "baselines": [*baselines, {"name": "composition", "columns": ["composition"]}]}


def select_usable(cohort: Cohort, load: dict) -> np.ndarray:
    """Which cells are not excluded."""
    fine = np.ones(cohort.cells, dtype=bool)
    for rule in load["exclude"]:
        fine &= ~cohort.table[rule["column"]].isin(rule["values"]).to_numpy()
    return fine


def propose_sizes(cohort: Cohort, load: dict, interview: Interview) -> dict:
    """Sections that follow from the size of the data and from its pools."""
    found: dict = {}
    batch = "pool" if load["pool"] else "none"
    why = (
        f"by {load['pool']}"
        if load["pool"]
        else "no pool; removing donors would remove what differs between them"
    )
    interview.report(Guess("preprocess.batch, dimred.harmonize", batch, why))
    found["preprocess"] = {"batch": batch, "n_top_genes": min(2000, max(len(cohort.genes) // 5, 100))}
    found["dimred"] = {"harmonize": batch}
    if cohort.sizes is None:
        print("qc: as in config/config.yaml   (the matrix is stored by gene: no cells were looked at)")
    else:
        found["qc"] = {name: choose_limit(cohort.sizes[name], values) for name, values in LIMITS.items()}
        medians = cohort.sizes.median()
        lost = (cohort.sizes < pd.Series(found["qc"])).any(axis=1).mean()
        if lost > MOST_LOST_BY_ALL:
            found["qc"] = dict.fromkeys(LIMITS, None)
            why = f"the lowest usual limits would drop {lost:.1%} of {len(cohort.sizes):,} cells: none is set"
            interview.report(Guess("qc", found["qc"], why))
            return found | {"cells": {"strata": guess.propose_strata(load["covariates"], cohort.table)}}
        why = f"{len(cohort.sizes):,} cells have a median of {medians['min_genes']:,.0f} genes, "
        why += f"{medians['min_counts']:,.0f} counts; {lost:.1%} of them fall below"
        interview.report(Guess("qc", found["qc"], why))
    return found | {"cells": {"strata": guess.propose_strata(load["covariates"], cohort.table)}}


def choose_limit(sizes: pd.Series, values: tuple[int, ...]) -> int:
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
        for judge in (doctor.check_config, doctor.check_cohort):
            for finding in judge(options):
                if finding.level != "ok":
                    sys.exit(f"error: {finding.found}\n  nothing was written; {finding.remedy}")
                if judge is doctor.check_cohort:
                    print(f"\nload finds {finding.found}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    path = os.environ.get("COHORT")  # `make init COHORT=...`
    parser.add_argument("cohort", type=Path, nargs="?" if path else None, default=path, help="an .h5ad")
    parser.add_argument("--out", type=Path, help="where to write; default: the cohort's name with .yaml")
    for role in ("sample", "donor", "cell_type", "pool", "condition", "age", "sex"):
        parser.add_argument(f"--{role.replace('_', '-')}", metavar="COLUMN", help="a column, or none")
    parser.add_argument(
        "--covariate", action="append", default=[], metavar="NAME=COLUMN:TYPE", help="instead of those found"
    )
    parser.add_argument("--test", metavar="NAME", help="the covariate to test")
    parser.add_argument("--counts", default="auto", help="X, raw.X or layers/NAME")
    parser.add_argument("--gene-sets", nargs="*", help="GMT files")
    parser.add_argument("--yes", action="store_true", help="take every proposal, ask nothing")
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    given = parser.parse_args()
    given.cohort = Path(given.cohort)
    return given


def main() -> None:
    """Look, propose, check, write."""
    given = parse_arguments()
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
    ask = sys.stdin.isatty() and not given.yes
    if ask:
        print(
            "For each role type a column, `none` when there is none, or Enter for the proposal in brackets.\n"
        )
    config = propose(cohort, given, ask=ask)
    text = render(config, given.cohort)
    if yaml.safe_load(text) != config:
        raise RuntimeError(f"the overlay does not say what was meant:\n{text}")
    check(text, ROOT)
    out.write_text(text, encoding="utf-8")
    print(f"wrote {out}; look at it, then:\n  snakemake --profile profiles/local --configfile {out}")


if __name__ == "__main__":
    main()
