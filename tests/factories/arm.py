"""ARM without sockets: the real pipeline, resource types and database, called with paths and bodies as clients send them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from stockade.audit.store import Logs
from stockade.identity.directory import Directory
from stockade.identity.tenant import create_tenant
from stockade.kernel.clock import ManualClock
from stockade.kernel.ids import new_guid
from stockade.kernel.principal import TokenCredential
from stockade.keys.broker import Broker
from stockade.keys.root import RootKey
from stockade.management.pipeline import Head, Pipeline
from stockade.management.resource_type import Platform, Reply
from stockade.management.routing import Registry
from stockade.policy.compile import Compiler
from stockade.policy.snapshot import Entry, Permission, PrincipalPolicy, RoleAssignment, RoleDefinition, Snapshot
from stockade.policy.source import SnapshotSource
from stockade.settings import Settings
from stockade.storage.database import Database
from stockade.storage.generation import GenerationCell
from stockade.storage.tables import key_callers
from tests.factories.identity import RecordingAudit
from tests.factories.pretend_broker import PretendBroker

SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1"
PROVIDER = "Microsoft.CognitiveServices"
ACCOUNTS = f"{GROUP}/providers/{PROVIDER}/accounts"
BY_SUBSCRIPTION = f"/subscriptions/{SUBSCRIPTION}/providers/{PROVIDER}"
OWNER = "22222222-2222-4222-8222-222222222222"
API_VERSION = "2025-09-01"

_ROLE = RoleDefinition(new_guid(), "Everything", built_in=False, permissions=(Permission(("*",), (), ("*",), ()),))
_BASE: tuple[Entry, ...] = (
    ("role", _ROLE.id, _ROLE),
    ("principal", OWNER, PrincipalPolicy(OWNER, "User", None, "Owner", enabled=True)),
    ("assignment", "/", RoleAssignment(new_guid(), "/", _ROLE.id, OWNER)),
)


class Arm:
    """A control plane with a subscription and a group `rg1`. Calls are made by a principal that may do everything."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.clock = ManualClock()
        self.settings = settings or Settings(data_dir=folder)
        self.audit = RecordingAudit()
        self.root_key = RootKey.create(folder / "root.key")
        cell = GenerationCell(folder / "run" / "generation")
        self.database = Database(f"sqlite:///{folder / 'arm.db'}", clock=self.clock, published=cell.publish)
        self.database.migrate()
        self.registry = Registry.load()
        self.source = SnapshotSource(self.database, Compiler(self.registry.compilers()), cell, _BASE)
        with self.database.write() as writer:
            self.tenant_id = create_tenant(writer, "Test")
            for document_id, kind, body in (
                (GROUP.rsplit("/", 2)[0], "Microsoft.Resources/subscriptions", {"state": "Enabled"}),
                (GROUP, "Microsoft.Resources/resourceGroups", {"location": "local"}),
            ):
                envelope = {"id": document_id, "name": document_id.rsplit("/", 1)[-1], "type": kind}
                writer.put(document_id, kind, {**envelope, **body}, subscription=SUBSCRIPTION, resource_group="rg1")
        self.broker = PretendBroker(self.clock, self.source.current)
        platform = Platform(
            self.settings,
            self.root_key,
            self.clock,
            self.tenant_id,
            self.registry,
            Directory(self.root_key, self.clock),
            cast("Broker", self.broker),
            self.audit,
            Logs(self.settings.audit_dir),
        )
        self.platform = platform
        self._pipeline = Pipeline(
            database=self.database,
            source=self.source,
            audit=self.audit,
            registry=self.registry,
            platform=platform,
            verify=self._verify,
        )

    def _verify(self, _: Snapshot, token: str, now: float, __: frozenset[str]) -> TokenCredential:
        return TokenCredential(self.tenant_id, token, None, "", "", now + 3600)

    def send(self, method: str, path: str, body: Any = None, *, as_principal: str = OWNER, query: str = "") -> Reply:
        raw_path, _, more = path.partition("?")
        text = "&".join(part for part in (f"api-version={API_VERSION}", query, more) if part)
        headers = {"authorization": f"Bearer {as_principal}", "user-agent": "test"}
        head = Head(method, raw_path.encode(), text.encode(), headers, new_guid(), "127.0.0.1")
        try:
            admitted = self._pipeline.admit(head)
        except Exception as failure:  # noqa: BLE001 - as the ASGI application does
            return self._pipeline.refuse(head, failure)
        return self._pipeline.answer(admitted, body or {})

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        """Send, expect success, return the body."""
        reply = self.send(method, path, body)
        assert reply.status < 300, reply.body
        return reply.body

    def fails(self, status: int, code: str, method: str, path: str, body: Any = None) -> str:
        """Send, expect this refusal, return its message."""
        reply = self.send(method, path, body)
        assert reply.body is not None, reply
        assert (reply.status, reply.body.get("error", {}).get("code")) == (status, code), reply.body
        return str(reply.body["error"]["message"])

    def account(self, name: str = "a1", **changes: Any) -> Any:
        """Create or replace an account of kind OpenAI; `changes` are members of its body."""
        return self.ok("PUT", f"{ACCOUNTS}/{name}", account_body(**changes))

    def snapshot(self) -> Snapshot:
        return self.source.current()

    def use_key(
        self, key: str, account: str, address: str = "203.0.113.7", client: str = "curl/8", at: float | None = None
    ) -> None:
        """Note a call with a key as a data-plane worker does."""
        from stockade.keys.subscription import DIGEST_PURPOSE, KeyDigester

        digest = KeyDigester(self.root_key.derive(DIGEST_PURPOSE)).digest(key.encode())
        seen = at if at is not None else self.clock.now()
        row = {"digest": digest.hex(), "address": address, "client": client, "account": account.lower()}
        with self.database.bookkeeping() as connection:
            connection.execute(key_callers.insert().values(**row, count=3, first_seen=seen - 60, last_seen=seen))


def account_body(properties: Any = None, **changes: Any) -> Any:
    """Return a minimal body of an account."""
    return {"kind": "OpenAI", "location": "local", "sku": {"name": "S0"}, "properties": properties or {}, **changes}
