"""Write to the directory. Not Azure's: there principals are made in Entra, through Graph, by people this platform has no counterpart of.

Besides its own permission everything here but reading takes the one to assign roles at the subscription: handing out the credential of a
principal is as good as having its roles, so it is for those who could give those roles away. (A Contributor has `*` without that.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from stockade.identity.directory import MAX_SUBJECT, Directory
from stockade.identity.external_ids import object_id_of
from stockade.identity.metadata import identity_header
from stockade.identity.principals import CertificateInfo, Principal, SecretInfo
from stockade.identity.tenant import required_tenant
from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import PrincipalType
from stockade.management import authorization
from stockade.management.resource_type import Call, Plugin, Reply, Route, bodies
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Json

BASE: Final = "/subscriptions/{subscription}/providers/Stockade.Directory"
READ: Final = "Stockade.Directory/principals/read"
WRITE: Final = "Stockade.Directory/principals/write"
DELETE: Final = "Stockade.Directory/principals/delete"
ENDPOINT: Final = "Stockade.Directory/principals/identityEndpoint/action"
ASSIGN_ROLES: Final = "Microsoft.Authorization/roleAssignments/write"
DEFAULT_DAYS: Final = 730
EXTERNAL_TYPES: Final = ("ServicePrincipal", "User", "Group")
MAX_CLIENT_ID: Final = 120


class DirectoryPrincipals(Plugin):
    """Routes below `Stockade.Directory`; the documents belong to `identity/directory.py`."""

    name = "Stockade.Directory"

    @property
    def routes(self) -> Sequence[Route]:
        one, group = f"{BASE}/principals/{{reference}}", f"{BASE}/groups/{{reference}}"
        return (
            Route("GET", f"{BASE}/principals", READ, _list),
            Route("POST", f"{BASE}/principals", WRITE, _create, writes=True),
            Route("GET", one, READ, _show),
            Route("PUT", one, WRITE, _register, writes=True),
            Route("DELETE", one, DELETE, _delete, writes=True),
            Route("POST", f"{one}/enable", WRITE, _enable, writes=True),
            Route("POST", f"{one}/disable", WRITE, _disable, writes=True),
            Route("POST", f"{one}/certificates", WRITE, _add_certificate, writes=True),
            Route("DELETE", f"{one}/certificates/{{key}}", DELETE, _remove_credential, writes=True),
            Route("POST", f"{one}/secrets", WRITE, _add_secret, writes=True),
            Route("DELETE", f"{one}/secrets/{{key}}", DELETE, _remove_credential, writes=True),
            Route("POST", f"{one}/identityEndpoint", ENDPOINT, _identity_endpoint),
            Route("GET", f"{BASE}/groups", READ, _list_groups),
            Route("POST", f"{BASE}/groups", WRITE, _create_group, writes=True),
            Route("DELETE", group, DELETE, _delete_group, writes=True),
            Route("PUT", f"{group}/members/{{member}}", WRITE, _add_member, writes=True),
            Route("DELETE", f"{group}/members/{{member}}", DELETE, _remove_member, writes=True),
        )


def _list(call: Call, reader: Reader) -> Json:
    return bodies(_body(principal) for principal in _directory(call).principals(reader))


def _create(call: Call, writer: Writer) -> Reply:
    principal, secret = _directory(call).create_application(writer, _text(call, "displayName"), secret_days=_days(call))
    return Reply(201, {**_body(principal), "clientSecret": secret.reveal_text()})


def _show(call: Call, reader: Reader) -> Json:
    principal = _resolve(call, reader)
    secrets = _directory(call).secrets(reader, principal.object_id)
    certificates = _directory(call).certificates(reader, principal.object_id)
    return {
        **_body(principal),
        "secrets": [_secret_body(entry) for entry in secrets],
        "certificates": [_certificate_body(entry) for entry in certificates],
    }


def _register(call: Call, writer: Writer) -> Reply:
    """Register a principal of a further issuer, or change what is known of it."""
    directory = _directory(call)
    issuer, kind = _text(call, "issuer"), call.body.get("principalType", EXTERNAL_TYPES[0])
    trusted = [entry.issuer for entry in call.platform.settings.issuers]
    if issuer not in trusted:
        those = f"those trusted are {', '.join(trusted)}" if trusted else "none is"
        message = f"The issuer '{issuer[:200]}' is not trusted by this server's settings.toml; {those}."
        raise Fault(FaultKind.INVALID, message, target="issuer")
    if kind not in EXTERNAL_TYPES:
        message = f"The property 'principalType' must be one of {', '.join(EXTERNAL_TYPES)}."
        raise Fault(FaultKind.INVALID, message, target="principalType")
    reference = call.parameters["reference"]
    subject = _optional_text(call, "subject", MAX_SUBJECT) or reference
    object_id = object_id_of(issuer, subject, group=kind == "Group")
    if reference.lower() != object_id:
        message = f"What '{issuer}' calls '{subject}' has the object id {object_id} here; PUT it there, with 'subject'."
        raise Fault(FaultKind.INVALID, message, target="subject")
    known = directory.get(writer, object_id) is not None
    client_id = _optional_text(call, "clientId", MAX_CLIENT_ID) or None
    principal = directory.register_external(
        writer, subject, _text(call, "displayName"), cast("PrincipalType", kind), issuer, client_id
    )
    return Reply(200 if known else 201, _body(principal))


def _delete(call: Call, writer: Writer) -> Reply:
    principal = _resolve(call, writer)
    if principal.kind in {"managedIdentity", "machine"}:
        raise Fault(FaultKind.CONFLICT, f"'{principal.display_name}' belongs to its resource and goes with it.")
    _require_another(call, principal)
    _directory(call).delete(writer, principal.object_id)
    return Reply(200)


def _enable(call: Call, writer: Writer) -> Reply:
    principal = _resolve(call, writer)
    return Reply(200, _body(_directory(call).set_enabled(writer, principal.object_id, True)))


def _disable(call: Call, writer: Writer) -> Reply:
    principal = _resolve(call, writer)
    _require_another(call, principal)
    return Reply(200, _body(_directory(call).set_enabled(writer, principal.object_id, False)))


def _require_another(call: Call, principal: Principal) -> None:
    if principal.object_id == call.credential.object_id:
        message = "A principal cannot delete or disable itself: nobody might be left who could undo it."
        raise Fault(FaultKind.CONFLICT, message)


def _add_secret(call: Call, writer: Writer) -> Reply:
    principal = _resolve(call, writer)
    name = call.body.get("displayName", "")
    if not isinstance(name, str):
        raise Fault(FaultKind.INVALID, "The property 'displayName' must be text.", target="displayName")
    secret, entry = _directory(call).add_secret(writer, principal.object_id, name=name, days=_days(call))
    return Reply(201, {**_body(principal), "clientSecret": secret.reveal_text(), "secret": _secret_body(entry)})


def _remove_credential(call: Call, writer: Writer) -> Reply:
    principal = _resolve(call, writer)
    removed = _directory(call).remove_credential(writer, principal.object_id, call.parameters["key"])
    return Reply(200 if removed else 204)


def _add_certificate(call: Call, writer: Writer) -> Reply:
    principal = _resolve(call, writer)
    directory = _directory(call)
    key_id = directory.add_certificate(writer, principal.object_id, _text(call, "certificate"))
    [added] = [entry for entry in directory.certificates(writer, principal.object_id) if entry.key_id == key_id]
    return Reply(201, {**_body(principal), "certificate": _certificate_body(added)})


def _identity_endpoint(call: Call, reader: Reader) -> Json:
    """Answer with what a program needs to ask for tokens as a managed identity, in App Service's form."""
    principal = _resolve(call, reader)
    if principal.kind not in {"managedIdentity", "machine"}:
        raise Fault(FaultKind.INVALID, f"'{principal.display_name}' is not a managed identity.")
    header = identity_header(call.platform.root_key, principal.object_id)
    return {"endpoint": f"{call.platform.settings.metadata_endpoint}/msi/token", "header": header.reveal_text()}


def _list_groups(call: Call, reader: Reader) -> Json:
    found = _directory(call).groups(reader)
    return bodies(
        {"objectId": group.object_id, "displayName": group.display_name, "members": list(group.members)}
        for group in found
    )


def _create_group(call: Call, writer: Writer) -> Reply:
    group = _directory(call).create_group(writer, _text(call, "displayName"))
    return Reply(201, {"objectId": group.object_id, "displayName": group.display_name, "members": []})


def _delete_group(call: Call, writer: Writer) -> Reply:
    return Reply(200 if _directory(call).delete_group(writer, call.parameters["reference"]) else 204)


def _add_member(call: Call, writer: Writer) -> Reply:
    _directory(call).add_member(writer, call.parameters["reference"], call.parameters["member"])
    return Reply(204)


def _remove_member(call: Call, writer: Writer) -> Reply:
    _directory(call).remove_member(writer, call.parameters["reference"], call.parameters["member"])
    return Reply(204)


def _directory(call: Call) -> Directory:
    """Return the directory, to those who may use it for this call."""
    if call.method != "GET" and not authorization.granted(
        call.snapshot, call.credential, ASSIGN_ROLES, call.id.key, now=call.now
    ):
        raise authorization.refusal(call.snapshot, call.credential, ASSIGN_ROLES, call.id.text, call.decision_id)
    return call.platform.directory


def _resolve(call: Call, reader: Reader) -> Principal:
    """Return the principal of an object id, application id or display name."""
    reference = call.parameters["reference"]
    found = _directory(call).resolve(reader, reference)
    if found is None:
        raise Fault(
            FaultKind.NOT_FOUND, f"The directory of tenant {required_tenant(reader).id} has no principal '{reference}'."
        )
    return found


def _body(principal: Principal) -> Json:
    return {
        "objectId": principal.object_id,
        "clientId": principal.app_id,
        "displayName": principal.display_name,
        "kind": principal.kind,
        "principalType": principal.type,
        "enabled": principal.enabled,
        "tenantId": principal.tenant_id,
        "resourceId": principal.resource_id,
        "issuer": principal.issuer,
        "subject": principal.subject,
        "createdAt": iso(principal.created_at),
    }


def _secret_body(entry: SecretInfo) -> Json:
    return {
        "keyId": entry.key_id,
        "displayName": entry.name,
        "hint": entry.hint,
        "createdAt": iso(entry.created_at),
        "expiresAt": iso(entry.expires_at),
    }


def _certificate_body(entry: CertificateInfo) -> Json:
    return {
        "keyId": entry.key_id,
        "thumbprint": entry.thumbprint,
        "createdAt": iso(entry.created_at),
        "expiresAt": iso(entry.expires_at),
    }


def _optional_text(call: Call, name: str, limit: int) -> str:
    value = call.body.get(name, "")
    if not isinstance(value, str) or len(value) > limit or not value.isprintable():
        raise Fault(
            FaultKind.INVALID, f"The property '{name}' must be text of at most {limit} characters.", target=name
        )
    return value


def _text(call: Call, name: str) -> str:
    value = call.body.get(name)
    if not isinstance(value, str):
        raise Fault(FaultKind.INVALID, f"The property '{name}' is required and must be text.", target=name)
    return value


def _days(call: Call) -> int:
    value: Any = call.body.get("days", DEFAULT_DAYS)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Fault(FaultKind.INVALID, "The property 'days' must be a whole number.", target="days")
    return value


PLUGIN = DirectoryPrincipals()
