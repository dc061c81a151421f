"""Key vaults as their callers meet them: the ASGI application over real documents, policy, tokens and a key broker in this process."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
from starlette.testclient import TestClient

from stockade.broker.opening import Opening
from stockade.broker.providers import Providers
from stockade.broker.service import KeyBroker
from stockade.identity import compilation
from stockade.identity.principals import Principal
from stockade.management.first_start import assign_role
from stockade.management.routing import Registry
from stockade.policy.builtin_roles import builtin_roles
from stockade.policy.compile import Compiler
from stockade.policy.source import SnapshotSource
from stockade.settings import Settings
from stockade.storage.documents import Document
from stockade.storage.generation import GENERATION_FILE, GenerationCell
from stockade.vault.access import verifier
from stockade.vault.app import VaultApp, VaultsFirst
from stockade.vault.asked import shop_of
from stockade.vault.compile import compilers
from stockade.vault.documents import VAULTS
from tests.factories.identity import RecordingAudit, World

VAULT = "https://vault.azure.net"
SUB = "11111111-1111-4111-8111-111111111111"
GROUP = f"/subscriptions/{SUB}/resourceGroups/Group1"
ADMINISTRATOR = "00482a5a-887f-4fb3-b363-3b7fe8e74483"  # Key Vault Administrator
CRYPTO_USER = "12338af0-0e69-4776-bea7-57ae8d297424"
VERSION = "7.6"


class Vaulted:
    """A platform with the vault `Demo-Vault`, the default one, on which `admin` is Key Vault Administrator."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.settings = settings or Settings(data_dir=folder)
        self.world = World(folder, self.settings)
        self.clock = self.world.manual
        self.database = self.world.database
        cell = GenerationCell(self.settings.run_dir / GENERATION_FILE)
        self.database._published = cell.publish
        cell.publish(1)
        known = {**Registry.load().compilers(), **compilation.compilers(self.settings), **compilers(self.settings)}
        self.source = SnapshotSource(self.database, Compiler(known), cell, builtin_roles())
        self.audit = RecordingAudit()
        self.broker = KeyBroker(
            self.settings,
            self.clock,
            self.database,
            self.source.current,
            RecordingAudit(),
            Opening(self.settings),
            Providers(self.settings.keys),
        )
        self.shop = shop_of(self.settings, self.database, self.broker, self.clock)
        self.app = VaultApp(self.shop, self.audit, self.source, verifier(self.settings))
        self.client = TestClient(VaultsFirst(self.app, _elsewhere), base_url="https://localhost:8444")
        self.vault = self.make_vault("Demo-Vault")
        self.admin = self.principal("admin", (ADMINISTRATOR, str(self.vault.body["id"])))

    def make_vault(self, name: str, sku: str = "standard", **properties: Any) -> Document:
        """Put a vault into the documents as management does, or change it."""
        arm_id = f"{GROUP}/providers/{VAULTS}/{name}"
        held = {
            "tenantId": self.world.tenant_id,
            "sku": {"family": "A", "name": sku},
            "vaultUri": self.settings.vault_uri(name) + "/",
            "enableSoftDelete": True,
            "softDeleteRetentionInDays": 90,
            "enableRbacAuthorization": True,
            **properties,
        }
        body = {"id": arm_id, "name": name, "type": VAULTS, "location": "local", "properties": held}
        with self.database.write() as writer:
            return writer.put(arm_id, VAULTS, body, subscription=SUB, resource_group="group1")

    def principal(self, name: str, *roles: tuple[str, str]) -> Principal:
        """Create an application with roles, each (role GUID, scope)."""
        principal, _ = self.world.application(name)
        with self.database.write() as writer:
            for role, scope in roles:
                assign_role(writer, scope, role, principal.object_id, "ServicePrincipal", self.clock.now())
        return principal

    def token(self, principal: Principal | None = None, audience: str = VAULT) -> str:
        return self.world.token(principal or self.admin, audience)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: Principal | str | None = None,
        version: str | None = VERSION,
        host: str = "localhost:8444",
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Send one request; by "" without a credential, by another text with that as the Authorization header."""
        sent = {"host": host, **(headers or {})}
        if by is None or isinstance(by, Principal):
            sent["authorization"] = f"Bearer {self.token(by)}"
        elif by:
            sent["authorization"] = by
        if body is not None:
            content = json.dumps(body).encode()
        url = path if version is None else f"{path}{'&' if '?' in path else '?'}api-version={version}"
        return self.client.request(method, url, content=content, headers=sent)

    def ok(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Send, expect success, return the body (None when there is none)."""
        reply = self.send(method, path, body, **options)
        assert reply.status_code < 300, (reply.status_code, reply.text)
        return reply.json() if reply.content else None

    def fails(self, status: int, code: str, method: str, path: str, body: Any = None, **options: Any) -> str:
        """Send, expect this refusal (code: the innermost), return its message."""
        reply = self.send(method, path, body, **options)
        error = reply.json()["error"]
        inner = error.get("innererror", error)
        assert (reply.status_code, inner["code"]) == (status, code), reply.text
        assert reply.headers["x-stockade-decision"]
        return str(error["message"])

    def close(self) -> None:
        self.broker.close()
        self.database.close()


async def _elsewhere(scope: Any, receive: Any, send: Any) -> None:
    """Answer 418 to what is no vault's."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def b64(value: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
