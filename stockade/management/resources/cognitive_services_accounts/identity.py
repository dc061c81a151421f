"""The managed identities of an account.

A system-assigned identity is a principal of the directory and lives and dies with the account; while the account is soft-deleted it is
disabled, so that a restored account has the identity, and the role assignments, that it had before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.management.resource_type import Call, Platform, display_id
from stockade.management.resources.cognitive_services_accounts.shape import Identity
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json, State

USER_ASSIGNED_TYPE = "microsoft.managedidentity/userassignedidentities"
MAX_USER_ASSIGNED = 100


def planned_identity(call: Call, wanted: Identity, current: Mapping[str, Any] | None, reader: Reader) -> Json:
    """Return the identity as it is stored; ids of a system-assigned identity that is yet to be made are filled in by `settle`.

    wanted: the whole identity. current: the one stored. Fault(INVALID) for an unknown type or a user-assigned identity that does not exist.
    """
    words = [word.strip().lower() for word in (wanted.type or "None").split(",")]
    system, user = "systemassigned" in words, "userassigned" in words
    if (
        len(set(words)) != len(words)
        or not set(words) <= {"none", "systemassigned", "userassigned"}
        or ("none" in words and len(words) > 1)
    ):
        message = (
            f"'{(wanted.type or '')[:80]}' is not an identity type; use None, SystemAssigned, UserAssigned "
            "or 'SystemAssigned, UserAssigned'."
        )
        raise Fault(FaultKind.INVALID, message, code="InvalidIdentity", target="identity.type")
    assigned = [name for name, value in (wanted.user_assigned_identities or {}).items() if value is not None]
    if user != bool(assigned):
        message = "identity.userAssignedIdentities has to name at least one identity for type UserAssigned, and none for other types."
        raise Fault(FaultKind.INVALID, message, code="InvalidIdentity", target="identity.userAssignedIdentities")
    if len(assigned) > MAX_USER_ASSIGNED:
        message = f"An account has at most {MAX_USER_ASSIGNED} user-assigned identities."
        raise Fault(FaultKind.INVALID, message, code="InvalidIdentity", target="identity.userAssignedIdentities")
    parts = [name for name, on in (("SystemAssigned", system), ("UserAssigned", user)) if on]
    identity: Json = {"type": ", ".join(parts) or "None"}
    if system:
        identity["tenantId"] = call.platform.tenant_id
        if current is not None and "principalId" in current:
            identity["principalId"] = current["principalId"]
    if user:
        identity["userAssignedIdentities"] = {name: _user_assigned(name, reader) for name in assigned}
    return identity


def settle(call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
    """Create the system-assigned identity the account asks for, or delete the one it no longer has; return the account as then stored.

    previous: what was stored before, None for a new account.
    """
    wanted = document.body.get("identity") or {}
    had = previous is not None and has_system_assigned(previous.body.get("identity"))
    directory = call.platform.directory
    if not has_system_assigned(wanted):
        if had:
            directory.delete_managed_identity(writer, document.id)
        return document
    if had and previous is not None and previous.state is State.LIVE and "principalId" in wanted:
        return document
    principal = directory.create_managed_identity(writer, display_id(document), "SystemAssigned")
    if not principal.enabled:
        principal = directory.set_enabled(writer, principal.object_id, enabled=True)
    return writer.put(
        document.id,
        document.type,
        {**document.body, "identity": {**wanted, "principalId": principal.object_id}},
        subscription=document.subscription,
        resource_group=document.resource_group,
    )


def suspend(call: Call, writer: Writer, document: Document) -> None:
    """Disable the system-assigned identity of an account that is being soft-deleted."""
    principal = call.platform.directory.managed_identity(writer, document.id)
    if principal is not None:
        call.platform.directory.set_enabled(writer, principal.object_id, enabled=False)


def discard(platform: Platform, writer: Writer, document: Document) -> None:
    """Delete the system-assigned identity of an account that is being purged."""
    platform.directory.delete_managed_identity(writer, document.id)


def has_system_assigned(identity: Mapping[str, Any] | None) -> bool:
    """Say whether a stored identity is, or includes, a system-assigned one."""
    return identity is not None and "SystemAssigned" in str(identity.get("type"))


def _user_assigned(name: str, reader: Reader) -> Json:
    resource = ResourceId.parse(name)
    document = reader.get(resource.key) if (resource.type or "").lower() == USER_ASSIGNED_TYPE else None
    if document is None:
        message = f"There is no user-assigned identity '{name}'."
        raise Fault(
            FaultKind.INVALID, message, code="FailedIdentityOperation", target="identity.userAssignedIdentities"
        )
    properties = document.body.get("properties", {})
    return {"principalId": properties.get("principalId"), "clientId": properties.get("clientId")}
