"""Who is let in, and to what: network, token, permission, in this order. Refusals are in Key Vault's words.

Without a credential nothing is told but where to get one, except that an address which no credential could help is refused at once.
Source: contracts, control-plane sections 6.2 and 6.3.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from stockade.identity.audiences import vault_audiences
from stockade.identity.verify import TokenCache, verify
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import RejectedCredential, TokenCredential
from stockade.policy import rbac, vault_access, vault_network
from stockade.policy.snapshot import Snapshot, VaultPolicy
from stockade.settings import Settings
from stockade.vault.address import Place
from stockade.vault.challenge import challenge, unauthenticated

MAX_TOKEN: Final = 32 * 1024

Verify: TypeAlias = Callable[[Snapshot, str, float], TokenCredential | RejectedCredential]
"""Snapshot, token and epoch seconds in, credential or refusal out. Called from several threads."""

_TOLD: Final = {
    "expired": "AKV10046: The access token has expired.",
    "wrong_audience": "AKV10022: The access token is for another audience.",
    "wrong_tenant": "AKV10032: The access token is from another tenant.",
    "unknown_issuer": "AKV10032: The access token is from an issuer that is not trusted here.",
}


@dataclass(frozen=True, slots=True)
class Admitted:
    """Somebody who was let in. network: what of the vault's network did it, "" where all are let in."""

    credential: TokenCredential
    token: str
    network: str


def verifier(settings: Settings, noted: Callable[[RejectedCredential, float], None] = lambda _, __: None) -> Verify:
    """Return what verifies tokens for vaults. noted: told of what was refused, so that missing issuer keys are fetched."""
    audiences, cache, lock = vault_audiences(settings), TokenCache(), threading.Lock()

    def verify_token(snapshot: Snapshot, token: str, now: float) -> TokenCredential | RejectedCredential:
        with lock:  # the cache belongs to one thread at a time
            found = verify(snapshot, token, now, audiences, cache)
        if isinstance(found, RejectedCredential):
            noted(found, now)
        return found

    return verify_token


def admit(
    snapshot: Snapshot,
    settings: Settings,
    place: Place,
    vault: VaultPolicy,
    authorization: str,
    address: str,
    now: float,
    verify_token: Verify,
) -> Admitted:
    """Return who asks; Fault(NETWORK_DENIED), Fault(PUBLIC_ACCESS_DISABLED), Fault(UNAUTHENTICATED)."""

    def header() -> str:
        return challenge(settings, vault.tenant_id, own_host=place.own_host)

    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    given = scheme.lower() == "bearer" and bool(token)
    found: TokenCredential | RejectedCredential | None = None
    if given:
        too_long = len(token) > MAX_TOKEN
        found = RejectedCredential("token", "too_large") if too_long else verify_token(snapshot, token, now)
    credential = found if isinstance(found, TokenCredential) else None
    network = vault_network.admitted_by(snapshot, vault, address, credential)
    if network is None and (credential is not None or not vault.network.trusted_services):
        raise _outside(vault, address, credential)
    if found is None:
        message = "AKV10000: Request is missing a Bearer or PoP token."
        raise unauthenticated(message, "no_credential", header())
    if isinstance(found, RejectedCredential):
        message = _TOLD.get(found.reason, "AKV10001: The access token does not verify.")
        raise unauthenticated(message, found.reason, header())
    if found.tenant_id.lower() != vault.tenant_id:
        raise unauthenticated(_TOLD["wrong_tenant"], "wrong_tenant", header())
    return Admitted(found, token, network or "")


def require(
    snapshot: Snapshot,
    vault: VaultPolicy,
    who: TokenCredential,
    permission: str,
    item_id: str,
    decision_id: str,
    *,
    now: float,
) -> str:
    """Return what permits an operation, for the record; Fault(PERMISSION_DENIED). item_id: the key, secret or vault asked for, lower case."""
    details = {"principal": who.object_id, "application": who.app_id or ""}
    if vault.rbac:
        action = vault_access.PREFIX + vault_access.DATA_ACTIONS[permission]
        access = rbac.check(snapshot, who.object_id, who.groups, action, item_id, now=now, data=True)
        if isinstance(access, rbac.Granted):
            return f"{access.role_name} at {access.assignment.scope}"
        raise _by_rbac(snapshot, vault, who, permission, item_id, decision_id, details, access)
    if vault_access.permits(snapshot, vault, who.object_id, who.groups, permission, item_id, now=now):
        return "access policy"
    family, _, word = permission.partition("/")
    message = (
        f"The user, group or application '{caller(who)}' does not have {family} {word} permission on key vault "
        f"'{vault.name};location={vault.location}'. Decision: {decision_id}."
    )
    raise Fault(FaultKind.PERMISSION_DENIED, message, details={**details, "inner": "AccessDenied"})


def caller(who: TokenCredential | None) -> str:
    """Return a caller as Key Vault names one."""
    if who is None:
        return "(none)"
    return f"appid={who.app_id or ''};oid={who.object_id};iss={who.issuer}"


def _by_rbac(
    snapshot: Snapshot,
    vault: VaultPolicy,
    who: TokenCredential,
    permission: str,
    item_id: str,
    decision_id: str,
    details: dict[str, str],
    access: rbac.Refused,
) -> Fault:
    action = vault_access.PREFIX + vault_access.DATA_ACTIONS[permission]
    denied = access.deny.id if access.deny is not None else "null"
    ended = f" {rbac.ended_text(snapshot, access.ended)}" if access.ended is not None else ""
    role = rbac.smallest_role(snapshot, action, data=True) if denied == "null" else None
    lines = [
        f"Caller is not authorized to perform action on resource.{ended}"
        + (f" The role '{role.name}' assigned there or above would allow it." if role is not None else ""),
        f"Caller: {caller(who)}",
        f"Action: '{action}'",
        f"Resource: '{vault.arm_id}{item_id.removeprefix(vault.id)}'",
        "Assignment: (not found)",
        f"DenyAssignmentId: {denied}",
        "DecisionReason: null",
        f"Vault: {vault.name};location={vault.location}",
        f"Decision: {decision_id}",
    ]
    message = "\r\n".join(lines)
    return Fault(FaultKind.PERMISSION_DENIED, message, details={**details, "inner": "ForbiddenByRbac"})


def _outside(vault: VaultPolicy, address: str, who: TokenCredential | None) -> Fault:
    named = {"principal": who.object_id, "application": who.app_id or ""} if who is not None else {}
    where = f"Caller: {caller(who)}\r\nVault: {vault.name};location={vault.location}"
    if not vault.network.public_access:
        message = f"Public network access is disabled and request is not from a trusted service.\r\n{where}"
        return Fault(FaultKind.PUBLIC_ACCESS_DISABLED, message, details={**named, "inner": "ForbiddenByConnection"})
    message = (
        f"Client address ({address}) is not authorized and caller is not a trusted service.\r\n"
        f"Client address: {address}\r\n{where}"
    )
    return Fault(FaultKind.NETWORK_DENIED, message, details={**named, "inner": "ForbiddenByFirewall"})
