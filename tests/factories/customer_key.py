"""A vault with a key, and an account's identity that may use it; a test takes one thing away."""

from __future__ import annotations

import dataclasses
from typing import Any

from stockade.policy.snapshot import (
    CustomerKey,
    DataKeyPolicy,
    DataKeysPolicy,
    NetworkPolicy,
    PrincipalPolicy,
    RoleAssignment,
    Snapshot,
    VaultPolicy,
    VaultVersionPolicy,
)
from tests.factories import policy

NOW = 1.8e9
GROUP = policy.GROUP
VAULT_ID = f"{GROUP}/providers/microsoft.keyvault/vaults/v1"
VAULT_URI = "https://v1.vault.stockade.localhost:8444"
KEY_ID = f"{VAULT_ID}/keys/k1"
IDENTITY = "55555555-5555-4555-8555-555555555555"
ENCRYPTION_USER = "e147488a-f6f5-4113-8e2d-b22465e65bf6"
KNOWN = PrincipalPolicy(IDENTITY, "ServicePrincipal", "mi", "a", enabled=True)
OLD, NEW = "0" * 31 + "1", "0" * 31 + "2"


def customer_key(**changes: Any) -> CustomerKey:
    return dataclasses.replace(CustomerKey(VAULT_URI, "k1", "", IDENTITY), **changes)


def vault(**changes: Any) -> VaultPolicy:
    made = VaultPolicy(
        id=VAULT_ID, arm_id=VAULT_ID, name="v1", uri=VAULT_URI, location="local", tenant_id="t", rbac=True, access={},
        network=NetworkPolicy(trusted_services=True), purge_protection=True, soft_delete=True, premium=False,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def version(name: str = NEW, **changes: Any) -> VaultVersionPolicy:
    made = VaultVersionPolicy(
        id=f"{KEY_ID}/versions/{name}", vault_id=VAULT_ID, item_id=KEY_ID, version=name, kind="keys", enabled=True, not_before=None,
        expires=None, created=NOW - 1000 + int(name, 16), key_type="RSA", key_size=2048,
        operations=frozenset({"wrapKey", "unwrapKey", "encrypt"}),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def kid(name: str = NEW) -> str:
    return f"{VAULT_URI}/keys/k1/{name}"


def held(*versions: str, owner: str = policy.ACCOUNT) -> DataKeysPolicy:
    """Data keys of an account, wrapped with these versions of the key."""
    keys = tuple(DataKeyPolicy(f"{number:012x}", "p1", kid(name)) for number, name in enumerate(versions))
    return DataKeysPolicy(owner, keys)


def snapshot(
    *,
    vaults: tuple[VaultPolicy, ...] = (vault(),),
    versions: tuple[VaultVersionPolicy, ...] = (version(),),
    principal: PrincipalPolicy | None = KNOWN,
    role: str | None = ENCRYPTION_USER,
    scope: str = KEY_ID,
    more: tuple[tuple[str, Any, Any], ...] = (),
) -> Snapshot:
    """Everything in order."""
    entries: list[tuple[str, Any, Any]] = []
    for one in vaults:
        entries += [("vault", one.id, one), ("vault-at", one.uri, one.id)]
    for each in versions:
        entries += [("vault-version", each.id, each), ("vault-versions-of", each.item_id, each)]
    if principal is not None:
        entries.append(("principal", principal.object_id, principal))
    if role is not None:
        entries.append(("assignment", scope, RoleAssignment("cmk", scope, role, IDENTITY)))
    return policy.snapshot(*entries, *more)
