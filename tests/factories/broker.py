"""A key broker over a data plane's documents, and a vault whose policy stands in the snapshot as management would have put it there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from stockade.boot.foundation import foundation
from stockade.broker.opening import Opening
from stockade.broker.providers import Providers
from stockade.broker.service import KeyBroker
from stockade.identity.audiences import ARM
from stockade.identity.principals import Principal
from stockade.kernel.evidence import ArmToken
from stockade.kernel.secret import Secret
from stockade.keys.broker import Binding, ObjectRef, WrappedDataKey
from stockade.keys.material import KeySpec
from stockade.keys.stored import DATA_KEYS, StoredKey, data_keys_form, data_keys_of
from stockade.management.first_start import assign_role
from stockade.policy.snapshot import CustomerKey, Entry, NetworkPolicy, Snapshot, VaultPolicy, VaultVersionPolicy
from tests.factories.data_plane import GROUP, Account, DataPlane
from tests.factories.identity import RecordingAudit

VAULT = "https://vault.azure.net"
URI = "https://v1.vault.stockade.localhost:8444"
CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"
ALL = frozenset({"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"})


def ref(item: str = "file-1", version: str = "aa", **changes: Any) -> ObjectRef:
    return ObjectRef(**{"path": f"files/{item}", "version": version, **changes})


class Brokered:
    """A broker in this process. `policy` holds entries beside those of the documents: the vault's."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.plane = DataPlane(folder, **changes)
        self.audit = RecordingAudit()
        self.known = True
        """Whether the policy in force is known without asking the database."""
        self.base = foundation(self.plane.settings)
        self.policy: dict[str, tuple[Entry, ...]] = {}
        self.customer_keys: dict[str, CustomerKey] = {}
        self.clock = self.plane.clock
        self.broker = self.another()
        self.vault_id = f"{GROUP}/providers/microsoft.keyvault/vaults/v1".lower()
        self.change_vault()

    def another(self) -> KeyBroker:
        """Return one more broker over the same documents, as after a restart."""
        settings = self.plane.settings
        return KeyBroker(
            settings,
            self.clock,
            self.plane.world.database,
            self.snapshot,
            self.audit,
            Opening(settings),
            Providers(settings.keys),
            lambda: self.snapshot() if self.known else None,
        )

    def snapshot(self) -> Snapshot:
        found = self.base.source.current()
        bound: dict[str, tuple[Entry, ...]] = {}
        for account_id, key in self.customer_keys.items():
            bound[account_id] = tuple(
                (index, at, dataclasses.replace(value, customer_key=key) if index == "account" else value)
                for index, at, value in found._owned.get(account_id, ())
            )
        return found.with_changes(found.generation, {**self.policy, **bound})

    def change_vault(self, **changes: Any) -> None:
        values: dict[str, Any] = {
            "id": self.vault_id,
            "arm_id": self.vault_id,
            "name": "v1",
            "uri": URI,
            "location": "local",
            "tenant_id": self.plane.world.tenant_id,
            "rbac": False,
            "access": {},
            "network": NetworkPolicy(),
            "purge_protection": True,
            "soft_delete": True,
            "premium": False,
            **changes,
        }
        vault = VaultPolicy(**values)
        self.policy["vault"] = (("vault", vault.id, vault), ("vault-at", vault.uri, vault.id))

    def key(
        self, name: str = "k1", version: str = "1" * 32, spec: KeySpec | None = None, **changes: Any
    ) -> VaultVersionPolicy:
        """Make a key version in the vault, or change its policy."""
        spec = spec or KeySpec(type="RSA", size=2048)
        item = f"{self.vault_id}/keys/{name}"
        version_id = f"{item}/versions/{version}"
        with self.plane.world.database.read() as reader:
            known = reader.get(version_id)
        if known is None:
            made = self.broker._state().vault.make("software", spec, version_id)
            stored = StoredKey(provider="software", handle=made.handle, public=made.public)
            with self.plane.world.database.write() as writer:
                writer.put(version_id, "tests.keys/versions", {}, {"key": stored.to_private()})
        values: dict[str, Any] = {
            "id": version_id,
            "vault_id": self.vault_id,
            "item_id": item,
            "version": version,
            "kind": "keys",
            "enabled": True,
            "not_before": None,
            "expires": None,
            "created": self.clock.now(),
            "key_type": spec.type,
            "key_size": spec.size or 0,
            "operations": ALL,
            **changes,
        }
        policy = VaultVersionPolicy(**values)
        self.policy[version_id] = (("vault-version", version_id, policy), ("vault-versions-of", item, policy))
        return policy

    def secret(self, name: str = "s1", version: str = "2" * 32, **changes: Any) -> VaultVersionPolicy:
        """Put a secret's version into the policy."""
        item = f"{self.vault_id}/secrets/{name}"
        policy = self.key(name="unused", **changes)
        policy = dataclasses.replace(
            policy, id=f"{item}/versions/{version}", item_id=item, version=version, kind="secrets"
        )
        self.policy[policy.id] = (("vault-version", policy.id, policy),)
        return policy

    def permit(self, principal: Principal, *permissions: str) -> None:
        self.change_vault(access={principal.object_id: frozenset(permissions)})

    def bound(self, account: Account, name: str = "k1", version: str = "") -> tuple[Principal, Binding]:
        """Bind a key to an account whose identity may use it, as management does."""
        identity, _ = self.plane.world.application(f"identity-of-{account.name}")
        self.permit(identity, "keys/get", "keys/wrapkey", "keys/unwrapkey")
        self.customer_keys[account.id] = CustomerKey(URI, name, version, identity.object_id)
        return identity, Binding(URI, name, version, identity.object_id)

    def writer(self) -> ArmToken:
        """Return what somebody who may write accounts shows to ARM."""
        principal, _ = self.plane.world.application("writer")
        with self.plane.world.database.write() as writer:
            assign_role(writer, GROUP, CONTRIBUTOR, principal.object_id, "ServicePrincipal", self.clock.now())
        return ArmToken(Secret(self.plane.world.token(principal, ARM)))

    def data_keys(self, account: Account) -> tuple[WrappedDataKey, ...]:
        """Return an account's data keys as they are stored."""
        with self.plane.world.database.read() as reader:
            document = reader.get(account.id)
        assert document is not None
        return data_keys_of(document.private)

    def store_data_keys(self, account: Account, *held: Any) -> None:
        with self.plane.world.database.write() as writer:
            document = writer.get(account.id)
            assert document is not None
            private = {**document.private, DATA_KEYS: data_keys_form(held)}
            writer.put(document.id, document.type, document.body, private)

    def close(self) -> None:
        self.broker.close()
        self.base.database.close()
