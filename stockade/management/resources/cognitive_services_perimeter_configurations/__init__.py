"""`Microsoft.CognitiveServices/accounts/networkSecurityPerimeterConfigurations`: the perimeter an account is in, seen from the account.

Clients read them and ask to reconcile them; they are made by associating a perimeter with the account, in Microsoft.Network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.network.perimeters import CONFIGURATIONS, associations_of, configuration
from stockade.management.resource_type import Action, Call, Planned, ResourceType
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json


class PerimeterConfigurations(ResourceType):
    """What a perimeter association means for its account, computed from Microsoft.Network's documents, read-only."""

    type = name = CONFIGURATIONS
    methods = frozenset({"GET"})
    has_etag = False

    @property
    def actions(self) -> Sequence[Action]:
        return (Action("reconcile", f"{CONFIGURATIONS}/reconcile/action", _reconcile),)

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        raise Fault(
            FaultKind.METHOD_NOT_ALLOWED,
            "Perimeter configurations are made by associating a perimeter with the account.",
        )

    def get(self, call: Call, reader: Reader) -> Document | None:
        found = _of_account(reader, call.id.parent.lower())
        return next((document for document in found if document.id == call.id.key), None)

    def list(self, call: Call, reader: Reader) -> Iterable[Document]:
        return _of_account(reader, call.id.key)

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()


def _of_account(reader: Reader, account_id: str) -> list[Document]:
    account = reader.get(account_id)
    if account is None:
        return []
    found = (configuration(reader, association, account) for association in associations_of(reader, account_id))
    return [document for document in found if document is not None]


def _reconcile(call: Call, writer: Writer, document: Document) -> Json:
    return dict(document.body)  # what is stored is in force; there is nothing to catch up with


PLUGIN = PerimeterConfigurations()
