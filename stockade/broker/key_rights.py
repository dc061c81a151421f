"""Who may have a vault's keys and secrets used, made, taken in, backed up and restored, and when a key's own policy makes its next version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import TokenCredential
from stockade.keys.material import KeySpec
from stockade.policy import rbac, vault_access
from stockade.policy.key_rotation import RotationPolicy, due_at
from stockade.policy.snapshot import Snapshot, VaultPolicy, VaultVersionPolicy

ARM_WRITE: Final = "Microsoft.KeyVault/vaults/keys/write"


def version_of(snapshot: Snapshot, version_id: str, kind: str) -> VaultVersionPolicy:
    """Return a version in force; Fault(NOT_FOUND). kind: `keys` or `secrets`."""
    version: VaultVersionPolicy | None = snapshot.only("vault-version", version_id)
    if version is None or version.kind != kind:
        raise Fault(FaultKind.NOT_FOUND, "There is no such version in the vault.")
    return version


def check_version(
    snapshot: Snapshot, version: VaultVersionPolicy, caller: TokenCredential, permission: str, now: float
) -> None:
    """Raise Fault(PERMISSION_DENIED) unless a vault's caller has a permission on what a version is of."""
    _check(snapshot, _vault(snapshot, version.vault_id), caller, permission, version.item_id, now)


def check_vault(snapshot: Snapshot, version_id: str, caller: TokenCredential, permission: str, now: float) -> None:
    """Raise Fault(PERMISSION_DENIED) unless a vault's caller has a permission (`keys/restore`) on the vault of a version that is not stored yet."""
    vault, _ = _place(snapshot, version_id, permission.partition("/")[0])
    _check(snapshot, vault, caller, permission, vault.id, now)


def check_item(snapshot: Snapshot, version_id: str, caller: TokenCredential, permission: str, now: float) -> None:
    """Raise Fault(PERMISSION_DENIED) unless a vault's caller has a permission on the key that a version will be of."""
    vault, item_id = _place(snapshot, version_id, "keys")
    _check(snapshot, vault, caller, permission, item_id, now)


def check_make(snapshot: Snapshot, version_id: str, spec: KeySpec, caller: TokenCredential, now: float) -> None:
    """Raise Fault(PERMISSION_DENIED) unless a vault's caller may create the key, or may rotate it and it is to be like one of its versions."""
    vault, item_id = _place(snapshot, version_id, "keys")
    versions: tuple[VaultVersionPolicy, ...] = snapshot.all("vault-versions-of", item_id)
    alike = any(_alike(version, spec) for version in versions)
    if alike and _permits(snapshot, vault, caller, "keys/rotate", item_id, now):
        return
    _check(snapshot, vault, caller, "keys/create", item_id, now)


def check_arm_make(snapshot: Snapshot, version_id: str, caller: TokenCredential, now: float) -> None:
    """Raise Fault(PERMISSION_DENIED) unless ARM's caller may write the key. Source: built-in roles, `Microsoft.KeyVault/vaults/keys/write`."""
    _, item_id = _place(snapshot, version_id, "keys")
    access = rbac.check(snapshot, caller.object_id, caller.groups, ARM_WRITE, item_id, now=now)
    if not isinstance(access, rbac.Granted):
        message = f"The principal `{caller.object_id}` lacks the action `{ARM_WRITE}` on the vault's key."
        raise Fault(FaultKind.PERMISSION_DENIED, message)


def check_rotation(
    snapshot: Snapshot, key: Mapping[str, Any] | None, version_id: str, spec: KeySpec, now: float
) -> None:
    """Raise Fault(PERMISSION_DENIED) unless the policy stored with a key wants another version like its newest.

    key: the `properties` of the key's document; None where there is none.
    """
    _, item_id = _place(snapshot, version_id, "keys")
    current, rotation = (key or {}).get("current"), (key or {}).get("rotation")
    newest: VaultVersionPolicy | None = snapshot.only("vault-version", f"{item_id}/versions/{current}")
    if newest is not None and rotation is not None and _alike(newest, spec):
        policy = msgspec.convert(rotation, RotationPolicy)
        due = due_at(policy, newest.created, newest.expires, "Rotate")
        if due is not None and due <= now:
            return
    raise Fault(FaultKind.PERMISSION_DENIED, "Nobody asks for the key, and no rotation policy wants a version now.")


def _alike(version: VaultVersionPolicy, spec: KeySpec) -> bool:
    return version.key_type == spec.type and spec.size in (None, version.key_size)


def _place(snapshot: Snapshot, version_id: str, collection: str) -> tuple[VaultPolicy, str]:
    """Return the vault of a version's id, and the id of its key or secret; Fault(NOT_FOUND) where that is no place in a vault in force."""
    vault_id, _, rest = version_id.rpartition(f"/{collection}/")
    name, _, version = rest.partition("/versions/")
    if not name or not version or "/" in name + version:
        raise Fault(FaultKind.NOT_FOUND, "There is no such place in a vault.")
    return _vault(snapshot, vault_id), f"{vault_id}/{collection}/{name}"


def _vault(snapshot: Snapshot, vault_id: str) -> VaultPolicy:
    vault: VaultPolicy | None = snapshot.only("vault", vault_id)
    if vault is None:
        raise Fault(FaultKind.NOT_FOUND, "There is no such vault.")
    return vault


def _permits(
    snapshot: Snapshot, vault: VaultPolicy, caller: TokenCredential, permission: str, item_id: str, now: float
) -> bool:
    return vault_access.permits(snapshot, vault, caller.object_id, caller.groups, permission, item_id, now=now)


def _check(
    snapshot: Snapshot, vault: VaultPolicy, caller: TokenCredential, permission: str, item_id: str, now: float
) -> None:
    if not _permits(snapshot, vault, caller, permission, item_id, now):
        message = f"The principal `{caller.object_id}` lacks the permission '{permission}' on the vault's item."
        raise Fault(FaultKind.PERMISSION_DENIED, message)
