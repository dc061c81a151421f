"""Subscriptions: listed and read by whoever has some role in them, made by first start alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stockade.kernel.faults import Fault, FaultKind
from stockade.management import authorization
from stockade.management.locations import AZURE_REGIONS, accepted
from stockade.management.resource_type import Call, Planned, ResourceType, Route, bodies
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json

TYPE = "Microsoft.Resources/subscriptions"


class Subscriptions(ResourceType):
    """Microsoft.Resources/subscriptions."""

    name = type = TYPE
    methods = frozenset()
    has_etag = has_system_data = False

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/subscriptions", None, self._list),
            # No permission: a role on one group is enough to see the subscription it lies in, as in Azure.
            Route("GET", "/subscriptions/{subscription}", None, self._show),
            Route("GET", "/subscriptions/{subscription}/locations", f"{TYPE}/locations/read", _locations),
        )

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        raise Fault(FaultKind.METHOD_NOT_ALLOWED, "Subscriptions are made by the platform's first start.")

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()

    def _list(self, call: Call, reader: Reader) -> Json:
        found = reader.list(TYPE)
        return bodies(
            item.body
            for item in found
            if authorization.access_below(call.snapshot, call.credential, item.id, now=call.now)
        )

    def _show(self, call: Call, reader: Reader) -> Json:
        if not authorization.access_below(call.snapshot, call.credential, call.id.key, now=call.now):
            permission = f"{TYPE}/read"
            raise authorization.refusal(call.snapshot, call.credential, permission, call.id.text, call.decision_id)
        document = reader.get(call.id.key)
        if document is None:
            message = f"The subscription '{call.id.subscription}' could not be found."
            raise Fault(FaultKind.NOT_FOUND, message, code="SubscriptionNotFound")
        return dict(document.body)


def _locations(call: Call, reader: Reader) -> Json:
    names = accepted(call.platform.settings)
    own = call.platform.settings.names.location
    return bodies(
        {
            "id": f"{call.id.text}/locations/{name}",
            "name": name,
            "type": "Region",
            "displayName": AZURE_REGIONS.get(name, own),
            "regionalDisplayName": AZURE_REGIONS.get(name, own),
            "metadata": {"regionType": "Physical", "regionCategory": "Recommended" if name == names[0] else "Other"},
        }
        for name in names
    )


def subscription_body(subscription_id: str, tenant_id: str, display_name: str) -> Json:
    """Return the body of a new subscription's document."""
    return {
        "id": f"/subscriptions/{subscription_id}",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": subscription_id,
        "tenantId": tenant_id,
        "displayName": display_name,
        "state": "Enabled",
        "subscriptionPolicies": {"spendingLimit": "Off"},
    }


PLUGIN = Subscriptions()
