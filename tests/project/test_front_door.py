"""Licence, citation, changelog, third-party licences and the files for public hosts are true."""

import datetime
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from plotly.offline import get_plotlyjs

ROOT = Path(__file__).parent.parent.parent
VENDORED = sorted(
    path
    for path in (ROOT / "scripts/report/page/vendor").iterdir()
    if path.name != "README.md" and not path.name.endswith(".LICENSE.txt")
)


def read(name: str) -> str:
    """The text of a file of the project."""
    return (ROOT / name).read_text(encoding="utf-8")


PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
CITATION = yaml.safe_load(read("CITATION.cff"))
THIRD_PARTY = read("THIRD-PARTY.md")
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.y*ml"))


def parse_releases(changelog: str) -> list[tuple[str, str]]:
    """(version, date) of the sections of a changelog, in their order; the date of Unreleased is empty.

    Raises ValueError for a section with another form of heading.
    """
    releases = []
    for heading in re.findall(r"^## (.*)$", changelog, flags=re.M):
        match = re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)|\[(Unreleased)\]", heading)
        if not match:
            raise ValueError(
                f"CHANGELOG.md: heading {heading!r}; write '[1.2.3] - 2026-01-31' or '[Unreleased]'"
            )
        releases.append((match[1] or match[3], match[2] or ""))
    return releases


def make_targets(workflow: dict) -> set[str]:
    """Targets that the steps of a GitHub workflow make, with each value of a matrix in its place."""
    targets = set()
    for job in workflow["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for step in job["steps"]:
            text = step.get("run", "")
            for name, values in matrix.items():
                place = f"${{{{ matrix.{name} }}}}"
                text = "\n".join(text.replace(place, value) for value in values) if place in text else text
            targets |= {
                name for line in re.findall(r"^\s*make (.*)$", text, flags=re.M) for name in line.split()
            }
    return targets


def test_the_licence_is_that_of_pyproject_and_citation():
    assert read("LICENSE").startswith("MIT License\n\nCopyright (c) 2026 the scohort authors\n")
    assert PROJECT["license"] == CITATION["license"] == "MIT"


def test_the_citation_has_what_the_format_asks_for_and_what_readers_need():
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["title"] == PROJECT["name"]
    assert CITATION["type"] == "software"
    assert CITATION["authors"] == [{"name": "the scohort authors"}]
    assert CITATION["message"]
    assert datetime.date.fromisoformat(CITATION["date-released"])


def test_the_version_is_the_same_everywhere():
    releases = [release for release in parse_releases(read("CHANGELOG.md")) if release[0] != "Unreleased"]
    newest = (CITATION["version"], CITATION["date-released"])
    assert releases[0] == newest
    assert PROJECT["version"] == CITATION["version"]
    assert read("workflow/VERSION").strip() == CITATION["version"]


def test_the_changelog_begins_with_what_is_not_released_and_goes_back_in_time():
    releases = parse_releases(read("CHANGELOG.md"))
    assert releases[0] == ("Unreleased", "")
    numbers = [tuple(map(int, version.split("."))) for version, _ in releases[1:]]
    assert numbers == sorted(set(numbers), reverse=True)
    dates = [datetime.date.fromisoformat(date) for _, date in releases[1:]]
    assert dates == sorted(dates, reverse=True)


def test_a_heading_of_another_form_is_refused():
    with pytest.raises(ValueError, match=r"heading '1.0.0'; write"):
        parse_releases("## [Unreleased]\n\n## 1.0.0\n")


def third_party_row(name: str) -> list[str]:
    """The cells of a library's row in THIRD-PARTY.md: name, version, licence, use, source, text."""
    (row,) = re.findall(rf"^\| {re.escape(name)} \|.*$", THIRD_PARTY, flags=re.M)
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_plotly_is_named_with_the_version_that_the_report_contains():
    (script,) = re.findall(r"^\* plotly\.js v(\S+)$", get_plotlyjs()[:200], flags=re.M)
    _, version, licence, _, source, _ = third_party_row("plotly.js")
    assert version == script
    assert licence.startswith("MIT, ")
    assert source == f"Python package `plotly` {metadata.version('plotly')}"
    assert f"npm package `plotly.js` {script}." in THIRD_PARTY


@pytest.mark.parametrize("path", VENDORED, ids=lambda path: path.name)
def test_a_vendored_file_is_named_with_its_version_and_licence(path):
    name, version = re.match(r"/\*! (\S+) (\d[\d.]*)", path.read_text(encoding="utf-8")).groups()
    row = third_party_row(name)
    assert row[1] == version
    assert row[4] == f"`{path.relative_to(ROOT)}`"
    (text,) = re.findall(r"`([^`]+)`", row[5])
    assert (ROOT / text).read_text(encoding="utf-8").startswith("The MIT License")


def test_something_is_vendored():
    assert VENDORED


def test_the_workflows_run_what_ci_runs_and_only_targets_that_exist():
    made = set().union(
        *(make_targets(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in WORKFLOWS)
    )
    assert made == set(re.findall(r"^make (\S+)$", read(".ci/run"), flags=re.M))
    assert made <= set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), flags=re.M))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_step_of_a_workflow_can_fail(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert job["defaults"]["run"]["shell"] == "bash"  # with -e and pipefail
        for step in [job, *job["steps"]]:
            assert "continue-on-error" not in step
            assert not re.search(r"\|\| *(true|:|exit 0)|set \+e|; *true$", step.get("run", ""), flags=re.M)


def test_targets_of_a_matrix_are_read():
    steps = [{"uses": "x"}, {"run": "make env\nmake ${{ matrix.target }}\necho make-believe"}]
    job = {"strategy": {"matrix": {"target": ["lint", "test"]}}, "steps": steps}
    assert make_targets({"jobs": {"check": job}}) == {"env", "lint", "test"}


def test_the_entry_of_the_workflow_catalog_is_true():
    (usage,) = yaml.safe_load(read(".snakemake-workflow-catalog.yml")).values()
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    profiles = re.findall(r"--profile (\S+?)`", usage["mandatory-flags"]["desc"])
    assert profiles == ["profiles/local", "profiles/slurm"]
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    assert usage["software-stack-deployment"]["conda"] == bool(re.search(r"^ +conda:", rules, flags=re.M))
    assert usage["report"] == bool(re.search(r"\breport\(", rules))
    # without these files the catalog does not list a workflow as one of standardized usage
    for name in (
        "workflow/Snakefile",
        "config/README.md",
        *(f"{profile}/config.yaml" for profile in profiles),
    ):
        assert (ROOT / name).is_file()
