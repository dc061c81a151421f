"""What may stand in this repository, whoever adds it: names, paths, lock files, and where tests live."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.outside import ROOT

VAGUE = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}

# Written in pieces, so that this file does not find itself.
MACHINE = [
    re.compile(r"(?<![\w.~}-])/(" + "|".join(["wo" + "rk", "ro" + "ot", "Us" + "ers"]) + r")/\w"),
    re.compile(r"(?<![\w.~}-])/home/(?!user\b)\w"),
    re.compile("/tmp/" + "sk" + r"\b"),
    re.compile("/opt/" + "(pypi|wheels)"),
]
HOSTS = re.compile(
    "|".join(
        [
            "pypi" + r"\.org/simple",
            "files" + r"\.pythonhosted",
            "registry" + r"\.(npmjs|yarnpkg)",
            "artifac" + "tory",
            "--(extra-)?index" + "-url",
        ]
    )
)

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
_EXTRAS = ["postgresql", "pkcs11", "azure", "vault", "aws", "opentelemetry"]
GROUPS = {"runtime": ["dependencies", *_EXTRAS], "test": ["dependencies", *_EXTRAS, "test"]}
"""Which lists of pyproject.toml a lock file holds, where that is not the group of its own name."""


@cache
def tracked() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    ).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


def pins(lock: Path) -> dict[str, set[str]]:
    """Return the versions of each package; two where they differ between versions of Python."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([a-z0-9][a-z0-9._-]*)(?:\[[a-z0-9,._-]+\])?==([^\s;]+)", lock.read_text(), re.MULTILINE
    ):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def direct() -> dict[str, list[Requirement]]:
    """Return what pyproject.toml names, by list."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = {"dependencies": project["project"]["dependencies"]}
    lists |= project["project"]["optional-dependencies"] | project["dependency-groups"]
    return {name: [Requirement(text) for text in texts] for name, texts in lists.items()}


def test_git_knows_the_files() -> None:
    assert ROOT / "pyproject.toml" in tracked()


def test_no_file_names_this_machine_or_a_package_host() -> None:
    wrong = []
    for path in tracked():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if HOSTS.search(line) or any(pattern.search(line) for pattern in MACHINE):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert not wrong, "\n".join(wrong)


def test_no_module_has_a_vague_name() -> None:
    wrong = [path for path in tracked() if VAGUE & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}]
    assert not wrong


def test_unit_tests_mirror_the_package() -> None:
    """tests/unit/<path>/test_<file>.py tests stockade/<path>/<file>.py (or the package <file>, or __<file>__.py).

    Below tests/unit/tools and tests/unit/benchmarks the twins are those folders' files.
    """
    wrong = []
    for path in tracked():
        if path.is_relative_to(ROOT / "tests" / "unit") and path.name.startswith("test_"):
            twin = path.relative_to(ROOT / "tests" / "unit").with_name(path.name.removeprefix("test_"))
            base = ROOT if twin.parts[0] in {"tools", "benchmarks"} else ROOT / "stockade"
            twins = [base / twin, (base / twin).with_suffix(""), (base / twin).with_name(f"__{twin.stem}__.py")]
            if not any(one.exists() for one in twins):
                wrong.append(f"{path.relative_to(ROOT)} has no {(base / twin).relative_to(ROOT)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_lock_file_pins_everything_by_hash_and_names_no_place(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-|@|\.|/)(?!-hash=sha256:)", text, re.MULTILINE), "an option or a path"
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+(\[[a-z0-9,._-]+\])?==\S", entry), entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry.splitlines()[0]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_lock_file_holds_what_the_project_asks_for(lock: Path) -> None:
    pinned, lists = pins(lock), direct()
    for requirement in (one for name in GROUPS.get(lock.stem, [lock.stem]) for one in lists[name]):
        versions = pinned.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement.name} is not in {lock.name}: make lock"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: make lock"


def test_every_group_has_a_lock_file() -> None:
    assert {lock.stem for lock in LOCKS} == set(direct()) - {"dependencies", *_EXTRAS} | {"runtime"}


def test_tests_run_on_the_versions_that_users_run() -> None:
    users, tests = pins(ROOT / "requirements" / "runtime.txt"), pins(ROOT / "requirements" / "test.txt")
    assert {name: tests.get(name) for name in users} == users


def test_npm_lock_files_carry_integrity_and_no_host() -> None:
    locks = [path for path in tracked() if path.name == "package-lock.json"]
    assert locks
    for path in locks:
        for name, package in json.loads(path.read_text())["packages"].items():
            assert "resolved" not in package, (
                f"{path.relative_to(ROOT)}: {name} (npm install --omit-lockfile-registry-resolved)"
            )
            assert not name or package.get("integrity", "").startswith("sha512-"), f"{path.relative_to(ROOT)}: {name}"


def test_every_direct_dependency_is_explained() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    explained = re.findall(r"^\| *`([^`]+)` *\| *[^|\s][^|]*\| *[^|\s][^|]*\|$", text, re.MULTILINE)
    names = {canonicalize_name(one.name) for requirements in direct().values() for one in requirements}
    names |= set(json.loads((ROOT / "tests" / "clients" / "node" / "package.json").read_text())["dependencies"])
    assert sorted(names) == sorted(set(explained)), "docs/dependencies.md and pyproject.toml disagree"
    assert len(explained) == len(set(explained))
