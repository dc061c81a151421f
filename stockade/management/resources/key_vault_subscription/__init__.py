"""What is asked of a subscription about its key vaults: names, deleted vaults, operations."""

from __future__ import annotations

from collections.abc import Sequence

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.management.locations import normalised
from stockade.management.resource_type import Call, Plugin, Reply, Route, bodies, display_id
from stockade.policy.vault_access import DATA_ACTIONS, PREFIX
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json, State
from stockade.vault import vaults
from stockade.vault.documents import VAULTS, is_expired, purge_protected

PROVIDER = "Microsoft.KeyVault"
PAGE = 1000
_SUBSCRIPTION = f"/subscriptions/{{subscription}}/providers/{PROVIDER}"
_DELETED = f"{_SUBSCRIPTION}/locations/{{location}}/deletedVaults/{{vault}}"


class SubscriptionRoutes(Plugin):
    """Everything that is asked of a subscription rather than of a vault."""

    name = f"{PROVIDER} (subscription)"

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", f"/providers/{PROVIDER}/operations", None, _operations),
            Route(
                "POST", f"{_SUBSCRIPTION}/checkNameAvailability", f"{PROVIDER}/checkNameAvailability/read", _check_name
            ),
            Route("GET", f"{_SUBSCRIPTION}/deletedVaults", f"{PROVIDER}/deletedVaults/read", _list_deleted),
            Route("GET", _DELETED, f"{PROVIDER}/locations/deletedVaults/read", _get_deleted),
            Route("POST", f"{_DELETED}/purge", f"{PROVIDER}/locations/deletedVaults/purge/action", _purge, writes=True),
            # Managed HSMs are another service. None can be made here, so the lists are empty and complete.
            Route("GET", f"{_SUBSCRIPTION}/managedHSMs", f"{PROVIDER}/managedHSMs/read", _none),
            Route("GET", f"{_SUBSCRIPTION}/deletedManagedHSMs", f"{PROVIDER}/deletedManagedHSMs/read", _none),
        )


def _none(call: Call, reader: Reader) -> Json:
    return {"value": []}


def _operations(call: Call, reader: Reader) -> Json:
    provider, resource = "Microsoft Key Vault", "Key Vault"

    def described(name: str, *, data: bool) -> Json:
        display = {
            "provider": provider,
            "resource": resource,
            "operation": name.rsplit("/", 2)[-2],
            "description": name,
        }
        return {"name": name, "isDataAction": data, "origin": "user,system", "display": display}

    kinds = [kind for kind in call.platform.types if kind.type.startswith(f"{PROVIDER}/")]
    verbs = (("read", {"GET"}), ("write", {"PUT", "PATCH"}), ("delete", {"DELETE"}))
    names = [f"{kind.permissions_prefix}/{verb}" for kind in kinds for verb, methods in verbs if kind.methods & methods]
    data = sorted({PREFIX + action for action in DATA_ACTIONS.values()})
    return bodies([described(name, data=False) for name in names] + [described(name, data=True) for name in data])


def _check_name(call: Call, reader: Reader) -> Json:
    name = call.body.get("name")
    if not isinstance(name, str) or str(call.body.get("type", VAULTS)).lower() != VAULTS.lower():
        message = f"The request names a vault: name, and type '{VAULTS}'."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target="name")
    if not vaults.NAME.fullmatch(name):
        message = (
            "The vault name must be 3 to 24 letters, digits and hyphens, begin with a letter, end with a letter or digit and not "
            "contain two hyphens in a row."
        )
        return {"nameAvailable": False, "reason": "AccountNameInvalid", "message": message}
    held = vaults.holder(reader, name)
    if held is None or is_expired(held, call.now):
        return {"nameAvailable": True}
    message = f"The name '{name}' is already in use."
    return {"nameAvailable": False, "reason": "AlreadyExists", "message": message}


def _list_deleted(call: Call, reader: Reader) -> Json:
    after = call.query.get("$skiptoken", "").lower()
    found = reader.list(VAULTS, subscription=call.id.subscription, state=State.SOFT_DELETED)
    left = [document for document in found if document.id > after and not is_expired(document, call.now)]
    answer: Json = {"value": [_deleted_body(document) for document in left[:PAGE]]}
    if len(left) > PAGE:
        path = f"/subscriptions/{call.id.subscription}/providers/{PROVIDER}/deletedVaults"
        answer["nextLink"] = f"{call.base_url}{path}?api-version={call.api_version}&$skiptoken={left[PAGE - 1].id}"
    return answer


def _get_deleted(call: Call, reader: Reader) -> Json:
    return _deleted_body(_deleted(call, reader))


def _purge(call: Call, writer: Writer) -> Reply:
    document = _deleted(call, writer)
    if purge_protected(document):
        message = (
            f"Operation 'DeletedVaultPurge' is not allowed: the vault '{document.name}' has purge protection and is purged by itself "
            f"at {iso(document.purge_at or call.now)}."
        )
        raise Fault(FaultKind.METHOD_NOT_ALLOWED, message, code="MethodNotAllowed")
    vaults.purge(writer, document)
    return Reply(200)


def _deleted(call: Call, reader: Reader) -> Document:
    """Return the deleted vault that a path names; Fault(NOT_FOUND)."""
    document = vaults.holder(reader, call.parameters["vault"])
    if (
        document is None
        or document.state is not State.SOFT_DELETED
        or is_expired(document, call.now)
        or document.subscription != (call.id.subscription or "").lower()
        or document.body["location"] != normalised(call.parameters["location"])
    ):
        message = f"The specified deleted vault '{call.parameters['vault']}' does not exist."
        raise Fault(FaultKind.NOT_FOUND, message, code="DeletedVaultNotFound")
    return document


def _deleted_body(document: Document) -> Json:
    subscription, location = display_id(document).split("/")[2], document.body["location"]
    properties: Json = {
        "vaultId": display_id(document),
        "location": location,
        "tags": document.body.get("tags") or {},
        "deletionDate": iso(document.updated_at),
    }
    if document.purge_at is not None:
        properties["scheduledPurgeDate"] = iso(document.purge_at)
    if purge_protected(document):
        properties["purgeProtectionEnabled"] = True
    place = f"/subscriptions/{subscription}/providers/{PROVIDER}/locations/{location}/deletedVaults/{document.name}"
    return {"id": place, "name": document.name, "type": f"{PROVIDER}/deletedVaults", "properties": properties}


PLUGIN = SubscriptionRoutes()
