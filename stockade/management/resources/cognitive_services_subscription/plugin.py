"""The routes, and which ARM action each takes."""

from __future__ import annotations

from collections.abc import Sequence

from stockade.management.cognitive_services.kinds import PROVIDER
from stockade.management.resource_type import Call, Plugin, Route
from stockade.management.resources.cognitive_services_subscription import availability, deleted, offers
from stockade.storage.database import Writer
from stockade.storage.documents import Json

_SUBSCRIPTION = f"/subscriptions/{{subscription}}/providers/{PROVIDER}"
_LOCATION = f"{_SUBSCRIPTION}/locations/{{location}}"
_GROUP = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{PROVIDER}"
_DELETED = f"{_LOCATION}/resourceGroups/{{group}}/deletedAccounts/{{account}}"


class SubscriptionRoutes(Plugin):
    """Everything that is asked of a subscription rather than of an account."""

    name = f"{PROVIDER} (subscription)"

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", f"{_SUBSCRIPTION}/skus", f"{PROVIDER}/skus/read", offers.skus),
            Route("GET", f"{_LOCATION}/models", f"{PROVIDER}/locations/models/read", offers.models_of_location),
            Route("GET", f"{_LOCATION}/usages", f"{PROVIDER}/locations/usages/read", offers.usages),
            Route(
                "GET", f"{_SUBSCRIPTION}/modelCapacities", f"{PROVIDER}/modelCapacities/read", offers.model_capacities
            ),
            Route(
                "GET",
                f"{_LOCATION}/modelCapacities",
                f"{PROVIDER}/locations/modelCapacities/read",
                offers.model_capacities,
            ),
            Route("GET", f"/providers/{PROVIDER}/operations", None, offers.operations),
            Route(
                "POST",
                f"{_LOCATION}/checkSkuAvailability",
                f"{PROVIDER}/locations/checkSkuAvailability/action",
                availability.of_skus,
            ),
            Route(
                "POST",
                f"{_SUBSCRIPTION}/checkDomainAvailability",
                f"{PROVIDER}/checkDomainAvailability/action",
                availability.of_domain,
            ),
            Route(
                "POST",
                f"{_SUBSCRIPTION}/calculateModelCapacity",
                f"{PROVIDER}/calculateModelCapacity/action",
                availability.capacity,
            ),
            Route("GET", f"{_SUBSCRIPTION}/deletedAccounts", f"{PROVIDER}/deletedAccounts/read", deleted.list_deleted),
            Route("GET", _DELETED, f"{PROVIDER}/locations/resourceGroups/deletedAccounts/read", deleted.get_deleted),
            Route(
                "DELETE",
                _DELETED,
                f"{PROVIDER}/locations/resourceGroups/deletedAccounts/delete",
                deleted.purge_deleted,
                writes=True,
            ),
            # Lists of what this platform does not have; nothing of the kind can be created, so they are empty and complete.
            Route("GET", f"{_LOCATION}/raiContentFilters", f"{PROVIDER}/locations/raiContentFilters/read", _none),
            Route("GET", f"{_LOCATION}/commitmentTiers", f"{PROVIDER}/locations/commitmentTiers/read", _none),
            Route("GET", f"{_SUBSCRIPTION}/commitmentPlans", f"{PROVIDER}/commitmentPlans/read", _none),
            Route("GET", f"{_GROUP}/commitmentPlans", f"{PROVIDER}/commitmentPlans/read", _none),
        )


def _none(call: Call, writer: Writer) -> Json:
    return {"value": []}


PLUGIN = SubscriptionRoutes()
