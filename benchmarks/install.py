"""Fetch the servers we compare with, once, into a folder of their own; nothing is installed into the system."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

_PINS = Path(__file__).parent
CHECKOUT = _PINS.parent
_LIMIT_S = 300


class NotMeasuredError(Exception):
    """A contender cannot be measured on this machine; the message is the reason that the report prints."""


@dataclass(frozen=True, slots=True)
class Program:
    """Name an executable and what it needs in its environment."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cache:
    """Keep installed baselines below `root`; a change of their pins, or of Python, installs them anew."""

    root: Path

    def __post_init__(self) -> None:
        self.root.mkdir(exist_ok=True)
        (self.root / ".gitignore").write_text("*\n")

    def python(self, name: str) -> Path:
        """Give the `bin` folder of a virtual environment that holds `requirements-<name>.txt`, hashes checked."""
        pins = _PINS / f"requirements-{name}.txt"
        place = self.root / name
        if not self._fresh(place, pins, sys.version):
            print(f"installing {name} into {place} (from {pins.name})", flush=True)
            _run([sys.executable, "-m", "venv", "--clear", str(place)])
            pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _run([*pip, "--require-hashes", "--only-binary=:all:", "--requirement", str(pins)])
            self._done(place, pins, sys.version)
        return place / "bin"

    def node(self, name: str) -> Path:
        """Give the `node_modules` folder of the package lock in `<name>/`, integrity checked, no install scripts run."""
        if not (shutil.which("npm") and shutil.which("node")):
            raise NotMeasuredError("Node.js with npm is not installed")
        pins, place = _PINS / name, self.root / name
        if not self._fresh(place, pins / "package-lock.json", ""):
            print(f"installing {name} into {place} (from {name}/package-lock.json)", flush=True)
            place.mkdir(parents=True, exist_ok=True)
            for file in ("package.json", "package-lock.json"):
                shutil.copy(pins / file, place)
            _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder=place)
            self._done(place, pins / "package-lock.json", "")
        return place / "node_modules"

    def debian(self, name: str, *packages: str) -> Program:
        """Find a program in PATH, or unpack it from the system's own signed Debian packages, for which no root is needed."""
        found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if found:
            return Program(Path(found))
        place = self.root / name
        if not (place / ".done").exists():
            if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
                raise NotMeasuredError(f"{name} is not installed, and this is no Debian to unpack it from")
            print(f"unpacking {name} into {place} (Debian packages {', '.join(packages)})", flush=True)
            place.mkdir(parents=True, exist_ok=True)
            _run(["apt-get", "download", "-qq", *packages], folder=place)
            for package in place.glob("*.deb"):
                _run(["dpkg-deb", "-x", package.name, "."], folder=place)
            (place / ".done").touch()
        path = next((path for path in place.glob(f"usr/*bin/{name}")), None)
        if path is None:
            raise NotMeasuredError(f"{name} is not in the packages {', '.join(packages)}")
        libraries = os.pathsep.join(str(path) for path in place.glob("usr/lib/*-linux-*"))
        return Program(path, {"LD_LIBRARY_PATH": libraries} if libraries else {})

    def _fresh(self, place: Path, pins: Path, salt: str) -> bool:
        stamp = place / ".pins"
        return stamp.exists() and stamp.read_text() == _digest(pins, salt)

    def _done(self, place: Path, pins: Path, salt: str) -> None:
        (place / ".pins").write_text(_digest(pins, salt))


def _digest(pins: Path, salt: str) -> str:
    return hashlib.sha256(pins.read_bytes() + salt.encode()).hexdigest()


def _run(command: list[str], *, folder: Path | None = None) -> None:
    try:
        done = subprocess.run(
            ["nice", *command], cwd=folder, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotMeasuredError(f"{' '.join(command[:3])} took longer than {_LIMIT_S} s") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NotMeasuredError(f"{' '.join(command[:3])} failed: {' '.join(last)[:300]}")
