"""Show that the profiles are policy: what they share, where they differ, and that they plan the same jobs.

    gates/profiles.py audit [--profiles FOLDER] [-- SNAKEMAKE ARGUMENTS]
    gates/profiles.py plan PROFILE... [-- SNAKEMAKE ARGUMENTS]

Both print JSON. `audit` fails when a profile has a key that is not on the list below or is not explained,
lacks one that all need, or plans other jobs: rule, wildcards, inputs, outputs and digest of the params.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import yaml

BASES = ["local", "slurm", "ci"]  # any other folder beside them is audited as well
OVERLAYS = {"staging": "slurm"}  # laid over another profile by --workflow-profile
SHARED = {
    "scheduler",
    "rerun-incomplete",
    "show-failed-logs",
    "printshellcmds",
    "latency-wait",
    "retries",
    "keep-going",
}
MACHINE = {"cores", "jobs", "executor", "max-jobs-per-timespan", "default-resources", "set-threads"}
SLURM = {
    "slurm-status-command",
    "slurm-init-seconds-before-status-checks",
    "slurm-status-attempts",
    "slurm-no-requeue",
    "slurm-logdir",
    "slurm-keep-successful-logs",
    "slurm-delete-logfiles-older-than",
    "slurm-partition-config",
    "slurm-qos",
}
STAGING = {
    "default-storage-provider",
    "local-storage-prefix",
    "remote-job-local-storage-prefix",
    "shared-fs-usage",
}
RESOURCES = {"mem_mb", "runtime", "disk_mb", "slurm_partition", "slurm_account", "slurm_extra"}
FIRST = "00"  # the part of the tested cell types that there is whatever the checkpoint finds


def audit(folder: Path, arguments: list[str]) -> dict:
    """Settings and plans of every profile in the folder, and the problems found.

    Returns shared (key: value), differing (key: {profile: value}), single ({profile: {key: value}}), plans
    ({profile: {jobs, digest, rules_not_planned}}) and problems, one line each.
    """
    names = sorted(path.parent.name for path in folder.glob("*/config.yaml"))
    bases = BASES + [name for name in names if name not in BASES and name not in OVERLAYS]
    texts = {
        name: (folder / name / "config.yaml").read_text(encoding="utf-8") for name in [*bases, *OVERLAYS]
    }
    settings = {name: yaml.safe_load(text) for name, text in texts.items()}
    problems = [problem for name in settings for problem in check_profile(name, settings[name], texts[name])]
    routes = {name: [folder / name] for name in bases}
    routes |= {name: [folder / base, folder / name] for name, base in OVERLAYS.items()}
    with ThreadPoolExecutor(2) as pool:  # each plan is a process of its own
        by_name = dict(zip(routes, pool.map(planned, routes.values(), repeat(arguments)), strict=True))
    plans = {name: plan for name, plan in by_name.items() if isinstance(plan, dict)}
    refused = [f"{name}: cannot be planned: {plan}" for name, plan in by_name.items() if name not in plans]
    problems += [*refused, *differences(plans)]
    return compare({name: settings[name] for name in bases}) | {
        "overlays": {name: settings[name] for name in OVERLAYS},
        "plans": {name: summary(plan) for name, plan in plans.items()},
        "problems": problems,
    }


def check_profile(name: str, settings: dict, text: str) -> Iterator[str]:
    """What is wrong with one profile by itself."""
    allowed = STAGING if name in OVERLAYS else SHARED | MACHINE | SLURM
    for key in sorted(settings.keys() - allowed):
        yield f"{name}: {key} is not a policy; a profile may hold {', '.join(sorted(allowed))}"
    for key in sorted(set(settings.get("default-resources", {})) - RESOURCES):
        yield f"{name}: default-resources.{key} is not one of {', '.join(sorted(RESOURCES))}"
    if name not in OVERLAYS:
        for key in sorted(SHARED - settings.keys()):
            yield f"{name}: {key} is missing; every profile states it"
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and "#" not in line:
            yield f"{name}: line {number} is not explained: {line.strip()}"


def compare(settings: dict[str, dict]) -> dict:
    """Sort the keys by who has them: all with one value, all with several, or some of the profiles."""
    keys = sorted({key for profile in settings.values() for key in profile})
    by_key = {
        key: {name: profile[key] for name, profile in settings.items() if key in profile} for key in keys
    }
    everywhere = {key: values for key, values in by_key.items() if len(values) == len(settings)}
    alike = [key for key, values in everywhere.items() if len({repr(v) for v in values.values()}) == 1]
    return {
        "shared": {key: next(iter(everywhere[key].values())) for key in alike},
        "differing": {key: values for key, values in everywhere.items() if key not in alike},
        "single": {
            name: {key: profile[key] for key in sorted(profile) if key not in everywhere}
            for name, profile in settings.items()
        },
    }


def planned(route: list[Path], arguments: list[str]) -> dict | str:
    """The plan under a profile and its overlay, or the last line of what says why there is none."""
    environment = {"SCRATCH": "scratch"} | os.environ  # a plan needs the name of a folder, not the folder
    command = [sys.executable, __file__, "plan", *map(str, route), "--", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip() or "no reason given").splitlines()[-1]
    return json.loads(done.stdout)


def differences(plans: dict[str, dict]) -> Iterator[str]:
    """One line per profile with other jobs than the first one, with the first job that differs."""
    if not plans:
        return
    first, *others = plans
    reference = {json.dumps(job, sort_keys=True) for job in plans[first]["jobs"]}
    for name in others:
        own = {json.dumps(job, sort_keys=True) for job in plans[name]["jobs"]}
        if odd := sorted(own ^ reference):
            job = json.loads(odd[0])
            where = " ".join([job["rule"], *job["wildcards"].values()])
            yield f"{name}: plans other jobs than {first}: {len(odd)} differ, such as {where}"


def summary(plan: dict) -> dict:
    """The size of a plan, its digest, and the rules that no job of it follows."""
    digest = hashlib.sha256(json.dumps(plan["jobs"], sort_keys=True).encode()).hexdigest()
    return {"jobs": len(plan["jobs"]), "digest": digest, "rules_not_planned": plan["rules_not_planned"]}


def print_plan(route: list[str], arguments: list[str]) -> None:
    """Print the jobs that Snakemake plans from nothing, by its own command line up to the graph of jobs."""
    from snakemake import cli
    from snakemake.api import DAGApi

    profile, *overlay = route
    command = ["--profile", profile, *(["--workflow-profile", overlay[0]] if overlay else [])]
    workflows = []

    def keep(dag_api: DAGApi) -> None:
        workflows.append(build(dag_api.workflow_api._workflow))

    DAGApi.printdag = keep  # what --dag calls once the profile, the config and the rules are read
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        parser, args = cli.parse_args([*command, "--quiet", "all", "--dag", "--forceall", *arguments])
        succeeded = cli.args_to_api(args, parser)
    if not (succeeded and workflows):
        sys.exit(printed.getvalue().strip() or "Snakemake made no plan")
    print(json.dumps(workflows[0], indent=1))


def build(workflow) -> dict:
    """Build the graph for the default target and for what lies beyond the checkpoint; list its jobs."""
    targets = list(workflow.dag_settings.targets or []) or [workflow.default_target]
    workflow.dag_settings.targets = frozenset([*targets, *beyond_checkpoint(workflow)])
    workflow._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True, nolock=True)
    workflow._build_dag()
    jobs = sorted(map(facts, workflow.dag.jobs), key=lambda job: json.dumps(job, sort_keys=True))
    rules = {rule.name for rule in workflow.rules}
    return {"jobs": jobs, "rules_not_planned": sorted(rules - {job["rule"] for job in jobs})}


def beyond_checkpoint(workflow) -> list[str]:
    """The first output of every rule, of which no plan shows those that wait for the checkpoint.

    Outputs that are not staged are left out: a path given as a target is staged, and no rule makes it then.
    """
    config = workflow.globals["config"]
    values = {"part": [FIRST], "contrast": [contrast["name"] for contrast in config["contrasts"]]}
    values["alpha"] = [str(alpha) for alpha in config["ridge"]["alpha"]]
    targets = []
    for rule in workflow.rules:
        staged = rule.output and "local" not in getattr(rule.output[0], "flags", {})
        if staged and rule.wildcard_names <= values.keys():
            pattern = workflow.pathvars.apply(query(rule.output[0]))
            names = sorted(rule.wildcard_names)
            targets += [fill(pattern, dict(zip(names, row, strict=True))) for row in rows(values, names)]
    return targets


def rows(values: dict, names: list[str]) -> list[tuple]:
    """Every combination of the values of these wildcards."""
    combined = [()]
    for name in names:
        combined = [(*row, value) for row in combined for value in values[name]]
    return combined


def fill(pattern: str, wildcards: dict) -> str:
    """A path with its wildcards, with or without a constraint, replaced."""
    return re.sub(r"\{\s*(\w+)[^{}]*(?:\{[^{}]*\}[^{}]*)*\}", lambda match: wildcards[match[1]], pattern)


def facts(job) -> dict:
    """What a job is, without where and with how much of anything it runs."""
    params = [list(job.params), dict(job.params.items())]
    return {
        "rule": job.rule.name,
        "wildcards": dict(job.wildcards_dict),
        "inputs": sorted(map(query, job.input)),
        "outputs": list(map(query, job.output)),
        "params": hashlib.sha256(repr(params).encode()).hexdigest()[:16],
    }


def query(file) -> str:
    """The path of a file; of a staged one where it is kept, not where it is worked on."""
    flags = getattr(file, "flags", {})
    return str(flags["storage_object"].query) if "storage_object" in flags else str(file)


def main() -> None:
    """Run the command and exit with 1 when the audit found a problem."""
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = sys.argv[end + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("audit").add_argument("--profiles", type=Path, default=Path("profiles"))
    commands.add_parser("plan").add_argument("profile", nargs="+")
    args = parser.parse_args(sys.argv[1:end])
    if args.command == "plan":
        print_plan(args.profile, arguments)
        return
    os.environ.pop("SNAKEMAKE_PROFILE", None)
    result = audit(args.profiles, arguments)
    print(json.dumps(result, indent=1))
    for problem in result["problems"]:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(1 if result["problems"] else 0)


if __name__ == "__main__":
    main()
