"""Resource groups: a name, a location and tags. Deleting one deletes what is in it, accounts softly, before the reply."""

from __future__ import annotations

import re
from collections.abc import Iterable

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.locations import accepted, normalised
from stockade.management.merge import merge_patch
from stockade.management.odata import invalid_filter, parse_filter
from stockade.management.resource_type import Call, Planned, ResourceType
from stockade.management.tags import checked_tags
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json


class ResourceGroups(ResourceType):
    """Microsoft.Resources/resourceGroups."""

    name = type = "Microsoft.Resources/resourceGroups"
    # Letters of any script, digits, and . _ - ( ); no dot at the end. Source: Azure's naming rules for resource groups.
    name_pattern = re.compile(r"[\w.()\-]{0,89}[\w()\-]")
    has_etag = has_system_data = False

    @property
    def permissions_prefix(self) -> str:
        return "Microsoft.Resources/subscriptions/resourceGroups"

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        before = dict(current.body) if current is not None else {}
        wanted = merge_patch(before, call.body) if call.method == "PATCH" else dict(call.body)
        location = wanted.get("location")
        if not isinstance(location, str) or not location:
            message = "The location property is required for this definition."
            raise Fault(FaultKind.INVALID, message, code="LocationRequired", target="location")
        if normalised(location) not in accepted(call.platform.settings):
            message = f"The location '{location[:80]}' is not available for resource groups."
            raise Fault(FaultKind.INVALID, message, code="LocationNotAvailableForResourceGroup", target="location")
        if before and normalised(location) != before["location"]:
            message = (
                f"The resource group '{call.id.resource_group}' already exists in location '{before['location']}'."
            )
            raise Fault(FaultKind.CONFLICT, message, code="InvalidResourceGroupLocation", target="location")
        if not isinstance(wanted.get("properties", {}), dict):
            raise Fault(
                FaultKind.INVALID, "The properties are an object.", code="InvalidRequestContent", target="properties"
            )
        wanted["location"] = normalised(location)
        tags = checked_tags(wanted.get("tags"))
        if tags or "tags" in wanted:
            wanted["tags"] = tags
        wanted["properties"] = {"provisioningState": "Succeeded"}
        return Planned(wanted)

    def list(self, call: Call, reader: Reader) -> Iterable[Document]:
        found = reader.list(self.type, subscription=call.id.subscription)
        text = call.query.get("$filter", "")
        wanted = {term.name: term.value for term in parse_filter(text)}
        if not wanted.keys() <= {"tagname", "tagvalue"}:
            raise invalid_filter(text)
        return [document for document in found if _tagged(document.body.get("tags", {}), wanted)]

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()


def _tagged(tags: Json, wanted: dict[str, str]) -> bool:
    name, value = wanted.get("tagname"), wanted.get("tagvalue")
    return (
        any(
            (name is None or key.lower() == name.lower()) and (value is None or text.lower() == value.lower())
            for key, text in tags.items()
        )
        or not wanted
    )


PLUGIN = ResourceGroups()
