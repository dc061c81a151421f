"""Prepare this checkout: `python3 tools/setup.py [runtime|test|lock] [--with az,node]`; `make` calls it before everything it does.

Uses the standard library only, because nothing else is there yet. Everything it installs is named, with its hashes, in requirements/ and
tests/clients/node/package-lock.json, and lands inside this folder: one virtual environment per set of packages that could not live
together. The exceptions are PostgreSQL, iproute2, SoftHSM2 and Chromium, which `test` takes from Debian when it may (root, apt-get) and does without
when not.

Each environment carries a stamp that says what it was made of. A matching stamp is trusted, so that a second run costs nothing; an
environment without one was interrupted and is made again; pip's and npm's own caches keep what was already downloaded.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = "stockade-setup.json"
OLDEST, NEWEST = (3, 11), (3, 13)
FREE_MB = {"runtime": 1000, "test": 1500, "az": 1800, "node": 700}
"""Room to ask for before starting: about twice what is installed, since pip unpacks what it has just downloaded."""


class SetupError(Exception):
    """A step cannot be done; the message tells the user what would help."""


class Report:
    """Say what is being done: a line that moves on a terminal, a few plain lines elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._anything = False

    def step(self, text: str) -> None:
        """Open a step."""
        self._clear()
        if not self._anything:
            print("Setting up; the next start will not need this.", flush=True)
        self._anything = True
        print(f"- {text}", flush=True)

    def now(self, text: str, *, keep: bool = False) -> None:
        """Show what the open step is at; without a terminal only what is worth keeping."""
        if self._live:
            width = shutil.get_terminal_size().columns
            print(f"\r\033[K    {text}"[: width + 4], end="", flush=True)
        elif keep:
            print(f"    {text}", flush=True)

    def done(self, text: str) -> None:
        """Close the open step."""
        self._clear()
        print(f"    {text}", flush=True)

    def _clear(self) -> None:
        if self._live:
            print("\r\033[K", end="", flush=True)


REPORT = Report()


# 1. The Python that everything is made with


def suitable_python() -> str:
    """Return the interpreter to build with: this one if its version is supported, else the newest supported one in PATH."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        # Inside an environment (perhaps the very one that is about to be replaced) the links lead to the interpreter it was made from.
        return sys.executable if sys.prefix == sys.base_prefix else os.path.realpath(sys.executable)
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        # Run it: version managers leave commands in PATH that only say that they are not installed.
        if found and subprocess.run([found, "-c", ""], stdout=-3, stderr=-3, check=False).returncode == 0:
            return found
    raise SetupError(
        f"Stockade needs Python 3.{OLDEST[1]} to 3.{NEWEST[1]}; this is {platform.python_version()} ({sys.executable}), and no other "
        "is in PATH. Install one (Debian: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3.11"
    )


# 2. Stamps


def digest(*parts: object) -> str:
    """Return the hash of lock files (by content, without comments: who asked for a package changes nothing) and values (by text)."""
    state = hashlib.sha256()
    for part in parts:
        text = re.sub(r"^ *#.*\n", "", part.read_text(), flags=re.MULTILINE) if isinstance(part, Path) else str(part)
        state.update(text.encode() + b"\0")
    return state.hexdigest()


def read_stamp(folder: Path) -> dict[str, str]:
    """Return what the folder was made of; nothing when it is absent, half-made or unreadable."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(folder: Path, stamp: dict[str, str]) -> None:
    """Say that the folder is complete; replaced in one step, so that it is there whole or not at all."""
    draft = folder / (STAMP + ".new")
    draft.write_text(json.dumps(stamp))
    draft.replace(folder / STAMP)


def size_mb(folder: Path) -> int:
    """Return what the folder takes on disk."""
    total = 0
    for place, _, names in os.walk(folder):
        total += sum(Path(place, name).lstat().st_blocks for name in names)
    return total * 512 // 10**6


# 3. Running programs


def run(
    command: list[str], watch: re.Pattern[str] | None = None, total: int = 0, env: dict[str, str] | None = None
) -> None:
    """Run a program, showing the lines that match `watch` as progress; all it said is shown if it fails.

    total: how many lines are going to match group `count` of the pattern.
    """
    said: list[str] = []
    count = 0
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdin=-3,
        stdout=-1,
        stderr=-2,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            said.append(line.rstrip())
            found = watch.search(line) if watch else None
            if found is None:
                continue
            if found.group("count"):
                count += 1
            if found.group("what"):
                large = re.search(r"\((\d+)\.\d MB\)", line)
                REPORT.now(
                    f"[{min(count, total)}/{total}] {found.group('what')}",
                    keep=bool(large and int(large.group(1)) >= 10),
                )
    if process.returncode != 0:
        REPORT.done("failed; it said:")
        print("\n".join("      " + line for line in said[-60:]))
        raise SetupError(f"`{Path(command[0]).name} {' '.join(command[1:4])} ...` ended with {process.returncode}.")


PIP_LINES = re.compile(
    r"(?P<count>^(Collecting|Processing|Ignoring) )"
    r"|^\s*(?P<what>(Downloading|Using cached|Building wheel) .*\S|Installing collected packages)"
)


def pip_install(folder: Path, locks: list[Path], *options: str) -> None:
    """Install exactly what the lock files name: hashes checked, nothing resolved, no build back end fetched on the side."""
    packages = sum(len(re.findall(r"^[a-z0-9].*==", lock.read_text(), re.MULTILINE)) for lock in locks)
    command = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    command += ["--progress-bar", "off", "--require-hashes", "--no-deps", "--no-build-isolation", *options]
    for lock in locks:
        command += ["--requirement", str(lock)]
    run(command, PIP_LINES, packages)


# 4. The environments


def virtual_environment(folder: Path, python: str) -> None:
    """Make an empty environment, in place of whatever is there."""
    check = subprocess.run([python, "-c", "import ensurepip, venv"], stdout=-3, stderr=-3, check=False)
    if check.returncode != 0:
        raise SetupError(
            f"{python} comes without venv and pip. Debian and Ubuntu keep them apart: apt install python3-venv"
        )
    run([python, "-m", "venv", "--clear", str(folder)])


def python_environment(
    name: str, profile: str, about: str, python: str, *, wheels_only: bool = False, models: bool = False
) -> Path:
    """Make the environment `name` of requirements/<profile>.txt, unless its stamp says that it is there."""
    folder, build = ROOT / name, ROOT / "requirements" / "build.txt"
    models_lock = ROOT / "requirements" / "models.txt"
    version = subprocess.run([python, "-VV"], capture_output=True, text=True, check=True).stdout

    def wanted(profile: str) -> str:
        return digest(
            ROOT / "requirements" / f"{profile}.txt", build, models_lock if models else "", version, str(folder)
        )

    stamp = read_stamp(folder)
    made = stamp.get("packages")
    # What the tests need holds everything that running needs.
    enough = {wanted("runtime"), wanted("test")} if profile == "runtime" else {wanted(profile)}
    if made in enough:
        return folder
    need_room(FREE_MB.get(profile, 500))
    REPORT.step(about)
    started = time.monotonic()
    (folder / STAMP).unlink(missing_ok=True)
    if not (profile == "test" and made == wanted("runtime")):
        virtual_environment(folder, python)
        pip_install(folder, [build])
    locks = [ROOT / "requirements" / f"{profile}.txt"] + ([models_lock] if models else [])
    pip_install(folder, locks, *(["--only-binary", ":all:"] if wheels_only else []))
    write_stamp(folder, {"packages": wanted(profile)})
    REPORT.done(f"{size_mb(folder)} MB in {name}, {time.monotonic() - started:.0f} s")
    return folder


def own_package(folder: Path) -> None:
    """Install this checkout itself, as links, so that `stockade` is a command; again when its description changes."""
    import tomllib

    description = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = digest(json.dumps([description["build-system"], description["project"]], sort_keys=True))
    stamp = read_stamp(folder)
    if stamp.get("project") == wanted:
        return
    REPORT.step("Stockade itself, linked to this folder")
    command = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    run([*command, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    write_stamp(folder, {**stamp, "project": wanted})
    REPORT.done(f"the command is {os.path.relpath(folder / 'bin' / 'stockade')}")


def node_clients(python: str) -> None:
    """Install Node.js and the JavaScript clients, from their own lock files and without running their install scripts."""
    about = "Node.js, from its Python package (about 65 MB to download)"
    node = python_environment(".venv-node", "node", about, python)
    clients = ROOT / "tests" / "clients" / "node"
    wanted = digest(clients / "package-lock.json", node / STAMP)
    if read_stamp(clients / "node_modules").get("packages") == wanted:
        return
    REPORT.step("JavaScript clients: @azure/identity, @azure/arm-cognitiveservices, openai (about 15 MB to download)")
    path = f"{node / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [str(node / "bin" / "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(clients)]
    run(command, env={"PATH": path})
    write_stamp(clients / "node_modules", {"packages": wanted})
    REPORT.done(f"{size_mb(clients / 'node_modules')} MB in tests/clients/node/node_modules")


def vectors(python: str) -> None:
    """Unpack the test vectors beside the environments: data alone, whose package wants libraries of an older age than ours."""
    about = "Wycheproof's test vectors, as the package crypto-condor carries them (about 60 MB to download)"
    python_environment(".venv-vectors", "vectors", about, python, wheels_only=True)


def postgresql_programs() -> Path | None:
    """Return the folder of PostgreSQL's server programs (`initdb`, `postgres`), or None when it is not installed."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@functools.cache
def network_namespaces() -> Path | None:
    """Return `ip` when this user may make network namespaces with it, else None."""
    found = shutil.which("ip")
    if found is None or os.geteuid() != 0 or not sys.platform.startswith("linux"):
        return None
    name = f"sk-probe-{os.getpid()}"
    made = subprocess.run([found, "netns", "add", name], stdout=-3, stderr=-3, timeout=20, check=False).returncode == 0
    subprocess.run([found, "netns", "delete", name], stdout=-3, stderr=-3, timeout=20, check=False)
    return Path(found) if made else None


def system_packages() -> None:
    """Take PostgreSQL, iproute2, SoftHSM2 and Chromium from Debian when absent and allowed; else their tests say that they did not run."""
    absent = [] if postgresql_programs() else ["postgresql"]
    absent += [] if shutil.which("ip") else ["iproute2"]
    absent += [] if shutil.which("softhsm2-util") else ["softhsm2"]
    absent += [] if shutil.which("chromium") else ["chromium"]
    if not absent or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    REPORT.step(f"{' and '.join(absent)}, from the system's package archive (about 50 MB to download)")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(["apt-get", "update", "--quiet"], env=quiet)
        run(["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *absent], env=quiet)
    except SetupError as error:
        REPORT.done(f"{error} Going on without; the tests that need {' and '.join(absent)} cannot run.")
        return
    REPORT.done("installed")


def need_room(megabytes: int) -> None:
    """Refuse to start what would fill the disk."""
    free = shutil.disk_usage(ROOT).free // 10**6
    if free < megabytes:
        raise SetupError(f"{free} MB are free in {ROOT}; this step wants {megabytes} MB.")


# 5. What each command needs


def prepare(profile: str, extras: list[str], python: str) -> None:
    """Bring the checkout to the state that the profile asks for."""
    if profile == "lock":
        python_environment(".venv-tools", "tools", "uv, which writes the lock files (about 20 MB to download)", python)
        return
    about = {
        "runtime": "Python packages and the built-in models (about 230 MB to download)",
        "test": "Python packages, the built-in models, test tools and Azure's clients (about 270 MB to download)",
    }[profile]
    own_package(python_environment(".venv", profile, about, python, wheels_only=True, models=True))
    if profile == "test":
        python_environment(".venv-sslyze", "sslyze", "sslyze, which examines TLS (about 15 MB to download)", python)
        vectors(python)
        system_packages()
    if "az" in extras:
        about = "The az command line, in an environment of its own (about 45 MB to download, 750 MB installed, several minutes)"
        python_environment(".venv-az", "az", about, python)
    if "node" in extras:
        node_clients(python)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Prepare this checkout; `make` calls it.")
    parser.add_argument("profile", nargs="?", choices=["runtime", "test", "lock"], default="runtime")
    parser.add_argument("--with", dest="extras", default="", metavar="az,node", help="clients that are large")
    arguments = parser.parse_args()
    extras = [name for name in arguments.extras.split(",") if name]
    if set(extras) - {"az", "node"}:
        parser.error("--with takes az and node")
    try:
        python = suitable_python()
        if not OLDEST <= sys.version_info[:2] <= NEWEST:
            os.execv(python, [python, *sys.argv])
        # Two at once (`make up` beside `make test`) would build the same folder twice; the second waits, then finds the stamp.
        with Path(__file__).open() as script:
            try:
                fcntl.flock(script, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("Another set-up is at work in this folder; waiting for it.", flush=True)
                fcntl.flock(script, fcntl.LOCK_EX)
            prepare(arguments.profile, extras, python)
    except SetupError as error:
        print(f"\nSet-up stopped. {error}\nThe same command again goes on from what is finished.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSet-up interrupted. The same command again goes on from what is finished.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
