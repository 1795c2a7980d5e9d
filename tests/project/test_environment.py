"""The environment is what pyproject.toml, requirements.lock, environment.yml and .python-version agree on."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
LOCK = (ROOT / "requirements.lock").read_text()
DECLARED = [
    Requirement(line)
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
]


def pins(lock: str) -> dict[str, str]:
    """Name -> version of every pin, with its environment marker left out."""
    found = re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", lock, flags=re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def declared_in(lock: str) -> set[str]:
    """Names that the lock says come from pyproject.toml itself."""
    blocks = re.split(r"\n(?=\S)", lock)
    direct = [block for block in blocks if re.search(r"#\s+(via )?\s*scohort \(pyproject\.toml\)", block)]
    return {name for block in direct for name in pins(block)}


def test_the_lock_satisfies_every_declared_dependency():
    locked = pins(LOCK)
    for requirement in DECLARED:
        version = locked.get(canonicalize_name(requirement.name))
        assert version, f"{requirement} is not in requirements.lock; run make lock"
        assert requirement.specifier.contains(version), f"{requirement}: locked {version}; run make lock"


def test_the_lock_was_compiled_from_these_dependencies_and_no_others():
    assert declared_in(LOCK) == {canonicalize_name(requirement.name) for requirement in DECLARED}


def test_every_pin_has_a_hash_and_no_address():
    assert "://" not in LOCK
    for block in re.split(r"\n(?=\S)", LOCK):
        assert "--hash=sha256:" in block, block.splitlines()[0]


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_what_is_installed_is_what_is_locked(requirement):
    assert metadata.version(requirement.name) == pins(LOCK)[canonicalize_name(requirement.name)]


def test_conda_users_get_the_lock_on_the_same_python():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python = (ROOT / ".python-version").read_text().strip()
    assert f"python={python}" in environment["dependencies"]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["--require-hashes", "-r requirements.lock"]


def test_a_changed_declaration_would_be_noticed():
    """The parsers above read a lock as uv writes it."""
    lock = (
        "numpy==2.5.5 \\\n    --hash=sha256:00\n    # via\n    #   scohort (pyproject.toml)\n    #   scipy\n"
    )
    lock += "six==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:11\n    # via numpy"
    assert pins(lock) == {"numpy": "2.5.5", "six": "1.0"}
    assert declared_in(lock) == {"numpy"}
