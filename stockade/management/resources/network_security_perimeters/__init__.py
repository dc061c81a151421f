"""`Microsoft.Network/networkSecurityPerimeters`: a line around accounts, with rules of its own for who may cross it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.network.bodies import ASSOCIATIONS, PERIMETERS, PROVIDER, tracked, wanted
from stockade.management.resource_type import Call, Planned, Reply, ResourceType, Route, bodies
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,78}[a-zA-Z0-9_])?")


class Properties(Struct, rename="camel"):
    """A perimeter has no properties that callers set."""


class Perimeter(Struct, rename="camel"):
    """The whole body."""

    location: str | None = None
    tags: dict[str, object] | None = None
    properties: Properties | None = None


class Perimeters(ResourceType):
    """Microsoft.Network/networkSecurityPerimeters."""

    type = name = PERIMETERS
    name_pattern = NAME
    has_etag = False

    @property
    def routes(self) -> Sequence[Route]:
        place = f"/subscriptions/{{subscription}}/providers/{PROVIDER}/locations/{{location}}/perimeterAssociableResourceTypes"
        permission = f"{PROVIDER}/locations/perimeterAssociableResourceTypes/read"
        return (Route("GET", place, permission, _associable),)

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        body, _ = wanted(call, current, Perimeter, frozenset({"provisioningState", "perimeterGuid"}))
        guid = current.body["properties"]["perimeterGuid"] if current is not None else new_guid()
        body["properties"] |= {"provisioningState": "Succeeded", "perimeterGuid": guid}
        return Planned({**body, **tracked(call, current, body)})

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        """Refuse while accounts are in it, unless forced or on the way of deleting what it lies in. Source: `forceDeletion` of Azure's clients."""
        forced = call.query.get("forcedeletion", "").lower() == "true" or call.id.key != document.id
        inside = [] if forced else writer.list(ASSOCIATIONS, under=document.id)
        if inside:
            names = ", ".join(association.body["properties"]["privateLinkResource"]["id"] for association in inside)
            message = (
                f"The perimeter '{document.name}' has resources in it: {names}. Remove their associations first, or force the deletion "
                "(forceDeletion=true), after which their own network rules alone decide."
            )
            raise Fault(FaultKind.CONFLICT, message, code="NetworkSecurityPerimeterInUse")
        for association in writer.list(ASSOCIATIONS, under=document.id):
            writer.remove(association)  # first: a profile that is in use cannot be removed
        return super().remove(call, writer, document)

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()


def _associable(call: Call, reader: Reader) -> Json:
    item = {
        "id": f"{call.id.text}/providers/{PROVIDER}/perimeterAssociableResourceTypes/{ACCOUNTS}",
        "name": ACCOUNTS,
        "type": f"{PROVIDER}/perimeterAssociableResourceTypes",
        "properties": {
            "displayName": ACCOUNTS,
            "resourceType": ACCOUNTS,
            "publicDnsZones": [],
            "outboundSupported": False,
        },
    }
    return bodies([item])


PLUGIN = Perimeters()
