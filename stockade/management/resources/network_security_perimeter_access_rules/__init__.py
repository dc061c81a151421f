"""`Microsoft.Network/networkSecurityPerimeters/profiles/accessRules`: who may cross a perimeter inward.

Addresses, or subscriptions: a caller with a managed identity of a resource in the subscription. Rules that nothing here would enforce are
refused: outbound ones (an account's `allowedFqdnList` is what is in force) and those by service tag, e-mail address or telephone number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.management.network.bodies import ACCESS_RULES, wanted
from stockade.management.network.subnets import network_of
from stockade.management.resource_type import Action, Call, Planned, Reply, ResourceType
from stockade.management.shape import one_of
from stockade.policy.addresses import AddressSet
from stockade.policy.snapshot import Entry, PerimeterRule
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

MAX_ENTRIES = 10_000
"""Addresses, or subscriptions, of one rule."""
_UNENFORCED = {
    "fullyQualifiedDomainNames": "set allowedFqdnList and restrictOutboundNetworkAccess of the account",
    "serviceTags": "give addressPrefixes",
    "emailAddresses": "there is nothing that sends mail",
    "phoneNumbers": "there is nothing that sends messages",
}


class SubscriptionId(Struct, rename="camel"):
    """A subscription, as `/subscriptions/{guid}`."""

    id: str | None = None


class Properties(Struct, rename="camel"):
    """A rule's properties."""

    direction: str | None = None
    address_prefixes: list[str] | None = None
    subscriptions: list[SubscriptionId] | None = None
    fully_qualified_domain_names: list[str] | None = None
    service_tags: list[str] | None = None
    email_addresses: list[str] | None = None
    phone_numbers: list[str] | None = None


class AccessRule(Struct, rename="camel"):
    """The whole body."""

    properties: Properties | None = None


class AccessRules(ResourceType):
    """Microsoft.Network/networkSecurityPerimeters/profiles/accessRules."""

    type = name = ACCESS_RULES
    methods = frozenset({"GET", "PUT", "DELETE"})
    name_pattern = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,78}[a-zA-Z0-9_])?")
    has_etag = False

    @property
    def actions(self) -> Sequence[Action]:
        return (Action("reconcile", f"{ACCESS_RULES}/reconcile/action", _reconcile),)

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        body, typed_body = wanted(
            call, current, AccessRule, frozenset({"provisioningState", "networkSecurityPerimeters"})
        )
        asked, properties = typed_body.properties or Properties(), body["properties"]
        properties["direction"] = one_of(asked.direction or "Inbound", ("Inbound", "Outbound"), "properties.direction")
        if properties["direction"] == "Outbound":
            message = (
                "Outbound rules of a perimeter are not in force on this platform, so one would only look as if it were. Where an account's data may "
                "go is set on the account: restrictOutboundNetworkAccess and allowedFqdnList."
            )
            raise Fault(FaultKind.INVALID, message, code="OutboundRulesNotAvailable", target="properties.direction")
        for name, instead in _UNENFORCED.items():
            if properties.get(name):
                message = f"Rules by {name} are not in force on this platform: {instead}."
                raise Fault(FaultKind.INVALID, message, code="AccessRuleNotAvailable", target=f"properties.{name}")
        addresses, subscriptions = asked.address_prefixes or [], asked.subscriptions or []
        if bool(addresses) == bool(subscriptions):
            message = "A rule has addressPrefixes or subscriptions, one of the two."
            raise Fault(FaultKind.INVALID, message, code="InvalidAccessRule", target="properties")
        if len(addresses) + len(subscriptions) > MAX_ENTRIES:
            message = f"A rule has at most {MAX_ENTRIES} entries."
            raise Fault(FaultKind.INVALID, message, code="TooManyAccessRuleEntries", target="properties")
        networks = [network_of(text, "properties.addressPrefixes") for text in addresses]
        properties["addressPrefixes"] = list(dict.fromkeys(str(network) for network in networks))
        properties["subscriptions"] = [{"id": f"/subscriptions/{_subscription(one)}"} for one in subscriptions]
        return Planned({**body, "properties": {**properties, "provisioningState": "Succeeded"}})

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        _count(writer, document)
        return document

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        super().remove(call, writer, document)
        _count(writer, document)
        return None

    def compile(self, document: Document) -> Iterable[Entry]:
        properties = document.body["properties"]
        subscriptions = frozenset(str(one["id"]).rsplit("/", 1)[-1].lower() for one in properties["subscriptions"])
        rule = PerimeterRule(document.id, AddressSet.of(properties["addressPrefixes"]), subscriptions)
        yield ("perimeter-rule", document.id.rsplit("/", 2)[0], rule)


def _subscription(one: SubscriptionId) -> str:
    found = ResourceId.parse(one.id or "-")
    if found.subscription is None or found.resource_group is not None or found.type is not None:
        message = f"'{found.text[:200]}' is not the id of a subscription (/subscriptions/{{guid}})."
        raise Fault(FaultKind.INVALID, message, code="InvalidAccessRule", target="properties.subscriptions")
    return found.subscription


def _count(writer: Writer, rule: Document) -> None:
    """Say in the profile that its rules have changed, which is how Azure's clients notice."""
    profile = writer.get(rule.id.rsplit("/", 2)[0])
    if profile is None:
        return
    properties: dict[str, Any] = dict(profile.body["properties"])
    properties["accessRulesVersion"] = str(int(properties["accessRulesVersion"]) + 1)
    writer.put(
        profile.id,
        profile.type,
        {**profile.body, "properties": properties},
        subscription=profile.subscription,
        resource_group=profile.resource_group,
    )


def _reconcile(call: Call, reader: Reader, document: Document) -> Json:
    return {}  # what is stored is in force; there is nothing to catch up with


PLUGIN = AccessRules()
