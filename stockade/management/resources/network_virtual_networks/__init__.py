"""`Microsoft.Network/virtualNetworks`: an address space, and the subnets in it, which may come and go with it in one body.

Nothing here carries packets: virtual networks are the names by which accounts admit addresses, and where private endpoints get theirs.
Subnets in the body become documents of their own. As with Azure's present versions, a PUT whose body has no `subnets` keeps those there are;
one with a list replaces them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import Any

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.management import authorization
from stockade.management.network.bodies import SUBNETS, VIRTUAL_NETWORKS, tracked, wanted
from stockade.management.network.subnets import (
    MAX_PREFIXES,
    MAX_SUBNETS,
    Network,
    Subnet,
    SubnetProperties,
    check_siblings,
    is_reserved,
    network_of,
    overlapping,
    planned,
    prefixes,
    require_unused,
    show_in_network,
    store,
)
from stockade.management.resource_type import Action, Call, Planned, Reply, ResourceType
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

SUBNET_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,78}[a-zA-Z0-9_])?")
SUGGESTED = 5
"""Free addresses that `checkIPAddressAvailability` names when the one asked for is taken."""


class AddressSpace(Struct, rename="camel"):
    """Which addresses are the network's own."""

    address_prefixes: list[str] | None = None


class Properties(Struct, rename="camel"):
    """A virtual network's properties."""

    address_space: AddressSpace | None = None
    subnets: list[Subnet] | None = None


class VirtualNetwork(Struct, rename="camel"):
    """The whole body."""

    location: str | None = None
    tags: dict[str, object] | None = None
    properties: Properties | None = None


class VirtualNetworks(ResourceType):
    """Microsoft.Network/virtualNetworks."""

    type = name = VIRTUAL_NETWORKS
    name_pattern = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9_])?")
    has_system_data = False

    @property
    def actions(self) -> Sequence[Action]:
        check = "checkIPAddressAvailability"
        return (
            Action(check, f"{VIRTUAL_NETWORKS}/checkIpAddressAvailability/read", _check_address, method="GET"),
            Action("usages", f"{VIRTUAL_NETWORKS}/usages/read", _usages, method="GET"),
        )

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        body, asked = wanted(call, current, VirtualNetwork, frozenset({"provisioningState", "resourceGuid"}))
        properties = body["properties"]
        network = asked.properties or Properties()
        space = _space(network)
        properties["addressSpace"] = {
            **properties["addressSpace"],
            "addressPrefixes": [str(prefix) for prefix in space],
        }
        there = {subnet.id: subnet for subnet in reader.list(SUBNETS, under=call.id.key)}
        if network.subnets is None:
            kept = [(subnet.name, subnet.body["properties"]) for subnet in there.values()]
            _check_kept(call.id.name, kept, space)
            properties["subnets"] = current.body["properties"]["subnets"] if current is not None else []
        else:
            properties["subnets"] = _planned_subnets(call, network.subnets, properties["subnets"], space, there)
        guid = current.body["properties"]["resourceGuid"] if current is not None else new_guid()
        properties |= {"provisioningState": "Succeeded", "resourceGuid": guid}
        properties.setdefault("virtualNetworkPeerings", [])
        properties.setdefault("enableDdosProtection", False)
        return Planned({**body, **tracked(call, current, body)})

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        left = {subnet.id: subnet for subnet in writer.list(SUBNETS, under=document.id)}
        for subnet in document.body["properties"]["subnets"]:
            current = left.pop(f"{document.id}/subnets/{subnet['name'].lower()}", None)
            store(writer, document, subnet["name"], subnet["properties"], current)
        for unwanted in left.values():
            writer.remove(unwanted)  # `plan` saw that nobody uses it
        return show_in_network(writer, document.id) or document

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        subnets = writer.list(SUBNETS, under=document.id)
        for subnet in subnets:
            require_unused(subnet)
        for subnet in subnets:  # not by their own type: each would be taken out of this body first
            writer.remove(subnet)
        return super().remove(call, writer, document)

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()


def _space(network: Properties) -> list[Network]:
    target = "properties.addressSpace.addressPrefixes"
    texts = (network.address_space.address_prefixes if network.address_space is not None else None) or []
    if not 1 <= len(texts) <= MAX_PREFIXES:
        message = f"A virtual network has between 1 and {MAX_PREFIXES} address prefixes."
        raise Fault(FaultKind.INVALID, message, code="VnetAddressSpaceRequired", target=target)
    space = [network_of(text, target) for text in texts]
    clash = overlapping(space)
    if clash is not None:
        message = f"The address prefixes {clash[0]} and {clash[1]} overlap."
        raise Fault(FaultKind.INVALID, message, code="NetcfgPrefixesOverlap", target=target)
    return space


def _check_kept(name: str, kept: Sequence[tuple[str, Mapping[str, Any]]], space: Sequence[Network]) -> None:
    for subnet, properties in kept:
        for prefix in prefixes(properties):
            if not any(prefix.version == outer.version and prefix.subnet_of(outer) for outer in space):  # type: ignore[arg-type]
                message = f"Subnet '{subnet}' lies outside the new address space of virtual network '{name}'."
                raise Fault(FaultKind.INVALID, message, code="NetcfgInvalidSubnet", target="properties.addressSpace")


def _planned_subnets(
    call: Call,
    asked: Sequence[Subnet],
    raw: Sequence[Mapping[str, Any]],
    space: Sequence[Network],
    there: Mapping[str, Document],
) -> list[Json]:
    if len(asked) > MAX_SUBNETS:
        message = f"A virtual network has at most {MAX_SUBNETS} subnets."
        raise Fault(FaultKind.INVALID, message, code="TooManySubnets", target="properties.subnets")
    found: dict[str, Json] = {}
    for subnet, sent in zip(asked, raw, strict=True):
        name = subnet.name or ""
        if not SUBNET_NAME.fullmatch(name):
            message = f"'{name[:80]}' is not a valid name of a subnet."
            raise Fault(FaultKind.INVALID, message, code="InvalidResourceName", target="properties.subnets")
        key = f"{call.id.key}/subnets/{name.lower()}"
        if key in found:
            message = f"The virtual network has two subnets called '{name}'."
            raise Fault(FaultKind.INVALID, message, code="DuplicateResourceName", target="properties.subnets")
        properties = planned(
            name, sent.get("properties") or {}, subnet.properties or SubnetProperties(), space, there.get(key)
        )
        found[key] = {"name": name, "properties": properties}
    check_siblings(((one["name"], one["properties"]) for one in found.values()), call.id.name)
    for key, subnet_document in there.items():
        if key not in found:
            require_unused(subnet_document)
            _require_no_denial(call, "delete", key)
    for key, planned_subnet in found.items():
        if key not in there or there[key].body["properties"] != planned_subnet["properties"]:
            _require_no_denial(call, "write", key)
    return list(found.values())


def _require_no_denial(call: Call, verb: str, subnet_id: str) -> None:
    """Hold a deny assignment at a subnet against whoever reaches it through its network; roles are inherited, denials stand lower."""
    authorization.require_no_denial(
        call.snapshot, call.credential, f"{SUBNETS}/{verb}", subnet_id, subnet_id, call.decision_id, now=call.now
    )


def _check_address(call: Call, reader: Reader, document: Document) -> Json:
    text = call.query.get("ipaddress", "")
    try:
        address = ip_address(text)
    except ValueError as failure:
        message = f"'{text[:80]}' is not an IP address."
        raise Fault(FaultKind.INVALID, message, code="InvalidIPAddressFormat", target="ipAddress") from failure
    for subnet in reader.list(SUBNETS, under=document.id):
        for network in prefixes(subnet.body["properties"]):
            if isinstance(network, IPv4Network) and isinstance(address, IPv4Address) and address in network:
                taken = subnet.private.get("allocations", {})
                reserved = is_reserved(address, network)
                if str(address) not in taken and not reserved:
                    return {"available": True, "availableIPAddresses": [], "isPlatformReserved": False}
                free: list[str] = []
                for number in range(int(network[4]), int(network[-1])):
                    if len(free) == SUGGESTED:
                        break
                    if str(IPv4Address(number)) not in taken:
                        free.append(str(IPv4Address(number)))
                return {"available": False, "availableIPAddresses": free, "isPlatformReserved": reserved}
    message = (
        f"The address {address} belongs to no subnet of virtual network '{document.name}' that gives out addresses."
    )
    raise Fault(FaultKind.INVALID, message, code="PrivateIPAddressNotInAnySubnet", target="ipAddress")


def _usages(call: Call, reader: Reader, document: Document) -> Json:
    found = []
    for subnet in reader.list(SUBNETS, under=document.id):
        networks = [ip_network(str(one)) for one in prefixes(subnet.body["properties"]) if one.version == 4]
        found.append(
            {
                "id": subnet.body["id"],
                "currentValue": len(subnet.private.get("allocations", {})),
                "limit": sum(network.num_addresses - 5 for network in networks),
                "name": {"value": "SubnetSpace", "localizedValue": "Subnet size and usage"},
                "unit": "Count",
            }
        )
    return {"value": found}


PLUGIN = VirtualNetworks()
