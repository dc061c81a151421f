"""Whether a customer's key serves an account now. Pure: the rule, the preflight and the key broker all ask here.

Of a vault of this platform everything is in the snapshot, so what is taken away is gone with the next request. Of another vault it is what the
broker last found there (`RemoteKeyState`), at most a lease ago.
Source: contracts, control-plane section 6.6; choices.md ("Customer's key unavailable", "New key version").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from stockade.policy import rbac, vault_access
from stockade.policy.snapshot import (
    MEMO_LIMIT,
    CustomerKey,
    DataKeysPolicy,
    PrincipalPolicy,
    RemoteKeyState,
    Snapshot,
    VaultPolicy,
    VaultVersionPolicy,
)

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
NEEDED_PERMISSIONS: Final = ("keys/get", "keys/wrapkey", "keys/unwrapkey")
ROLE: Final = "Key Vault Crypto Service Encryption User"
"""The smallest role that gives them."""


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


def vault_of(snapshot: Snapshot, key: CustomerKey) -> VaultPolicy | None:
    """Return the vault of this platform that a key is in; None for a vault elsewhere, or none at all."""
    vault_id = snapshot.only("vault-at", key.vault_uri)
    vault: VaultPolicy | None = snapshot.only("vault", vault_id) if vault_id is not None else None
    return vault


def version_of(snapshot: Snapshot, vault: VaultPolicy, key: CustomerKey, now: float) -> VaultVersionPolicy | None:
    """Return the version that is meant, whether or not it serves: the pinned one, else the newest that may be used, else the newest."""
    key_id = f"{vault.id}/keys/{key.key_name.lower()}"
    if key.key_version:
        pinned: VaultVersionPolicy | None = snapshot.only(
            "vault-version", f"{key_id}/versions/{key.key_version.lower()}"
        )
        return pinned
    versions: tuple[VaultVersionPolicy, ...] = snapshot.all("vault-versions-of", key_id)
    newest = max(versions, key=lambda one: (one.created, one.version), default=None)
    return current_version(snapshot, key_id, now) or newest


def serving_version(snapshot: Snapshot, key: CustomerKey, now: float) -> VaultVersionPolicy | Unavailable:
    """Return the version that an account's data keys are wrapped with from now on: the pinned one, or the newest; or why there is none.

    Only for vaults of this platform.
    """
    first = next(problems(snapshot, key, now), None)
    if first is not None:
        return first
    vault = vault_of(snapshot, key)
    version = version_of(snapshot, vault, key, now) if vault is not None else None
    return version or Unavailable("KeyNotFound", f"The key '{key.key_name}' is not in the vault, or is deleted.")


def unavailable(snapshot: Snapshot, account_id: str, key: CustomerKey, now: float) -> Unavailable | None:
    """Return why an account's key does not serve now; None while it does.

    Two versions have to be usable: the one that is meant now, and where that is another one still, the one the data keys are wrapped with.
    So whoever disables the newest version has taken the key away, whatever older versions there are.

    Asked by every request, so the answer is remembered with the snapshot, for as long as none of the key's versions, nor of the
    roles for a while at it, begins or ends.
    """
    name = ("customer-key", account_id, key)
    known: _Known | None = snapshot.memo.get(name)
    if known is not None and known.since <= now < known.until:
        return known.found
    found = _unavailable(snapshot, account_id, key, now)
    since, until = _unchanged(snapshot, key, now)
    if known is not None or len(snapshot.memo) < MEMO_LIMIT:
        snapshot.memo[name] = _Known(found, since, until)
    return found


@dataclass(frozen=True, slots=True)
class _Known:
    """An answer, and from when until when it is the same."""

    found: Unavailable | None
    since: float
    until: float


def _unchanged(snapshot: Snapshot, key: CustomerKey, now: float) -> tuple[float, float]:
    """Return between which two instants, around now, no version of the key begins or ends, and no role for a while at it."""
    vault = vault_of(snapshot, key)
    instants: list[float] = []
    if vault is not None:
        item_id = f"{vault.id}/keys/{key.key_name.lower()}"
        versions: tuple[VaultVersionPolicy, ...] = snapshot.all("vault-versions-of", item_id)
        instants = [at for one in versions for at in (one.not_before, one.expires) if at is not None]
        instants += rbac.instants(snapshot, item_id)
    since = max((at for at in instants if at <= now), default=-math.inf)
    return since, min((at for at in instants if at > now), default=math.inf)


def _unavailable(snapshot: Snapshot, account_id: str, key: CustomerKey, now: float) -> Unavailable | None:
    missing = identity_problem(snapshot, key)
    if missing is not None:
        return missing
    vault = vault_of(snapshot, key)
    if vault is None:
        state = remote_state(snapshot, account_id, key)
        if state is None:
            return Unavailable("VaultNotFound", f"There is no key vault at {key.vault_uri}.")
        return Unavailable(state.failure, state.message) if state.failure else None  # type: ignore[arg-type]
    return next(problems(snapshot, key, now), None) or _wrapping_problem(snapshot, account_id, vault, key)


def remote_state(snapshot: Snapshot, owner_id: str, key: CustomerKey) -> RemoteKeyState | None:
    """Return what the broker last found of a key in a vault elsewhere; None while it has not asked about this one."""
    state: RemoteKeyState | None = snapshot.only("remote-key", owner_id)
    if state is None or (state.vault_uri, state.key_name) != (key.vault_uri, key.key_name.lower()):
        return None
    return state


def identity_problem(snapshot: Snapshot, key: CustomerKey) -> Unavailable | None:
    """Return what is wrong with the identity that uses the key; None when it is there and enabled."""
    if not key.principal_id:
        return Unavailable("IdentityMissing", "The account does not have the managed identity that is to use the key.")
    known: PrincipalPolicy | None = snapshot.only("principal", key.principal_id)
    if known is None or not known.enabled:
        gone = "does not exist any more" if known is None else "is disabled"
        return Unavailable("IdentityMissing", f"The managed identity {key.principal_id} that uses the key {gone}.")
    return None


def problems(snapshot: Snapshot, key: CustomerKey, now: float) -> Iterator[Unavailable]:
    """Yield everything that keeps a key in a vault of this platform from being used, the most telling first."""
    missing = identity_problem(snapshot, key)
    if missing is not None:
        yield missing
    vault = vault_of(snapshot, key)
    if vault is None:
        yield Unavailable("VaultNotFound", f"There is no key vault at {key.vault_uri}.")
        return
    version = version_of(snapshot, vault, key, now)
    if version is None:
        which = f"version {key.key_version} of the key" if key.key_version else "key"
        yield Unavailable("KeyNotFound", f"The {which} '{key.key_name}' is not in the vault, or is deleted.")
    else:
        yield from _version_problems(version, key, now)
    if missing is None:
        yield from _access_problems(snapshot, vault, key, now)
    if not vault.network.trusted_services and (not vault.network.public_access or not vault.network.admit_by_default):
        yield Unavailable(
            "VaultNetworkDenied", "The vault's network rules do not admit trusted services (bypass: AzureServices)."
        )


def _version_problems(version: VaultVersionPolicy, key: CustomerKey, now: float) -> Iterator[Unavailable]:
    name = f"The key '{key.key_name}'"
    if not version.enabled:
        yield Unavailable("KeyDisabled", f"{name} is disabled.")
    if not _begun(version, now):
        yield Unavailable("KeyNotYetValid", f"{name} is not valid yet.")
    if _ended(version, now):
        yield Unavailable("KeyExpired", f"{name} has expired.")
    if not version.operations >= NEEDED_OPERATIONS:
        yield Unavailable("KeyOperationNotPermitted", f"{name} does not permit wrapKey and unwrapKey.")


def _wrapping_problem(snapshot: Snapshot, account_id: str, vault: VaultPolicy, key: CustomerKey) -> Unavailable | None:
    """Return why the version that a data key is wrapped with cannot be used. One that has expired can: unwrapping goes on after that."""
    held: DataKeysPolicy | None = snapshot.only("data-keys", account_id)
    for data_key in held.keys if held is not None else ():
        named = version_in(data_key.customer)
        if not named:
            continue
        version: VaultVersionPolicy | None = snapshot.only(
            "vault-version", f"{vault.id}/keys/{key.key_name.lower()}/versions/{named}"
        )
        if version is None:
            return Unavailable(
                "KeyNotFound", f"The version {named} of the key '{key.key_name}', in use, is gone from the vault."
            )
        if not version.enabled:
            return Unavailable("KeyDisabled", f"The version {named} of the key '{key.key_name}', in use, is disabled.")
    return None


def version_in(key_id: str) -> str:
    """Return the version in a key's id, `https://v.../keys/k/4f...`, in lower case; "" of "" and of an id without one."""
    _, _, rest = key_id.partition("/keys/")
    return rest.partition("/")[2].strip("/").lower()


def _access_problems(snapshot: Snapshot, vault: VaultPolicy, key: CustomerKey, now: float) -> Iterator[Unavailable]:
    item_id = f"{vault.id}/keys/{key.key_name.lower()}"
    lacking = [
        permission
        for permission in NEEDED_PERMISSIONS
        if not vault_access.permits(snapshot, vault, key.principal_id, (), permission, item_id, now=now)
    ]
    if lacking:
        needed = f"the role '{ROLE}' has" if vault.rbac else "an access policy with get, wrapKey and unwrapKey has"
        yield Unavailable(
            "AccessDenied",
            f"The account's identity {key.principal_id} lacks {', '.join(lacking)} on the key '{key.key_name}'; {needed} what is needed.",
        )


def _begun(version: VaultVersionPolicy, now: float) -> bool:
    return version.not_before is None or version.not_before <= now


def _ended(version: VaultVersionPolicy, now: float) -> bool:
    return version.expires is not None and version.expires <= now
