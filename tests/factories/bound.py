"""A vault, its keys and an account that may use them, in a control plane without sockets; a test binds, and takes something away.

Keys are documents without material: the broker of the factories wraps nothing.
"""

from __future__ import annotations

from typing import Any

from stockade.policy.snapshot import AccountPolicy
from stockade.storage.documents import Document, State
from stockade.vault.documents import (
    KEY_VERSIONS,
    KEYS,
    Attributes,
    Item,
    KeyVersion,
    new_version,
    store,
)
from tests.factories.control_plane import AUTH, RG, ControlPlane

VAULT = f"{RG}/providers/Microsoft.KeyVault/vaults/vault1"
ACCOUNT = f"{RG}/providers/Microsoft.CognitiveServices/accounts/a1"
IDENTITIES = f"{RG}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
KEY = f"{VAULT}/keys/k1"
ENCRYPTION_USER = "e147488a-f6f5-4113-8e2d-b22465e65bf6"
NO_KEY: dict[str, Any] = {"keySource": "Microsoft.CognitiveServices"}


class Bound:
    """The vault `vault1` with the key `k1`, and the account `a1` with a system-assigned identity that has the role on it. Nothing is bound yet."""

    def __init__(self, plane: ControlPlane, **changes: Any) -> None:
        self.plane, self.broker = plane, plane.broker
        self.vault(enablePurgeProtection=True)
        self.version = self.new_version()
        self.account(**changes)
        self.grant(self.principal)

    @property
    def principal(self) -> str:
        return str(self.plane.ok("GET", ACCOUNT)["identity"]["principalId"])

    def account(self, path: str = ACCOUNT, **changes: Any) -> Any:
        body = {
            "kind": "OpenAI",
            "sku": {"name": "S0"},
            "location": "local",
            "identity": {"type": "SystemAssigned"},
            "properties": {},
        }
        return self.plane.ok("PUT", path, {**body, **changes})

    def vault(self, path: str = VAULT, **properties: Any) -> Any:
        made = {
            "tenantId": self.plane.tenant_id, "sku": {"family": "A", "name": "standard"}, "enableRbacAuthorization": True,
            "accessPolicies": [], **properties,
        }  # fmt: skip
        return self.plane.ok("PUT", path, {"location": "local", "properties": made})

    def new_version(self, key: str = KEY, **changes: Any) -> str:
        """Give a key a further version, made now; return its name."""
        name, now = new_version(), self.plane.clock.now()
        attributes = Attributes(now, now, **{n: changes.pop(n) for n in ("enabled", "nbf", "exp") if n in changes})
        values: dict[str, Any] = {"type": "RSA", "size": 2048, "operations": ("wrapKey", "unwrapKey"), **changes}
        with self.plane.database.write() as writer:
            store(writer, key, KEYS, Item(name))
            store(writer, f"{key}/versions/{name}", KEY_VERSIONS, KeyVersion(attributes, **values), {})
        return name

    def change_version(self, name: str, **changes: Any) -> None:
        """Change a version's attributes (`enabled`, `nbf`, `exp`) or what it is."""
        with self.plane.database.write() as writer:
            document = writer.get(f"{KEY}/versions/{name}")
            assert document is not None
            properties = dict(document.body["properties"])
            attributes = {
                **properties["attributes"],
                **{n: changes.pop(n) for n in ("enabled", "nbf", "exp") if n in changes},
            }
            writer.put(
                document.id,
                document.type,
                {**document.body, "properties": {**properties, **changes, "attributes": attributes}},
            )

    def delete_key(self, state: State = State.SOFT_DELETED) -> None:
        with self.plane.database.write() as writer:
            for document in (
                *writer.below(KEY, *([] if state is not State.LIVE else [State.SOFT_DELETED])),
                writer.get(KEY, *State),
            ):
                assert document is not None
                writer.move(document, state)

    def grant(self, principal: str, scope: str = KEY, role: str = ENCRYPTION_USER) -> str:
        """Assign the role; return the assignment's path."""
        name = f"{abs(hash((principal, scope, role))) % 10**12:012d}"
        path = f"{scope}{AUTH}/roleAssignments/aaaaaaaa-aaaa-4aaa-8aaa-{name}"
        role_id = f"{AUTH}/roleDefinitions/{role}"
        properties = {"roleDefinitionId": role_id, "principalId": principal, "principalType": "ServicePrincipal"}
        self.plane.ok("PUT", path, {"properties": properties})
        return path

    def encryption(self, **key: Any) -> Any:
        uri = self.plane.settings.vault_uri("vault1") + "/"
        return {"keySource": "Microsoft.KeyVault", "keyVaultProperties": {"keyVaultUri": uri, "keyName": "k1", **key}}

    def bind(self, **key: Any) -> Any:
        return self.plane.ok("PATCH", ACCOUNT, {"properties": {"encryption": self.encryption(**key)}})

    def document(self, path: str = ACCOUNT, *states: State) -> Document:
        with self.plane.database.read() as reader:
            found = reader.get(path, *states)
        assert found is not None
        return found

    def wrapped_by(self, path: str = ACCOUNT) -> list[str]:
        """Return per data key the version of the customer's key around it, "" where there is none."""
        return [str(key.get("customer", "")).rpartition("/")[2] for key in self.document(path).private["dataKeys"]]

    def policy(self) -> AccountPolicy:
        found: AccountPolicy | None = self.plane.source.current().only("account", ACCOUNT.lower())
        assert found is not None
        return found
