"""Check everything that a run needs: environment, plugins, config, cohort, memory, disk, scratch, locks.

    python ops/doctor.py [--configfile my.yaml] [--profile profiles/local] [--scratch DIR]

Prints one line per check: ok, warning or FAULT, the result and, unless ok, what to do. Exit status 1 if there
is a FAULT. Nothing is changed; files that test write permission are removed.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from _cohort import check_cohort, check_run  # noqa: F401 init judges by the first
from _finding import Finding, Options
from _locked import find_drifted, find_missing, read_pins
from _machine import check_disk, check_locks, check_memory, check_scratch
from _root import ROOT
from workflow.checks import find_problems
from workflow.defaults import DEFAULTS, complete_config

FORBIDDEN = {
    "keep-incomplete": "it records partial files as complete",
    "drop-metadata": "it hides what changed",
    "configfile": "a profile may not say what is computed",
    "config": "a profile may not say what is computed",
}


def check_environment(options: Options) -> Iterator[Finding]:
    """Installed packages are those of the lock."""
    found = [f"{name} {what}" for name, what in find_drifted().items()]
    found += [f"{name} missing" for name in find_missing(list_needed_packages())]
    if found:
        yield Finding("environment", "FAULT", f"not as locked: {', '.join(found)}", "run `make env`")
    else:
        yield Finding(
            "environment", "ok", f"Python {sys.version.split()[0]}, {len(read_pins())} locked packages"
        )


def list_needed_packages() -> list[str]:
    """Packages that pyproject.toml names."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("dependencies = [")[1].split("\n]")[0]
    return re.findall(r'^ *"([a-zA-Z0-9-]+)', block, flags=re.MULTILINE)


def check_plugins(options: Options) -> Iterator[Finding]:
    """The plugins of the profile can be imported, and their commands are on the PATH."""
    wanted = {"executor": options.profile.get("executor"), "storage": None}
    wanted["storage"] = options.profile.get("default-storage-provider")
    for kind, name in wanted.items():
        if name in (None, "local", "dryrun", "touch"):
            continue
        module = f"snakemake_{kind}_plugin_{name.replace('-', '_')}"
        if importlib.util.find_spec(module) is None:
            yield Finding("plugins", "FAULT", f"{module} is missing", "run `make env`")
        else:
            yield Finding("plugins", "ok", f"{kind} plugin {name}")
    if options.profile.get("executor") == "slurm":
        missing = [command for command in ("sbatch", "squeue", "scancel") if not shutil.which(command)]
        if missing:
            text = f"{', '.join(missing)} not on PATH"
            yield Finding("plugins", "FAULT", text, "log in to a submit node, or load the SLURM module")


def check_profile(options: Options) -> Iterator[Finding]:
    """The profile has no settings that change results or damage provenance."""
    bad = [key for key in FORBIDDEN if key in options.profile]
    for key in bad:
        yield Finding("profile", "FAULT", f"{options.profile_path} sets {key}: {FORBIDDEN[key]}", "remove it")
    if not bad:
        yield Finding("profile", "ok", options.profile_path)


def check_config(options: Options) -> Iterator[Finding]:
    """The config is one that a run accepts: schema, names, contrasts, files."""
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.yaml").read_text(encoding="utf-8"))
    with contextlib.chdir(options.folder):  # paths in a config are seen from where a run is started
        problems = find_problems(options.config, schema)
    for problem in problems:
        yield Finding("config", "FAULT", problem, "correct that setting (config/README.md)")
    if not problems:
        yield Finding("config", "ok", ", ".join(["config/config.yaml", *options.configfiles]))


CHECKS: list[Callable[[Options], Iterator[Finding]]] = [
    *(check_environment, check_plugins, check_profile, check_config, check_run),
    *(check_memory, check_disk, check_scratch, check_locks),
]


def read_options(folder: Path, configfiles: list[str], profile_path: str, scratch: str) -> Options:
    """The merged config and the profile. Exits with one line for a file that is missing or not YAML."""
    read_yaml(folder / DEFAULTS)  # exits where it is not the folder of the project
    config = complete_config(folder, [read_yaml(folder / name) for name in configfiles])
    found = folder / profile_path
    return Options(folder, config, configfiles, read_yaml(found / "config.yaml") or {}, profile_path, scratch)


def read_yaml(path: Path) -> dict:
    """The content of a YAML file; exits with one line if it is missing, not YAML or not a mapping."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        sys.exit(f"error: {path}: {error.strerror}; correct --configfile or --profile")
    except yaml.YAMLError as error:
        sys.exit(f"error: {path} is not YAML: {' '.join(str(error).split())}")
    if not isinstance(content, dict):
        sys.exit(f"error: {path} is {type(content).__name__}, not a mapping of settings; write key: value")
    return content


def main():
    """Run all checks and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    variables = os.environ  # `make doctor CONFIG=...`
    overlays = variables.get("CONFIG", "").split()
    parser.add_argument("--configfile", nargs="*", default=overlays, help="overlays, as for Snakemake")
    parser.add_argument("--profile", default=variables.get("PROFILE") or "profiles/local")
    parser.add_argument("--scratch", default=variables.get("SCRATCH", ""), help="temporary files, not TMPDIR")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    arguments = parser.parse_args()
    options = read_options(Path.cwd(), arguments.configfile, arguments.profile, arguments.scratch)
    findings = []
    for check in CHECKS:
        # these checks need a valid config
        if check in (check_run, check_memory, check_disk) and any(
            f.check == "config" and f.level != "ok" for f in findings
        ):
            continue
        for finding in check(options):
            findings.append(finding)
            if not arguments.json:
                print(f"{finding.level:8}{finding.check}: {finding.found}", flush=True)
                if finding.remedy:
                    print(f"{'':8}what to do: {finding.remedy}", flush=True)
    if arguments.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=1))
    sys.exit(any(finding.level == "FAULT" for finding in findings))


if __name__ == "__main__":
    main()
