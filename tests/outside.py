"""The programs that some tests need and `pip install` alone does not bring: where each is found, and how to get it.

A test says what it needs by a marker of the same name (`@pytest.mark.postgresql`) and asks here for the path. Without the program the
test is skipped and the last lines of the run say so loudly; where `CI` is set it fails, since there a skipped test is a test nobody runs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.setup import network_namespaces, postgresql_programs

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Program:
    find: Callable[[], Path | None]
    how: str


def _in_environment(environment: str, name: str) -> Callable[[], Path | None]:
    """Look in an environment that tools/setup.py makes, then in PATH (for those who keep their own)."""

    def find() -> Path | None:
        place = ROOT / environment / "bin" / name
        found = str(place) if place.exists() else shutil.which(name)
        return Path(found) if found else None

    return find


def _chromium() -> Path | None:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    return Path(found) if found else None


def _node() -> Path | None:
    clients = ROOT / "tests" / "clients" / "node" / "node_modules"
    return _in_environment(".venv-node", "node")() if clients.is_dir() else None


def _softhsm() -> Path | None:
    """Return SoftHSM's module, where the program that makes its tokens is there too."""
    places = (
        "lib/softhsm",
        "lib/x86_64-linux-gnu/softhsm",
        "lib/aarch64-linux-gnu/softhsm",
        "lib64/pkcs11",
        "local/lib/softhsm",
    )
    found = [path for place in places if (path := Path("/usr", place, "libsofthsm2.so")).exists()]
    return found[0] if found and shutil.which("softhsm2-util") else None


def _vectors() -> Path | None:
    found = sorted((ROOT / ".venv-vectors").glob("lib/python3*/site-packages/crypto_condor/vectors"))
    return found[0] if found else None


PROGRAMS: Mapping[str, Program] = {
    "az": Program(_in_environment(".venv-az", "az"), "python3 tools/setup.py test --with az"),
    "chromium": Program(_chromium, "install Chromium (Debian: apt install chromium)"),
    "netns": Program(network_namespaces, "run as root on Linux with iproute2 (Debian: apt install iproute2)"),
    "node": Program(_node, "python3 tools/setup.py test --with node"),
    "postgresql": Program(
        postgresql_programs, "install the server programs of PostgreSQL (Debian: apt install postgresql)"
    ),
    "softhsm": Program(_softhsm, "install SoftHSM2 (Debian: apt install softhsm2)"),
    "vectors": Program(_vectors, "python3 tools/setup.py test"),
    "sslyze": Program(_in_environment(".venv-sslyze", "sslyze"), "python3 tools/setup.py test"),
}


def program(name: str) -> Path:
    """Return the program, for `postgresql` the folder of its programs, for `softhsm` its module, for `vectors` their folder.

    The test's marker has made sure that it is there.
    """
    found = PROGRAMS[name].find()
    if found is None:
        raise AssertionError(f"{name} is not here and the test carries no marker {name}; {PROGRAMS[name].how}")
    return found


def required() -> bool:
    """Return whether a missing program is a failure."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}
