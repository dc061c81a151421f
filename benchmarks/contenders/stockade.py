"""Stockade itself, set up as its users would: settings file, command line, ARM, token endpoint.

Only the accounts that nobody calls are put straight into the storage.
"""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import urllib.parse
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.contenders import Place, Running
from benchmarks.install import CHECKOUT, Cache, NotMeasuredError
from benchmarks.process import ask, free_port, started, wait_until_open
from benchmarks.workload import CHAT, PACED, STREAM, WORKLOADS, Request, Target, Workload
from stockade import __version__, settings
from stockade.boot.foundation import foundation
from stockade.management.resources.cognitive_services_accounts.keys import new_keys

_ARM_VERSION = "2025-09-01"
_DATA_VERSION = "2024-10-21"
_OPENAI_USER = "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd"
_CALLED = 10
"""Accounts that are called, in turn. Together they take the whole quota of each model, so that no rate limit is reached."""
_CAPACITY = 10_000
_CREDENTIAL = {"clientId": "CLIENT_ID", "clientSecret": "CLIENT_SECRET", "tenantId": "TENANT"}
_ENVIRONMENT = {"PYTHONPATH": str(CHECKOUT)}


class Stockade:
    """The full chain of checks in front of the same backend, with a number of accounts loaded."""

    def __init__(self, accounts: int) -> None:
        self.name = f"Stockade, {accounts:,} accounts"
        self.about = (
            f"one worker, SQLite, audit log on; {accounts:,} accounts loaded, {_CALLED} of them called in turn, with keys (`key`) or as "
            f"{_CALLED} principals with a role on the resource group (`token`)"
        )
        self._accounts = accounts

    def install(self, cache: Cache) -> str:
        return __version__

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        with serving(place, [workload.name for workload in WORKLOADS]) as (process, port, installation):
            requests = installation.prepare(port, self._accounts)
            for request in requests:
                expect(200, request)
            # Its key is known and the deployment is not: so the gateway did load the last of them.
            expect(404, installation.last(port, self._accounts))
            if self._accounts > _CALLED:
                # The pace of events has nothing to do with how many accounts there are.
                requests = [request for request in requests if request.workload is not PACED]
            yield Running([process.pid], requests)


@contextmanager
def serving(place: Place, models: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], int, Installation]]:
    """Run a server with one worker and these models for the length of the block; give its process, its data port and the way to fill it."""
    data, port, control_port = place.folder / "data", free_port(), free_port()
    data.mkdir(mode=0o700)
    (data / "settings.toml").write_text(_settings(place, models))
    command = [sys.executable, "-m", "stockade", "serve", "--data-dir", str(data), "--workers", "1"]
    command += ["--data-port", str(port), "--control-port", str(control_port), "--metadata-port", str(free_port())]
    command += ["--websocket-port", "0"]
    log = place.folder / "stockade.log"
    with started([*command, "--log-level", "warning"], core=place.core, log=log, environment=_ENVIRONMENT) as process:
        wait_until_open([port, control_port], process, log, timeout_s=120)
        yield process, port, Installation(place, control_port)


def _settings(place: Place, models: Sequence[str]) -> str:
    lines = [
        "[tls]",
        f"certificate = {json.dumps(str(place.certificate.chain))}",
        f"key = {json.dumps(str(place.certificate.key))}",
    ]
    for model in models:
        lines += ["[[models]]", f'name = "{model}"', "[models.upstream]"]
        lines.append(f'url = "http://127.0.0.1:{place.backend_port}/v1"')
    return "\n".join(lines) + "\n"


class Installation:
    """What a newly started server is filled with, as its administrator."""

    def __init__(self, place: Place, control_port: int) -> None:
        command = [
            sys.executable,
            "-m",
            "stockade",
            "env",
            "--format",
            "json",
            "--data-dir",
            str(place.folder / "data"),
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
        if said.returncode:
            raise NotMeasuredError(f"`stockade env` failed: {said.stderr.strip()[-300:]}")
        self._variables: dict[str, str] = json.loads(said.stdout)
        self._data, self._port = place.folder / "data", control_port
        self._context = ssl.create_default_context(cafile=str(place.certificate.chain))
        subscription = f"/subscriptions/{self._variables['STOCKADE_SUBSCRIPTION']}"
        self._group = f"{subscription}/resourceGroups/{self._variables['STOCKADE_RESOURCE_GROUP']}"
        self._principals = f"{subscription}/providers/Stockade.Directory/principals"
        self._role = f"{subscription}/providers/Microsoft.Authorization/roleDefinitions/{_OPENAI_USER}"
        administrator = {name: self._variables[f"STOCKADE_{variable}"] for name, variable in _CREDENTIAL.items()}
        self._bearer = self._token(administrator, "https://management.azure.com/.default")

    def prepare(self, data_port: int, accounts: int) -> list[Request]:
        """Create the accounts, what is called on some of them, and who calls; give the loads to be put on them."""
        called = [_name(number) for number in range(_CALLED)]
        self._create(called)
        everything = {workload.name: workload.name for workload in WORKLOADS}
        keys = {name: self._open(name, everything) for name in called}
        tokens = [self._caller() for _ in called]
        _multiply(self._data, self._account(called[0]).lower(), called[0], map(_name, range(_CALLED, accounts)))
        loads: list[tuple[Workload, str, list[Mapping[str, str]]]] = [
            (CHAT, "key", [{"api-key": keys[name]} for name in called]),
            (CHAT, "token", [{"Authorization": f"Bearer {token}"} for token in tokens]),
            (STREAM, "key", [{"api-key": keys[name]} for name in called]),
            (PACED, "key", [{"api-key": keys[name]} for name in called]),
        ]
        return [
            Request(
                workload,
                check,
                data_port,
                tuple(target(name, workload.name, head) for name, head in zip(called, headers, strict=True)),
            )
            for workload, check, headers in loads
        ]

    def last(self, data_port: int, accounts: int) -> Request:
        """Give a load for a deployment that does not exist, on the account that was stored last."""
        name, connection = _name(accounts - 1), self._connect()
        key = self._arm("POST", f"{self._account(name)}/listKeys", {}, connection)["key1"]
        connection.close()
        return Request(CHAT, "key", data_port, (target(name, "none", {"api-key": key}),))

    def account(self, name: str, properties: Mapping[str, Any], deployments: Mapping[str, str]) -> str:
        """Create an account with these properties and deployments (name to model); give its first key."""
        self._create([name], properties)
        return self._open(name, deployments)

    def _create(self, names: Sequence[str], more: Mapping[str, Any] | None = None) -> None:
        connection = self._connect()
        for name in names:
            properties = {"customSubDomainName": name, **(more or {})}
            body = {
                "kind": "OpenAI",
                "sku": {"name": "S0"},
                "location": self._variables["STOCKADE_LOCATION"],
                "properties": properties,
            }
            self._arm("PUT", self._account(name), body, connection)
        connection.close()

    def _open(self, name: str, deployments: Mapping[str, str]) -> str:
        """Deploy models on an account and give the account's first key."""
        connection = self._connect()
        for deployment, deployed in deployments.items():
            model = {"format": "OpenAI", "name": deployed, "version": "1"}
            body = {"sku": {"name": "Standard", "capacity": _CAPACITY}, "properties": {"model": model}}
            self._arm("PUT", f"{self._account(name)}/deployments/{deployment}", body, connection)
        key = self._arm("POST", f"{self._account(name)}/listKeys", {}, connection)["key1"]
        connection.close()
        return str(key)

    def _caller(self) -> str:
        """Create a principal that may call models in the resource group and give a token of its own."""
        connection = self._connect()
        principal = self._arm("POST", self._principals, {"displayName": "benchmark"}, connection)
        assignment = f"{self._group}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
        properties = {
            "roleDefinitionId": self._role,
            "principalId": principal["objectId"],
            "principalType": "ServicePrincipal",
        }
        self._arm("PUT", assignment, {"properties": properties}, connection)
        connection.close()
        return self._token(principal, "https://cognitiveservices.azure.com/.default")

    def _account(self, name: str) -> str:
        return f"{self._group}/providers/Microsoft.CognitiveServices/accounts/{name}"

    def _token(self, credential: Mapping[str, str], scope: str) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": credential["clientId"],
            "client_secret": credential["clientSecret"],
            "scope": scope,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        path = f"/{credential['tenantId']}/oauth2/v2.0/token"
        connection = self._connect()
        try:
            return str(_send(connection, "POST", path, urllib.parse.urlencode(form), headers)["access_token"])
        finally:
            connection.close()

    def _arm(self, method: str, path: str, body: Mapping[str, Any], connection: http.client.HTTPSConnection) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._bearer}"}
        return _send(connection, method, f"{path}?api-version={_ARM_VERSION}", json.dumps(body), headers)

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("localhost", self._port, timeout=60, context=self._context)


def target(account: str, deployment: str, headers: Mapping[str, str]) -> Target:
    return Target(f"/{account}/openai/deployments/{deployment}/chat/completions?api-version={_DATA_VERSION}", headers)


def expect(status: int, request: Request) -> None:
    got, body = ask(request)
    if got != status:
        raise NotMeasuredError(f"{request.check}: {got} instead of {status}: {body[:300]!r}")


def _name(number: int) -> str:
    return f"bench-{number:05d}"


def _multiply(data: Path, account_id: str, template: str, names: Iterable[str]) -> None:
    """Store copies of an account under other names, each with keys of its own, in one transaction: 10,000 calls of ARM take minutes."""
    base = foundation(settings.load(data, environment={}))
    try:
        with base.database.write() as writer:
            document = writer.get(account_id)
            assert document is not None
            for name in names:
                copy = account_id.replace(template, name)
                writer.put(
                    copy,
                    document.type,
                    json.loads(json.dumps(document.body).replace(template, name)),
                    {**document.private, "keys": new_keys(base.root_key, copy, base.clock.now())},
                    subscription=document.subscription,
                    resource_group=document.resource_group,
                )
    finally:
        base.database.close()


def _send(
    connection: http.client.HTTPSConnection, method: str, path: str, body: str, headers: Mapping[str, str]
) -> Any:
    connection.request(method, path, body, dict(headers))
    reply = connection.getresponse()
    content = reply.read()
    if reply.status >= 300:
        raise NotMeasuredError(f"{method} {path.partition('?')[0]}: {reply.status} {content[:300]!r}")
    return json.loads(content)
