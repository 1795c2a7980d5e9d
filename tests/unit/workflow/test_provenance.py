"""What is said about the commit of a folder, and about the config and profile of a run."""

import subprocess

import pytest

from workflow import provenance

IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org")


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit of one file in the folder `rules`."""
    folder = tmp_path.resolve() / "repository"
    (folder / "rules").mkdir(parents=True)
    (folder / "rules/a.smk").write_text("one\n", encoding="utf-8")
    for command in (["init", "--quiet"], ["add", "--all"], [*IDENTITY, "commit", "--quiet", "-m", "base"]):
        subprocess.run(["git", "-C", folder, *command], check=True, capture_output=True)
    provenance.commit_of.cache_clear()
    return folder


def test_git_prints_or_there_is_none(repository, tmp_path, monkeypatch):
    assert provenance.git(repository, "rev-parse", "--show-toplevel") == str(repository)
    assert provenance.git(repository, "rev-parse", "nowhere") is None
    assert provenance.git(tmp_path / "nowhere", "status") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git(repository, "status") is None


def test_a_commit_is_named_with_what_differs(repository, tmp_path):
    head = provenance.git(repository, "rev-parse", "HEAD")
    assert provenance.name_commit(repository) == head
    (repository / "notes.txt").write_text("x", encoding="utf-8")
    assert provenance.name_commit(repository) == f"{head}+dirty"
    assert provenance.name_commit(repository, ".", ":!notes.txt") == head
    assert provenance.name_commit(tmp_path / "nowhere") == "unknown"


def test_only_a_repository_of_its_own_has_a_commit(repository):
    assert provenance.commit_of(repository) == provenance.git(repository, "rev-parse", "HEAD")
    assert provenance.commit_of(repository / "rules") is None  # a copy inside of another project's repository
    assert provenance.commit_of(None) is None


def test_only_code_makes_a_checkout_dirty(repository):
    (repository / "notes.txt").write_text("x", encoding="utf-8")
    assert provenance.is_dirty(repository) is False
    (repository / "rules/a.smk").write_text("two\n", encoding="utf-8")
    assert provenance.is_dirty(repository) is True
    assert provenance.is_dirty(None) is None


def test_the_digest_of_the_code_changes_with_code_only(repository):
    before = provenance.code_sha256(repository)
    (repository / "rules/notes.txt").write_text("x", encoding="utf-8")
    assert provenance.code_sha256(repository) == before
    (repository / "rules/a.smk").rename(repository / "rules/b.smk")
    assert provenance.code_sha256(repository) != before
    assert provenance.code_sha256(None) is provenance.lock_sha256(None) is None
    assert provenance.lock_sha256(repository) is None


@pytest.mark.parametrize(
    ("words", "profile"),
    [
        (["--profile", "profiles/local", "--cores", "1"], "profiles/local"),
        (["--profile=slurm"], "slurm"),
        (["--cores", "1"], "of the environment"),
    ],
)
def test_the_profile_is_that_of_the_command_or_the_environment(words, profile, monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "of the environment")
    assert provenance.profile_of(["snakemake", *words]) == profile


def test_what_changes_no_published_file_is_not_in_the_published_config():
    config = {
        "qc": {"min_genes": 50},
        "pathvars": {"results": "elsewhere"},
        "publish": {"keep": 2, "counts": True},
        "differential": {"cell_types_per_job": 4, "fdr": 0.05},
    }
    published = provenance.published_config(config)
    assert published == {"differential": {"fdr": 0.05}, "publish": {"counts": True}, "qc": {"min_genes": 50}}
    assert list(published) == sorted(published)
    assert config["publish"]["keep"] == 2
