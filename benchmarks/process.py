"""Start servers pinned to a core, wait until they answer, and end them with their children."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.install import NotMeasuredError
from benchmarks.measure import running, tree
from benchmarks.workload import Request

_END_S = 10


def free_port() -> int:
    """Pick a loopback port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def started(
    command: Sequence[str],
    *,
    core: int,
    log: Path,
    environment: Mapping[str, str] | None = None,
    stdout: int | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run a server pinned to one core for the length of the block, its output going to `log`; end its whole tree afterwards."""
    with log.open("w") as output:
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(core), *command],
            stdin=subprocess.DEVNULL,
            stdout=output if stdout is None else stdout,
            stderr=output,
            env={**os.environ, **(environment or {})},
            text=True,
            cwd=log.parent,
        )
    try:
        yield process
    finally:
        family = [member.pid for member in tree(running(), process.pid)]
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        ours = {member.pid for member in running()} & set(family)
        for pid in ours - {process.pid}:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        if process.stdout is not None:
            process.stdout.close()


def wait_until_open(ports: Sequence[int], process: subprocess.Popen[str], log: Path, *, timeout_s: float) -> None:
    """Wait until the server accepts connections on all `ports`; raise `NotMeasuredError` when it dies or takes too long."""
    deadline = time.monotonic() + timeout_s
    waiting = list(ports)
    while waiting:
        if time.monotonic() > deadline or process.poll() is not None:
            raise NotMeasuredError(f"it did not start; its log ends: {_tail(log)}")
        try:
            socket.create_connection(("127.0.0.1", waiting[0]), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            waiting.pop(0)


def wait_until_right(request: Request, process: subprocess.Popen[str], log: Path, *, timeout_s: float) -> None:
    """Ask until the server answers 200; raise `NotMeasuredError` with the end of its log when it dies or takes too long."""
    deadline = time.monotonic() + timeout_s
    said = "nothing"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            status, body = ask(request)
        except (OSError, http.client.HTTPException) as problem:
            said = repr(problem)
        else:
            if status == 200:
                return
            said = f"{status} {body[:300]!r}"
        time.sleep(0.2)
    raise NotMeasuredError(f"it did not start: last answer {said}; its log ends: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-600:]


def ask(request: Request) -> tuple[int, bytes]:
    """Send one request and read the whole answer."""
    target = request.targets[0]
    context = ssl.create_default_context()
    # A throw-away certificate on loopback; who answers is not what is measured.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection("localhost", request.port, timeout=10, context=context)
    try:
        headers = {"Content-Type": "application/json", **target.headers}
        connection.request("POST", target.path, request.workload.body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()
