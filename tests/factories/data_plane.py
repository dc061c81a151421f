"""A data plane over a real data directory: documents as management writes them, the gateway as boot builds it.

`DataPlane.gateway()` is driven directly with the objects a server would hand over, at ten thousand requests a second; the same directory
can be served by a real listener (`tests/factories/listener.py`).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stockade.audit.hiding import PURPOSE, keyed_hash
from stockade.boot.data_plane import data_plane
from stockade.gateway.app import Gateway
from stockade.gateway.kept import KeptContent
from stockade.identity.principals import Principal
from stockade.keys.root import RootKey
from stockade.management.resources.cognitive_services_accounts import keys as account_keys
from stockade.policy.builtin_roles import roles
from stockade.settings import DATA_DIR_VARIABLE, Limits, Listen, Model, Settings, Upstream
from stockade.storage.documents import Document, State
from stockade.storage.generation import GENERATION_FILE, GenerationCell
from tests.factories.audit import read_back
from tests.factories.content import KeptInMemory
from tests.factories.identity import World

SUB = "11111111-1111-4111-8111-111111111111"
GROUP = f"/subscriptions/{SUB}/resourceGroups/Group1"
ACCOUNTS = "microsoft.cognitiveservices/accounts"
CHAT = "/openai/deployments/chat/chat/completions"
VERSION = "api-version=2024-10-21"
HELLO = b'{"messages":[{"role":"user","content":"hello"}]}'
JSON_TYPE = ("content-type", "application/json")
OPENAI_USER = "Cognitive Services OpenAI User"


@dataclass(frozen=True)
class Account:
    """An account that exists, and its two keys."""

    id: str
    name: str
    keys: tuple[str, str]

    @property
    def key(self) -> str:
        return self.keys[0]

    def path(self, below: str = CHAT) -> str:
        return f"/{self.name}{below}"


class DataPlane:
    """One data directory. Every change is committed and published before the method returns, as management does it."""

    def __init__(self, folder: Path, upstream: str = "", **changes: Any) -> None:
        changes.setdefault("limits", Limits(request_timeout_s=30.0, body_timeout_s=5.0))
        models = tuple(
            Model(
                name=name,
                capabilities=capabilities,
                upstream=Upstream(url=upstream or "http://127.0.0.1:9/v1", model=f"real-{name}"),
            )
            for name, capabilities in (
                ("chatty", ("chatCompletion", "completion")),
                ("vectors", ("embeddings",)),
                ("talker", ("realtime",)),
            )
        )
        changes.setdefault("models", models)
        changes.setdefault("listen", Listen(websocket_port=0))
        self.settings = Settings(data_dir=folder, **changes)
        _write_settings(self.settings)
        self.world = World(folder, self.settings)
        self.cell = GenerationCell(self.settings.run_dir / GENERATION_FILE)
        self.world.database._published = self.cell.publish
        self.cell.publish(1)
        self.clock = self.world.clock
        self.root_key = RootKey.open(self.settings.root_key_file)
        self.contents = KeptInMemory(self.clock.now)

    def account(
        self,
        name: str = "a1",
        *,
        kind: str = "OpenAI",
        sku: str = "S0",
        deployments: Iterable[str] = ("chat",),
        **properties: Any,
    ) -> Account:
        """Create an account with deployments of the chat model (`vectors`: of the embeddings model)."""
        account_id = f"{GROUP}/providers/Microsoft.CognitiveServices/accounts/{name}"
        properties.setdefault("customSubDomainName", name)
        keys = account_keys.new_keys(self.root_key, account_id.lower(), self.clock.now())
        body = {
            "id": account_id,
            "name": name,
            "kind": kind,
            "sku": {"name": sku},
            "location": "local",
            "properties": properties,
        }
        with self.world.database.write() as writer:
            document = writer.put(
                account_id,
                ACCOUNTS,
                body,
                {"tenantId": self.world.tenant_id, "keys": keys},
                subscription=SUB,
                resource_group="group1",
            )
        for deployment in deployments:
            self.deployment(account_id, deployment)
        return self._with_keys(document)

    def deployment(self, account_id: str, name: str, *, model: str = "", capacity: int = 1000) -> None:
        model = model or ("vectors" if name == "vectors" else "chatty")
        body = {
            "name": name,
            "sku": {"name": "Standard", "capacity": capacity},
            "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
        }
        with self.world.database.write() as writer:
            writer.put(f"{account_id}/deployments/{name}", f"{ACCOUNTS}/deployments", body, {})

    def change(self, account: Account, *, sku: str | None = None, **properties: Any) -> None:
        with self.world.database.write() as writer:
            document = writer.get(account.id)
            assert document is not None
            body = {**document.body, "properties": {**document.body["properties"], **properties}}
            if sku is not None:
                body["sku"] = {"name": sku}
            writer.put(document.id, document.type, body)

    def regenerate(self, account: Account, slot: str = "Key1") -> Account:
        with self.world.database.write() as writer:
            document = writer.get(account.id)
            assert document is not None
            keys = {
                **document.private["keys"],
                slot: account_keys.new_slot(self.root_key, document.id, slot, self.clock.now()),
            }  # type: ignore[arg-type]
            return self._with_keys(
                writer.put(document.id, document.type, document.body, {**document.private, "keys": keys})
            )

    def delete(self, account: Account) -> None:
        with self.world.database.write() as writer:
            document = writer.get(account.id)
            assert document is not None
            writer.move(document, State.SOFT_DELETED, purge_at=self.clock.now() + 3600)

    def grant(self, principal: Principal, role_name: str = OPENAI_USER, scope: str = GROUP) -> None:
        role = next(role for role in roles().values() if role.role_name == role_name)
        body = {
            "properties": {
                "roleDefinitionId": f"/providers/Microsoft.Authorization/roleDefinitions/{role.name}",
                "principalId": principal.object_id,
            }
        }
        with self.world.database.write() as writer:
            place = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{principal.object_id}"
            writer.put(place, "microsoft.authorization/roleassignments", body)

    def caller(self, name: str = "app", role_name: str | None = OPENAI_USER) -> tuple[Principal, str]:
        """Return an application, with a role at the resource group unless None, and a token for the AI services."""
        principal, _ = self.world.application(name)
        if role_name is not None:
            self.grant(principal, role_name)
        return principal, self.world.token(principal)

    def gateway(self) -> Gateway:
        """Return one worker's gateway, with the data plane's clock. Call it inside a running loop; close with `stop`."""
        os.environ[DATA_DIR_VARIABLE] = str(self.settings.data_dir)
        try:
            gateway = data_plane()
        finally:
            del os.environ[DATA_DIR_VARIABLE]
        gateway._clock = gateway.websockets._clock = self.clock
        gateway._requests._kept = KeptContent(self.contents.of, self.settings.content.max_file_bytes)
        gateway._source.current()
        return gateway

    def audit_lines(self, gateway: Gateway) -> list[dict[str, Any]]:
        """Write out what the gateway has recorded, and return every record."""
        return read_back(self.settings, gateway._audit)

    def record_of(self, gateway: Gateway, answer: Answer) -> dict[str, Any]:
        """Return the one record of a request that was answered. Other processes' records, and the log's own, may stand before and after it."""
        decision = answer.headers["apim-request-id"]
        (found,) = [one for one in self.audit_lines(gateway) if one["id"] == decision]
        return found

    def hidden(self, host: str) -> str:
        """Return what stands in records for a host out of a body."""
        return keyed_hash(self.root_key.derive(PURPOSE), host)

    def _with_keys(self, document: Document) -> Account:
        shown = account_keys._api_keys(self.root_key, document)
        return Account(document.id, document.body["name"], (shown["key1"], shown["key2"]))


def _write_settings(settings: Settings) -> None:
    """Write the settings file that boot reads, as TOML (JSON's scalars and arrays are TOML's)."""
    values = msgspec.to_builtins(settings, enc_hook=str)
    del values["data_dir"]
    lines: list[str] = []

    def table(name: str, members: Mapping[str, Any], header: str) -> None:
        if name:
            lines.append(header)
        for key, value in members.items():
            if (
                not isinstance(value, dict)
                and not (isinstance(value, (list, tuple)) and value and isinstance(value[0], dict))
                and value is not None
            ):
                lines.append(f"{key} = {json.dumps(value)}")
        for key, value in members.items():
            inner = f"{name}.{key}" if name else key
            if isinstance(value, dict):
                table(inner, value, f"[{inner}]")
            elif isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
                for item in value:
                    table(inner, item, f"[[{inner}]]")

    table("", values, "")
    (settings.data_dir / "settings.toml").write_text("\n".join(lines) + "\n")


class _Headers:
    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = [(name.lower(), value) for name, value in pairs]

    def items(self) -> list[tuple[str, str]]:
        return self._pairs


@dataclass
class Scope:
    """What a server says of a request."""

    path: str
    method: str = "POST"
    query_string: str = VERSION
    headers: Any = ()
    client: str = "127.0.0.1:50000"
    authority: str | None = "localhost:8443"
    proto: str = "http"

    def __post_init__(self) -> None:
        self.headers = _Headers(self.headers)


@dataclass
class Answer:
    """What the gateway gave the server, and the server's side of the request's body."""

    chunks: Sequence[bytes] = ()
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    stalled: bool = False
    read: int = 0

    async def __call__(self) -> bytes:
        if self.stalled:
            await asyncio.Event().wait()
        self.read += sum(map(len, self.chunks))
        return b"".join(self.chunks)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            self.read += len(chunk)
            yield chunk
        if self.stalled:
            await asyncio.Event().wait()

    async def client_disconnect(self) -> None:
        await self.disconnected.wait()

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        assert not self.status, "answered twice"
        for name, value in headers:
            assert name.isascii() and value.isascii() and value.isprintable(), f"no header can carry {name}: {value!r}"
            assert name not in self.headers, f"{name} is sent twice"
            self.headers[name] = value
        self.status, self.body = status, body

    def response_str(self, status: int, headers: list[tuple[str, str]], body: str) -> None:
        self.response_bytes(status, headers, body.encode())

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Answer:
        self.response_bytes(status, headers, b"")
        return self

    async def send_bytes(self, data: bytes) -> None:
        if self.disconnected.is_set():
            raise RuntimeError("protocol closed")
        self.body += data

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> Any:
        return self.json["error"]["code"]


async def ask(
    gateway: Gateway,
    path: str,
    *headers: tuple[str, str],
    body: bytes | None = HELLO,
    query: str = VERSION,
    method: str = "POST",
    client: str = "127.0.0.1:50000",
    host: str = "localhost:8443",
) -> Answer:
    """Send one request and return the answer. Without a content type among the headers the body is JSON of its length."""
    sent = list(headers)
    if body is not None and not any(name.lower() == "content-type" for name, _ in sent):
        sent += [JSON_TYPE, ("content-length", str(len(body)))]
    answer = Answer([body] if body is not None else [])
    await gateway.__rsgi__(Scope(path, method, query, sent, client, host), answer)
    return answer
