# The config is checked before any job, one clear line for what is wrong. Included by common.smk.
import difflib

from job import CODES


def refuse(condition, message):
    """Stop with one line when the condition holds; SystemExit because a WorkflowError adds lines of code."""
    if condition:
        sys.exit(f"error: {message}")


def check_schema(settings, prefix=""):
    """Stop at the first key that the closed schema does not know or whose value it refuses."""
    schema = yaml.safe_load(workflow_file("../workflow/schemas/config.yaml"))
    errors = Draft202012Validator(schema).iter_errors(settings)
    for error in sorted(errors, key=lambda error: [str(key) for key in error.absolute_path]):
        key = ".".join(str(key) for key in error.absolute_path) or "config"
        refuse(True, f"{prefix}{key}: {error.message}; see config/README.md")


check_schema(config)

COVARIATES = {covariate["name"]: covariate["type"] for covariate in config["load"]["covariates"]}
SAMPLE_COLUMNS = {"donor", "pool", "log_cells", "log_depth", "pct_counts_mt"}  # made by load and pseudobulk


def check_cohort(path, url, sha256, size):
    refuse(path and url, "cohort.path and cohort.url are both set; set one of them to null")
    refuse(
        url and not (sha256 or size), "cohort.url: a download is verified; set cohort.sha256 or cohort.size"
    )
    refuse(path and not Path(path).exists(), f"cohort.path: {path} does not exist")
    refuse(
        path and not os.access(path, os.R_OK), f"cohort.path: {path} cannot be read; check its permissions"
    )
    demo = not (path or url)
    for file in config["gene_sets"]:
        if file.startswith("<results>/simulate/"):
            refuse(not demo, f"gene_sets: {file} belongs to the demo cohort; name GMT files or set it to []")
        else:
            refuse(not Path(file).is_file(), f"gene_sets: {file} does not exist")


def check_pool():
    users = {
        "doublets.by": config["doublets"]["by"],
        "load.shard_by": config["load"]["shard_by"],
        "preprocess.batch": config["preprocess"]["batch"],
        "dimred.harmonize": config["dimred"]["harmonize"],
    }
    for key, value in users.items():
        refuse(
            value == "pool" and not config["load"]["pool"],
            f"{key}: pool needs a column of pools; set load.pool or choose another {key}",
        )
    refuse(
        config["doublets"]["by"] == "pool" and config["load"]["shard_by"] != "pool",
        "doublets.by: pool needs whole pools in each shard; set load.shard_by: pool",
    )


FUNCTIONS = next(  # that a formula may call, as the step says
    ast.literal_eval(node.value)
    for node in ast.parse(workflow_file("../scripts/donors/_contrast.py")).body
    if isinstance(node, ast.Assign) and node.targets[0].id == "FUNCTIONS"
)


def formula_variables(formula):
    """Columns that a formula names; `:` is read as a product. SyntaxError for a call of anything else."""
    tree = ast.parse(formula.lstrip("~ ").replace(":", "@"), mode="eval")
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if not (isinstance(call.func, ast.Name) and call.func.id in FUNCTIONS):
            raise SyntaxError("a formula calls only the functions that it knows")
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in functions]


def check_contrast(name, design, test, unit=None, level=None, reference=None, references=None, subset=None):
    key = f"contrasts.{name}"
    known = sorted(SAMPLE_COLUMNS | COVARIATES.keys())
    try:
        variables, tested = formula_variables(design), formula_variables(test)
    except SyntaxError:
        refuse(True, f"{key}.design: {design!r} or {test!r} is no formula; write it like '~ age + sex'")
    for variable in variables:
        refuse(
            variable not in known,
            f"{key}.design: {variable!r} is no column of a sample; add it to load.covariates or use one of {', '.join(known)}",
        )
    refuse(not set(tested) <= set(variables), f"{key}.test: {test!r} is not in the design {design!r}")
    categories = [
        name for name in tested if name in ("donor", "pool") or COVARIATES.get(name) == "categorical"
    ]
    numbers = [name for name in tested if name not in categories]
    curve = any(f"{function}(" in test for function in ("bs", "cr", "poly"))
    refuse(curve and unit is not None, f"{key}.unit: {test} is a curve, tested as a whole; remove unit")
    refuse(
        numbers and unit is None and not curve,
        f"{key}.unit: {numbers} is a number; say per how many, like unit: 1",
    )
    refuse(not numbers and unit is not None, f"{key}.unit: {test} is a category; remove unit")
    refuse(
        (level or reference) and not categories, f"{key}: {test} has no category; remove level and reference"
    )
    refuse(
        len(categories) == 1 and bool(level) != bool(reference),
        f"{key}: {categories} is a category; set level and reference, the two levels compared, "
        "or neither to test all levels together",
    )
    for variable in references or {}:
        refuse(variable not in variables, f"{key}.references: {variable!r} is not in the design {design!r}")
    for column in subset or {}:
        refuse(
            column not in known,
            f"{key}.subset: {column!r} is no column of a sample; use one of {', '.join(known)}",
        )


def check_species(species):
    """Both sections have patterns for a species that is named."""
    for key in ("qc.patterns", "preprocess.exclude"):
        section, _, name = key.partition(".")
        known = ["auto", *config[section][name]]
        refuse(
            species not in known,
            f"load.species: {species!r} has no patterns in {key}; add them there or use {', '.join(known)}",
        )


def check_doublets(expected_doublet_rate, **others):
    """An expected rate that is a word is `auto` or a numeric covariate."""
    numeric = [name for name, kind in COVARIATES.items() if kind == "numeric"]
    refuse(
        isinstance(expected_doublet_rate, str) and expected_doublet_rate not in ["auto", *numeric],
        f"doublets.expected_doublet_rate: {expected_doublet_rate!r} is neither a share, auto, nor a numeric covariate; "
        f"use one of {', '.join(['auto', *numeric])} or a number",
    )


def check_names():
    """Covariates, contrasts, strata and the target name what exists, once."""
    for key, names in {
        "load.covariates": [covariate["name"] for covariate in config["load"]["covariates"]],
        "contrasts": [contrast["name"] for contrast in config["contrasts"]],
    }.items():
        for name in names:
            refuse(names.count(name) > 1, f"{key}: {name!r} is there more than once; rename one")
    taken = SAMPLE_COLUMNS | {
        "sample",
        "cell_type",
        "cell",
        "label",
        "cells",
        "counts",
        "used",
        "reason",
        "shard",
    }
    for name in COVARIATES:
        refuse(name in taken, f"load.covariates: the name {name!r} is taken; choose another")
    strata = {"cell_type", "donor", "sample", "pool"} | COVARIATES.keys()
    for stratum in config["cells"]["strata"]:
        refuse(
            stratum["column"] not in strata,
            f"cells.strata: {stratum['column']!r} is no column; use one of {', '.join(sorted(strata))}",
        )
    target = config["ridge"]["target"]
    refuse(
        target and COVARIATES.get(target) not in ("numeric", "stage"),
        f"ridge.target: {target!r} is no numeric covariate; name one of load.covariates or set it to null",
    )


def check_baselines(target, baselines):
    """Each baseline of ridge has a name of its own and columns that a sample has; the target is none of them."""
    names = ["mean", "expression", *(baseline["name"] for baseline in baselines)]
    known = sorted(((SAMPLE_COLUMNS - {"donor"}) | COVARIATES.keys() | {"composition"}) - {target})
    for baseline in baselines:
        name = baseline["name"]
        refuse(names.count(name) > 1, f"ridge.baselines: the name {name!r} is taken; choose another")
        for column in baseline["columns"]:
            refuse(
                column not in known,
                f"ridge.baselines.{name}: {column!r} is no column that it can use; use {', '.join(known)}",
            )


def check_warnings(accept, error):
    """Every code is one that a step may warn of, and is either accepted or an error."""
    for key, codes in {"warnings.accept": accept, "warnings.error": error}.items():
        for code in codes:
            near = difflib.get_close_matches(code, CODES, n=1) or ["one of docs/warnings.md"]
            refuse(code not in CODES, f"{key}: {code!r} is not a warning code; use {near[0]}")
    for code in accept:
        refuse(code in error, f"warnings: {code!r} is in accept and in error; remove it from one of them")


def check_scratch():
    """A variable of a scratch folder that is not set would become a folder of that name on the shared disk."""
    for prefix in ("local_storage_prefix", "remote_job_local_storage_prefix"):
        path = os.path.expandvars(str(getattr(workflow.storage_settings, prefix)))
        unset = re.findall(r"\$\{?(?!SLURM_)\w+", path)  # SLURM sets its own on the node
        refuse(
            unset,
            f"{prefix.replace('_', '-')}: {' '.join(unset)} in {path} is not set; export it, or use a path",
        )


check_scratch()
check_warnings(**config["warnings"])
check_names()
check_species(config["load"]["species"])
check_doublets(**config["doublets"])
if config["ridge"]["target"]:
    check_baselines(config["ridge"]["target"], config["ridge"]["baselines"])
check_cohort(**config["cohort"])
check_pool()
for contrast in config["contrasts"]:
    check_contrast(**contrast)
