"""Network rules of an account: checked, normalised, and compiled to what the network rule of the gateway reads.

Source: contracts, control-plane section 1.4, and choices.md (row "IP rules"): Azure takes public IPv4 without /31 and /32, and so does
strict parity; otherwise private ranges, IPv6, /31 and /32 are taken too.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeAlias

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.management.cognitive_services.kinds import Kind
from stockade.management.resources.cognitive_services_accounts.shape import NetworkRuleSet
from stockade.management.shape import one_of
from stockade.policy.addresses import AddressSet
from stockade.policy.snapshot import NetworkPolicy, SubnetRule
from stockade.storage.documents import Json

Network: TypeAlias = IPv4Network | IPv6Network

MAX_RULES = 100
"""Of each sort. Source: contracts, control-plane section 1.4."""
SUBNET_TYPE = "microsoft.network/virtualnetworks/subnets"
OPEN: Json = {"defaultAction": "Allow", "virtualNetworkRules": [], "ipRules": []}
"""What an account with a subdomain shows when nobody gave it rules: `az` fails on a missing object."""

_MAPPED = IPv6Network("::ffff:0:0/96")


def planned_acls(raw: Mapping[str, Any], rules: NetworkRuleSet, kind: Kind, *, strict: bool) -> Json:
    """Return the rule set as it is stored; Fault(INVALID) for a rule that could not be put in force as written."""
    acls = dict(raw)
    acls["defaultAction"] = one_of(
        rules.default_action or "Allow", ("Allow", "Deny"), "properties.networkAcls.defaultAction"
    )
    if rules.bypass is not None:
        if not kind.trusted:
            message = f"The Kind '{kind.name}' does not support Trusted Services."
            raise Fault(
                FaultKind.INVALID, message, code="NetworkAclsBypassNotSupported", target="properties.networkAcls.bypass"
            )
        acls["bypass"] = one_of(rules.bypass, ("None", "AzureServices"), "properties.networkAcls.bypass")
    acls["ipRules"] = _ip_rules(acls.get("ipRules") or [], strict=strict)
    acls["virtualNetworkRules"] = _subnet_rules(acls.get("virtualNetworkRules") or [])
    return acls


def compiled_network(properties: Mapping[str, Any]) -> NetworkPolicy:
    """Return what the network rule reads of a stored account's properties."""
    acls = properties.get("networkAcls") or OPEN
    return NetworkPolicy(
        public_access=properties.get("publicNetworkAccess", "Enabled") == "Enabled",
        admit_by_default=acls["defaultAction"] == "Allow",
        addresses=AddressSet.of(rule["value"] for rule in acls.get("ipRules", ())),
        subnets=tuple(
            SubnetRule(str(rule["id"]).lower(), rule.get("ignoreMissingVnetServiceEndpoint") is True)
            for rule in acls.get("virtualNetworkRules", ())
        ),
        trusted_services=acls.get("bypass") == "AzureServices",
    )


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


def _ip_rules(rules: list[Mapping[str, Any]], *, strict: bool) -> list[Json]:
    _bounded(len(rules), "ipRules")
    by_value: dict[str, Json] = {}
    for rule in rules:
        value = normal_network(str(rule["value"]), strict=strict)
        by_value.setdefault(value, {**rule, "value": value})
    return list(by_value.values())


def _subnet_rules(rules: list[Mapping[str, Any]]) -> list[Json]:
    _bounded(len(rules), "virtualNetworkRules")
    by_id: dict[str, Json] = {}
    for rule in rules:
        subnet = ResourceId.parse(str(rule["id"]))
        if subnet.type is None or subnet.type.lower() != SUBNET_TYPE:
            message = f"'{subnet.text}' is not the id of a subnet (.../virtualNetworks/{{name}}/subnets/{{name}})."
            raise Fault(
                FaultKind.INVALID,
                message,
                code="InvalidNetworkRule",
                target="properties.networkAcls.virtualNetworkRules",
            )
        by_id.setdefault(subnet.key, dict(rule))
    return list(by_id.values())


def _bounded(count: int, name: str) -> None:
    if count > MAX_RULES:
        message = f"networkAcls.{name} has {count} rules; an account has at most {MAX_RULES}."
        raise Fault(FaultKind.INVALID, message, code="TooManyNetworkRules", target=f"properties.networkAcls.{name}")


def _invalid(text: str, why: str) -> Fault:
    message = f"The IP rule '{text[:80]}' is invalid: {why}."
    return Fault(FaultKind.INVALID, message, code="InvalidNetworkRule", target="properties.networkAcls.ipRules")
