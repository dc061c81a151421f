"""`Microsoft.CognitiveServices/accounts/networkSecurityPerimeterConfigurations`: the perimeters an account is associated with.

Clients read them and ask to reconcile them; associations are made by Microsoft.Network, which this platform does not have, so there
are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.resource_type import Action, Call, Planned, ResourceType
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

TYPE = f"{ACCOUNTS}/networkSecurityPerimeterConfigurations"


class PerimeterConfigurations(ResourceType):
    """A perimeter association, read-only."""

    type = name = TYPE
    methods = frozenset({"GET"})
    has_etag = False

    @property
    def actions(self) -> Sequence[Action]:
        return (Action("reconcile", f"{TYPE}/reconcile/action", _reconcile),)

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        raise Fault(
            FaultKind.METHOD_NOT_ALLOWED,
            "Perimeter configurations are made by associating a perimeter with the account.",
        )

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()


def _reconcile(call: Call, writer: Writer, document: Document) -> Json:
    return dict(document.body)  # what is stored is in force; there is nothing to catch up with


PLUGIN = PerimeterConfigurations()
