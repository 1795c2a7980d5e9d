"""What the pages promise: commands run, configs are accepted, steps and files are where they are said to be.

Every block of commands (fenced as bash or sh, or indented) of every page is executed in a finished run of the
tiny demo, or stands in NOT_RUN with the reason. `snakemake` plans instead of running (--dry-run), and so does
`make` (--dry-run: the target exists, its command is formed), except for the targets in MADE.
workflow/RUNBOOK.md has a test of its own.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
FOLDERS = ("bench", "config", "results", "tests", "tests/oracle")
PAGES += [ROOT / folder / "README.md" for folder in FOLDERS]
NEW_STEP = ROOT / "docs/develop/add_a_step.md"
NOT_RUN = {  # how the block begins -> why it is not executed
    "curl -sI https://": "needs a network",
    "snakemake --profile profiles/local -- results/sex_check": "test_a_new_step_is_added runs it",
}
MADE = ("help", "init", "predict")  # targets that are cheap enough to be made
PROGRAMS = (
    "make|snakemake|source|export|curl|python|cut|awk|tail|column|printf|mkdir|sed|git|cp|pip|bash|sbatch"
)
FENCED = r"^```(?P<kind>bash|sh|yaml|python)\n(?P<fenced>(?:(?!```).*\n)*)```$"
BLOCK = re.compile(rf"{FENCED}|(?P<indented>(?:^    (?:{PROGRAMS}) .*\n)+)", flags=re.M)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(kind, text) of the page's blocks in order; sh and indented commands count as bash."""
    found = []
    for match in BLOCK.finditer(page.read_text()):
        if match["indented"]:
            found.append(("bash", re.sub("^    ", "", match["indented"], flags=re.M)))
        else:
            found.append(("bash" if match["kind"] == "sh" else match["kind"], match["fenced"]))
    return found


def overlay_before(page: Path, number: int) -> str:
    """The page's last block of YAML before a block: what its my.yaml holds."""
    texts = [text for kind, text in blocks(page)[:number] if kind == "yaml" and is_overlay(text)]
    return texts[-1] if texts else "{}\n"


def is_overlay(text: str) -> bool:
    """Whether a block holds settings that config/config.yaml knows; those of a new step are tested below."""
    return set(yaml.safe_load(text)) <= set(yaml.safe_load((ROOT / "config/config.yaml").read_text()))


COMMANDS = {
    f"{page.relative_to(ROOT)} {number}: {text.splitlines()[0][:60]}": (page, number, text)
    for page in PAGES
    for number, (kind, text) in enumerate(blocks(page))
    if kind == "bash"
}
OVERLAYS = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, (kind, text) in enumerate(blocks(page))
    if kind == "yaml" and is_overlay(text)
]


@pytest.fixture(scope="module")
def copy(tiny_run, tmp_path_factory):
    """A finished run with a cohort, gene sets and a config of one's own, as the pages assume."""
    copy = tiny_run.clone(tmp_path_factory.mktemp("docs") / "scohort")
    shutil.copy(copy.folder / "results/simulate/cohort.h5ad", copy.folder / "my_cohort.h5ad")
    onek1k = copy.folder / "config/onek1k.yaml"  # the page says: put the number behind `size:`
    onek1k.write_text(onek1k.read_text().replace("size: null", "size: 4000000000"))
    done = run(copy.folder, "python ops/init.py my_cohort.h5ad --yes")
    assert done.returncode == 0, done.stdout
    shutil.copy(copy.folder / "my_cohort.yaml", copy.folder / "my_cohort.first")
    return copy


def run(folder: Path, text: str) -> subprocess.CompletedProcess:
    """A block of commands in bash, with the environment's programs first and no terminal."""
    path = f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def planned(text: str) -> str:
    """The block with snakemake planning only, and make only saying what it would do, but for MADE."""
    text = re.sub(r"^snakemake (?!.*--dry-run)", "snakemake --dry-run ", text, flags=re.M)
    return re.sub(rf"^make (?!(?:{'|'.join(MADE)})\b)", "make --dry-run ", text, flags=re.M)


def provide(folder: Path, overlay: str) -> None:
    """Write my.yaml, and the gene sets that it names."""
    (folder / "my.yaml").write_text(overlay)
    for name in {"hallmark.gmt", "my_sets.gmt", *(yaml.safe_load(overlay).get("gene_sets") or [])}:
        (folder / name).write_text("SET\tsource\tNFKBIA\tKLF6\n")


def test_most_pages_have_commands_and_every_exception_is_one():
    assert len(COMMANDS) >= 25
    for start in NOT_RUN:
        assert any(text.startswith(start) for _, _, text in COMMANDS.values()), f"{start!r} is on no page"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_of_the_pages_work(copy, name):
    page, number, text = COMMANDS[name]
    if any(text.startswith(start) for start in NOT_RUN):
        return  # the reason stands there, and the test above holds that the list is no longer than that
    provide(copy.folder, overlay_before(page, number))
    written = copy.folder / "my_cohort.yaml"
    if "make init" in text:
        written.unlink(missing_ok=True)
    else:
        shutil.copy(copy.folder / "my_cohort.first", written)
    text = text.replace("/path/on/each/node", str(copy.folder)).replace("/scratch/me", str(copy.folder))
    done = run(copy.folder, planned(text))
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Traceback" not in done.stdout
    if "make init" in text:
        assert yaml.safe_load(written.read_text())["load"]["donor"] == "donor_id"


@pytest.mark.parametrize("text", OVERLAYS)
def test_the_configs_of_the_pages_are_accepted(copy, text):
    """The workflow's own checks of keys, names, formulas and files, as before every run."""
    provide(copy.folder, text)
    done = run(copy.folder, "snakemake --list-rules --configfile my.yaml")
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_new_step_is_added_as_the_page_says(tiny_run, tmp_path):
    """The blocks of NEW_STEP, put where the lines above them say; the step runs and finds the sexes."""
    copy = tiny_run.clone(tmp_path / "scohort")
    page = NEW_STEP.read_text(encoding="utf-8")
    pieces = re.findall(
        r"`([\w/]+\.(?:py|smk|yaml))`[^`]*?(?:`[^`]*`[^`]*?)*?```(?:python|yaml)\n(.*?)```", page, re.S
    )
    places = [place for place, _ in pieces]
    assert places == [
        *("scripts/donors/sex_check.py", "rules/donors.smk", "config/config.yaml"),
        *("workflow/schemas/config.yaml", "workflow/resources.yaml"),
    ]
    for place, text in pieces:
        with open(copy.folder / place, "a") as file:
            file.write(("\n\n" if place.endswith(".smk") else "") + text)
    done = run(copy.folder, "snakemake --profile profiles/local -- results/sex_check/samples.tsv")
    assert done.returncode == 0, done.stdout[-3000:]
    samples = (copy.folder / "results/sex_check/samples.tsv").read_text().splitlines()
    assert samples[0].split("\t") == ["sample", "sex", "xist", "rps4y1", "agrees"]
    assert len(samples) == 13
    agree = sum(line.endswith("\tTrue") for line in samples)
    assert agree >= 11  # sexes are planted; one of these small samples has five counts of either gene
    assert f"sex_check: {agree} of 12 samples agree" in done.stdout


def test_every_file_of_a_run_is_on_its_page_and_every_file_of_the_page_is_made(tiny_run):
    """docs/files.md against the results, with names of wildcards and lists of endings resolved."""
    text = (ROOT / "docs/files.md").read_text()
    promised = set()
    for row in re.findall(r"^\| (`.*?) \|", text, flags=re.M):
        names = re.findall(r"`([^`]+)`", row)
        first = Path(names[0])
        for name in names:
            if name.startswith("."):  # another ending
                name = str(first.with_name(first.name.partition(".")[0] + name))
            elif "/" not in name:  # beside the first
                name = str(first.with_name(name))
            promised.add(name)
    patterns = {
        name: re.compile(
            re.sub(r"\\\{\w+\\\}", "[^/]+?", re.escape(name)) + (".*" if name.endswith("/") else "")
        )
        for name in promised
    }
    results = tiny_run.folder / "results"
    made = {str(file.relative_to(results)) for file in results.rglob("*") if file.is_file()}
    made = {name for name in made if not Path(name).name.startswith(".")}
    unknown = {name for name in made if not any(pattern.fullmatch(name) for pattern in patterns.values())}
    assert not unknown, "not in docs/files.md"
    elsewhere = ("fetch/", "sweep/")  # made by other runs
    never = {name for name, pattern in patterns.items() if not any(map(pattern.fullmatch, made))}
    assert {name for name in never if not name.startswith(elsewhere)} == set(), (
        "in docs/files.md and never made"
    )


def test_every_job_states_its_result(tiny_run):
    """One line each in results/run/results.txt, the last of the job's log."""
    results = tiny_run.folder / "results"
    found = (results / "run/results.txt").read_text().splitlines()
    assert len(found) == len(list((results / "benchmarks").rglob("*.perf.json")))
    assert [line for line in found if line.endswith(": done")] == []
    steps = [line.partition(":")[0] for line in found if not line.startswith("provenance: ")]  # at any time
    assert steps[:2] == ["simulate", "load"]
    for shard in ("00", "01"):
        (line,) = [line for line in found if line.startswith(f"qc {shard}: ")]
        log = (results / f"logs/qc/{shard}.log").read_text().splitlines()
        assert line.replace(f"qc {shard}: ", "result: ") == log[-1]


def test_links_of_the_pages_lead_somewhere():
    for page in [*PAGES, *ROOT.glob("workflow/R*.md")]:
        for target, heading in re.findall(
            r"\]\((?!https?:)([^)#]+)(?:#([^)]+))?\)", page.read_text(encoding="utf-8")
        ):
            place = (page.parent / target).resolve()
            assert place.exists(), f"{page.relative_to(ROOT)}: {target}"
            assert not heading or heading in anchors(place), f"{page.relative_to(ROOT)}: {target}#{heading}"


def anchors(page: Path) -> set[str]:
    """The anchors that code hosts give to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_make_help_groups_every_target_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    said = re.findall(r"^([a-z-]+):.*## ", makefile, flags=re.M)
    shown = run(ROOT, "make --no-print-directory help").stdout
    listed = re.findall(r"^  ([a-z-]+) ", shown, flags=re.M)
    groups = re.findall(r"^([A-Z].*)$", shown, flags=re.M)
    assert listed == said
    assert len(groups) >= 4
    assert shown.index("Analyse") < shown.index("  run ") < shown.index("  init ") < shown.index("\nTest")


def test_targets_that_pages_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    for page in [*PAGES, *ROOT.glob("workflow/R*.md")]:
        named = set(re.findall(r"`make ([a-z-]+)", page.read_text()))
        assert named <= targets, f"{page.relative_to(ROOT)}: {named - targets}"
