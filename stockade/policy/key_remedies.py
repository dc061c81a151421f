"""What would make a customer's key serve, each with the command that does it. Pure; the preflight and the explanations say the same.

Commands are `az`'s, for whoever may run them: of the account's owner and the vault's owner, who need not be one person.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stockade.kernel.resource_id import ResourceId
from stockade.policy.customer_key import ROLE, vault_of
from stockade.policy.snapshot import CustomerKey, Snapshot, VaultPolicy


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing that helps. command: ready to be run; "" where there is none."""

    what: str
    command: str = ""


def remedy(snapshot: Snapshot, key: CustomerKey, problem: str, account_id: str) -> Remedy:
    """Return what ends a problem (`customer_key.Problem`, `key_preflight.Mismatch`). account_id: in any spelling, "" when not known."""
    vault = vault_of(snapshot, key)
    if problem == "IdentityMissing":
        return Remedy(
            "Give the account its managed identity (again). A new system-assigned identity is a new principal: it needs the role on the key too.",
            _identity_command(account_id),
        )
    if vault is None:
        return _elsewhere(key, problem)
    if problem == "AccessDenied":
        return _grant(vault, key)
    what, command = _IN_VAULT.get(problem, _ELSE)
    pinned = f" --version {key.key_version}" if key.key_version else ""
    values = {"vault": shlex.quote(vault.name), "key": shlex.quote(key.key_name), "pinned": pinned}
    return Remedy(what, command.format(**values, id=shlex.quote(vault.arm_id)))


_ATTRIBUTES: Final = "az keyvault key set-attributes --vault-name {vault} -n {key}{pinned} "
_ANOTHER: Final = (
    "Make a new version of the right type and size, or name another key.",
    "az keyvault key create --vault-name {vault} -n {key} --kty RSA --size 2048",
)
_ELSE: Final = ("Name a key in a vault of the account's tenant and region.", "")
_IN_VAULT: Final[Mapping[str, tuple[str, str]]] = {
    "KeyNotFound": (
        "Recover the key if it is deleted, or create it.",
        "az keyvault key recover --vault-name {vault} -n {key}",
    ),
    "KeyDisabled": ("Enable the key.", _ATTRIBUTES + "--enabled true"),
    "KeyNotYetValid": ("Move the time from which the key is valid.", _ATTRIBUTES + "--not-before 2020-01-01T00:00:00Z"),
    "KeyExpired": (
        "Rotate the key, where no version is pinned, or move its expiry.",
        "az keyvault key rotate --vault-name {vault} -n {key}",
    ),
    "KeyOperationNotPermitted": ("Let the key wrap and unwrap.", _ATTRIBUTES + "--ops wrapKey unwrapKey"),
    "VaultNetworkDenied": ("Let trusted services through.", "az keyvault update -n {vault} --bypass AzureServices"),
    "SoftDeleteDisabled": (
        "Turn soft delete on.",
        "az resource update --ids {id} --set properties.enableSoftDelete=true",
    ),
    "PurgeProtectionDisabled": (
        "Turn purge protection on; it cannot be turned off again.",
        "az keyvault update -n {vault} --enable-purge-protection true",
    ),
    "KeyTypeNotSupported": _ANOTHER,
    "KeySizeNotSupported": _ANOTHER,
}


def _elsewhere(key: CustomerKey, problem: str) -> Remedy:
    if problem == "VaultNotFound":
        return Remedy(
            f"Check the vault's address {key.vault_uri}, recover the vault if it is deleted, or have the operator name it among the providers.",
            "az keyvault list -o table",
        )
    if problem == "VaultUnreachable":
        return Remedy(
            f"The vault at {key.vault_uri} has to be reachable from this platform; it is asked again all the time."
        )
    return Remedy(f"This has to be put right in the vault at {key.vault_uri}, by its owner.")


def _grant(vault: VaultPolicy, key: CustomerKey) -> Remedy:
    who = shlex.quote(key.principal_id)
    if not vault.rbac:
        return Remedy(
            "Give the identity get, wrapKey and unwrapKey in the vault's access policies.",
            f"az keyvault set-policy -n {shlex.quote(vault.name)} --object-id {who} --key-permissions get wrapKey unwrapKey",
        )
    return Remedy(
        f"Give the identity the role '{ROLE}' on the vault or the key, and let no deny assignment take it.",
        f"az role assignment create --assignee-object-id {who} --assignee-principal-type ServicePrincipal "
        f"--role {shlex.quote(ROLE)} --scope {shlex.quote(f'{vault.arm_id}/keys/{key.key_name}')}",
    )


def _identity_command(account_id: str) -> str:
    if not account_id:
        return ""
    resource = ResourceId.parse(account_id)
    where = f"-g {shlex.quote(resource.resource_group or '')} -n {shlex.quote(resource.name)}"
    return f"az cognitiveservices account identity assign {where}"
