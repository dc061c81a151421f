"""Real servers: one that documentation examples and tests with real clients share, and as many of one's own as a test wants to mistreat.

`live` runs for the whole session, so tests that share it name what they make after themselves and leave the demonstration account as it is.
`live_server` starts another server, with settings and a folder of its own. Every server is stopped at the end; then it has to have ended cleanly, and
nothing that looks like a credential may stand in its log or its audit records.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.outside import ROOT

START_TIMEOUT_S = 90
STOP_TIMEOUT_S = 60
CREDENTIAL = re.compile(r"stockade_[0-9A-Za-z]{20,}|stockade~[\w-]{20,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}")
"""Subscription keys, client secrets, tokens."""


@dataclass
class Live:
    """A running server, and how to reach it. Nothing here is in this process's environment."""

    data_dir: Path
    arguments: tuple[str, ...]
    variables: Mapping[str, str]
    log_file: Path
    process: subprocess.Popen[bytes]
    environment: Mapping[str, str] = field(default_factory=dict)
    """What `stockade env` prints for it, and STOCKADE_DATA_DIR."""
    _token: tuple[str, float] = ("", 0.0)

    def account(self, name: str) -> Mapping[str, str]:
        """Return what `stockade env --account NAME` prints."""
        found: dict[str, str] = json.loads(self.stockade("env", "--account", name, "--format", "json"))
        return found

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self.process.pid

    def log(self) -> str:
        """Return what the server has written to its log."""
        return self.log_file.read_text(errors="replace")

    @property
    def arm(self) -> str:
        return self.environment["STOCKADE_ARM"]

    @property
    def authority(self) -> str:
        return self.environment["STOCKADE_AUTHORITY"]

    @property
    def data(self) -> str:
        """The data plane's origin, without a trailing slash."""
        return f"https://localhost:{self.ports[0]}"

    @property
    def metadata(self) -> str:
        return self.environment["STOCKADE_METADATA"]

    @property
    def tenant(self) -> str:
        return self.environment["STOCKADE_TENANT"]

    @property
    def subscription(self) -> str:
        return self.environment["STOCKADE_SUBSCRIPTION"]

    @property
    def resource_group(self) -> str:
        return self.environment["STOCKADE_RESOURCE_GROUP"]

    @property
    def location(self) -> str:
        return self.environment["STOCKADE_LOCATION"]

    @property
    def ca(self) -> Path:
        return Path(self.environment["STOCKADE_CA"])

    @property
    def bundle(self) -> Path:
        return Path(self.environment["REQUESTS_CA_BUNDLE"])

    @property
    def admin(self) -> tuple[str, str]:
        """The administrator's client id and secret."""
        return self.environment["STOCKADE_CLIENT_ID"], self.environment["STOCKADE_CLIENT_SECRET"]

    @property
    def group_id(self) -> str:
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"

    @property
    def ports(self) -> tuple[int, int, int]:
        """The data, control and metadata ports."""
        data, control, metadata = (int(self.arguments[self.arguments.index(flag) + 1]) for flag in _PORT_FLAGS[:3])
        return data, control, metadata

    @property
    def websocket_port(self) -> int:
        return int(self.arguments[self.arguments.index("--websocket-port") + 1])

    def account_id(self, name: str) -> str:
        return f"{self.group_id}/providers/Microsoft.CognitiveServices/accounts/{name}"

    def credential(self, client_id: str = "", client_secret: str = "") -> Any:
        """Return an azure-identity credential: the administrator's, or of the given application. Close it when done."""
        from azure.identity import ClientSecretCredential

        return ClientSecretCredential(
            self.tenant,
            client_id or self.admin[0],
            client_secret or self.admin[1],
            authority=self.authority,
            disable_instance_discovery=True,
            connection_verify=str(self.bundle),
        )

    def identity(self, name: str) -> Mapping[str, str]:
        """Create an application; return its clientId, clientSecret, objectId and tenantId."""
        created: dict[str, str] = json.loads(self.cli("identity", "create", name, "--format", "json").stdout)
        return created

    def token(self, resource: str = "https://management.azure.com") -> str:
        """Return an access token of the administrator."""
        with self.credential() as credential:
            return str(credential.get_token(f"{resource}/.default").token)

    @property
    def object_id(self) -> str:
        """The administrator's, as its token says it: others may be Owner of the same subscription by now."""
        claims = self._kept_token().split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["oid"])

    def _kept_token(self) -> str:
        """Return the administrator's token, asking for a new one now and then: most of what a request costs is the asking."""
        token, until = self._token
        if time.monotonic() >= until:
            token = self.token()
            self._token = (token, time.monotonic() + 300)
        return token

    def request(self, method: str, path: str, body: Any = None, *, token: str = "", version: str = "2025-09-01") -> Any:
        """Send one ARM request, as the administrator unless a token is given, and return the `requests` response."""
        import requests

        joint = "&" if "?" in path else "?"
        return requests.request(
            method,
            f"{self.arm}{path}{joint}api-version={version}",
            json=body,
            headers={"Authorization": f"Bearer {token or self._kept_token()}"},
            verify=str(self.bundle),
            timeout=30,
        )

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def cli(
        self, *arguments: str, check: bool = True, timeout: float = 60, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a `stockade` command against this server."""
        done = subprocess.run(
            [sys.executable, "-m", "stockade", *arguments],
            cwd=ROOT,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"stockade {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done

    def stockade(self, *arguments: str, fails: int = 0) -> str:
        """Run the command line and return what it printed; fails: the exit code it must end with."""
        done = self.cli(*arguments, check=False)
        assert done.returncode == fails, f"`stockade {' '.join(arguments)}` ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def start_again(self) -> None:
        """Start the server once more, on the same folder and ports, after `stop` or `kill`."""
        self.process = _launch(self.data_dir, self.arguments, self.variables, self.log_file)
        _await_ready(self)

    def kill(self) -> None:
        """End the supervisor without warning."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask the server to end; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_TIMEOUT_S)

    def leaks(self) -> list[str]:
        """Return the lines of the log and of the audit records that hold a credential."""
        files = [self.log_file, *sorted((self.data_dir / "audit").glob("*.jsonl"))]
        lines = [line for file in files for line in file.read_text(errors="replace").splitlines()]
        secret = self.environment.get("STOCKADE_CLIENT_SECRET", "\0")
        return [CREDENTIAL.sub("[credential]", line) for line in lines if CREDENTIAL.search(line) or secret in line]


class StartServer(Protocol):
    """Start a server of one's own.

    settings:     content of its settings.toml.
    flags:        further arguments of `stockade serve`.
    data_dir:     its folder; default: a fresh one.
    """

    def __call__(
        self,
        *flags: str,
        settings: str = "",
        data_dir: Path | None = None,
        database_url: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> Live: ...


def start(
    data_dir: Path, *flags: str, settings: str = "", database_url: str = "", variables: Mapping[str, str] | None = None
) -> Live:
    """Start a server on free ports and wait until it is ready."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings:
        file = data_dir / "settings.toml"
        file.write_text(settings)
        file.chmod(0o600)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STOCKADE_DATA_DIR": str(data_dir), **(variables or {})}
    if database_url:
        environment["STOCKADE_DATABASE_URL"] = database_url
    ports = free_ports(len(_PORT_FLAGS))
    arguments = (*(text for flag, port in zip(_PORT_FLAGS, ports, strict=True) for text in (flag, str(port))), *flags)
    log_file = data_dir.with_name(f"{data_dir.name}.log")
    live = Live(data_dir, arguments, environment, log_file, _launch(data_dir, arguments, environment, log_file))
    _await_ready(live)
    everything: dict[str, str] = json.loads(live.cli("env", "--format", "json").stdout)
    live.environment = {**everything, "STOCKADE_DATA_DIR": str(data_dir)}
    return live


def finish(live: Live) -> None:
    """Stop a server and hold it to a clean end: exit code 0, no bug met by any request, no credential written anywhere."""
    ended_before = live.process.poll()
    code = live.stop(signal.SIGINT)
    assert ended_before is not None or code == 0, f"the server ended with {code}:\n{_last_lines(live.log_file)}"
    assert "Traceback" not in live.log(), _last_lines(live.log_file)
    leaks = live.leaks()
    assert not leaks, "credentials in the log or the audit records:\n" + "\n".join(leaks[:20])


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The server that this test run shares."""
    server = start(tmp_path_factory.mktemp("live") / "data", "--workers", "2")
    yield server
    finish(server)


@pytest.fixture
def live_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers of this test's own; each is stopped, and looked at, at its end."""
    started: list[Live] = []

    def start_one(
        *flags: str,
        settings: str = "",
        data_dir: Path | None = None,
        database_url: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> Live:
        folder = data_dir or tmp_path / f"server{len(started)}"
        started.append(start(folder, *flags, settings=settings, database_url=database_url, variables=variables))
        return started[-1]

    yield start_one
    for server in started:
        finish(server)


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 30) -> Any:
    """Return the first true result of a condition that becomes true in another process; fail, naming it, when it does not."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} seconds: {what}")


_PORT_FLAGS = ("--data-port", "--control-port", "--metadata-port", "--websocket-port")


def _launch(
    data_dir: Path, arguments: tuple[str, ...], environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    with log.open("ab") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "stockade", "serve", *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )


def _await_ready(live: Live) -> None:
    def ready() -> bool:
        if live.process.poll() is not None:
            raise AssertionError(f"the server ended with {live.process.returncode}:\n{_last_lines(live.log_file)}")
        try:
            state = json.loads((live.data_dir / "run" / "serve.json").read_bytes())
        except (OSError, ValueError):
            return False
        return bool(state["pid"] == live.process.pid)

    try:
        wait_for(ready, "the server is ready", START_TIMEOUT_S)
    except AssertionError:
        live.process.kill()
        live.process.wait()
        raise


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])
