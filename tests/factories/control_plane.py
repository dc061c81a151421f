"""The control plane as its callers meet it: the ASGI application over the real pipeline, registry, directory and database.

Only token verification is replaced: a bearer token is the object id of the principal it speaks for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import httpx
from starlette.testclient import TestClient

from stockade.identity import compilation
from stockade.identity.directory import Directory
from stockade.identity.principals import Principal
from stockade.identity.tenant import create_tenant
from stockade.kernel.clock import ManualClock
from stockade.kernel.principal import RejectedCredential, TokenCredential
from stockade.keys.broker import Broker
from stockade.keys.root import RootKey
from stockade.management.app import ArmApp
from stockade.management.first_start import assign_role, create_subscription
from stockade.management.pipeline import Pipeline
from stockade.management.resource_type import Platform
from stockade.management.routing import RESOURCE_GROUPS, Registry
from stockade.policy import remote_keys
from stockade.policy.builtin_roles import OWNER, builtin_roles
from stockade.policy.compile import Compiler
from stockade.policy.snapshot import Snapshot
from stockade.policy.source import SnapshotSource
from stockade.settings import Limits, Settings
from stockade.storage.database import Database, Writer
from stockade.storage.documents import Document
from stockade.storage.generation import GenerationCell
from tests.factories.identity import RecordingAudit
from tests.factories.logs import PlacedLogs
from tests.factories.pretend_broker import PretendBroker

SUB = "11111111-1111-4111-8111-111111111111"
OTHER_SUB = "33333333-3333-4333-8333-333333333333"
S = f"/subscriptions/{SUB}"
RG = f"{S}/resourceGroups/Group1"
CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
AI_USER = "a97b65f3-24c7-4388-baec-2e87135dc908"  # Cognitive Services User
ACCESS_ADMIN = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9"
AUTH = "/providers/Microsoft.Authorization"


def verify(
    snapshot: Snapshot, token: str, now: float, audiences: frozenset[str]
) -> TokenCredential | RejectedCredential:
    if token in {"expired", "wrong_audience", "wrong_tenant", "bad_signature"}:
        return RejectedCredential("token", token)
    principal = snapshot.only("principal", token)
    if principal is None:
        return RejectedCredential("token", "unknown_principal")
    arm = "https://management.azure.com"
    return TokenCredential("t", token, principal.app_id, arm, "i", now + 3600, signed_in_at=now)


def create_resource_group(writer: Writer, subscription_id: str, name: str, location: str) -> Document:
    """Create an empty resource group."""
    arm_id = f"/subscriptions/{subscription_id}/resourceGroups/{name}"
    body = {
        "id": arm_id,
        "name": name,
        "type": RESOURCE_GROUPS,
        "location": location,
        "properties": {"provisioningState": "Succeeded"},
    }
    return writer.put(arm_id, RESOURCE_GROUPS, body, subscription=subscription_id, resource_group=name)


class ControlPlane:
    """A tenant, two subscriptions, the group `Group1` in the first, and `owner`, who is Owner of the first subscription."""

    def __init__(self, folder: Path, url: str = "", settings: Settings | None = None) -> None:
        self.clock = ManualClock()
        self.settings = settings or Settings(data_dir=folder, limits=Limits(body_timeout_s=5))
        self.audit = RecordingAudit()
        root_key = RootKey.create(folder / "root.key")
        cell = GenerationCell(folder / "run" / "generation")
        self.database = Database(url or f"sqlite:///{folder / 'arm.db'}", clock=self.clock, published=cell.publish)
        self.database.migrate()
        self.registry = Registry.load()
        self.directory = Directory(root_key, self.clock)
        compilers = {
            **self.registry.compilers(),
            **compilation.compilers(self.settings),
            **remote_keys.compilers(),
        }
        self.source = SnapshotSource(self.database, Compiler(compilers), cell, builtin_roles())
        with self.database.write() as writer:
            self.tenant_id = create_tenant(writer, "Contoso")
            self.owner, _ = self.directory.create_application(writer, "owner")
            create_subscription(writer, SUB, self.tenant_id, "First")
            create_subscription(writer, OTHER_SUB, self.tenant_id, "Second")
            create_resource_group(writer, SUB, "Group1", "local")
            assign_role(writer, S, OWNER, self.owner.object_id, "ServicePrincipal", self.clock.now())
        self.broker = PretendBroker(self.clock, self.source.current)
        self.platform = Platform(
            self.settings,
            root_key,
            self.clock,
            self.tenant_id,
            self.registry,
            self.directory,
            cast("Broker", self.broker),
            self.audit,
            PlacedLogs(self.settings.audit_dir, lambda: self.audit.records),
        )
        self.pipeline = Pipeline(
            database=self.database,
            source=self.source,
            audit=self.audit,
            registry=self.registry,
            platform=self.platform,
            verify=verify,
        )
        self.client = TestClient(ArmApp(self.pipeline, self.settings), base_url="https://localhost:8444")

    def close(self) -> None:
        self.database.close()

    def principal(self, name: str, *roles: tuple[str, str]) -> Principal:
        """Create an application with roles, each (role GUID, scope)."""
        with self.database.write() as writer:
            created, _ = self.directory.create_application(writer, name)
            for role, scope in roles:
                assign_role(writer, scope, role, created.object_id, "ServicePrincipal", self.clock.now())
        return created

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: Principal | str | None = None,
        version: str | None = "2025-04-01",
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        token = by.object_id if isinstance(by, Principal) else self.owner.object_id if by is None else by
        sent = {"authorization": f"Bearer {token}", **(headers or {})} if token else dict(headers or {})
        if body is not None:
            content = json.dumps(body).encode()
            sent.setdefault("content-type", "application/json")
        joint = "&" if "?" in path else "?"
        url = f"{path}{joint}api-version={version}" if version is not None else path
        return self.client.request(method, url, content=content, headers=sent)

    def ok(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Send, expect success, return the body (None when there is none)."""
        reply = self.send(method, path, body, **options)
        assert reply.status_code < 300, (reply.status_code, reply.text)
        return reply.json() if reply.content else None

    def fails(self, status: int, code: str, method: str, path: str, body: Any = None, **options: Any) -> str:
        """Send, expect this refusal, return its message."""
        reply = self.send(method, path, body, **options)
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text
        assert reply.headers["x-stockade-decision"]
        return str(reply.json()["error"]["message"])
