"""Whether a customer's key serves an account now. Pure: the rule, the preflight and the key broker all ask here.

Of a vault of this platform everything is in the snapshot, so what is taken away is gone with the next request. Of another vault it is what the
broker last found there (`RemoteKeyState`), at most a lease ago.
Source: contracts, control-plane section 6.6; choices.md ("Customer's key unavailable", "New key version").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from stockade.policy import vault_access
from stockade.policy.snapshot import CustomerKey, RemoteKeyState, Snapshot, VaultPolicy, VaultVersionPolicy

Problem: TypeAlias = Literal[
    "IdentityMissing",
    "VaultNotFound",
    "KeyNotFound",
    "KeyDisabled",
    "KeyNotYetValid",
    "KeyExpired",
    "KeyOperationNotPermitted",
    "AccessDenied",
    "VaultNetworkDenied",
    "VaultUnreachable",
]
NEEDED_OPERATIONS = frozenset({"wrapKey", "unwrapKey"})


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Why the key does not serve, in words for the account's owner."""

    problem: Problem
    message: str


def current_version(snapshot: Snapshot, key_id: str, now: float) -> VaultVersionPolicy | None:
    """Return the newest version of a key that may be used now; None when there is none. key_id: lower-case ARM id of the key."""
    versions: tuple[VaultVersionPolicy, ...] = snapshot.all("vault-versions-of", key_id)
    usable = [version for version in versions if version.enabled and _begun(version, now) and not _ended(version, now)]
    return max(usable, key=lambda version: (version.created, version.version), default=None)


def serving_version(snapshot: Snapshot, key: CustomerKey, now: float) -> VaultVersionPolicy | Unavailable:
    """Return the version that an account's data keys are wrapped with from now on: the pinned one, or the newest; or why there is none.

    Only for vaults of this platform.
    """
    vault_id = snapshot.only("vault-at", key.vault_uri)
    vault: VaultPolicy | None = snapshot.only("vault", vault_id) if vault_id is not None else None
    if vault is None:
        return Unavailable("VaultNotFound", f"There is no key vault at {key.vault_uri}.")
    key_id = f"{vault.id}/keys/{key.key_name.lower()}"
    if key.key_version:
        version: VaultVersionPolicy | None = snapshot.only(
            "vault-version", f"{key_id}/versions/{key.key_version.lower()}"
        )
    else:
        versions: tuple[VaultVersionPolicy, ...] = snapshot.all("vault-versions-of", key_id)
        newest = max(versions, key=lambda one: (one.created, one.version), default=None)
        version = current_version(snapshot, key_id, now) or newest
    if version is None:
        return Unavailable("KeyNotFound", f"The key '{key.key_name}' is not in the vault, or is deleted.")
    return _refusal(snapshot, vault, version, key, now) or version


def unavailable(snapshot: Snapshot, account_id: str, key: CustomerKey, now: float) -> Unavailable | None:
    """Return why an account's key does not serve now; None while it does."""
    if not key.principal_id:
        return Unavailable("IdentityMissing", "The account has no longer the managed identity that used the key.")
    if snapshot.only("vault-at", key.vault_uri) is None:
        state: RemoteKeyState | None = snapshot.only("remote-key", account_id)
        if state is None or (state.vault_uri, state.key_name) != (key.vault_uri, key.key_name.lower()):
            return Unavailable("VaultNotFound", f"There is no key vault at {key.vault_uri}.")
        return Unavailable(state.failure, state.message) if state.failure else None  # type: ignore[arg-type]
    found = serving_version(snapshot, key, now)
    return found if isinstance(found, Unavailable) else None


def _refusal(
    snapshot: Snapshot, vault: VaultPolicy, version: VaultVersionPolicy, key: CustomerKey, now: float
) -> Unavailable | None:
    name = f"The key '{key.key_name}'"
    if not version.enabled:
        return Unavailable("KeyDisabled", f"{name} is disabled.")
    if not _begun(version, now):
        return Unavailable("KeyNotYetValid", f"{name} is not valid yet.")
    if _ended(version, now):
        return Unavailable("KeyExpired", f"{name} has expired.")
    if not version.operations >= NEEDED_OPERATIONS:
        return Unavailable("KeyOperationNotPermitted", f"{name} does not permit wrapKey and unwrapKey.")
    for operation in ("keys/get", "keys/wrapkey", "keys/unwrapkey"):
        if not vault_access.permits(snapshot, vault, key.principal_id, (), operation, version.item_id):
            return Unavailable(
                "AccessDenied",
                f"The account's identity {key.principal_id} lacks the permission '{operation}' on {name[0].lower() + name[1:]}; "
                "the role 'Key Vault Crypto Service Encryption User' has what is needed.",
            )
    if not vault.network.trusted_services and (not vault.network.public_access or not vault.network.admit_by_default):
        return Unavailable(
            "VaultNetworkDenied", "The vault's network rules do not admit trusted services (bypass: AzureServices)."
        )
    return None


def _begun(version: VaultVersionPolicy, now: float) -> bool:
    return version.not_before is None or version.not_before <= now


def _ended(version: VaultVersionPolicy, now: float) -> bool:
    return version.expires is not None and version.expires <= now
