"""`GET /tenants`: the one tenant of this installation, for every authenticated caller."""

from __future__ import annotations

from collections.abc import Sequence

from stockade.identity.tenant import tenant_of
from stockade.management.resource_type import Call, Plugin, Route, bodies
from stockade.storage.database import Reader
from stockade.storage.documents import Json


class Tenants(Plugin):
    """Microsoft.Resources/tenants."""

    name = "Microsoft.Resources/tenants"

    @property
    def routes(self) -> Sequence[Route]:
        return (Route("GET", "/tenants", None, _list),)


def _list(call: Call, reader: Reader) -> Json:
    tenant = tenant_of(call.snapshot)
    tenant_id = call.platform.tenant_id
    body: Json = {
        "id": f"/tenants/{tenant_id}",
        "tenantId": tenant_id,
        "displayName": tenant.display_name if tenant is not None else "",
        "tenantCategory": "Home",
        "domains": [],
    }
    return bodies([body])


PLUGIN = Tenants()
