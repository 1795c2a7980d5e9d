# The config is checked before any job: a line per problem. Included by common.smk; the checks: workflow/checks.py.
from job import InputError
from workflow.checks import find_problems


def refuse(problems):
    """Stop with a line per problem; SystemExit because a WorkflowError adds lines of code."""
    if problems:
        sys.exit("\n".join(f"error: {problem}" for problem in problems))


def find_unset_variables():
    """A variable of a scratch folder that is not set would become a folder of that name on the shared disk."""
    for prefix in ("local_storage_prefix", "remote_job_local_storage_prefix"):
        path = os.path.expandvars(str(getattr(workflow.storage_settings, prefix)))
        unset = re.findall(r"\$\{?(?!SLURM_)\w+", path)  # SLURM sets its own on the node
        if unset:
            key = prefix.replace("_", "-")
            yield f"{key}: {' '.join(unset)} in {path} is not set; export it, or use a path"


refuse(list(find_unset_variables()))
refuse(find_problems(config, yaml.safe_load(workflow_file("../workflow/schemas/config.yaml"))))
COVARIATES = {covariate["name"]: covariate["type"] for covariate in config["load"]["covariates"]}
