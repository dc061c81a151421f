"""Subnets: what one may be, which addresses of it are taken, and how it is shown inside its virtual network.

Each subnet is a document of its own, and its virtual network's body repeats them, as Azure shows it. The addresses that private endpoints
hold are in the subnet's private part, so that a transaction that takes one cannot miss another.
Source: Azure's rules for virtual networks (five reserved addresses of every subnet, IPv4 prefixes up to /29, IPv6 prefixes of /64).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from itertools import pairwise
from typing import Any, TypeAlias

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.network.bodies import SUBNETS, Reference, nested
from stockade.management.shape import one_of
from stockade.storage.database import Writer
from stockade.storage.documents import Document, Json

Network: TypeAlias = IPv4Network | IPv6Network

SERVICE = "Microsoft.CognitiveServices"
"""The service endpoint that makes a subnet's addresses count for accounts."""
VAULT_SERVICE = "Microsoft.KeyVault"
"""The one that makes them count for key vaults."""
MAX_SUBNETS = 3000
MAX_PREFIXES = 100
MAX_SERVICE_ENDPOINTS = 100
RESERVED_FIRST = 4
"""Addresses at the start of a subnet that nobody gets: network, gateway, two for DNS. The last one is the broadcast address."""
READ_ONLY = frozenset({"provisioningState", "privateEndpoints", "ipConfigurations", "purpose"})
_POLICIES = {
    "privateEndpointNetworkPolicies": ("Disabled", "Enabled", "NetworkSecurityGroupEnabled", "RouteTableEnabled"),
    "privateLinkServiceNetworkPolicies": ("Enabled", "Disabled"),
}


class ServiceEndpoint(Struct, rename="camel"):
    """A service that traffic from the subnet reaches with the subnet's identity."""

    service: str | None = None
    locations: list[str] | None = None


class SubnetProperties(Struct, rename="camel"):
    """The members of a subnet that mean something here."""

    address_prefix: str | None = None
    address_prefixes: list[str] | None = None
    service_endpoints: list[ServiceEndpoint] | None = None
    network_security_group: Reference | None = None
    private_endpoint_network_policies: str | None = None
    private_link_service_network_policies: str | None = None


class Subnet(Struct, rename="camel"):
    """The whole body, alone or inside a virtual network."""

    id: str | None = None
    name: str | None = None
    properties: SubnetProperties | None = None


def network_of(text: str, target: str) -> Network:
    """Return a CIDR prefix; Fault(INVALID) for what is none, host bits included."""
    try:
        if "%" in text:
            raise ValueError("a zone index belongs to one machine")
        return ip_network(text.strip())
    except ValueError as failure:
        message = f"'{text[:80]}' is not an address prefix in CIDR notation."
        raise Fault(FaultKind.INVALID, message, code="InvalidCIDRNotation", target=target) from failure


def overlapping(networks: Sequence[Network]) -> tuple[Network, Network] | None:
    """Return two networks that overlap; None when none do."""
    ordered = sorted(networks, key=lambda network: (network.version, int(network[0]), network.prefixlen))
    for first, second in pairwise(ordered):
        if first.version == second.version and first.overlaps(
            second
        ):  # sorted CIDR networks overlap their neighbour or none
            return first, second
    return None


def prefixes(properties: Mapping[str, Any]) -> tuple[Network, ...]:
    """Return the prefixes of a stored subnet."""
    texts = properties.get("addressPrefixes") or [properties["addressPrefix"]]
    return tuple(ip_network(text) for text in texts)


def planned(
    name: str, raw: Mapping[str, Any], asked: SubnetProperties, space: Sequence[Network], before: Document | None
) -> Json:
    """Return the properties of a subnet as they are stored, all but how it lies to its siblings; Fault(INVALID).

    raw: as sent, in Azure's spelling. space: the virtual network's address space. before: the subnet as it is.
    """
    target = f"subnets[{name}].properties"
    texts = asked.address_prefixes or ([asked.address_prefix] if asked.address_prefix else [])
    if asked.address_prefix and asked.address_prefixes and asked.address_prefixes != [asked.address_prefix]:
        message = f"Subnet '{name}' has both addressPrefix and addressPrefixes, and they differ."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target=f"{target}.addressPrefixes")
    if not 1 <= len(texts) <= MAX_PREFIXES:
        message = f"Subnet '{name}' needs an addressPrefix, or addressPrefixes with at most {MAX_PREFIXES} of them."
        raise Fault(FaultKind.INVALID, message, code="SubnetPrefixRequired", target=f"{target}.addressPrefix")
    networks = [network_of(text, f"{target}.addressPrefix") for text in texts]
    for network in networks:
        _check_prefix(name, network, space)
    if asked.network_security_group is not None:
        message = "Network security groups are not available on this platform, so one would not be in force. Leave networkSecurityGroup out."
        raise Fault(
            FaultKind.INVALID, message, code="NetworkSecurityGroupNotAvailable", target=f"{target}.networkSecurityGroup"
        )
    properties = {key: value for key, value in raw.items() if key not in READ_ONLY}
    if asked.address_prefixes:
        properties["addressPrefixes"] = [str(network) for network in networks]
    if asked.address_prefix:
        properties["addressPrefix"] = str(networks[0])
    properties["serviceEndpoints"] = _service_endpoints(
        asked.service_endpoints or [], raw.get("serviceEndpoints") or [], target
    )
    for policy, choices in _POLICIES.items():
        properties[policy] = one_of(str(raw.get(policy) or choices[0]), choices, f"{target}.{policy}")
    properties.setdefault("delegations", [])
    held = [ip_address(text) for text in (before.private.get("allocations", {}) if before is not None else {})]
    if any(not any(address in network for network in networks) for address in held):
        message = f"Subnet '{name}' cannot lose addresses that private endpoints hold: {', '.join(map(str, held))}."
        raise Fault(FaultKind.INVALID, message, code="InUsePrefixCannotBeDeleted", target=f"{target}.addressPrefix")
    shown = before.body["properties"].get("privateEndpoints") if before is not None else None
    return {**properties, **({"privateEndpoints": shown} if shown else {}), "provisioningState": "Succeeded"}


def check_siblings(subnets: Iterable[tuple[str, Mapping[str, Any]]], network_name: str) -> None:
    """Refuse subnets of one virtual network that overlap. subnets: names and stored properties."""
    named = [(network, name) for name, properties in subnets for network in prefixes(properties)]
    clash = overlapping([network for network, _ in named])
    if clash is not None:
        names = sorted({name for network, name in named if network in clash})
        message = (
            f"Subnet '{names[-1]}' is not valid because its IP address range overlaps with that of an existing subnet in virtual network "
            f"'{network_name}'."
        )
        raise Fault(FaultKind.INVALID, message, code="NetcfgSubnetRangesOverlap", target="properties.subnets")


def require_unused(subnet: Document) -> None:
    """Refuse to take away a subnet that private endpoints stand in."""
    users = sorted(set(subnet.private.get("allocations", {}).values()))
    if users:
        message = (
            f"Subnet {subnet.name} is in use by {', '.join(users)} and cannot be deleted. Delete what uses it first."
        )
        raise Fault(FaultKind.INVALID, message, code="InUseSubnetCannotBeDeleted")


def shown(subnet: Document) -> Json:
    """Return a subnet as its virtual network shows it."""
    return {**subnet.body, **({"etag": f'"{subnet.etag}"'} if subnet.etag else {})}


def show_in_network(writer: Writer, network_id: str) -> Document | None:
    """Repeat the subnets in their virtual network's body; None when that is gone."""
    network = writer.get(network_id)
    if network is None:
        return None
    found = [shown(subnet) for subnet in writer.list(SUBNETS, under=network.id)]
    body = {**network.body, "properties": {**network.body["properties"], "subnets": found}}
    return writer.put(
        network.id, network.type, body, subscription=network.subscription, resource_group=network.resource_group
    )


def store(writer: Writer, network: Document, name: str, properties: Json, current: Document | None) -> None:
    """Create or change one subnet of a virtual network; one that is as it should be is left alone. current: the subnet as it is."""
    body = nested(SUBNETS, str(network.body["id"]), name, properties)
    if current is not None:
        body = {**body, "id": current.body["id"], "name": current.body["name"]}
    if current is None or current.body != body:
        writer.put(
            str(body["id"]), SUBNETS, body, subscription=network.subscription, resource_group=network.resource_group
        )


def free_address(subnet: Document, wanted: str | None) -> str:
    """Return an IPv4 address of a subnet that nobody has: the wanted one, else the lowest; Fault when there is none."""
    taken = subnet.private.get("allocations", {})
    networks = [network for network in prefixes(subnet.body["properties"]) if isinstance(network, IPv4Network)]
    target = "properties.ipConfigurations"
    if wanted is None:
        for network in networks:
            for number in range(int(network[RESERVED_FIRST]), int(network[-1])):
                if str(IPv4Address(number)) not in taken:
                    return str(IPv4Address(number))
        message = f"Subnet '{subnet.name}' has no IPv4 address left for a private endpoint."
        raise Fault(FaultKind.INVALID, message, code="SubnetIsFull", target="properties.subnet")
    try:
        address = IPv4Address(wanted)
    except ValueError as failure:
        message = f"'{wanted[:80]}' is not an IPv4 address."
        raise Fault(FaultKind.INVALID, message, code="InvalidIPAddressFormat", target=target) from failure
    home = next((network for network in networks if address in network), None)
    if home is None:
        message = f"The private address {address} does not belong to the range of subnet '{subnet.name}'."
        raise Fault(FaultKind.INVALID, message, code="PrivateIPAddressNotInSubnet", target=target)
    if is_reserved(address, home):
        message = f"The private address {address} is in the reserved range of subnet '{subnet.name}' (its first four and its last)."
        raise Fault(FaultKind.INVALID, message, code="PrivateIPAddressInReservedRange", target=target)
    if str(address) in taken:
        message = f"The private address {address} is already allocated to '{taken[str(address)]}'."
        raise Fault(FaultKind.CONFLICT, message, code="PrivateIPAddressIsAllocated", target=target)
    return str(address)


def is_reserved(address: IPv4Address, network: IPv4Network) -> bool:
    """Say whether an address of a network is one of those nobody gets."""
    return int(address) < int(network[RESERVED_FIRST]) or address == network[-1]


def hold(writer: Writer, subnet: Document, address: str, endpoint: Document) -> None:
    """Give an address of a subnet to a private endpoint."""
    allocations = {**subnet.private.get("allocations", {}), address: endpoint.id}
    shown_ids = [*subnet.body["properties"].get("privateEndpoints", []), {"id": endpoint.body["id"]}]
    _change(writer, subnet, allocations, shown_ids)


def release(writer: Writer, subnet_id: str, endpoint: Document) -> None:
    """Take back what a private endpoint held of a subnet; nothing happens when the subnet is gone."""
    subnet = writer.get(subnet_id)
    if subnet is None:
        return
    allocations = {text: user for text, user in subnet.private.get("allocations", {}).items() if user != endpoint.id}
    shown_ids = [
        one for one in subnet.body["properties"].get("privateEndpoints", []) if one["id"].lower() != endpoint.id
    ]
    _change(writer, subnet, allocations, shown_ids)


def _change(writer: Writer, subnet: Document, allocations: Json, endpoints: list[Json]) -> None:
    properties = {name: value for name, value in subnet.body["properties"].items() if name != "privateEndpoints"}
    if endpoints:
        properties["privateEndpoints"] = endpoints
    private = {**subnet.private, "allocations": allocations}
    body = {**subnet.body, "properties": properties}
    writer.put(
        subnet.id, subnet.type, body, private, subscription=subnet.subscription, resource_group=subnet.resource_group
    )
    show_in_network(writer, subnet.id.rsplit("/", 2)[0])


def _check_prefix(name: str, network: Network, space: Sequence[Network]) -> None:
    if not any(network.version == outer.version and network.subnet_of(outer) for outer in space):  # type: ignore[arg-type]
        message = f"Subnet '{name}' is not valid because its IP address range {network} is outside the IP address range of the virtual network."
        raise Fault(FaultKind.INVALID, message, code="NetcfgInvalidSubnet", target=f"subnets[{name}]")
    if (network.version == 4 and network.prefixlen > 29) or (network.version == 6 and network.prefixlen != 64):
        message = f"Subnet '{name}' cannot have the prefix {network}: IPv4 subnets have /29 or more addresses, IPv6 subnets are /64."
        raise Fault(FaultKind.INVALID, message, code="InvalidSubnetPrefixLength", target=f"subnets[{name}]")


def _service_endpoints(asked: Sequence[ServiceEndpoint], raw: Sequence[Mapping[str, Any]], target: str) -> list[Json]:
    if len(asked) > MAX_SERVICE_ENDPOINTS:
        message = f"A subnet has at most {MAX_SERVICE_ENDPOINTS} service endpoints."
        raise Fault(FaultKind.INVALID, message, code="TooManyServiceEndpoints", target=f"{target}.serviceEndpoints")
    found: dict[str, Json] = {}
    for endpoint, sent in zip(asked, raw, strict=True):
        if not endpoint.service:
            message = "A service endpoint names its service."
            raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target=f"{target}.serviceEndpoints")
        service = SERVICE if endpoint.service.lower() == SERVICE.lower() else endpoint.service
        found.setdefault(
            service.lower(),
            {**sent, "service": service, "locations": endpoint.locations or ["*"], "provisioningState": "Succeeded"},
        )
    return list(found.values())
