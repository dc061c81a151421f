"""`Microsoft.CognitiveServices/accounts/defenderForAISettings`: whether Microsoft Defender for AI watches an account.

There is no such product on this platform. Templates that switch it off, or say nothing, are taken; switching it on is refused, because
nobody would be watching.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.merge import merge_patch
from stockade.management.resource_type import Call, Planned, ResourceType
from stockade.management.shape import one_of, respelled, typed
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader
from stockade.storage.documents import Document


class Properties(Struct, rename="camel"):
    """The one property."""

    state: str | None = None


class DefenderSetting(Struct, rename="camel"):
    """The whole body."""

    properties: Properties | None = None


class DefenderSettings(ResourceType):
    """A stored setting, always `Disabled`."""

    type = name = f"{ACCOUNTS}/defenderForAISettings"
    methods = frozenset({"GET", "PUT", "PATCH"})

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        body = merge_patch(current.body if current is not None else {}, respelled(call.body, DefenderSetting))
        asked = typed(body, DefenderSetting).properties or Properties()
        state = one_of(asked.state or "Disabled", ("Disabled", "Enabled"), "properties.state")
        if state == "Enabled":
            message = "Defender for AI is not part of this platform, so it cannot be enabled."
            raise Fault(FaultKind.INVALID, message, code="DefenderForAINotAvailable", target="properties.state")
        return Planned({**body, "properties": {**body.get("properties", {}), "state": state}})

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()


PLUGIN = DefenderSettings()
