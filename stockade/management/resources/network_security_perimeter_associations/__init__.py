"""`Microsoft.Network/networkSecurityPerimeters/resourceAssociations`: an account inside a perimeter, under one of its profiles.

`Learning` lets the profile admit beside the account's own rules; `Enforced` leaves nothing to them. `Audit`, which Azure's models still have,
refuses nothing either and is taken as Learning is. Either can open an account to addresses that its own rules refuse, so whoever
associates it needs the account's `joinPerimeter` action too, and whoever may write the profile's rules is trusted with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.management import authorization
from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.network.bodies import ASSOCIATIONS, PROFILES, Reference, referred, wanted
from stockade.management.network.perimeters import associations_of
from stockade.management.resource_type import Action, Call, Planned, ResourceType, display_id
from stockade.management.shape import one_of
from stockade.policy.snapshot import Entry, PerimeterAssociation
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json

JOIN = f"{ACCOUNTS}/joinPerimeter/action"
MODES = ("Learning", "Enforced", "Audit")


class Properties(Struct, rename="camel"):
    """An association's properties."""

    private_link_resource: Reference | None = None
    profile: Reference | None = None
    access_mode: str | None = None


class Association(Struct, rename="camel"):
    """The whole body."""

    properties: Properties | None = None


class Associations(ResourceType):
    """Microsoft.Network/networkSecurityPerimeters/resourceAssociations."""

    type = name = ASSOCIATIONS
    methods = frozenset({"GET", "PUT", "DELETE"})
    name_pattern = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,78}[a-zA-Z0-9_])?")
    has_etag = False

    @property
    def actions(self) -> Sequence[Action]:
        return (Action("reconcile", f"{ASSOCIATIONS}/reconcile/action", _reconcile),)

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        body, typed_body = wanted(call, current, Association, frozenset({"provisioningState", "hasProvisioningIssues"}))
        asked, properties = typed_body.properties or Properties(), body["properties"]
        account_id = referred(asked.private_link_resource, ACCOUNTS, "properties.privateLinkResource")
        authorization.authorise(
            call.snapshot, call.credential, JOIN, account_id.key, account_id.text, call.decision_id, now=call.now
        )
        if current is not None and account_id.key != current.body["properties"]["privateLinkResource"]["id"].lower():
            message = f"The association '{call.id.name}' is another resource's; make one of its own for this account."
            raise Fault(
                FaultKind.INVALID, message, code="PropertyChangeNotAllowed", target="properties.privateLinkResource"
            )
        account = reader.get(account_id.key)
        if account is None:
            message = f"The account '{account_id.text}' was not found."
            raise Fault(
                FaultKind.INVALID, message, code="PrivateLinkResourceNotFound", target="properties.privateLinkResource"
            )
        others = [other.id for other in associations_of(reader, account_id.key) if other.id != call.id.key]
        if others:
            message = f"The account '{account_id.text}' is in a perimeter already, by '{others[0]}'; an account is in one at most."
            raise Fault(
                FaultKind.CONFLICT, message, code="ResourceAlreadyAssociated", target="properties.privateLinkResource"
            )
        profile_id = referred(asked.profile, PROFILES, "properties.profile")
        profile = reader.get(profile_id.key) if profile_id.parent.lower() == call.id.parent.lower() else None
        if profile is None:
            message = f"The profile '{profile_id.text}' is not one of this perimeter."
            raise Fault(FaultKind.INVALID, message, code="ProfileNotFound", target="properties.profile")
        properties |= {
            "privateLinkResource": {"id": display_id(account)},
            "profile": {"id": display_id(profile)},
            "accessMode": one_of(asked.access_mode or "Learning", MODES, "properties.accessMode"),
            "hasProvisioningIssues": "no",
            "provisioningState": "Succeeded",
        }
        return Planned(body)

    def compile(self, document: Document) -> Iterable[Entry]:
        properties = document.body["properties"]
        resource_id = properties["privateLinkResource"]["id"].lower()
        found = PerimeterAssociation(
            id=document.id,
            perimeter_id=document.id.rsplit("/", 2)[0],
            profile_id=properties["profile"]["id"].lower(),
            resource_id=resource_id,
            enforced=properties["accessMode"] == "Enforced",
        )
        yield ("perimeter", resource_id, found)


def _reconcile(call: Call, reader: Reader, document: Document) -> Json:
    return {}  # what is stored is in force; there is nothing to catch up with


PLUGIN = Associations()
