"""The directory: making, finding and changing principals and groups, inside the caller's transaction. `principals.py` says how they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from sqlalchemy import ColumnElement, func, select

from stockade.identity import client_secrets, tenant
from stockade.identity.client_assertion import certificate_entry
from stockade.identity.client_secrets import SecretDigester
from stockade.identity.external_ids import object_id_of
from stockade.identity.principals import (
    GROUP_TYPE,
    GROUPS,
    PRINCIPAL_TYPE,
    PRINCIPALS,
    CertificateInfo,
    Group,
    Kind,
    Principal,
    SecretInfo,
    certificate_info,
    group_view,
    secret_info,
    view,
)
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.principal import EVERYONE, PrincipalType
from stockade.kernel.resource_id import is_guid
from stockade.kernel.secret import Secret
from stockade.keys.root import RootKey
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, State
from stockade.storage.tables import documents

MAX_SECRETS = 10
MAX_MEMBERS = 10_000
MAX_NAME = 120
MAX_SUBJECT = 512
SECRET_DAYS = 730


class Directory:
    """Reads and changes principals and groups, inside the caller's transaction."""

    def __init__(self, root_key: RootKey, clock: Clock) -> None:
        self.digester = SecretDigester(root_key)
        self._clock = clock

    # Principals

    def create_application(
        self, writer: Writer, name: str, *, secret_days: int = SECRET_DAYS
    ) -> tuple[Principal, Secret]:
        """Create an application with its service principal and first client secret. The secret is shown this once."""
        created = self._create(writer, name, "application", "ServicePrincipal", app_id=new_guid())
        secret, _ = self.add_secret(writer, created.object_id, name="first", days=secret_days)
        return created, secret

    def create_managed_identity(
        self, writer: Writer, arm_resource_id: str, kind: Literal["SystemAssigned", "UserAssigned"]
    ) -> Principal:
        """Return the resource's managed identity, creating it when it has none. No credential exists for it but the metadata endpoint."""
        existing = self.managed_identity(writer, arm_resource_id)
        if existing is not None:
            return existing
        name = arm_resource_id.rstrip("/").rsplit("/", 1)[-1]
        return self._create(
            writer,
            name,
            "managedIdentity",
            "ServicePrincipal",
            app_id=new_guid(),
            extra={"resourceId": arm_resource_id, "identityType": kind},
        )

    def delete_managed_identity(self, writer: Writer, arm_resource_id: str) -> bool:
        """Delete the resource's managed identity; False when it has none."""
        existing = self.managed_identity(writer, arm_resource_id)
        if existing is None:
            return False
        return self.delete(writer, existing.object_id)

    def managed_identity(self, reader: Reader, arm_resource_id: str) -> Principal | None:
        """Return the managed identity of an ARM resource."""
        found = _matching(
            reader, PRINCIPAL_TYPE, func.lower(_text("resourceId")) == arm_resource_id.rstrip("/").lower()
        )
        return view(found[0]) if found else None

    def machine_identity(self, writer: Writer) -> Principal:
        """Return the identity of this machine, creating it at the first call. It has no roles until someone assigns some."""
        found = _matching(writer, PRINCIPAL_TYPE, _text("kind") == "machine")
        if found:
            return view(found[0])
        return self._create(writer, "this-machine", "machine", "ServicePrincipal", app_id=new_guid())

    def register_external(
        self,
        writer: Writer,
        subject: str,
        name: str,
        principal_type: PrincipalType,
        issuer: str,
        app_id: str | None = None,
    ) -> Principal:
        """Make a principal of a further issuer known, so that roles can be assigned to it; only that issuer's tokens speak for it.

        subject: what the issuer calls it; see external_ids.py for the object id that follows. Again: with a new name, type or app_id.
        """
        object_id = object_id_of(issuer, subject, group=principal_type == "Group")
        if object_id == EVERYONE or not 0 < len(subject) <= MAX_SUBJECT or not subject.isprintable():
            raise Fault(FaultKind.INVALID, "This cannot be the name of a principal in a token.", target="subject")
        existing = writer.get(PRINCIPALS + object_id)
        if (existing is not None and view(existing).issuer != issuer) or writer.get(GROUPS + object_id) is not None:
            raise Fault(FaultKind.CONFLICT, f"The directory already has a principal with the id '{object_id}'.")
        app_id = app_id.lower() if app_id else None
        if existing is not None:
            changed = {"displayName": _clean_name(name), "principalType": principal_type, "appId": app_id}
            return view(writer.put(existing.id, existing.type, {**existing.body, **changed}))
        named = {"subject": subject} if subject.lower() != object_id else {}
        return self._create(
            writer,
            name,
            "external",
            principal_type,
            app_id=app_id,
            object_id=object_id,
            extra={"issuer": issuer, **named},
        )

    def get(self, reader: Reader, object_id: str) -> Principal | None:
        """Return a principal by its object id."""
        document = reader.get(PRINCIPALS + object_id) if is_guid(object_id) else None
        return view(document) if document is not None else None

    def by_app_id(self, reader: Reader, app_id: str) -> Principal | None:
        """Return the principal of an application id; our own before one of a further issuer that is called the same."""
        found = [view(document) for document in _matching(reader, PRINCIPAL_TYPE, _text("appId") == app_id.lower())]
        return min(found, key=lambda principal: principal.kind == "external", default=None)

    def by_name(self, reader: Reader, display_name: str) -> list[Principal]:
        """Return every principal with a display name, in any case. Names are not unique."""
        return [
            view(d) for d in _matching(reader, PRINCIPAL_TYPE, func.lower(_text("displayName")) == display_name.lower())
        ]

    def resolve(self, reader: Reader, reference: str) -> Principal | None:
        """Return the principal meant by an object id, application id, service principal name or display name.

        Fault(CONFLICT) when a display name fits several.
        """
        if is_guid(reference):
            return self.get(reader, reference) or self.by_app_id(reader, reference)
        found = self.by_name(reader, reference)
        if len(found) > 1:
            raise Fault(FaultKind.CONFLICT, f"{len(found)} principals are called '{reference}'; use an object id.")
        return found[0] if found else None

    def principals(self, reader: Reader, kind: Kind | None = None) -> list[Principal]:
        """Return all principals, or those of one kind."""
        found = [view(document) for document in reader.list(PRINCIPAL_TYPE)]
        return [principal for principal in found if kind is None or principal.kind == kind]

    def set_enabled(self, writer: Writer, object_id: str, enabled: bool) -> Principal:
        """Enable or disable a principal. Tokens of a disabled one are refused from the next request on."""
        document = _required(writer, PRINCIPALS + object_id)
        return view(writer.put(document.id, document.type, {**document.body, "enabled": enabled}))

    def delete(self, writer: Writer, object_id: str) -> bool:
        """Delete a principal and its memberships; False when there is none.

        Its role assignments stay, as in Azure, and give nobody anything.
        """
        document = writer.get(PRINCIPALS + object_id) if is_guid(object_id) else None
        if document is None:
            return False
        self._leave_groups(writer, object_id.lower())
        writer.remove(document)
        return True

    # Credentials

    def add_secret(
        self, writer: Writer, object_id: str, *, name: str = "", days: int = SECRET_DAYS
    ) -> tuple[Secret, SecretInfo]:
        """Give an application a further client secret. Fault(CONFLICT) when it already has ten."""
        document = _required(writer, PRINCIPALS + object_id)
        if document.body["kind"] != "application":
            raise Fault(FaultKind.INVALID, "Only applications have client secrets.", target="objectId")
        if not 1 <= days <= 3650:
            raise Fault(FaultKind.INVALID, "A secret lives between 1 and 3650 days.", target="days")
        held = list(document.private.get("secrets", ()))
        if len(held) >= MAX_SECRETS:
            raise Fault(
                FaultKind.CONFLICT, f"The application already has {MAX_SECRETS} client secrets; remove one first."
            )
        secret, now = client_secrets.generate(), self._clock.now()
        entry = {
            "keyId": new_guid(),
            "name": _clean_name(name) if name else "",
            "hint": client_secrets.hint(secret),
            "digest": self.digester.digest(str(document.body["appId"]), secret),
            "createdAt": now,
            "expiresAt": now + days * 86_400,
        }
        writer.put(document.id, document.type, document.body, {**document.private, "secrets": [*held, entry]})
        return secret, secret_info(entry)

    def secrets(self, reader: Reader, object_id: str) -> list[SecretInfo]:
        """Return what may be shown of an application's secrets."""
        document = _required(reader, PRINCIPALS + object_id)
        return [secret_info(entry) for entry in document.private.get("secrets", ())]

    def add_certificate(self, writer: Writer, object_id: str, pem: bytes | str) -> str:
        """Register a certificate an application may sign its assertions with; returns its key id."""
        document = _required(writer, PRINCIPALS + object_id)
        if document.body["kind"] != "application":
            raise Fault(FaultKind.INVALID, "Only applications have certificates.", target="objectId")
        held = list(document.private.get("certificates", ()))
        if len(held) >= MAX_SECRETS:
            raise Fault(
                FaultKind.CONFLICT, f"The application already has {MAX_SECRETS} certificates; remove one first."
            )
        now = self._clock.now()
        entry = {"keyId": new_guid(), "createdAt": now, **certificate_entry(pem)}
        if entry["expiresAt"] <= now:
            raise Fault(FaultKind.INVALID, "The certificate has expired.", target="certificate")
        if any(other["sha256"] == entry["sha256"] for other in held):
            raise Fault(FaultKind.CONFLICT, "The application already has this certificate.")
        writer.put(document.id, document.type, document.body, {**document.private, "certificates": [*held, entry]})
        return str(entry["keyId"])

    def certificates(self, reader: Reader, object_id: str) -> list[CertificateInfo]:
        """Return what may be shown of an application's certificates."""
        document = _required(reader, PRINCIPALS + object_id)
        return [certificate_info(entry) for entry in document.private.get("certificates", ())]

    def remove_credential(self, writer: Writer, object_id: str, key_id: str) -> bool:
        """Remove a client secret or certificate; False when there is none of that key id."""
        document = _required(writer, PRINCIPALS + object_id)
        left = {
            kind: [entry for entry in document.private.get(kind, ()) if entry["keyId"] != key_id.lower()]
            for kind in ("secrets", "certificates")
        }
        if all(len(left[kind]) == len(document.private.get(kind, ())) for kind in left):
            return False
        writer.put(document.id, document.type, document.body, {**document.private, **left})
        return True

    # Groups

    def create_group(self, writer: Writer, name: str) -> Group:
        """Create an empty group."""
        object_id = new_guid()
        body = {"name": object_id, "objectId": object_id, "displayName": _clean_name(name), "members": []}
        return group_view(writer.put(GROUPS + object_id, GROUP_TYPE, body))

    def group(self, reader: Reader, object_id: str) -> Group | None:
        """Return a group by its object id."""
        document = reader.get(GROUPS + object_id) if is_guid(object_id) else None
        return group_view(document) if document is not None else None

    def groups(self, reader: Reader) -> list[Group]:
        """Return all groups."""
        return [group_view(document) for document in reader.list(GROUP_TYPE)]

    def add_member(self, writer: Writer, group_id: str, member_id: str) -> None:
        """Put a principal or another group into a group; nothing happens when it is in already."""
        document, member = _required(writer, GROUPS + group_id), member_id.lower()
        if self.get(writer, member) is None and self.group(writer, member) is None:
            raise Fault(FaultKind.NOT_FOUND, f"The directory has no principal or group '{member_id}'.")
        members = list(document.body["members"])
        if member == group_id.lower() or group_id.lower() in _groups_below(writer, member):
            raise Fault(FaultKind.INVALID, "A group cannot be its own member, directly or through others.")
        if member in members:
            return
        if len(members) >= MAX_MEMBERS:
            raise Fault(FaultKind.TOO_LARGE, f"A group has at most {MAX_MEMBERS} members.")
        writer.put(document.id, document.type, {**document.body, "members": [*members, member]})

    def remove_member(self, writer: Writer, group_id: str, member_id: str) -> bool:
        """Take a member out of a group; False when it was not in."""
        document = _required(writer, GROUPS + group_id)
        left = [member for member in document.body["members"] if member != member_id.lower()]
        if len(left) == len(document.body["members"]):
            return False
        writer.put(document.id, document.type, {**document.body, "members": left})
        return True

    def delete_group(self, writer: Writer, object_id: str) -> bool:
        """Delete a group; False when there is none."""
        document = writer.get(GROUPS + object_id) if is_guid(object_id) else None
        if document is None:
            return False
        self._leave_groups(writer, object_id.lower())
        writer.remove(document)
        return True

    def _create(
        self,
        writer: Writer,
        name: str,
        kind: Kind,
        principal_type: PrincipalType,
        *,
        app_id: str | None,
        object_id: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Principal:
        identity = object_id or new_guid()
        body = {
            "name": identity,
            "objectId": identity,
            "appId": app_id,
            "displayName": _clean_name(name),
            "principalType": principal_type,
            "kind": kind,
            "enabled": True,
            "tenantId": tenant.required_tenant(writer).id,
            **(extra or {}),
        }
        return view(writer.put(PRINCIPALS + identity, PRINCIPAL_TYPE, body))

    def _leave_groups(self, writer: Writer, member: str) -> None:
        for document in writer.list(GROUP_TYPE):
            if member in document.body["members"]:
                self.remove_member(writer, str(document.body["objectId"]), member)


def _text(field: str) -> ColumnElement[str]:
    return cast("ColumnElement[str]", documents.c.body[field].as_string())


def _matching(reader: Reader, document_type: str, condition: ColumnElement[bool]) -> list[Document]:
    # Asked of the database rather than of a list in memory: a directory of 10,000 principals is 4 MB of JSON to decode.
    query = select(documents.c.id).where(
        documents.c.type == document_type, documents.c.state == State.LIVE.value, condition
    )
    found = [reader.get(row.id) for row in reader.connection.execute(query.order_by(documents.c.id))]
    return [document for document in found if document is not None]


def _groups_below(reader: Reader, group_id: str) -> set[str]:
    found: set[str] = set()
    frontier = [group_id]
    while frontier:
        document = reader.get(GROUPS + frontier.pop())
        for member in document.body["members"] if document is not None else ():
            if member not in found:
                found.add(member)
                frontier.append(member)
    return found


def _required(reader: Reader, document_id: str) -> Document:
    document = reader.get(document_id)
    if document is None:
        raise Fault(FaultKind.NOT_FOUND, f"The directory has no object '{document_id.rsplit('/', 1)[-1]}'.")
    return document


def _clean_name(name: str) -> str:
    cleaned = name.strip()
    if not 1 <= len(cleaned) <= MAX_NAME or not cleaned.isprintable():
        raise Fault(FaultKind.INVALID, f"A name has 1 to {MAX_NAME} printable characters.", target="displayName")
    return cleaned
