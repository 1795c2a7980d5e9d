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
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml
from snakemake.utils import update_config

from _locked import find_drifted, find_missing, read_pins
from _root import ROOT
from cohort import list_files
from job import InputError
from workflow.checks import find_problems

FORBIDDEN = {
    "keep-incomplete": "it records partial files as complete",
    "drop-metadata": "it hides what changed",
    "configfile": "a profile may not say what is computed",
    "config": "a profile may not say what is computed",
}
RESULTS_PER_COHORT = 3.0  # bytes of results per byte of the cohort: shards (1 to 2), tables, a margin
LEAST_RESULTS_MB = 500


class Finding(NamedTuple):
    """The result of one check; level is ok, warning or FAULT, remedy is empty if ok."""

    check: str
    level: str
    found: str
    remedy: str = ""


class Options(NamedTuple):
    """The run to check."""

    folder: Path  # working directory of the run
    config: dict
    configfiles: list[str]
    profile: dict
    profile_path: str
    scratch: str


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


def check_cohort(options: Options) -> Iterator[Finding]:
    """Labels, genes and the place of the counts fit the settings of `load`; counts are not read in full."""
    settings, path = options.config["load"], options.config["cohort"]["path"]
    if not path:
        source = "is downloaded first" if options.config["cohort"]["url"] else "the demo is simulated"
        yield Finding("cohort", "ok", f"not checked: {source}")
        return
    from cohort.load import describe_cohort
    from job import CorruptedInput, classify

    try:
        with contextlib.chdir(options.folder):
            files = [str(file) for file in list_files(Path(path))]
            found = describe_cohort(files, **{key: settings[key] for key in settings})
    except CorruptedInput as error:
        yield Finding("cohort", "FAULT", str(error), "get the file again and compare its size or sha256")
    except InputError as error:
        yield Finding("cohort", "FAULT", str(error), "correct the setting that is named")
    except (OSError, KeyError, ValueError) as error:
        found = classify(error)
        yield Finding("cohort", "FAULT", f"{path}: {found.category}: {found.evidence}", "is the file whole?")
    else:
        what = (
            f"{len(found.usable):,} of {len(found.cells):,} cells usable, {len(found.genes):,} genes, "
            f"{len(found.samples):,} samples"
        )
        yield Finding("cohort", "ok", f"{what}; counts from {found.sources[0].place}")


def measure_cohort(options: Options) -> float:
    """Size of the cohort in MB: of the files, the download or the demo."""
    setting = options.config["cohort"]
    if setting["path"]:
        try:
            with contextlib.chdir(options.folder):
                files = list_files(Path(setting["path"]))
                return sum(file.stat().st_size for file in files if file.is_file()) / 2**20
        except InputError:  # said by the check of the cohort
            return 0.0
    if setting["url"]:
        return (setting["size"] or 0) / 2**20
    demo = options.config["simulate"]
    return demo["donors"] * demo["cells_per_donor"] * demo["genes"] / 1e6  # about a byte per cell and gene


def check_memory(options: Options) -> Iterator[Finding]:
    """The largest request that workflow/resources.yaml predicts fits this machine."""
    if options.profile.get("executor", "local") != "local":
        yield Finding("memory", "ok", f"each job asks the {options.profile['executor']} executor for its own")
        return
    model = yaml.safe_load((ROOT / "workflow/resources.yaml").read_text(encoding="utf-8"))
    whole, shards = measure_cohort(options), options.config["load"]["shards"]
    size = {"qc": whole / shards, "doublets": whole / shards, "load": whole}
    size |= {"preprocess": whole, "markers": whole, "pseudobulk": whole}
    need = {
        step: model[step]["mem_mb"] + model[step]["mem_mb_per_input_mb"] * mb for step, mb in size.items()
    }
    step = max(need, key=need.get)
    has = measure_memory()
    text = f"{step} will ask for {need[step]:,.0f} MB of {has:,.0f}"
    if need[step] > has:
        remedy = "raise load.shards" if step in ("qc", "doublets") else "use a machine or profile with more"
        yield Finding("memory", "FAULT", text, remedy)
    else:
        yield Finding("memory", "ok", text)


def measure_memory() -> float:
    """Memory of the machine in MB, or the limit of its control group."""
    limits = [psutil.virtual_memory().total]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if Path(path).exists() and (limit := Path(path).read_text(encoding="utf-8").strip()).isdigit():
            limits.append(int(limit))
    return min(limits) / 2**20


def check_disk(options: Options) -> Iterator[Finding]:
    """The results fit on their disk, and files can be written and renamed there."""
    results = options.folder / options.config.get("pathvars", {}).get("results", "results")
    place = next(folder for folder in (results, *results.parents) if folder.exists())
    free, need = (
        shutil.disk_usage(place).free / 2**20,
        LEAST_RESULTS_MB + RESULTS_PER_COHORT * measure_cohort(options),
    )
    if free < need:
        text = f"{free:,.0f} MB free at {place}, about {need:,.0f} needed"
        yield Finding("disk", "FAULT", text, "free some, or set pathvars.results to another disk")
    else:
        yield Finding("disk", "ok", f"{free:,.0f} MB free at {place}, about {need:,.0f} needed")
    yield from check_writable("results", place, "give yourself write permission, or set pathvars.results")


def check_scratch(options: Options) -> Iterator[Finding]:
    """Temporary and staging folders can be written."""
    remedy = "set TMPDIR, or the prefix in the profile, to a folder that you may write"
    prefixes = {"TMPDIR": options.scratch or tempfile.gettempdir()}
    for key in ("local-storage-prefix", "remote-job-local-storage-prefix"):
        if key in options.profile:
            prefixes[key] = os.path.expandvars(str(options.profile[key]))
    for key, prefix in prefixes.items():
        if "$" in prefix:
            yield Finding(
                "scratch", "warning", f"{key}: {prefix} is known on a compute node only", "see there"
            )
            continue
        folder = Path(prefix)
        if not options.scratch or key != "TMPDIR":
            folder = next(place for place in (folder, *folder.parents) if place.exists())
        yield from check_writable(f"scratch ({key})", folder, remedy)


def check_writable(check: str, folder: Path, remedy: str) -> Iterator[Finding]:
    """A file can be written to the folder and renamed."""
    probe = folder / f".doctor-{uuid.uuid4().hex[:8]}"
    try:
        with open(probe, "w", encoding="utf-8") as handle:
            handle.write("probe")
            handle.flush()
            os.fsync(handle.fileno())
        probe.rename(probe.with_suffix(".renamed"))
        probe.with_suffix(".renamed").unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink()
        yield Finding(check, "FAULT", f"{folder} cannot be written: {error.strerror}", remedy)
    else:
        yield Finding(check, "ok", f"{folder} can be written")


def check_locks(options: Options) -> Iterator[Finding]:
    """There is no lock of a finished run, and no partial files."""
    state, running = options.folder / ".snakemake", find_runs(options.folder)
    if any((state / "locks").glob("*")) and running:
        text = f"a run is active in this folder (process {', '.join(map(str, running))})"
        yield Finding("locks", "warning", text, "wait for it; do not unlock")
    elif any((state / "locks").glob("*")):
        remedy = "if it does not run on another machine: `snakemake --profile profiles/local --unlock`"
        yield Finding("locks", "FAULT", "locked, but no run is active on this machine", remedy)
    else:
        yield Finding("locks", "ok", "no lock")
    cut_off = len(list((state / "incomplete").glob("*"))) if not running else 0
    if cut_off:
        text = f"{cut_off} outputs are incomplete"
        yield Finding(
            "partial files", "warning", text, "nothing: the profiles run them again (rerun-incomplete)"
        )


def find_runs(folder: Path) -> list[int]:
    """Process ids of Snakemake on this machine with the folder as working directory."""
    runs = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        named = any(Path(word).name == "snakemake" for word in line[:3]) or "snakemake" in line
        if named and process.info["cwd"] == str(folder.resolve()):
            runs.append(process.info["pid"])
    return runs


CHECKS: list[Callable[[Options], Iterator[Finding]]] = [
    *(check_environment, check_plugins, check_profile, check_config, check_cohort),
    *(check_memory, check_disk, check_scratch, check_locks),
]


def read_options(folder: Path, configfiles: list[str], profile_path: str, scratch: str) -> Options:
    """The merged config and the profile. Exits with one line for a file that is missing or not YAML."""
    config = {}
    for name in ["config/config.yaml", *configfiles]:
        update_config(config, read_yaml(folder / name))
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
        if check in (check_cohort, check_memory, check_disk) and any(
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
