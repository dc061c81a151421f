"""Write to the directory. Not Azure's: there principals are made in Entra, through Graph, by people this platform has no counterpart of.

Besides its own permission everything here but reading takes the one to assign roles at the subscription: handing out the credential of a
principal is as good as having its roles, so it is for those who could give those roles away. (A Contributor has `*` without that.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from stockade.identity.directory import Directory, Principal, SecretInfo
from stockade.identity.metadata import identity_header
from stockade.identity.tenant import required_tenant
from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
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
            Route("DELETE", one, DELETE, _delete, writes=True),
            Route("POST", f"{one}/secrets", WRITE, _add_secret, writes=True),
            Route("DELETE", f"{one}/secrets/{{key}}", DELETE, _remove_secret, writes=True),
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
    return {**_body(principal), "secrets": [_secret_body(entry) for entry in secrets]}


def _delete(call: Call, writer: Writer) -> Reply:
    principal = _resolve(call, writer)
    if principal.kind in {"managedIdentity", "machine"}:
        raise Fault(FaultKind.CONFLICT, f"'{principal.display_name}' belongs to its resource and goes with it.")
    if principal.object_id == call.credential.object_id:
        raise Fault(FaultKind.CONFLICT, "A principal cannot delete itself: nobody might be left who could undo it.")
    _directory(call).delete(writer, principal.object_id)
    return Reply(200)


def _add_secret(call: Call, writer: Writer) -> Reply:
    principal = _resolve(call, writer)
    name = call.body.get("displayName", "")
    if not isinstance(name, str):
        raise Fault(FaultKind.INVALID, "The property 'displayName' must be text.", target="displayName")
    secret, entry = _directory(call).add_secret(writer, principal.object_id, name=name, days=_days(call))
    return Reply(201, {**_body(principal), "clientSecret": secret.reveal_text(), "secret": _secret_body(entry)})


def _remove_secret(call: Call, writer: Writer) -> Reply:
    principal = _resolve(call, writer)
    removed = _directory(call).remove_credential(writer, principal.object_id, call.parameters["key"])
    return Reply(200 if removed else 204)


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
    if call.method != "GET" and not authorization.granted(call.snapshot, call.credential, ASSIGN_ROLES, call.id.key):
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
