"""What a PUT or PATCH of a vault comes to. Pure but for look-ups.

PUT replaces the vault; but outside strict parity a PUT that does not name a security control (`KEPT_CONTROLS`) leaves it, as for accounts. What
Azure makes irreversible is: soft delete, its retention, purge protection.
Source: contracts, control-plane section 6.5; azure-mgmt-keyvault 14.1.0 (VaultProperties).
"""

from __future__ import annotations

from typing import Any, Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.locations import accepted, normalised
from stockade.management.merge import merge_patch
from stockade.management.network.access_rules import bounded, ip_rules, subnet_rules
from stockade.management.network.subnets import VAULT_SERVICE
from stockade.management.resource_type import Call, Planned
from stockade.management.resources.key_vaults import shape
from stockade.management.resources.key_vaults.access_policies import planned_policies
from stockade.management.shape import one_of, respelled, typed
from stockade.management.tags import checked_tags
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json, State
from stockade.vault.documents import MAX_RETENTION_DAYS, is_expired
from stockade.vault.vaults import holder

SERVER_MEMBERS: Final = frozenset({"id", "name", "type", "etag", "systemData"})
SERVER_PROPERTIES: Final = frozenset(
    {"provisioningState", "vaultUri", "privateEndpointConnections", "hsmPoolResourceId", "createMode"}
)
"""Written by the server alone, or of this request alone; dropped from what callers send, because they send back what they read."""
KEPT_CONTROLS: Final = ("networkAcls", "publicNetworkAccess", "enableRbacAuthorization", "accessPolicies")
IRREVERSIBLE: Final = ("enableSoftDelete", "softDeleteRetentionInDays", "enablePurgeProtection")
MIN_RETENTION_DAYS: Final = 7
MAX_IP_RULES: Final = 1000
MAX_SUBNET_RULES: Final = 200
_WHOLE = frozenset({"properties.networkAcls"})


def plan(call: Call, current: Document | None, reader: Reader) -> Planned:
    """Validate and complete a PUT or PATCH; Fault for what cannot be."""
    body = {name: value for name, value in respelled(call.body, shape.Vault).items() if name not in SERVER_MEMBERS}
    sent = typed(body, shape.Vault).properties or shape.Properties()
    mode = one_of(sent.create_mode or "default", ("default", "recover"), "properties.createMode")
    body["properties"] = {k: v for k, v in (body.get("properties") or {}).items() if k not in SERVER_PROPERTIES}
    before = None if current is not None and is_expired(current, call.now) else current
    if before is None:
        _check_name(call, reader, recover=mode == "recover")
    if before is not None and before.state is State.SOFT_DELETED:
        if mode != "recover":
            raise _deleted_before(call)
        # As it was: whoever recovers a vault need not know, and must not change, what it was.
        return Planned({k: v for k, v in before.body.items() if k not in SERVER_MEMBERS}, dict(before.private), 200)
    if call.method == "PATCH" and before is not None:
        return _change(call, before, merge_patch(_intent(before), body, whole=_WHOLE), reader)
    return _change(call, before, _replacement(call, before, body), reader)


def _intent(current: Document) -> Json:
    body = {name: value for name, value in current.body.items() if name not in SERVER_MEMBERS}
    body["properties"] = {name: value for name, value in body["properties"].items() if name not in SERVER_PROPERTIES}
    return body


def _replacement(call: Call, before: Document | None, body: Json) -> Json:
    wanted = merge_patch({}, body, whole=frozenset({"properties"}))
    if before is not None:
        stored = before.body["properties"]
        kept = IRREVERSIBLE if call.platform.settings.strict_parity else (*IRREVERSIBLE, *KEPT_CONTROLS)
        wanted["properties"] = {**{name: stored[name] for name in kept if name in stored}, **wanted["properties"]}
    wanted["properties"] = {name: value for name, value in wanted["properties"].items() if value is not None}
    return wanted


def _change(call: Call, before: Document | None, wanted: Json, reader: Reader) -> Planned:
    vault = typed(wanted, shape.Vault)
    asked = vault.properties or shape.Properties()
    properties: Json = dict(wanted["properties"])
    stored: Json = dict(before.body["properties"]) if before is not None else {}
    if asked.tenant_id is None or asked.tenant_id.lower() != call.platform.tenant_id:
        message = f"The property 'properties.tenantId' has to be this platform's tenant, {call.platform.tenant_id}."
        raise _invalid(message, "properties.tenantId")
    properties["tenantId"] = asked.tenant_id.lower()
    properties["sku"] = _sku(asked)
    properties |= _irreversible(asked, stored)
    rbac = asked.enable_rbac_authorization is True
    properties["enableRbacAuthorization"] = rbac
    if asked.access_policies is None and not rbac:
        message = "The property 'properties.accessPolicies' is required for a vault without enableRbacAuthorization; it may be empty."
        raise _invalid(message, "properties.accessPolicies")
    properties["accessPolicies"] = planned_policies(call, properties.get("accessPolicies") or [])
    if asked.network_acls is not None:
        properties["networkAcls"] = _acls(call, properties["networkAcls"], asked.network_acls, stored, reader)
    public = asked.public_network_access or "Enabled"
    properties["publicNetworkAccess"] = one_of(public, ("Enabled", "Disabled"), "properties.publicNetworkAccess")
    properties |= {
        "provisioningState": "Succeeded",
        "vaultUri": stored.get("vaultUri") or call.platform.settings.vault_uri(call.id.name) + "/",
    }
    body = {**wanted, "location": _location(call, vault, before), "tags": checked_tags(wanted.get("tags"))}
    return Planned({**body, "properties": properties}, status=None)


def _location(call: Call, vault: shape.Vault, before: Document | None) -> str:
    location = vault.location or (before.body["location"] if before is not None else None)
    if not location:
        message = "The location property is required for this definition."
        raise Fault(FaultKind.INVALID, message, code="LocationRequired", target="location")
    if normalised(location) not in accepted(call.platform.settings):
        message = (
            f"The provided location '{location[:80]}' is not available for resource type 'Microsoft.KeyVault/vaults'."
        )
        raise Fault(FaultKind.INVALID, message, code="LocationNotAvailableForResourceType", target="location")
    if before is not None and normalised(location) != before.body["location"]:
        message = f"The resource '{call.id.name}' already exists in location '{before.body['location']}'."
        raise Fault(FaultKind.CONFLICT, message, code="InvalidResourceLocation", target="location")
    return normalised(location)


def _sku(asked: shape.Properties) -> Json:
    sku = asked.sku or shape.Sku()
    if sku.name is None:
        raise _invalid("The property 'properties.sku' is required: its name is standard or premium.", "properties.sku")
    family = one_of(sku.family or "A", ("A",), "properties.sku.family")
    return {"family": family, "name": one_of(sku.name, ("standard", "premium"), "properties.sku.name")}


def _irreversible(asked: shape.Properties, stored: Json) -> Json:
    if asked.enable_soft_delete is False:
        message = 'The property "enableSoftDelete" cannot be set to false. Every vault has soft delete.'
        raise _invalid(message, "properties.enableSoftDelete")
    days = asked.soft_delete_retention_in_days
    if days is not None and not MIN_RETENTION_DAYS <= days <= MAX_RETENTION_DAYS:
        message = (
            f'The property "softDeleteRetentionInDays" is invalid: it is {MIN_RETENTION_DAYS} to {MAX_RETENTION_DAYS}.'
        )
        raise _invalid(message, "properties.softDeleteRetentionInDays")
    before = stored.get("softDeleteRetentionInDays")
    if before is not None and days is not None and days != before:
        message = 'The property "softDeleteRetentionInDays" has been set already and it can\'t be modified.'
        raise _invalid(message, "properties.softDeleteRetentionInDays")
    if asked.enable_purge_protection is False:
        message = (
            'The property "enablePurgeProtection" cannot be set to false. '
            "Enabling the purge protection for a vault is an irreversible action."
        )
        raise _invalid(message, "properties.enablePurgeProtection")
    found: Json = {"enableSoftDelete": True, "softDeleteRetentionInDays": days or before or MAX_RETENTION_DAYS}
    if asked.enable_purge_protection or stored.get("enablePurgeProtection"):
        found["enablePurgeProtection"] = True
    return found


def _acls(call: Call, raw: Json, rules: shape.NetworkRuleSet, stored: Json, reader: Reader) -> Json:
    acls = dict(raw)
    target = "properties.networkAcls"
    acls["defaultAction"] = one_of(rules.default_action or "Allow", ("Allow", "Deny"), f"{target}.defaultAction")
    acls["bypass"] = one_of(rules.bypass or "AzureServices", ("None", "AzureServices"), f"{target}.bypass")
    limits: tuple[tuple[str, int], ...] = (("ipRules", MAX_IP_RULES), ("virtualNetworkRules", MAX_SUBNET_RULES))
    for name, limit in limits:
        bounded(len(acls.get(name) or ()), name, limit, "a vault")
    known: Any = (stored.get("networkAcls") or {}).get("virtualNetworkRules") or []
    acls["ipRules"] = ip_rules(acls.get("ipRules") or [], strict=call.platform.settings.strict_parity)
    acls["virtualNetworkRules"] = subnet_rules(
        call, acls.get("virtualNetworkRules") or [], known, VAULT_SERVICE, reader
    )
    return acls


def _check_name(call: Call, reader: Reader, *, recover: bool) -> None:
    held = holder(reader, call.id.name)
    free = held is None or is_expired(held, call.now)
    if recover and (free or (held is not None and held.id == call.id.key)):
        message = f"There is no deleted vault '{call.id.name}' that could be recovered."
        raise Fault(FaultKind.NOT_FOUND, message, code="VaultNotFound", target="properties.createMode")
    if free or held is None:
        return
    if held.state is State.SOFT_DELETED and held.subscription == (call.id.subscription or "").lower():
        raise _deleted_before(call)
    message = (
        f"The vault name '{call.id.name}' is already in use. Vault names are globally unique so it is possible that the name is "
        "already taken."
    )
    raise Fault(FaultKind.CONFLICT, message, code="VaultAlreadyExists", target="name")


def _deleted_before(call: Call) -> Fault:
    message = (
        f"A vault with the same name '{call.id.name}' already exists in deleted state. You need to either recover or purge the "
        "existing key vault."
    )
    return Fault(FaultKind.CONFLICT, message, code="ConflictError", target="name")


def _invalid(message: str, target: str) -> Fault:
    return Fault(FaultKind.INVALID, message, code="BadRequest", target=target)
