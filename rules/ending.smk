# What every run begins and ends with: retry policies, results, warnings, failures in one file, an incident bundle.
import subprocess
from datetime import UTC, datetime

from job import gather_failures, print_results, summarise_failures, write_run_warnings

STARTED = datetime.now(UTC).isoformat()
# By the environment, which jobs and SLURM hand on: as params a change would rerun what is done.
os.environ.update(
    SCOHORT_RETRIES=json.dumps(config["retries"]), SCOHORT_WARNINGS=json.dumps(config["warnings"])
)
RESULTS = print_results(Path(workflow.pathvars.apply("<results>"))) if workflow.is_main_process else None


INCIDENT = Path(workflow.current_basedir.join("../ops/incident.py").get_path_or_uri(secret_free=True))


def end(logs):
    """Gather the failures of this run and print them by category; logs: Snakemake's own."""
    printed = "".join(
        Path(log).read_text(encoding="utf-8", errors="replace") for log in logs if Path(log).exists()
    )
    failures = gather_failures(Path(workflow.pathvars.apply("<results>")), STARTED, printed)
    print(summarise_failures(failures), file=sys.stderr, end="")


def warned():
    """Print the warnings of all jobs that the targets of this run need, also of those that were done before."""
    tables = [job.output.get("warnings") for job in workflow.dag.jobs]
    paths = [str(table.storage_object.query if table.is_storage else table) for table in tables if table]
    results = Path(workflow.pathvars.apply("<results>"))
    lines = write_run_warnings(results, sorted(map(Path, paths)), accept=config["warnings"]["accept"])
    print(lines, file=sys.stderr, end="")


def bundle():
    """Let ops/incident.py collect the evidence of a failed run; it prints where. It is not in every copy."""
    if INCIDENT.exists():
        results = workflow.pathvars.apply("<results>")
        subprocess.run([PYTHON, str(INCIDENT), "--ended", "--results", results], check=False)


onsuccess:
    end(log)
    if RESULTS and RESULTS.written:
        print(f"results of each job: {RESULTS.file}", file=sys.stderr)
    warned()


onerror:
    warned()
    end(log)
    bundle()
