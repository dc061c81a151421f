"""May a request come from here at all? Checked before any credential is answered for, and again for requests under way when policy changes.

In this order, and the first that speaks decides:

1. a private endpoint's listener took the request: its connection is approved and is this account's
2. a network security perimeter: its profile's inbound rules, and resources of the same perimeter; `Enforced` leaves nothing to what follows
3. `publicNetworkAccess` Disabled
4. `networkAcls`: defaultAction Allow; bypass AzureServices; ipRules; virtualNetworkRules; refused

What a bypass or a perimeter admits is no more than that: the credential and its role are asked for as ever, and the audit record names what
admitted (`admitted_by`). Managed identities count only by a verified token of this platform's own directory.
Source: contracts, control-plane section 8; choices.md (network rows); Azure's transition to a network security perimeter (order of 2 and 3).
"""

from __future__ import annotations

from typing import Final, cast

from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import Credential, TokenCredential
from stockade.kernel.verdict import Deny
from stockade.policy.addresses import NOWHERE, AddressSet, nearest_of, read_address, written
from stockade.policy.facts import Facts, Point
from stockade.policy.rules.address import NETWORK_DENIED
from stockade.policy.snapshot import AccountPolicy, PerimeterAssociation, PerimeterRule, Snapshot, SubnetPolicy

NAME = "network"
POINT: Point = "head"
CONTROL: Control | None = Control.NETWORK

TRUSTED_PROVIDERS: Final = frozenset(
    {"microsoft.cognitiveservices", "microsoft.machinelearningservices", "microsoft.search"}
)
"""Whose resources' managed identities `bypass: AzureServices` admits. Source: contracts, control-plane section 8."""
PUBLIC_ACCESS_DISABLED = "Public access is disabled. Please configure private endpoint."


def decide(snapshot: Snapshot, facts: Facts) -> Deny | None:
    """Refuse a request that nothing of the account's network lets in.

    `because` holds the address as it was compared, the mechanism that spoke (`privateEndpoint`, `perimeter`, `publicNetworkAccess`,
    `networkAcls`), how many rules there are and the one that comes nearest.
    """
    account = facts.account
    if account is None:
        return None
    judged = _judge(snapshot, account, facts.address, facts.credential, facts.private_endpoint)
    return judged if isinstance(judged, Deny) else None


def admitted_by(
    snapshot: Snapshot,
    account: AccountPolicy,
    address: str,
    credential: Credential | None,
    private_endpoint: str | None,
) -> str:
    """Return what let a request in, for its record: `ipRules 203.0.113.0/24`, `bypass AzureServices: <resource>`; "" where all are let in."""
    judged = _judge(snapshot, account, address, credential, private_endpoint)
    return judged if isinstance(judged, str) else ""


def _judge(
    snapshot: Snapshot,
    account: AccountPolicy,
    address: str,
    credential: Credential | None,
    private_endpoint: str | None,
) -> str | Deny:
    network = account.network
    if private_endpoint is not None:
        return _private(snapshot, account, address, private_endpoint)
    associations: tuple[PerimeterAssociation, ...] = snapshot.all("perimeter", account.id)
    if not associations and network.public_access and network.admit_by_default:
        return ""
    for association in associations:
        admitted = _by_perimeter(snapshot, association, address, credential)
        if admitted:
            return admitted
    if any(association.enforced for association in associations):
        return _outside_perimeter(snapshot, associations, address)
    if not network.public_access:
        because = {"address": _shown(address), "mechanism": "publicNetworkAccess", "publicNetworkAccess": "Disabled"}
        return Deny(NAME, Fault(FaultKind.PUBLIC_ACCESS_DISABLED, PUBLIC_ACCESS_DISABLED), because)
    if network.admit_by_default:
        return ""
    if network.trusted_services:
        resource = managed_resource(snapshot, credential)
        if resource is not None and resource.rpartition("/providers/")[2].partition("/")[0] in TRUSTED_PROVIDERS:
            return f"bypass AzureServices: {resource}"
    rule = network.addresses.rule_for(address)
    if rule is not None:
        return f"ipRules {rule}"
    rule = _subnets(snapshot, account)[0].rule_for(address) if network.subnets else None
    if rule is not None:
        return f"virtualNetworkRules {rule}"
    return _outside_rules(snapshot, account, address)


def _private(snapshot: Snapshot, account: AccountPolicy, address: str, connection_id: str) -> str | Deny:
    connection = snapshot.only("private-endpoint-connection", connection_id)
    if connection is not None and connection.account_id == account.id and connection.status == "Approved":
        return f"privateEndpoint {connection_id}"
    because = {"address": _shown(address), "mechanism": "privateEndpoint", "connection": connection_id}
    because["status"] = connection.status if connection is not None else "unknown"
    return Deny(NAME, Fault(FaultKind.NETWORK_DENIED, NETWORK_DENIED), because)


def _by_perimeter(
    snapshot: Snapshot, association: PerimeterAssociation, address: str, credential: Credential | None
) -> str:
    addresses, subscriptions = _inbound(snapshot, association.profile_id)
    rule = addresses.rule_for(address)
    if rule is not None:
        return f"perimeter {association.perimeter_id}: {rule}"
    resource = managed_resource(snapshot, credential)
    if resource is None:
        return ""
    if resource.startswith("/subscriptions/") and resource.split("/", 3)[2] in subscriptions:
        return f"perimeter {association.perimeter_id}: subscription of {resource}"
    within = (found.perimeter_id == association.perimeter_id for found in snapshot.all("perimeter", resource))
    return f"perimeter {association.perimeter_id}: {resource} is inside" if any(within) else ""


def _inbound(snapshot: Snapshot, profile_id: str) -> tuple[AddressSet, frozenset[str]]:
    """Return what a profile admits; the snapshot remembers it."""

    def compute() -> tuple[AddressSet, frozenset[str]]:
        rules: tuple[PerimeterRule, ...] = snapshot.all("perimeter-rule", profile_id)
        subscriptions = frozenset[str]().union(*(rule.subscriptions for rule in rules))
        return AddressSet.union(rule.addresses for rule in rules), subscriptions

    return cast("tuple[AddressSet, frozenset[str]]", snapshot.remembered(("perimeter-inbound", profile_id), compute))


def _subnets(snapshot: Snapshot, account: AccountPolicy) -> tuple[AddressSet, AddressSet]:
    """Return the addresses of all subnets that count for an account, and of those that would if they had the service endpoint.

    The snapshot remembers both, so that thousands of subnet rules cost a request what one does.
    """

    def compute() -> tuple[AddressSet, AddressSet]:
        served: list[AddressSet] = []
        unserved: list[AddressSet] = []
        for rule in account.network.subnets:
            subnet: SubnetPolicy | None = snapshot.only("subnet", rule.subnet_id)
            if subnet is not None:
                (served if subnet.service_endpoint or rule.without_endpoint else unserved).append(subnet.addresses)
        return AddressSet.union(served), AddressSet.union(unserved)

    return cast("tuple[AddressSet, AddressSet]", snapshot.remembered(("account-subnets", account.id), compute))


def managed_resource(snapshot: Snapshot, credential: Credential | None) -> str | None:
    """Return the resource whose managed identity a verified token speaks for; None for every other credential."""
    if not isinstance(credential, TokenCredential):
        return None
    principal = snapshot.only("principal", credential.object_id)
    if principal is None or not principal.enabled or principal.issuer is not None:
        return None
    return cast("str | None", principal.resource_id)


def _outside_perimeter(snapshot: Snapshot, associations: tuple[PerimeterAssociation, ...], address: str) -> Deny:
    inbound = [_inbound(snapshot, association.profile_id) for association in associations]
    because: dict[str, object] = {
        "address": _shown(address),
        "mechanism": "perimeter",
        "perimeter": ", ".join(association.perimeter_id for association in associations),
        "accessMode": "Enforced",
        "addressRules": sum(addresses.rules for addresses, _ in inbound),
        "subscriptionRules": sum(len(subscriptions) for _, subscriptions in inbound),
    }
    return _denied(because, nearest_of((addresses for addresses, _ in inbound), address))


def _outside_rules(snapshot: Snapshot, account: AccountPolicy, address: str) -> Deny:
    network = account.network
    because: dict[str, object] = {
        "address": _shown(address),
        "mechanism": "networkAcls",
        "defaultAction": "Deny",
        "ipRules": network.addresses.rules,
        "virtualNetworkRules": len(network.subnets),
    }
    served, unserved = _subnets(snapshot, account) if network.subnets else (NOWHERE, NOWHERE)
    without_endpoint = unserved.rule_for(address)
    if without_endpoint is not None:
        because["subnetWithoutServiceEndpoint"] = without_endpoint
    return _denied(because, nearest_of((network.addresses, served), address))


def _denied(because: dict[str, object], nearest: str | None) -> Deny:
    if nearest is not None:
        because["nearestRule"] = nearest
    return Deny(NAME, Fault(FaultKind.NETWORK_DENIED, NETWORK_DENIED), because)


def _shown(address: str) -> str:
    try:
        return written(*read_address(address))
    except ValueError:
        return address
