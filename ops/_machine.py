"""The doctor's checks of the machine: memory, disk, scratch and locks."""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import yaml

from _cohort import measure_cohort
from _finding import Finding, Options
from _root import ROOT

RESULTS_PER_COHORT = 3.0  # bytes of results per byte of the cohort: shards (1 to 2), tables, a margin
LEAST_RESULTS_MB = 500


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
