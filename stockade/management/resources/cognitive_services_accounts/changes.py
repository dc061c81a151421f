"""What a PUT or PATCH of an account comes to: the rules for its members, applied to the whole new body. Pure but for look-ups.

PUT replaces the account, with one exception outside strict parity: a PUT that does not name a security control (`KEPT_CONTROLS`) leaves
it as it is. A template that was written before somebody closed the network must not open it again by saying nothing; whoever wants
it open says so, or sends null. PATCH keeps all it does not name; `networkAcls`, `encryption` and arrays are replaced as a whole.
Source: contracts, control-plane sections 1.2 to 1.6; choices.md.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.resource_id import ResourceId
from stockade.kernel.secret import Secret
from stockade.management.cognitive_services.kinds import KINDS, Kind
from stockade.management.merge import merge_patch
from stockade.management.resource_type import Call, Planned
from stockade.management.resources.cognitive_services_accounts import (
    encryption,
    extension,
    identity,
    keys,
    offer,
    shape,
    subdomains,
)
from stockade.management.resources.cognitive_services_accounts.fqdn import check_fqdn_list
from stockade.management.resources.cognitive_services_accounts.network import planned_acls
from stockade.management.resources.cognitive_services_accounts.soft_delete import is_expired
from stockade.management.shape import one_of, respelled, typed
from stockade.management.tags import checked_tags
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json, State

SERVER_PROPERTIES = frozenset(
    """
    abusePenalty callRateLimit capabilities commitmentPlanAssociations dateCreated deletionDate endpoint endpoints internalId isMigrated
    privateEndpointConnections provisioningState quotaLimit scheduledPurgeDate skuChangeInfo
    """.split()  # noqa: SIM905 - readable
)
"""Written by the server alone; dropped from what callers send, because they send back what they read."""
SERVER_MEMBERS = frozenset({"id", "name", "type", "etag", "systemData"})
KEPT_CONTROLS = (
    "networkAcls",
    "publicNetworkAccess",
    "disableLocalAuth",
    "restrictOutboundNetworkAccess",
    "allowedFqdnList",
    "encryption",
    "storedCompletionsDisabled",
)
CREATE_ONLY = ("customSubDomainName", "userOwnedStorage")
ALWAYS_KEPT = (*CREATE_ONLY, extension.NAME)
SECRET_API_PROPERTIES = ("qnaAzureSearchEndpointKey", "eventHubConnectionString", "storageAccountConnectionString")
MAX_SECRET = 1000
STORAGE_TYPE = "microsoft.storage/storageaccounts"
_WHOLE = frozenset({"properties.networkAcls", "properties.encryption"})
_CONNECTION_STRING = re.compile(
    r"\s*(Endpoint=sb://|DefaultEndpointsProtocol=|BlobEndpoint=|AccountName=).{1,1000}", re.DOTALL
)


def plan(call: Call, current: Document | None, reader: Reader) -> Planned:
    """Validate and complete a PUT or PATCH; Fault for what cannot be."""
    body = {name: value for name, value in respelled(call.body, shape.Account).items() if name not in SERVER_MEMBERS}
    sent = typed(body, shape.Account)
    restore = sent.properties is not None and sent.properties.restore is True
    body["properties"] = {
        k: v for k, v in (body.get("properties") or {}).items() if k not in SERVER_PROPERTIES and k != "restore"
    }
    before = None if current is not None and is_expired(current, call.now) else current
    if before is not None and before.state is State.SOFT_DELETED:
        if not restore:
            raise _restore_first(call, before)
        return _change(call, before, merge_patch(_intent(before), body, whole=_WHOLE), reader, status=200)
    if restore:
        message = (
            f"Could not locate a resource to restore. The resource with ID '{call.id.text}' is not soft-deleted, "
            "or it is already purged."
        )
        raise Fault(FaultKind.INVALID, message, code="CanNotRestoreANonExistingResource", target="properties.restore")
    if call.method == "PATCH" and before is not None:
        return _change(call, before, merge_patch(_intent(before), body, whole=_WHOLE), reader)
    return _change(call, before, _replacement(call, before, body), reader)


def _intent(current: Document) -> Json:
    """Return what callers asked for so far: the stored body without the server's own members."""
    body = {name: value for name, value in current.body.items() if name not in SERVER_MEMBERS}
    body["properties"] = {name: value for name, value in body["properties"].items() if name not in SERVER_PROPERTIES}
    return body


def _replacement(call: Call, before: Document | None, body: Json) -> Json:
    wanted = merge_patch({}, body, whole=frozenset({"properties"}))  # drops members sent as null
    if before is not None:
        stored = before.body["properties"]
        kept = ALWAYS_KEPT if call.platform.settings.strict_parity else (*ALWAYS_KEPT, *KEPT_CONTROLS)
        wanted["properties"] = {**{name: stored[name] for name in kept if name in stored}, **wanted["properties"]}
        for member in ("kind", "location", "sku", "identity"):
            if member not in body and member in before.body:
                wanted[member] = before.body[member]
    wanted["properties"] = {name: value for name, value in wanted["properties"].items() if value is not None}
    return wanted


def _change(call: Call, before: Document | None, wanted: Json, reader: Reader, status: int | None = None) -> Planned:
    account = typed(wanted, shape.Account)
    strict = call.platform.settings.strict_parity
    kind = offer.planned_kind(account, before)
    location = offer.planned_location(call, account, kind, before)
    properties = dict(wanted["properties"])
    asked = account.properties or shape.Properties()
    body = {
        **wanted,
        "kind": kind.name,
        "location": location,
        "sku": offer.planned_sku(call, account, kind, location, before, reader),
        "properties": properties,
    }
    body["tags"] = checked_tags(wanted.get("tags"))

    subdomain = _subdomain(call, asked, before, reader)
    if subdomain is not None:
        properties["customSubDomainName"] = subdomain
    if asked.network_acls is not None:
        if subdomain is None:
            message = "networkAcls need a custom subdomain: set properties.customSubDomainName, in the same request or before."
            raise Fault(FaultKind.INVALID, message, code="CustomSubDomainNameRequired", target="properties.networkAcls")
        stored_acls = before.body["properties"].get("networkAcls") if before is not None else None
        properties["networkAcls"] = planned_acls(
            call, properties["networkAcls"], asked.network_acls, kind, stored_acls, reader
        )
    if asked.public_network_access is not None:
        target = "properties.publicNetworkAccess"
        properties["publicNetworkAccess"] = one_of(asked.public_network_access, ("Enabled", "Disabled"), target)
    if asked.allowed_fqdn_list is not None:
        check_fqdn_list(asked.allowed_fqdn_list, strict=strict)
    if asked.stockade is not None:
        stored = before.body["properties"].get(extension.NAME) if before is not None else None
        properties[extension.NAME] = extension.planned_extension(call, asked.stockade, stored)
    current_identity = before.body.get("identity") if before is not None else None
    if account.identity is not None:
        body["identity"] = identity.planned_identity(call, account.identity, current_identity, reader)
    if asked.encryption is not None:
        properties["encryption"] = encryption.planned_encryption(call, asked.encryption, body, before)
    if asked.user_owned_storage is not None:
        _user_owned_storage(asked, properties, kind, body, before)
    private = dict(before.private) if before is not None else _new_private(call)
    private["apiProperties"] = _api_properties(call, properties, private.get("apiProperties", {}))
    properties |= _server_properties(call, body, before)
    return Planned(body, private, status=status)


def _new_private(call: Call) -> Json:
    return {"tenantId": call.platform.tenant_id, "keys": keys.new_keys(call.platform.root_key, call.id.key, call.now)}


def _server_properties(call: Call, body: Json, before: Document | None) -> Json:
    if before is None:
        return {
            "dateCreated": iso(call.now),
            "internalId": new_guid().replace("-", ""),
            "isMigrated": False,
            "privateEndpointConnections": [],
        }
    stored = before.body["properties"]
    kept = {
        name: stored[name]
        for name in ("dateCreated", "internalId", "isMigrated", "privateEndpointConnections", "skuChangeInfo")
        if name in stored
    }
    old, new = before.body["sku"]["name"], body["sku"]["name"]
    if old != new:
        kept["skuChangeInfo"] = offer.planned_sku_change(
            call, kept.get("skuChangeInfo"), KINDS[body["kind"].lower()], old, new
        )
    return kept


def _subdomain(call: Call, asked: shape.Properties, before: Document | None, reader: Reader) -> str | None:
    name = asked.custom_sub_domain_name or None
    old = before.body["properties"].get("customSubDomainName") if before is not None else None
    if old is not None:
        if name is not None and name.lower() != old.lower():
            message = f"The custom subdomain of an account cannot be changed once it is set; it is '{old}'."
            raise Fault(
                FaultKind.INVALID, message, code="PropertyChangeNotAllowed", target="properties.customSubDomainName"
            )
        return str(old)
    if name is None:
        return None
    subdomains.check_form(name)
    holder = subdomains.holder(reader, name)
    if holder is not None and holder.id != call.id.key and not is_expired(holder, call.now):
        raise subdomains.in_use(name, holder)
    return name


def _user_owned_storage(
    asked: shape.Properties, properties: Json, kind: Kind, body: Json, before: Document | None
) -> None:
    target = "properties.userOwnedStorage"
    storage = asked.user_owned_storage or []
    stored = before.body["properties"].get("userOwnedStorage", []) if before is not None else None
    new = [((entry.resource_id or "").lower(), entry.identity_client_id) for entry in storage]
    if stored is not None:
        if new != [(entry["resourceId"].lower(), entry.get("identityClientId")) for entry in stored]:
            message = "userOwnedStorage is set when an account is created and cannot be changed afterwards."
            raise Fault(FaultKind.INVALID, message, code="PropertyChangeNotAllowed", target=target)
        return
    for resource_id, _ in new:
        if (ResourceId.parse(resource_id or "-").type or "") != STORAGE_TYPE:
            message = f"'{resource_id[:200]}' is not the id of a storage account."
            raise Fault(FaultKind.INVALID, message, code="InvalidUserOwnedStorage", target=target)
    if (
        new
        and kind.name == "SpeechServices"
        and not (identity.has_system_assigned(body.get("identity")) and body["sku"]["name"] == "S0")
    ):
        message = "Storage of your own needs SKU S0 and a system-assigned identity, both set in the same request."
        raise Fault(FaultKind.INVALID, message, code="InvalidUserOwnedStorage", target=target)
    if not storage:
        properties.pop("userOwnedStorage", None)


def _api_properties(call: Call, properties: Json, held: Mapping[str, str]) -> Json:
    """Move secrets out of the body and seal them; return the sealed ones. A PATCH that does not name one keeps it."""
    raw = properties.get("apiProperties")
    sealed = dict(held) if call.method == "PATCH" else {}
    if raw is None:
        return sealed
    shown = dict(raw)
    for name in SECRET_API_PROPERTIES:
        value = shown.pop(name, None)
        if value is None:
            continue
        target = f"properties.apiProperties.{name}"
        if len(value) > MAX_SECRET or (name.endswith("ConnectionString") and not _CONNECTION_STRING.fullmatch(value)):
            raise Fault(
                FaultKind.INVALID,
                f"The property '{target}' is no connection string.",
                code="InvalidRequestContent",
                target=target,
            )
        blob = call.platform.root_key.seal(Secret(value), f"api-property|{call.id.key}|{name}")
        sealed[name] = base64.b64encode(blob).decode()
    properties["apiProperties"] = shown
    return sealed


def _restore_first(call: Call, deleted: Document) -> Fault:
    message = (
        f"An existing resource with ID '{call.id.text}' has been soft-deleted. To restore the resource, you must specify "
        "'restore' to be 'true' in the property. If you don't want to restore existing resource, please purge it first."
    )
    details = {"additionalInfo": {"scheduledPurgeDate": iso(deleted.purge_at)}} if deleted.purge_at is not None else {}
    return Fault(
        FaultKind.CONFLICT, message, code="FlagMustBeSetForRestore", target="properties.restore", details=details
    )
