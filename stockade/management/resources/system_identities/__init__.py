"""The managed identity of a resource: `{scope}/providers/Microsoft.ManagedIdentity/identities/default`."""

from __future__ import annotations

from collections.abc import Sequence

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.resource_type import Call, Plugin, Route, display_id
from stockade.storage.database import Reader
from stockade.storage.documents import Json

_USER_ASSIGNED = "microsoft.managedidentity/userassignedidentities"


class SystemIdentities(Plugin):
    """Microsoft.ManagedIdentity/identities."""

    name = "Microsoft.ManagedIdentity/identities"

    @property
    def routes(self) -> Sequence[Route]:
        template = "/{scope}/providers/Microsoft.ManagedIdentity/identities/default"
        return (Route("GET", template, "Microsoft.ManagedIdentity/identities/read", _show),)


def _show(call: Call, reader: Reader) -> Json:
    document = reader.get(call.id.key)
    identity = call.platform.directory.managed_identity(reader, call.id.key)
    if document is None or identity is None or document.type == _USER_ASSIGNED:
        message = f"The resource '{call.id.text}' has no system-assigned managed identity."
        raise Fault(FaultKind.NOT_FOUND, message)
    return {
        "id": f"{display_id(document)}/providers/Microsoft.ManagedIdentity/identities/default",
        "name": "default",
        "type": "Microsoft.ManagedIdentity/identities",
        "location": document.body.get("location", ""),
        "tags": document.body.get("tags", {}),
        "properties": {
            "tenantId": identity.tenant_id,
            "principalId": identity.object_id,
            "clientId": identity.app_id,
        },
    }


PLUGIN = SystemIdentities()
