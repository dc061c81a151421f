"""`Microsoft.CognitiveServices/accounts/encryptionScopes`: named scopes under the platform's own keys.

A scope with a key of the customer's is refused, not stored: it would look as if that key were in force.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.merge import merge_patch
from stockade.management.resource_type import Call, Planned, Reply, ResourceType
from stockade.management.shape import one_of, respelled, typed
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document


class Properties(Struct, rename="camel"):
    """Whose key, and whether the scope may be used."""

    key_source: str | None = None
    state: str | None = None


class EncryptionScope(Struct, rename="camel"):
    """The whole body."""

    properties: Properties | None = None


class EncryptionScopes(ResourceType):
    """A stored encryption scope."""

    type = name = f"{ACCOUNTS}/encryptionScopes"
    methods = frozenset({"GET", "PUT", "DELETE"})

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        body = merge_patch({}, respelled(call.body, EncryptionScope))
        asked = typed(body, EncryptionScope).properties or Properties()
        sources = ("Microsoft.CognitiveServices", "Microsoft.KeyVault")
        source = one_of(asked.key_source or sources[0], sources, "properties.keySource")
        if source != sources[0]:
            message = (
                "Customer-managed keys are not available on this platform yet, so a key of yours would not be in force."
            )
            raise Fault(
                FaultKind.INVALID, message, code="CustomerManagedKeyNotAvailable", target="properties.keySource"
            )
        state = one_of(asked.state or "Enabled", ("Enabled", "Disabled"), "properties.state")
        properties = {
            **body.get("properties", {}),
            "keySource": source,
            "state": state,
            "provisioningState": "Succeeded",
        }
        return Planned({**body, "properties": properties})

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        super().remove(call, writer, document)
        return Reply(204)  # SDKs take nothing else here

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()


PLUGIN = EncryptionScopes()
