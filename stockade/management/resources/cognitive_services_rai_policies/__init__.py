"""`Microsoft.CognitiveServices/accounts/raiPolicies`: content-filter policies, kept for templates that carry them.

No engine here filters content: a policy is stored and shown, changes nothing, and says so (`inForce`).
"""

from __future__ import annotations

from collections.abc import Iterable

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.merge import merge_patch
from stockade.management.resource_type import Call, Planned, Reply, ResourceType
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document


class RaiPolicies(ResourceType):
    """A stored content-filter policy."""

    type = name = f"{ACCOUNTS}/raiPolicies"
    methods = frozenset({"GET", "PUT", "DELETE"})

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        properties = call.body.get("properties")
        if not isinstance(properties, dict):
            raise Fault(
                FaultKind.INVALID,
                "The property 'properties' is required.",
                code="InvalidRequestContent",
                target="properties",
            )
        return Planned(
            {**merge_patch({}, call.body), "properties": {**properties, "type": "UserManaged", "inForce": False}}
        )

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        super().remove(call, writer, document)
        return Reply(204)  # SDKs take nothing else here

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()


PLUGIN = RaiPolicies()
