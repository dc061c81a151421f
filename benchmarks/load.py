"""Put a server under a bounded closed loop with wrk, and refuse a run in which any answer was wrong."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workload import MARKER, Request, Target

_SCRIPT = Path(__file__).with_name("load.lua")

# Every server gets the same TLS: 1.3 and one cipher suite, else each would pick its own favourite.
_TLS = """\
openssl_conf = openssl
[openssl]
ssl_conf = ssl
[ssl]
system_default = client
[client]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
"""


class WrongAnswerError(Exception):
    """A server answered something else than what was asked of it, or did not answer: its numbers would mean nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """Hold what the clients saw: right answers, wall seconds from first request to last answer, latencies."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float


@dataclass(frozen=True, slots=True)
class Generator:
    """Drive wrk.

    `command` starts it, pinned; `environment` is what it needs beyond ours; `drain_s` bounds the time that requests already under way
    may take once the window is over.
    """

    command: Sequence[str]
    environment: dict[str, str]
    drain_s: int = 30

    def run(self, request: Request, seconds: float) -> Load:
        """Ask `request` over keep-alive connections for `seconds`, then wait for what is under way."""
        workload = request.workload
        with tempfile.TemporaryDirectory() as folder:
            question = Path(folder, "request")
            question.write_text("".join([f"{workload.body}\n", *map(_target, request.targets)]))
            tls = Path(folder, "openssl.cnf")
            tls.write_text(_TLS)
            environment = {**os.environ, **self.environment, "OPENSSL_CONF": str(tls)}
            limit_s = int(seconds) + 1 + self.drain_s
            finished = subprocess.run(
                [
                    *self.command,
                    "--threads=1",
                    f"--connections={workload.connections}",
                    f"--duration={limit_s}s",
                    f"--timeout={limit_s}s",
                    f"--script={_SCRIPT}",
                    f"https://localhost:{request.port}",
                    "--",
                    *(str(seconds), str(workload.connections), str(workload.markers), MARKER),
                    "data: [DONE]" if workload.streamed else "-",
                    str(question),
                ],
                capture_output=True,
                text=True,
                check=False,
                env=environment,
                timeout=limit_s + 10,
            )
        return read(finished.stdout, finished.stderr, workload.connections)


def _target(target: Target) -> str:
    headers = {"Content-Type": "application/json", **target.headers}
    return "".join(f"{line}\n" for line in [target.path, *(f"{name}: {value}" for name, value in headers.items()), ""])


def read(output: str, complaint: str, connections: int) -> Load:
    """Read what the script printed; raise `WrongAnswerError` unless every connection ended cleanly with right answers only."""
    line = next((line for line in output.splitlines() if line.startswith("@")), None)
    if line is None:
        raise WrongAnswerError(f"wrk said nothing of its run: {(complaint or output).strip()[-400:]}")
    said = json.loads(line[1:])
    faults = {name: said[name] for name in ("wrong", "socket_errors") if said[name]}
    if said["parked"] != connections:
        faults["unfinished"] = connections - said["parked"]
    if faults or not said["right"]:
        raise WrongAnswerError(f"{faults or 'no answer'}: {complaint.strip()[:800]}")
    return Load(said["right"], said["seconds"], said["p50_us"], said["p99_us"])
