# What every run begins and ends with: retry policies, what each step found, failures in one file, an incident bundle.
import subprocess
from datetime import UTC, datetime

from job import gather_failures, listen, summarise_failures

STARTED = datetime.now(UTC).isoformat()
# By the environment, which jobs and SLURM hand on: as params a change would rerun what is done.
os.environ.update(SCOHORT_RETRIES=json.dumps(config["retries"]))
FINDINGS = listen(Path(workflow.pathvars.apply("<results>"))) if workflow.is_main_process else None


INCIDENT = Path(workflow.current_basedir.join("../ops/incident.py").get_path_or_uri(secret_free=True))


def end(logs):
    """Gather the failures of this run and print them by category; logs: Snakemake's own."""
    printed = "".join(
        Path(log).read_text(encoding="utf-8", errors="replace") for log in logs if Path(log).exists()
    )
    failures = gather_failures(Path(workflow.pathvars.apply("<results>")), STARTED, printed)
    print(summarise_failures(failures), file=sys.stderr, end="")


def bundle():
    """Let ops/incident.py collect the evidence of a failed run; it prints where. It is not in every copy."""
    if INCIDENT.exists():
        results = workflow.pathvars.apply("<results>")
        subprocess.run([PYTHON, str(INCIDENT), "--ended", "--results", results], check=False)


onsuccess:
    end(log)
    if FINDINGS and FINDINGS.told:
        print(f"what each step found: {FINDINGS.file}", file=sys.stderr)


onerror:
    end(log)
    bundle()
