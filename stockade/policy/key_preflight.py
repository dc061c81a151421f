"""Everything that keeps a customer's key from being bound, at once. Pure, and only of vaults of this platform.

More is asked than while the key serves: that nothing can be lost by a slip (soft delete, purge protection), and that it is a key for this
account (type, size, tenant, and in strict parity the region).
Source: contracts, control-plane section 6.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from stockade.policy.customer_key import Problem, problems, vault_of, version_of
from stockade.policy.snapshot import CustomerKey, Snapshot, VaultPolicy, VaultVersionPolicy

Mismatch: TypeAlias = Literal[
    "SoftDeleteDisabled",
    "PurgeProtectionDisabled",
    "KeyTypeNotSupported",
    "KeySizeNotSupported",
    "OtherTenant",
    "OtherRegion",
]
TYPES: Final = frozenset({"RSA", "RSA-HSM"})
SIZES: Final = (2048, 3072, 4096)
AZURE_SIZES: Final = (2048,)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, in words for the account's owner."""

    problem: Problem | Mismatch | str
    """A further word is what the key broker said of a vault elsewhere."""
    message: str


def preflight(
    snapshot: Snapshot, key: CustomerKey, *, tenant_id: str, location: str, now: float, strict: bool
) -> tuple[Finding, ...]:
    """Return all that is wrong; nothing when the key can be bound.

    tenant_id, location: the account's. strict: only what Azure takes.
    """
    found = [Finding(one.problem, one.message) for one in problems(snapshot, key, now)]
    vault = vault_of(snapshot, key)
    if vault is None:
        return tuple(found)
    found += _of_vault(vault, tenant_id, location, strict=strict)
    version = version_of(snapshot, vault, key, now)
    if version is not None:
        found += _of_key(key, version, strict=strict)
    return tuple(found)


def _of_vault(vault: VaultPolicy, tenant_id: str, location: str, *, strict: bool) -> Iterator[Finding]:
    if not vault.soft_delete:
        yield Finding("SoftDeleteDisabled", f"Soft delete is off in the vault '{vault.name}'.")
    if not vault.purge_protection:
        yield Finding("PurgeProtectionDisabled", f"Purge protection is off in the vault '{vault.name}'.")
    if vault.tenant_id.lower() != tenant_id.lower():
        yield Finding("OtherTenant", f"The vault '{vault.name}' belongs to another tenant than the account.")
    if strict and vault.location != location:
        yield Finding("OtherRegion", f"The vault '{vault.name}' is in '{vault.location}', the account in '{location}'.")


def _of_key(key: CustomerKey, version: VaultVersionPolicy, *, strict: bool) -> Iterator[Finding]:
    sizes = AZURE_SIZES if strict else SIZES
    if version.key_type not in TYPES:
        yield Finding(
            "KeyTypeNotSupported",
            f"The key '{key.key_name}' has the type {version.key_type}; it has to be RSA or RSA-HSM.",
        )
    elif version.key_size not in sizes:
        wanted = ", ".join(str(size) for size in sizes)
        yield Finding(
            "KeySizeNotSupported", f"The key '{key.key_name}' has {version.key_size} bits; it has to have {wanted}."
        )
