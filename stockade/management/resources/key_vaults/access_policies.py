"""Access policies: checked, and changed one by one by `accessPolicies/{add|replace|remove}`.

Source: contracts, control-plane section 6.5; the permissions are those of azure-mgmt-keyvault 14.1.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import is_guid
from stockade.management.resource_type import Call, Reply, display_id
from stockade.management.resources.key_vaults.shape import AccessPolicy
from stockade.management.shape import one_of, respelled, typed
from stockade.storage.database import Writer
from stockade.storage.documents import Document, Json
from stockade.vault.documents import VAULTS

MAX_POLICIES: Final = 1024
TARGET: Final = "properties.accessPolicies"
_COMMON = ("all", "get", "list", "delete", "backup", "restore", "recover", "purge")
PERMISSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "keys": (
        *_COMMON,
        "create",
        "update",
        "import",
        "encrypt",
        "decrypt",
        "wrapKey",
        "unwrapKey",
        "sign",
        "verify",
        "release",
        "rotate",
        "getrotationpolicy",
        "setrotationpolicy",
    ),
    "secrets": (*_COMMON, "set"),
    "certificates": (
        *_COMMON,
        "create",
        "import",
        "update",
        "managecontacts",
        "getissuers",
        "listissuers",
        "setissuers",
        "deleteissuers",
        "manageissuers",
    ),
    "storage": (*_COMMON, "set", "update", "regeneratekey", "getsas", "listsas", "deletesas", "setsas"),
}


def planned_policies(call: Call, raw: Sequence[Mapping[str, Any]]) -> list[Json]:
    """Return access policies as they are stored, one per principal; Fault(INVALID) for one that could not be in force as written."""
    by_principal: dict[str, Json] = {}
    for entry in raw:
        policy = _policy(call, entry)
        before = by_principal.get(policy["objectId"].lower())
        by_principal[policy["objectId"].lower()] = policy if before is None else _united(before, policy)
    if len(by_principal) > MAX_POLICIES:
        message = f"A vault has at most {MAX_POLICIES} access policies."
        raise Fault(FaultKind.INVALID, message, code="TooManyAccessPolicies", target=TARGET)
    return list(by_principal.values())


def change_policies(call: Call, writer: Writer) -> Reply:
    """Answer `PUT {vault}/accessPolicies/{operation}`: add permissions, replace a principal's, or take them away."""
    vault = writer.get(call.id.key)
    assert vault is not None
    operation = one_of(call.parameters["operation"], ("add", "replace", "remove"), "operationKind")
    properties = call.body.get("properties")
    raw = properties.get("accessPolicies") if isinstance(properties, Mapping) else None
    if not isinstance(raw, list) or not all(isinstance(entry, Mapping) for entry in raw):
        message = f"The property '{TARGET}' is required: a list of access policies."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target=TARGET)
    asked = planned_policies(call, [respelled(entry, AccessPolicy) for entry in raw])
    stored = {entry["objectId"].lower(): entry for entry in vault.body["properties"].get("accessPolicies") or ()}
    for policy in asked:
        principal = policy["objectId"].lower()
        before = stored.get(principal)
        if operation == "replace" or (operation == "add" and before is None):
            stored[principal] = policy
        elif operation == "add" and before is not None:
            stored[principal] = _united(before, policy)
        elif before is not None:
            left = _without(before, policy)
            if any(left["permissions"].values()):
                stored[principal] = left
            else:
                del stored[principal]
    if len(stored) > MAX_POLICIES:
        message = f"A vault has at most {MAX_POLICIES} access policies."
        raise Fault(FaultKind.INVALID, message, code="TooManyAccessPolicies", target=TARGET)
    _store(writer, vault, list(stored.values()))
    arm_id = display_id(vault)
    return Reply(
        200,
        {
            "id": f"{arm_id}/accessPolicies/",
            "type": f"{VAULTS}/accessPolicies",
            "location": vault.body["location"],
            "properties": {"accessPolicies": list(stored.values())},
        },
    )


def _store(writer: Writer, vault: Document, policies: list[Json]) -> None:
    properties = {**vault.body["properties"], "accessPolicies": policies}
    writer.put(
        vault.id,
        vault.type,
        {**vault.body, "properties": properties},
        subscription=vault.subscription,
        resource_group=vault.resource_group,
    )


def _policy(call: Call, raw: Mapping[str, Any]) -> Json:
    asked = typed(raw, AccessPolicy)
    for name, value in (("tenantId", asked.tenant_id), ("objectId", asked.object_id)):
        if value is None or not is_guid(value):
            message = f"An access policy needs {name}, a GUID."
            raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target=f"{TARGET}.{name}")
    if (asked.tenant_id or "").lower() != call.platform.tenant_id:
        message = "All access policies have to be of the vault's tenant."
        raise Fault(FaultKind.INVALID, message, code="InvalidAccessPolicy", target=f"{TARGET}.tenantId")
    if asked.application_id is not None:
        message = (
            "Compound identities (applicationId) are not known here; give the permissions to the principal itself."
        )
        raise Fault(FaultKind.INVALID, message, code="InvalidAccessPolicy", target=f"{TARGET}.applicationId")
    if asked.permissions is None:
        message = "An access policy needs permissions."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target=f"{TARGET}.permissions")
    permissions = dict(raw["permissions"])
    for family, words in PERMISSIONS.items():
        given = permissions.get(family)
        if given is not None:
            spelled = [one_of(word, words, f"{TARGET}.permissions.{family}") for word in given]
            permissions[family] = list(dict.fromkeys(spelled))
    return {**{name: value for name, value in raw.items() if value is not None}, "permissions": permissions}


def _united(before: Json, added: Json) -> Json:
    return _changed(before, added, lambda had, given: [*had, *(word for word in given if word not in had)])


def _without(before: Json, taken: Json) -> Json:
    return _changed(before, taken, lambda had, given: [word for word in had if word not in given])


def _changed(before: Json, other: Json, change: Any) -> Json:
    permissions = dict(before["permissions"])
    for family in PERMISSIONS:
        had, given = _words(permissions, family), _words(other["permissions"], family)
        if had or given:
            permissions[family] = change(had, given)
    return {**before, "permissions": permissions}


def _words(permissions: Mapping[str, Iterable[str] | None], family: str) -> list[str]:
    return list(permissions.get(family) or ())
