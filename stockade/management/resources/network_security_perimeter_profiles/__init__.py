"""`Microsoft.Network/networkSecurityPerimeters/profiles`: a set of access rules that associations refer to."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.network.bodies import ASSOCIATIONS, PROFILES, wanted
from stockade.management.resource_type import Call, Planned, Reply, ResourceType
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document


class Properties(Struct, rename="camel"):
    """A profile has no properties that callers set."""


class Profile(Struct, rename="camel"):
    """The whole body."""

    properties: Properties | None = None


class Profiles(ResourceType):
    """Microsoft.Network/networkSecurityPerimeters/profiles."""

    type = name = PROFILES
    methods = frozenset({"GET", "PUT", "DELETE"})
    name_pattern = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,78}[a-zA-Z0-9_])?")
    has_etag = False

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        versions = ("accessRulesVersion", "diagnosticSettingsVersion")
        body, _ = wanted(call, current, Profile, frozenset(versions))
        before = current.body["properties"] if current is not None else dict.fromkeys(versions, "0")
        body["properties"] |= {name: before[name] for name in versions}
        return Planned(body)

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        users = [
            association.body["properties"]["privateLinkResource"]["id"]
            for association in writer.list(ASSOCIATIONS, under=document.id.rsplit("/", 2)[0])
            if association.body["properties"]["profile"]["id"].lower() == document.id
        ]
        if users:
            message = f"The profile '{document.name}' is in use by {', '.join(users)}. Remove or change their associations first."
            raise Fault(FaultKind.CONFLICT, message, code="ProfileInUse")
        return super().remove(call, writer, document)

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()


PLUGIN = Profiles()
