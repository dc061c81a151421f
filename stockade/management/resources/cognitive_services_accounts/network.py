"""Network rules of an account: checked, normalised, and compiled to what the network rule of the gateway reads.

Source: contracts, control-plane section 1.4, and choices.md (row "IP rules"): Azure takes public IPv4 without /31 and /32, and so does
strict parity; otherwise private ranges, IPv6, /31 and /32 are taken too. A subnet that an account begins to admit has to exist and to have the
service endpoint, unless the rule ignores that; whoever adds it needs the right to join the subnet. What was admitted before stays, also when the
subnet has changed since: it then admits whom the subnet's documents say at that time.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeAlias

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.management.authorization import authorise
from stockade.management.cognitive_services.kinds import Kind
from stockade.management.network.bodies import SUBNETS
from stockade.management.network.subnets import SERVICE
from stockade.management.resource_type import Call
from stockade.management.resources.cognitive_services_accounts.shape import NetworkRuleSet
from stockade.management.shape import one_of
from stockade.policy.addresses import AddressSet
from stockade.policy.snapshot import NetworkPolicy, SubnetRule
from stockade.storage.database import Reader
from stockade.storage.documents import Json

Network: TypeAlias = IPv4Network | IPv6Network

STRICT_MAX_RULES = 100
"""Of each sort, in strict parity. Source: contracts, control-plane section 1.4."""
MAX_RULES = 10_000
"""Of each sort otherwise: a bound on what one document may hold, not on what a look-up can bear."""
JOIN = f"{SUBNETS}/joinViaServiceEndpoint/action"
OPEN: Json = {"defaultAction": "Allow", "virtualNetworkRules": [], "ipRules": []}
"""What an account with a subdomain shows when nobody gave it rules: `az` fails on a missing object."""

_MAPPED = IPv6Network("::ffff:0:0/96")


def planned_acls(
    call: Call,
    raw: Mapping[str, Any],
    rules: NetworkRuleSet,
    kind: Kind,
    stored: Mapping[str, Any] | None,
    reader: Reader,
) -> Json:
    """Return the rule set as it is stored; Fault(INVALID) for a rule that could not be put in force as written.

    stored: the rule set as it is now. Fault(AUTHORIZATION_FAILED) for a new subnet that the caller may not join.
    """
    strict = call.platform.settings.strict_parity
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
    limit = STRICT_MAX_RULES if strict else MAX_RULES
    for name in ("ipRules", "virtualNetworkRules"):
        _bounded(len(acls.get(name) or ()), name, limit)
    acls["ipRules"] = _ip_rules(acls.get("ipRules") or [], strict=strict)
    acls["virtualNetworkRules"] = _subnet_rules(
        call, acls.get("virtualNetworkRules") or [], (stored or {}).get("virtualNetworkRules") or [], reader
    )
    return acls


def compiled_network(properties: Mapping[str, Any]) -> NetworkPolicy:
    """Return what the network rule reads of a stored account's properties."""
    acls = properties.get("networkAcls") or OPEN
    return NetworkPolicy(
        public_access=properties.get("publicNetworkAccess", "Enabled") == "Enabled",
        admit_by_default=acls["defaultAction"] == "Allow",
        addresses=AddressSet.of(rule["value"] for rule in acls.get("ipRules", ())),
        subnets=tuple(
            SubnetRule(str(rule["id"]).lower(), _without_endpoint(rule)) for rule in acls.get("virtualNetworkRules", ())
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
    by_value: dict[str, Json] = {}
    for rule in rules:
        value = normal_network(str(rule["value"]), strict=strict)
        by_value.setdefault(value, {**rule, "value": value})
    return list(by_value.values())


def _subnet_rules(
    call: Call, rules: list[Mapping[str, Any]], stored: list[Mapping[str, Any]], reader: Reader
) -> list[Json]:
    known = {(str(rule["id"]).lower(), _without_endpoint(rule)) for rule in stored}
    by_id: dict[str, Json] = {}
    for rule in rules:
        subnet = ResourceId.parse(str(rule["id"]))
        if subnet.type is None or subnet.type.lower() != SUBNETS.lower():
            message = f"'{subnet.text}' is not the id of a subnet (.../virtualNetworks/{{name}}/subnets/{{name}})."
            raise _refused_subnet(message, "InvalidNetworkRule")
        if subnet.key in by_id:
            continue
        if (subnet.key, _without_endpoint(rule)) not in known:
            _check_new_subnet(call, subnet, rule, reader)
        by_id[subnet.key] = {**rule, "id": subnet.text}
    return list(by_id.values())


def _check_new_subnet(call: Call, subnet: ResourceId, rule: Mapping[str, Any], reader: Reader) -> None:
    authorise(call.snapshot, call.credential, JOIN, subnet.key, subnet.text, call.decision_id)
    found = reader.get(subnet.key)
    if found is None:
        message = f"The subnet '{subnet.text}' was not found, so a rule for it would admit nobody. Create it first."
        raise _refused_subnet(message, "SubnetNotFound")
    services = {str(endpoint["service"]) for endpoint in found.body["properties"].get("serviceEndpoints", ())}
    if SERVICE not in services and not _without_endpoint(rule):
        message = f"The subnet '{subnet.text}' has no service endpoint for {SERVICE}. Add one, or set ignoreMissingVnetServiceEndpoint in the rule."
        raise _refused_subnet(message, "SubnetsHaveNoServiceEndpointsConfigured")


def _without_endpoint(rule: Mapping[str, Any]) -> bool:
    return rule.get("ignoreMissingVnetServiceEndpoint") is True


def _refused_subnet(message: str, code: str) -> Fault:
    return Fault(FaultKind.INVALID, message, code=code, target="properties.networkAcls.virtualNetworkRules")


def _bounded(count: int, name: str, limit: int) -> None:
    if count > limit:
        message = f"networkAcls.{name} has {count} rules; an account has at most {limit}."
        raise Fault(FaultKind.INVALID, message, code="TooManyNetworkRules", target=f"properties.networkAcls.{name}")


def _invalid(text: str, why: str) -> Fault:
    message = f"The IP rule '{text[:80]}' is invalid: {why}."
    return Fault(FaultKind.INVALID, message, code="InvalidNetworkRule", target="properties.networkAcls.ipRules")
