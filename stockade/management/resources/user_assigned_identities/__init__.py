"""User-assigned managed identities: a resource with a principal of its own in the directory."""

from __future__ import annotations

import re
from collections.abc import Iterable

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.locations import accepted, normalised
from stockade.management.merge import merge_patch
from stockade.management.resource_type import Call, Planned, Reply, ResourceType, display_id
from stockade.management.tags import checked_tags
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document

_READ_ONLY = ("tenantId", "principalId", "clientId")


class UserAssignedIdentities(ResourceType):
    """Microsoft.ManagedIdentity/userAssignedIdentities."""

    name = type = "Microsoft.ManagedIdentity/userAssignedIdentities"
    name_pattern = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}")
    has_etag = False

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        before = dict(current.body) if current is not None else {}
        wanted = merge_patch(before, call.body) if call.method == "PATCH" else dict(call.body)
        location = wanted.get("location")
        if not isinstance(location, str) or normalised(location) not in accepted(call.platform.settings):
            missing = not location
            message = (
                "The location property is required."
                if missing
                else f"The location '{str(location)[:80]}' is not available."
            )
            code = "LocationRequired" if missing else "LocationNotAvailableForResourceType"
            raise Fault(FaultKind.INVALID, message, code=code, target="location")
        if before and normalised(location) != before["location"]:
            message = f"The identity '{call.id.name}' already exists in location '{before['location']}'."
            raise Fault(FaultKind.CONFLICT, message, code="InvalidResourceLocation", target="location")
        properties = wanted.get("properties", {})
        if not isinstance(properties, dict):
            raise Fault(
                FaultKind.INVALID, "The properties are an object.", code="InvalidRequestContent", target="properties"
            )
        # Who it is never changes: ids sent by a caller are dropped, ids given at creation stay.
        given = {name: value for name, value in properties.items() if name not in _READ_ONLY}
        kept = {name: value for name, value in before.get("properties", {}).items() if name in _READ_ONLY}
        return Planned(
            wanted
            | {"location": normalised(location), "tags": checked_tags(wanted.get("tags")), "properties": given | kept}
        )

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        if previous is not None:
            return document
        identity = call.platform.directory.create_managed_identity(writer, display_id(document), "UserAssigned")
        ids = {"tenantId": identity.tenant_id, "principalId": identity.object_id, "clientId": identity.app_id}
        body = {**document.body, "properties": {**document.body["properties"], **ids}}
        return writer.put(
            document.id, self.type, body, subscription=document.subscription, resource_group=document.resource_group
        )

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        call.platform.directory.delete_managed_identity(writer, document.id)
        return super().remove(call, writer, document)

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()


PLUGIN = UserAssignedIdentities()
