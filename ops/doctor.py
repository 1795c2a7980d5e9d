"""Is everything there that a run needs? Environment, plugins, config, cohort, memory, disk, scratch, locks.

    python ops/doctor.py [--configfile my.yaml] [--profile profiles/local] [--scratch DIR]

Prints one line per check: ok, warning or FAULT, what was found and, unless ok, what to do. Ends with status 1
when there is a fault. Nothing is changed; the probes of folders that are written are removed again.
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

from _locked import drifted, missing, pins
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
    """The outcome of one check; level is ok, warning or FAULT, remedy empty when ok."""

    check: str
    level: str
    found: str
    remedy: str = ""


class Options(NamedTuple):
    """What is to be run, and where."""

    folder: Path  # working directory of the run
    config: dict
    configfiles: list[str]
    profile: dict
    profile_path: str
    scratch: str


def environment(options: Options) -> Iterator[Finding]:
    """Installed packages are those of the lock."""
    found = [f"{name} {what}" for name, what in drifted().items()]
    found += [f"{name} missing" for name in missing(needed_packages())]
    if found:
        yield Finding("environment", "FAULT", f"not as locked: {', '.join(found)}", "run `make env`")
    else:
        yield Finding("environment", "ok", f"Python {sys.version.split()[0]}, {len(pins())} locked packages")


def needed_packages() -> list[str]:
    """Packages that pyproject.toml names."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("dependencies = [")[1].split("\n]")[0]
    return re.findall(r'^ *"([a-zA-Z0-9-]+)', block, flags=re.MULTILINE)


def plugins(options: Options) -> Iterator[Finding]:
    """Plugins that the profile names can be imported, and the commands that they call are there."""
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
            told = f"{', '.join(missing)} not on PATH"
            yield Finding("plugins", "FAULT", told, "log in to a submit node, or load the SLURM module")


def profile(options: Options) -> Iterator[Finding]:
    """The profile says how, never what, and nothing that damages provenance."""
    bad = [key for key in FORBIDDEN if key in options.profile]
    for key in bad:
        yield Finding("profile", "FAULT", f"{options.profile_path} sets {key}: {FORBIDDEN[key]}", "remove it")
    if not bad:
        yield Finding("profile", "ok", options.profile_path)


def configuration(options: Options) -> Iterator[Finding]:
    """The config is one that a run accepts: schema, names, contrasts, files."""
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.yaml").read_text(encoding="utf-8"))
    with contextlib.chdir(options.folder):  # paths in a config are seen from where a run is started
        problems = find_problems(options.config, schema)
    for problem in problems:
        yield Finding("config", "FAULT", problem, "correct that setting (config/README.md)")
    if not problems:
        yield Finding("config", "ok", ", ".join(["config/config.yaml", *options.configfiles]))


def cohort(options: Options) -> Iterator[Finding]:
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


def cohort_mb(options: Options) -> float:
    """MB of the cohort: of the files, of the download, or of the demo."""
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


def memory(options: Options) -> Iterator[Finding]:
    """The largest request that workflow/resources.yaml predicts fits this machine."""
    if options.profile.get("executor", "local") != "local":
        yield Finding("memory", "ok", f"each job asks the {options.profile['executor']} executor for its own")
        return
    model = yaml.safe_load((ROOT / "workflow/resources.yaml").read_text(encoding="utf-8"))
    whole, shards = cohort_mb(options), options.config["load"]["shards"]
    size = {"qc": whole / shards, "doublets": whole / shards, "load": whole}
    size |= {"preprocess": whole, "markers": whole, "pseudobulk": whole}
    need = {
        step: model[step]["mem_mb"] + model[step]["mem_mb_per_input_mb"] * mb for step, mb in size.items()
    }
    step = max(need, key=need.get)
    has = available_memory()
    told = f"{step} will ask for {need[step]:,.0f} MB of {has:,.0f}"
    if need[step] > has:
        remedy = "raise load.shards" if step in ("qc", "doublets") else "use a machine or profile with more"
        yield Finding("memory", "FAULT", told, remedy)
    else:
        yield Finding("memory", "ok", told)


def available_memory() -> float:
    """MB of the machine, or what its control group allows."""
    limits = [psutil.virtual_memory().total]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if Path(path).exists() and (limit := Path(path).read_text(encoding="utf-8").strip()).isdigit():
            limits.append(int(limit))
    return min(limits) / 2**20


def disk(options: Options) -> Iterator[Finding]:
    """The results fit on their disk, and files can be renamed into place there."""
    results = options.folder / options.config.get("pathvars", {}).get("results", "results")
    place = next(folder for folder in (results, *results.parents) if folder.exists())
    free, need = (
        shutil.disk_usage(place).free / 2**20,
        LEAST_RESULTS_MB + RESULTS_PER_COHORT * cohort_mb(options),
    )
    if free < need:
        told = f"{free:,.0f} MB free at {place}, about {need:,.0f} needed"
        yield Finding("disk", "FAULT", told, "free some, or set pathvars.results to another disk")
    else:
        yield Finding("disk", "ok", f"{free:,.0f} MB free at {place}, about {need:,.0f} needed")
    yield from writable("results", place, "give yourself write permission, or set pathvars.results")


def scratch(options: Options) -> Iterator[Finding]:
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
        yield from writable(f"scratch ({key})", folder, remedy)


def writable(check: str, folder: Path, remedy: str) -> Iterator[Finding]:
    """A file can be written to disk there, and renamed."""
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


def locks(options: Options) -> Iterator[Finding]:
    """No lock of a run that is gone, no partial files."""
    state, running = options.folder / ".snakemake", running_here(options.folder)
    if any((state / "locks").glob("*")) and running:
        told = f"a run is going on in this folder (process {', '.join(map(str, running))})"
        yield Finding("locks", "warning", told, "wait for it; do not unlock")
    elif any((state / "locks").glob("*")):
        remedy = "if no other machine runs it either: `snakemake --profile profiles/local --unlock`"
        yield Finding("locks", "FAULT", "locked by a run that is gone from this machine", remedy)
    else:
        yield Finding("locks", "ok", "no lock")
    cut_off = len(list((state / "incomplete").glob("*"))) if not running else 0
    if cut_off:
        told = f"{cut_off} outputs were cut off"
        yield Finding(
            "partial files", "warning", told, "nothing: the profiles run them again (rerun-incomplete)"
        )


def running_here(folder: Path) -> list[int]:
    """Snakemake processes of this machine whose working directory is the folder."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        named = any(Path(word).name == "snakemake" for word in line[:3]) or "snakemake" in line
        if named and process.info["cwd"] == str(folder.resolve()):
            found.append(process.info["pid"])
    return found


CHECKS: list[Callable[[Options], Iterator[Finding]]] = [
    *(environment, plugins, profile, configuration, cohort, memory, disk, scratch, locks),
]


def read_options(folder: Path, configfiles: list[str], profile_path: str, scratch: str) -> Options:
    """The merged config and the profile. Exits with one line for a file that is missing or no YAML."""
    config = {}
    for name in ["config/config.yaml", *configfiles]:
        update_config(config, read_yaml(folder / name))
    found = folder / profile_path
    return Options(folder, config, configfiles, read_yaml(found / "config.yaml") or {}, profile_path, scratch)


def read_yaml(path: Path) -> dict:
    """A YAML file; exits with one line when it is missing, no YAML or no mapping."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        sys.exit(f"error: {path}: {error.strerror}; correct --configfile or --profile")
    except yaml.YAMLError as error:
        sys.exit(f"error: {path} is no YAML: {' '.join(str(error).split())}")
    if not isinstance(content, dict):
        sys.exit(f"error: {path} holds no settings, but {type(content).__name__}")
    return content


def main():
    """Run all checks and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    told = os.environ  # `make doctor CONFIG=...`
    overlays = told.get("CONFIG", "").split()
    parser.add_argument("--configfile", nargs="*", default=overlays, help="overlays, as for Snakemake")
    parser.add_argument("--profile", default=told.get("PROFILE") or "profiles/local")
    parser.add_argument("--scratch", default=told.get("SCRATCH", ""), help="temporary files, not TMPDIR")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    given = parser.parse_args()
    options = read_options(Path.cwd(), given.configfile, given.profile, given.scratch)
    findings = []
    for check in CHECKS:
        # without a config that holds, what follows from it cannot be judged
        if check in (cohort, memory, disk) and any(f.check == "config" and f.level != "ok" for f in findings):
            continue
        for finding in check(options):
            findings.append(finding)
            if not given.json:
                print(f"{finding.level:8}{finding.check}: {finding.found}", flush=True)
                if finding.remedy:
                    print(f"{'':8}what to do: {finding.remedy}", flush=True)
    if given.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=1))
    sys.exit(any(finding.level == "FAULT" for finding in findings))


if __name__ == "__main__":
    main()
