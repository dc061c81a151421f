"""Principals and groups as they are stored: what a document says, what may be shown of it, and what it adds to the snapshot.

A principal is `/providers/stockade.directory/principals/{object id}`, a group
`/providers/stockade.directory/groups/{object id}`. What clients may see is in the body; digests of client secrets and
certificates are in the private part. Ids are lower-case GUIDs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from stockade.identity.client_assertion import thumbprint
from stockade.kernel.principal import PrincipalType
from stockade.policy.snapshot import Entry, PrincipalPolicy
from stockade.storage.documents import Document

PRINCIPAL_TYPE = "stockade.directory/principals"
GROUP_TYPE = "stockade.directory/groups"
PRINCIPALS = "/providers/stockade.directory/principals/"
GROUPS = "/providers/stockade.directory/groups/"

Kind: TypeAlias = Literal["application", "managedIdentity", "machine", "external"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A principal as the rest of the platform sees it: no credentials."""

    object_id: str
    app_id: str | None
    display_name: str
    type: PrincipalType
    kind: Kind
    enabled: bool
    tenant_id: str
    resource_id: str | None
    issuer: str | None
    created_at: float
    subject: str | None = None
    """What its issuer calls it, where that is not the object id."""

    @property
    def service_principal_names(self) -> tuple[str, ...]:
        """The names `az` finds an application by."""
        return (self.app_id,) if self.app_id is not None else ()


@dataclass(frozen=True, slots=True)
class Group:
    """A group and its direct members (principals or groups)."""

    object_id: str
    display_name: str
    members: tuple[str, ...]
    created_at: float


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """What may be shown of a client secret."""

    key_id: str
    name: str
    hint: str
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """What is shown of a certificate. thumbprint: SHA-1 of it in upper-case hexadecimal, as Azure's tools print it."""

    key_id: str
    thumbprint: str
    created_at: float
    expires_at: float


def compile_principal(document: Document) -> Iterable[Entry]:
    """Yield the principal, and the way to it from its application id and its ARM resource."""
    principal = view(document)
    policy = PrincipalPolicy(
        principal.object_id,
        principal.type,
        principal.app_id,
        principal.display_name,
        principal.enabled,
        principal.issuer,
        principal.resource_id.lower() if principal.resource_id is not None else None,
    )
    yield ("principal", principal.object_id, policy)
    if principal.app_id is not None and principal.kind != "external":
        yield ("application", principal.app_id, principal.object_id)
    if principal.resource_id is not None:
        yield ("managed-identity", principal.resource_id.lower(), principal.object_id)
    if principal.kind == "machine":
        yield ("machine", "", principal.object_id)


def compile_group(document: Document) -> Iterable[Entry]:
    """Yield the group itself, which roles can be assigned to, and its direct memberships."""
    group = group_view(document)
    yield (
        "principal",
        group.object_id,
        PrincipalPolicy(group.object_id, "Group", None, group.display_name, enabled=True),
    )
    for member in group.members:
        yield ("member", member, group.object_id)


def view(document: Document) -> Principal:
    """Read a principal's document."""
    body = document.body
    return Principal(
        object_id=str(body["objectId"]),
        app_id=body.get("appId"),
        display_name=str(body["displayName"]),
        type=cast(PrincipalType, body["principalType"]),
        kind=cast(Kind, body["kind"]),
        enabled=body["enabled"] is True,
        tenant_id=str(body["tenantId"]),
        resource_id=body.get("resourceId"),
        issuer=body.get("issuer"),
        created_at=document.created_at,
        subject=body.get("subject"),
    )


def group_view(document: Document) -> Group:
    """Read a group's document."""
    body = document.body
    return Group(str(body["objectId"]), str(body["displayName"]), tuple(body["members"]), document.created_at)


def secret_info(entry: Mapping[str, Any]) -> SecretInfo:
    """Return what may be shown of a stored client secret."""
    return SecretInfo(entry["keyId"], entry["name"], entry["hint"], entry["createdAt"], entry["expiresAt"])


def certificate_info(entry: Mapping[str, Any]) -> CertificateInfo:
    """Return what is shown of a stored certificate."""
    return CertificateInfo(entry["keyId"], thumbprint(entry), entry["createdAt"], entry["expiresAt"])
