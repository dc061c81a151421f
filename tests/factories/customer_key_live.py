"""An account of a live server with a customer's key, made with Azure's own clients, and every way of taking the key away and giving it back."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from azure.keyvault.keys import KeyClient
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient

from tests.factories.azure import descendants
from tests.live import Live, wait_for

ENCRYPTION_USER = "e147488a-f6f5-4113-8e2d-b22465e65bf6"
ADMINISTRATOR = "00482a5a-887f-4fb3-b363-3b7fe8e74483"
AUTHORIZATION = "2022-04-01"
VAULTS = "2026-05-15"
EXPIRES_IN_S = 2


@contextmanager
def vault_names() -> Iterator[None]:
    """Resolve what a resolver with one wildcard would; Azure's clients keep all their checks."""
    real = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **named: Any) -> Any:
        ours = isinstance(host, str) and host.lower().endswith(".stockade.localhost")
        return real("127.0.0.1" if ours else host, *arguments, **named)

    with mock.patch.object(socket, "getaddrinfo", resolve):
        yield


@dataclass(frozen=True, slots=True)
class Way:
    """One way of taking the key away. `take` returns the monotonic time from which it is gone; `give` when it has been given back."""

    name: str
    take: Callable[[], float]
    give: Callable[[], None]


class KeptKey:
    """A vault of its own with the key `k1`, and an account whose identity may use it. `bind` binds it."""

    def __init__(self, live: Live, account: str) -> None:
        """account: its name, or its id where it is in a group of its own."""
        self.live, self.account = live, account if account.startswith("/") else live.account_id(account)
        self.vault_name = f"v{uuid.uuid4().hex[:12]}"
        self.vault = f"{live.group_id}/providers/Microsoft.KeyVault/vaults/{self.vault_name}"
        self.uri = f"https://{self.vault_name}.vault.stockade.localhost:{live.ports[1]}"
        self.credential = live.credential()
        made = self.arm("PUT", self.vault, self._vault(enablePurgeProtection=True), VAULTS)
        assert made["properties"]["vaultUri"].rstrip("/") == self.uri
        self.grant(self.vault, ADMINISTRATOR, live.object_id)
        self.keys = KeyClient(self.uri, self.credential, connection_verify=str(live.bundle))
        self.version = str(self.keys.create_rsa_key("k1", size=2048).properties.version)
        self.arm("PATCH", self.account, {"identity": {"type": "SystemAssigned"}})
        self.role = self.grant(self.vault, ENCRYPTION_USER, self.principal)
        self.management = CognitiveServicesManagementClient(
            self.credential,
            live.subscription,
            base_url=live.arm,
            connection_verify=str(live.bundle),
            credential_scopes=["https://management.azure.com/.default"],
        )

    def close(self) -> None:
        self.keys.close()
        self.management.close()
        self.credential.close()

    @property
    def principal(self) -> str:
        return str(self.arm("GET", self.account)["identity"]["principalId"])

    def encryption(self, **key: Any) -> Any:
        named = {"keyVaultUri": self.uri + "/", "keyName": "k1", **key}
        return {"keySource": "Microsoft.KeyVault", "keyVaultProperties": named}

    def bind(self, **key: Any) -> Any:
        """Bind the key as the unmodified management client does it."""
        body = {"properties": {"encryption": self.encryption(**key)}}
        group, name = self.account.split("/")[4], self.account.rsplit("/", 1)[-1]
        return self.management.accounts.begin_update(group, name, body).result()

    def status(self) -> Any:
        return self.arm("GET", f"{self.account}/encryptionStatus")

    def arm(self, method: str, path: str, body: Any = None, version: str = "2025-09-01") -> Any:
        done = self.live.request(method, path, body, version=version)
        assert done.status_code < 300, f"{method} {path}: {done.status_code} {done.text}"
        return done.json() if done.content else None

    def grant(self, scope: str, role: str, principal: str) -> str:
        """Assign a role; return the assignment's path."""
        path = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
        definition = f"{self.live.group_id}/providers/Microsoft.Authorization/roleDefinitions/{role}"
        properties = {"roleDefinitionId": definition, "principalId": principal, "principalType": "ServicePrincipal"}
        self.arm("PUT", path, {"properties": properties}, AUTHORIZATION)
        return path

    def ways(self) -> list[Way]:
        """Return every way of taking the key away, each with the way back."""
        return [
            Way("key disabled", self._after(lambda: self._enabled(on=False)), lambda: self._enabled(on=True)),
            Way("key expired", self._expire, self._lengthen),
            Way("key deleted", self._after(lambda: self.keys.begin_delete_key("k1")), self._recover_key),
            Way("role removed", self._after(self._revoke), self._grant_again),
            Way(
                "vault's network closed",
                self._after(lambda: self._network("Deny", "None")),
                lambda: self._network("Allow", "AzureServices"),
            ),
            Way(
                "vault deleted",
                self._after(lambda: self.arm("DELETE", self.vault, version=VAULTS)),
                self._recover_vault,
            ),
            Way("identity removed", self._after(lambda: self._identity("None")), self._identity_again),
        ]

    def _vault(self, **properties: Any) -> Any:
        made = {
            "tenantId": self.live.tenant, "sku": {"family": "A", "name": "standard"}, "enableRbacAuthorization": True,
            "accessPolicies": [], **properties,
        }  # fmt: skip
        return {"location": self.live.location, "properties": made}

    def _after(self, do: Callable[[], object]) -> Callable[[], float]:
        def take() -> float:
            do()
            return time.monotonic()

        return take

    def _enabled(self, *, on: bool) -> None:
        self.keys.update_key_properties("k1", self.version, enabled=on)

    def _expire(self) -> float:
        ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=EXPIRES_IN_S)
        self.keys.update_key_properties("k1", self.version, expires_on=ends)
        left = (ends - datetime.now(UTC)).total_seconds()
        return time.monotonic() + left

    def _lengthen(self) -> None:
        self.keys.update_key_properties("k1", self.version, expires_on=datetime.now(UTC) + timedelta(days=300))

    def _recover_key(self) -> None:
        self.keys.begin_recover_deleted_key("k1").result()

    def _revoke(self) -> None:
        self.arm("DELETE", self.role, version=AUTHORIZATION)

    def _grant_again(self) -> None:
        self.role = self.grant(self.vault, ENCRYPTION_USER, self.principal)

    def _network(self, action: str, bypass: str) -> None:
        acls = {"networkAcls": {"defaultAction": action, "bypass": bypass}}
        self.arm("PATCH", self.vault, {"properties": acls}, VAULTS)

    def _recover_vault(self) -> None:
        self.arm("PUT", self.vault, self._vault(createMode="recover"), VAULTS)

    def _identity(self, kind: str) -> None:
        self.arm("PATCH", self.account, {"identity": {"type": kind}})

    def _identity_again(self) -> None:
        self._identity("SystemAssigned")
        self._grant_again()


class KeyElsewhere:
    """A key in the vault of another server, which the account's server reaches as it reaches any other Azure Key Vault."""

    def __init__(self, live: Live, account: str, other: Live) -> None:
        self.live, self.account, self.other = live, live.account_id(account), other
        self.uri = f"https://localhost:{other.ports[1]}"
        self.credential = other.credential()
        self.keys = KeyClient(
            self.uri, self.credential, connection_verify=str(other.bundle), verify_challenge_resource=False
        )
        self.version = str(self.keys.create_rsa_key("elsewhere", size=2048).properties.version)

    @staticmethod
    def settings(other: Live, folder: Path) -> str:
        """Return the settings of a server that may use the other one's default vault; its credential lies in the folder."""
        login = folder / "elsewhere.json"
        client_id, secret = other.admin
        login.write_text(
            json.dumps(
                {"tenantId": other.tenant, "clientId": client_id, "clientSecret": secret, "authority": other.authority}
            )
        )
        login.chmod(0o600)
        return (
            f'[[keys.providers]]\nname = "elsewhere"\ntype = "azure-key-vault"\nurl = "https://localhost:{other.ports[1]}"\n'
            f'credential_file = "{login}"\nca_file = "{other.ca}"\n'
        )

    def bind(self) -> None:
        self.live.request("PATCH", self.account, {"identity": {"type": "SystemAssigned"}}).raise_for_status()
        named = {"keyVaultUri": self.uri + "/", "keyName": "elsewhere"}
        encryption = {"keySource": "Microsoft.KeyVault", "keyVaultProperties": named}
        done = self.live.request("PATCH", self.account, {"properties": {"encryption": encryption}})
        assert done.status_code == 200, done.text

    def status(self) -> Any:
        return self.live.request("GET", f"{self.account}/encryptionStatus").json()

    def ways(self) -> list[Way]:
        """Return the ways in which the other vault takes it away."""
        return [
            Way("elsewhere: key disabled", lambda: self._enabled(on=False), lambda: _untimed(self._enabled(on=True))),
            Way("elsewhere: vault silent", self._silence, self._speak),
        ]

    def close(self) -> None:
        self.keys.close()
        self.credential.close()

    def _enabled(self, *, on: bool) -> float:
        self.keys.update_key_properties("elsewhere", self.version, enabled=on)
        return time.monotonic()

    def _silence(self) -> float:
        for pid in (self.other.pid, *descendants(self.other.pid)):
            os.kill(pid, signal.SIGSTOP)
        return time.monotonic()

    def _speak(self) -> None:
        for pid in (self.other.pid, *descendants(self.other.pid)):
            os.kill(pid, signal.SIGCONT)


def _untimed(_: float) -> None:
    return


def settled(kept: KeptKey | KeyElsewhere) -> None:
    """Wait until the key serves."""
    wait_for(lambda: kept.status()["state"] == "Available", "the key")
