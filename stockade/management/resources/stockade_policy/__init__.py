"""`Stockade.Policy`: one past decision, found by its id alone or below its account. Lists, reports and drafts are actions of the account."""

from __future__ import annotations

from collections.abc import Sequence

from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.decisions import explaining
from stockade.management.resource_type import Plugin, Route

_ACCOUNT = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{ACCOUNTS}/{{account}}"


class Policy(Plugin):
    """Stockade.Policy/decisions."""

    name = "Stockade.Policy/decisions"

    @property
    def routes(self) -> Sequence[Route]:
        return (
            # Whoever holds only an id does not know which account it is about: the handler finds out, and asks for the right there.
            Route("GET", "/providers/Stockade.Policy/decisions/{decision}", None, explaining.anywhere),
            Route(
                "GET",
                f"{_ACCOUNT}/decisions/{{decision}}",
                explaining.PERMISSION,
                explaining.of_account,
                scope=_ACCOUNT,
            ),
        )


PLUGIN = Policy()
