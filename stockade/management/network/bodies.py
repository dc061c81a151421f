"""The bodies of Microsoft.Network's resources: names of the types, the members callers cannot set, locations, and references by id."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.management.locations import accepted, normalised
from stockade.management.merge import merge_patch
from stockade.management.resource_type import Call
from stockade.management.shape import respelled, typed
from stockade.management.tags import checked_tags
from stockade.storage.documents import Document, Json

S = TypeVar("S", bound=msgspec.Struct)

PROVIDER = "Microsoft.Network"
VIRTUAL_NETWORKS = f"{PROVIDER}/virtualNetworks"
SUBNETS = f"{VIRTUAL_NETWORKS}/subnets"
PRIVATE_ENDPOINTS = f"{PROVIDER}/privateEndpoints"
PERIMETERS = f"{PROVIDER}/networkSecurityPerimeters"
PROFILES = f"{PERIMETERS}/profiles"
ACCESS_RULES = f"{PROFILES}/accessRules"
ASSOCIATIONS = f"{PERIMETERS}/resourceAssociations"

SERVER_MEMBERS = frozenset({"id", "name", "type", "etag", "systemData"})


class Reference(msgspec.Struct, rename="camel"):
    """Another resource."""

    id: str | None = None


def wanted(
    call: Call, current: Document | None, shape: type[S], read_only: frozenset[str] = frozenset()
) -> tuple[Json, S]:
    """Return the whole new body, once as it is to be stored and once typed; Fault(INVALID).

    PUT replaces everything, PATCH keeps what it does not name. Members sent as null are dropped, and so are those that only the server writes
    (read_only: those of `properties`), because callers send back what they read.
    """
    sent = {name: value for name, value in respelled(call.body, shape).items() if name not in SERVER_MEMBERS}
    before: Json = {}
    if call.method == "PATCH" and current is not None:
        before = {name: value for name, value in current.body.items() if name not in SERVER_MEMBERS}
    body = merge_patch(before, sent)
    typed(body, shape)  # before its properties are taken apart
    properties = body.get("properties", {})
    body["properties"] = {name: value for name, value in properties.items() if name not in read_only}
    return body, typed(body, shape)


def tracked(call: Call, current: Document | None, body: Json) -> Json:
    """Return the members that every tracked resource has, `location` and `tags`; Fault for a location that cannot be."""
    before = current.body["location"] if current is not None else None
    location = body.get("location") or before
    places = accepted(call.platform.settings)
    if not isinstance(location, str) or not location:
        message = "The location property is required for this definition."
        raise Fault(FaultKind.INVALID, message, code="LocationRequired", target="location")
    if normalised(location) not in places:
        message = f"The provided location '{location[:80]}' is not available; it is one of '{','.join(places)}'."
        raise Fault(FaultKind.INVALID, message, code="LocationNotAvailableForResourceType", target="location")
    if before is not None and normalised(location) != before:
        message = f"The resource '{call.id.name}' already exists in location '{before}'."
        raise Fault(FaultKind.CONFLICT, message, code="InvalidResourceLocation", target="location")
    return {"location": normalised(location), "tags": checked_tags(body.get("tags"))}


def referred(reference: Reference | None, kind: str, target: str) -> ResourceId:
    """Return the id of another resource, which has to be of a type; Fault(INVALID) when it is missing or of another."""
    text = reference.id if reference is not None else None
    if not text:
        raise Fault(
            FaultKind.INVALID, f"The property '{target}' is required.", code="InvalidRequestContent", target=target
        )
    found = ResourceId.parse(text)
    if (found.type or "").lower() != kind.lower() or found.resource_group is None:
        message = f"'{found.text}' is not the id of a resource of the type '{kind}'."
        raise Fault(FaultKind.INVALID, message, code="InvalidResourceReference", target=target)
    return found


def nested(kind: str, parent_id: str, name: str, properties: Json) -> Json:
    """Return a resource below another as its own document holds it."""
    collection: Any = kind.rsplit("/", 1)[-1]
    return {"id": f"{parent_id}/{collection}/{name}", "name": name, "type": kind, "properties": properties}
