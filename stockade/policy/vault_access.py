"""Who may do what in a key vault: roles, or where the vault asks for it access policies. Pure.

Source: contracts, control-plane section 6.5; data actions from the built-in Key Vault roles.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from stockade.policy import rbac
from stockade.policy.snapshot import Snapshot, VaultPolicy

PREFIX: Final = "Microsoft.KeyVault/vaults/"

DATA_ACTIONS: Final[dict[str, str]] = {
    "keys/get": "keys/read",
    "keys/list": "keys/read",
    "keys/create": "keys/create/action",
    "keys/update": "keys/update/action",
    "keys/import": "keys/import/action",
    "keys/delete": "keys/delete",
    "keys/backup": "keys/backup/action",
    "keys/restore": "keys/restore/action",
    "keys/recover": "keys/recover/action",
    "keys/purge": "keys/purge/action",
    "keys/encrypt": "keys/encrypt/action",
    "keys/decrypt": "keys/decrypt/action",
    "keys/wrapkey": "keys/wrap/action",
    "keys/unwrapkey": "keys/unwrap/action",
    "keys/sign": "keys/sign/action",
    "keys/verify": "keys/verify/action",
    "keys/release": "keys/release/action",
    "keys/rotate": "keys/rotate/action",
    "keys/getrotationpolicy": "keyrotationpolicies/read",
    "keys/setrotationpolicy": "keyrotationpolicies/write",
    "secrets/get": "secrets/getSecret/action",
    "secrets/list": "secrets/readMetadata/action",
    "secrets/set": "secrets/setSecret/action",
    "secrets/update": "secrets/update/action",
    "secrets/delete": "secrets/delete",
    "secrets/backup": "secrets/backup/action",
    "secrets/restore": "secrets/restore/action",
    "secrets/recover": "secrets/recover/action",
    "secrets/purge": "secrets/purge/action",
    "rng": "rng/action",
}
"""Per permission of an access policy the data action that a role grants it by."""


def permits(
    snapshot: Snapshot,
    vault: VaultPolicy,
    principal_id: str,
    groups: Iterable[str],
    permission: str,
    item_id: str,
    *,
    now: float,
) -> bool:
    """Say whether a principal has a permission (`keys/wrapkey`). item_id: the key or secret asked for, or the vault; lower-case id."""
    if vault.rbac:
        action = PREFIX + DATA_ACTIONS[permission]
        access = rbac.check(snapshot, principal_id, tuple(groups), action, item_id, now=now, data=True)
        return isinstance(access, rbac.Granted)
    family = permission.partition("/")[0]
    held: set[str] = set()
    for identity in rbac.identities(snapshot, principal_id, groups):
        held |= vault.access.get(identity, frozenset())
    # Purging is never part of `all`: Azure has it granted by name.
    return permission in held or (f"{family}/all" in held and not permission.endswith("/purge"))
