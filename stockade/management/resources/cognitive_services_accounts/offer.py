"""Which kind, location and SKU an account may have, and which of them may change.

Source: contracts, control-plane sections 1.2, 1.6 and 2; choices.md (row "F0 → E0").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.management.access.grants import Access
from stockade.management.cognitive_services.kinds import ACCOUNTS, CLOSED_SKU, KINDS, SWITCHABLE, Kind
from stockade.management.locations import GLOBAL, accepted, normalised
from stockade.management.resource_type import Call
from stockade.management.resources.cognitive_services_accounts import shape
from stockade.management.shape import whole_number
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json


def planned_kind(account: shape.Account, before: Document | None) -> Kind:
    """Return the kind asked for; Fault(INVALID) for an unknown one and for a change that is not possible."""
    name = account.kind or ""
    kind = KINDS.get(name.lower())
    if not name:
        raise Fault(FaultKind.INVALID, "The property 'kind' is required.", code="InvalidApiSetId", target="kind")
    if kind is None:
        offered = ", ".join(other.name for other in KINDS.values())
        message = f"The account type '{name[:80]}' is either invalid or unavailable in given region. Kinds: {offered}."
        raise Fault(FaultKind.INVALID, message, code="InvalidApiSetId", target="kind")
    old = before.body["kind"] if before is not None else kind.name
    if old != kind.name and not {old, kind.name} <= SWITCHABLE:
        message = (
            f"The kind of an account cannot change from '{old}' to '{kind.name}'; "
            "only AIServices and OpenAI can change into each other."
        )
        raise Fault(FaultKind.INVALID, message, code="PropertyChangeNotAllowed", target="kind")
    return kind


def planned_location(call: Call, account: shape.Account, kind: Kind, before: Document | None) -> str:
    """Return the location as it is stored; Fault for one that resources cannot have, or another than the account has."""
    if not account.location:
        raise Fault(
            FaultKind.INVALID,
            "The location property is required for this definition.",
            code="LocationRequired",
            target="location",
        )
    location = normalised(account.location)
    places = (*accepted(call.platform.settings), *((GLOBAL,) if kind.anywhere else ()))
    if before is not None and location != before.body["location"]:
        message = (
            f"The resource '{call.id.name}' already exists in location '{before.body['location']}'. "
            f"It cannot be created in location '{account.location[:80]}' as well; please choose another name."
        )
        raise Fault(FaultKind.CONFLICT, message, code="InvalidResourceLocation", target="location")
    if location not in places:
        message = (
            f"The provided location '{account.location[:80]}' is not available for resource type '{ACCOUNTS}'. "
            f"List of available regions for the resource type is '{','.join(places)}'."
        )
        raise Fault(FaultKind.INVALID, message, code="LocationNotAvailableForResourceType", target="location")
    return location


def planned_sku(
    call: Call, account: shape.Account, kind: Kind, location: str, before: Document | None, reader: Reader
) -> Json:
    """Return the SKU with its tier; Fault for one the kind is not offered in, or that cannot be had."""
    asked = account.sku
    if asked is None or not asked.name:
        raise Fault(FaultKind.INVALID, "The property 'sku.name' is required.", code="InvalidSku", target="sku.name")
    sku = kind.sku(asked.name)
    old = before.body["sku"]["name"] if before is not None else None
    if old is not None and old != asked.name.upper() and CLOSED_SKU in {old, asked.name.upper()}:
        message = (
            f"An account cannot change from SKU '{old}' to '{asked.name[:40]}': {CLOSED_SKU} is chosen when an account is created. "
            "Create a new account."
        )
        raise Fault(FaultKind.INVALID, message, code="InvalidSkuUpdate", target="sku.name")
    offers = kind.offered(strict=call.platform.settings.strict_parity)
    if sku is None or (sku not in offers and old != sku.name):
        offered = ", ".join(other.name for other in offers)
        message = f"The SKU '{asked.name[:40]}' is not available for kind '{kind.name}'; it is one of: {offered}."
        raise Fault(FaultKind.INVALID, message, code="SkuNotAvailable", target="sku.name")
    if sku.needs_approval and before is not None and before.body["kind"] != kind.name:
        message = (
            f"An account with SKU '{sku.name}' keeps its kind: what was approved is that kind. Create a new account."
        )
        raise Fault(FaultKind.INVALID, message, code="PropertyChangeNotAllowed", target="kind")
    if sku.needs_approval and old != sku.name:
        access = Access(reader, call.id.subscription or "")
        if not access.left(kind.name, location):
            raise access.refusal(kind.name, location)
    result: Json = {"name": sku.name, "tier": sku.tier}
    for member in ("size", "family"):
        if getattr(asked, member) is not None:
            result[member] = getattr(asked, member)
    if asked.capacity is not None:
        result["capacity"] = whole_number(asked.capacity, "sku.capacity")
    return result


def planned_sku_change(call: Call, info: Mapping[str, Any] | None, kind: Kind, old: str, new: str) -> Json:
    """Return `skuChangeInfo` after a change of SKU."""
    order = [sku.name for sku in kind.skus]
    downgrade = old in order and order.index(new) < order.index(old)
    downgrades = int((info or {}).get("countOfDowngrades", 0))
    upgrades = int((info or {}).get("countOfUpgradesAfterDowngrades", 0))
    return {
        "countOfDowngrades": downgrades + downgrade,
        "countOfUpgradesAfterDowngrades": upgrades + (not downgrade and downgrades > 0),
        "lastChangeDate": iso(call.now),
    }
