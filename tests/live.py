"""A real server of this test run: its own process tree, data directory and ports, reached over real TLS by unmodified clients.

`live` is one server for the whole run, started at its first use, with two workers on the data plane so that "at the next request" means
on either of them. Tests that would spoil it for others start their own with `running`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.outside import ROOT

START_LIMIT_S = 60
STOP_LIMIT_S = 40
COMMAND_LIMIT_S = 60
READY = "Ctrl-C ends it."
"""How the screen of a started server begins."""


@dataclass(frozen=True)
class Live:
    """Tell how to reach a running server."""

    environment: Mapping[str, str]
    """What `stockade env` prints for it, and STOCKADE_DATA_DIR."""
    data_dir: Path
    pid: int
    """Of the supervisor."""

    def account(self, name: str) -> Mapping[str, str]:
        """Return what `stockade env --account NAME` prints."""
        found: dict[str, str] = json.loads(self.stockade("env", "--account", name, "--format", "json"))
        return found

    def stockade(self, *arguments: str, fails: int = 0) -> str:
        """Run the command line and return what it printed; fails: the exit code it must end with."""
        return _stockade(self.data_dir, *arguments, fails=fails)

    def log(self) -> str:
        """Return what the server has written to its log."""
        return (self.data_dir / "server.log").read_text()


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("live") / "data") as server:
        yield server
        # No request of the whole run, refused or not, may have met a bug.
        assert "Traceback" not in server.log(), server.log()[-8000:]


@contextlib.contextmanager
def running(data_dir: Path, *, workers: int = 2, environment: Mapping[str, str] | None = None) -> Iterator[Live]:
    """Start a server as `make up` does, wait for its screen, and end it with Ctrl-C, which it must survive with dignity."""
    data_dir.mkdir(mode=0o700)
    ports = [str(port) for port in free_ports(3)]
    names = ("--data-port", "--control-port", "--metadata-port")
    options = [text for name, port in zip(names, ports, strict=True) for text in (name, port)]
    with (data_dir / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stockade", "up", "--workers", str(workers), "--data-dir", str(data_dir), *options],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        screen = _read_screen(process)
        assert READY in screen, (
            f"it did not start; it printed {screen!r} and said\n{(data_dir / 'server.log').read_text()[-8000:]}"
        )
        found: dict[str, str] = json.loads(_stockade(data_dir, "env", "--format", "json"))
        yield Live({**found, "STOCKADE_DATA_DIR": str(data_dir)}, data_dir, process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            status = process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()
    assert status == 0, f"ended with {status}\n{(data_dir / 'server.log').read_text()[-8000:]}"


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now. They are all held before any is let go, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _read_screen(process: subprocess.Popen[str]) -> str:
    """Return what is printed up to the line that says that the server runs, or to the end of the output."""
    too_late = threading.Timer(START_LIMIT_S, process.kill)
    too_late.start()
    lines = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if READY in line:
                break
    finally:
        too_late.cancel()
    return "".join(lines)


def _stockade(data_dir: Path, *arguments: str, fails: int = 0) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "stockade", *arguments],
        cwd=ROOT,
        env={**os.environ, "STOCKADE_DATA_DIR": str(data_dir), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    assert result.returncode == fails, (
        f"`stockade {' '.join(arguments)}` ended with {result.returncode}: {result.stderr}"
    )
    return result.stdout
