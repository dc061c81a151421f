"""`Microsoft.Insights`: the activity log of a subscription, and the tenant's own."""

from __future__ import annotations

from collections.abc import Sequence

from stockade.management.audit import activity
from stockade.management.resource_type import Plugin, Route


class ActivityLog(Plugin):
    """Microsoft.Insights/eventtypes."""

    name = "Microsoft.Insights/eventtypes"

    @property
    def routes(self) -> Sequence[Route]:
        values = "/providers/Microsoft.Insights/eventtypes/management/values"
        return (
            Route("GET", f"/subscriptions/{{subscription}}{values}", activity.PERMISSION, activity.events),
            Route("GET", values, activity.PERMISSION, activity.events, scope="/"),
            Route("GET", "/providers/Microsoft.Insights/eventcategories", None, activity.categories),
        )


PLUGIN = ActivityLog()
