"""The entries of `networkAcls`, which accounts and key vaults have alike: checked and normalised.

Source: contracts, control-plane section 1.4, and choices.md (row "IP rules"): Azure takes public IPv4 without /31 and /32, and so does
strict parity; otherwise private ranges, IPv6, /31 and /32 are taken too. A subnet that a resource begins to admit has to exist and to have the
service endpoint, unless the rule ignores that; whoever adds it needs the right to join the subnet. What was admitted before stays, also when the
subnet has changed since: it then admits whom the subnet's documents say at that time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeAlias

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.management.authorization import authorise
from stockade.management.network.bodies import SUBNETS
from stockade.management.resource_type import Call
from stockade.policy.network_acls import without_endpoint
from stockade.storage.database import Reader
from stockade.storage.documents import Json

Network: TypeAlias = IPv4Network | IPv6Network

JOIN = f"{SUBNETS}/joinViaServiceEndpoint/action"

_MAPPED = IPv6Network("::ffff:0:0/96")


def normal_network(text: str, *, strict: bool) -> str:
    """Return an address or range in its one normal form: host bits cleared, a range of one address written as the address.

    Fault(INVALID, code InvalidNetworkRule) for anything that is no address, and in strict parity for what Azure refuses.
    """
    value = text.strip()
    try:
        if "%" in value:
            raise ValueError("a zone index belongs to one machine")
        network: Network = ip_network(value, strict=strict)
    except ValueError as failure:
        raise _invalid(text, "it is no IP address or CIDR range") from failure
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        network = IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    if strict:
        _refuse_what_azure_refuses(text, value, network)
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def ip_rules(rules: Sequence[Mapping[str, Any]], *, strict: bool) -> list[Json]:
    """Return the IP rules as they are stored, each network once."""
    by_value: dict[str, Json] = {}
    for rule in rules:
        value = normal_network(str(rule["value"]), strict=strict)
        by_value.setdefault(value, {**rule, "value": value})
    return list(by_value.values())


def subnet_rules(
    call: Call,
    rules: Sequence[Mapping[str, Any]],
    stored: Sequence[Mapping[str, Any]],
    service: str,
    reader: Reader,
) -> list[Json]:
    """Return the subnet rules as they are stored, each subnet once. stored: those that are in force now. service: whose endpoint counts."""
    known = {(str(rule["id"]).lower(), without_endpoint(rule)) for rule in stored}
    by_id: dict[str, Json] = {}
    for rule in rules:
        subnet = ResourceId.parse(str(rule["id"]))
        if subnet.type is None or subnet.type.lower() != SUBNETS.lower():
            message = f"'{subnet.text}' is not the id of a subnet (.../virtualNetworks/{{name}}/subnets/{{name}})."
            raise _refused_subnet(message, "InvalidNetworkRule")
        if subnet.key in by_id:
            continue
        if (subnet.key, without_endpoint(rule)) not in known:
            _check_new_subnet(call, subnet, rule, service, reader)
        by_id[subnet.key] = {**rule, "id": subnet.text}
    return list(by_id.values())


def bounded(count: int, name: str, limit: int, owner: str) -> None:
    """Refuse more rules than one resource may have; Fault(INVALID). owner: `an account`."""
    if count > limit:
        message = f"networkAcls.{name} has {count} rules; {owner} has at most {limit}."
        raise Fault(FaultKind.INVALID, message, code="TooManyNetworkRules", target=f"properties.networkAcls.{name}")


def _refuse_what_azure_refuses(text: str, value: str, network: Network) -> None:
    if isinstance(network, IPv6Network):
        raise _invalid(text, "only IPv4 is supported (strict parity)")
    if value.endswith(("/31", "/32")):
        raise _invalid(text, "prefixes /31 and /32 are not supported, give single addresses (strict parity)")
    if (
        not network.is_global
        or network.is_multicast
        or network.overlaps(IPv4Network("240.0.0.0/4"))
        or network.prefixlen == 0
    ):
        raise _invalid(text, "only public addresses are supported (strict parity)")


def _check_new_subnet(call: Call, subnet: ResourceId, rule: Mapping[str, Any], service: str, reader: Reader) -> None:
    authorise(call.snapshot, call.credential, JOIN, subnet.key, subnet.text, call.decision_id, now=call.now)
    found = reader.get(subnet.key)
    if found is None:
        message = f"The subnet '{subnet.text}' was not found, so a rule for it would admit nobody. Create it first."
        raise _refused_subnet(message, "SubnetNotFound")
    services = {str(endpoint["service"]).lower() for endpoint in found.body["properties"].get("serviceEndpoints", ())}
    if service.lower() not in services and not without_endpoint(rule):
        message = f"The subnet '{subnet.text}' has no service endpoint for {service}. Add one, or set ignoreMissingVnetServiceEndpoint in the rule."
        raise _refused_subnet(message, "SubnetsHaveNoServiceEndpointsConfigured")


def _refused_subnet(message: str, code: str) -> Fault:
    return Fault(FaultKind.INVALID, message, code=code, target="properties.networkAcls.virtualNetworkRules")


def _invalid(text: str, why: str) -> Fault:
    message = f"The IP rule '{text[:80]}' is invalid: {why}."
    return Fault(FaultKind.INVALID, message, code="InvalidNetworkRule", target="properties.networkAcls.ipRules")
