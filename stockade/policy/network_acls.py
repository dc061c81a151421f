"""What a resource's own properties say of where requests may come from, as rules read it; accounts and key vaults say it alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stockade.policy.addresses import AddressSet
from stockade.policy.snapshot import NetworkPolicy, SubnetRule

OPEN: Final[Mapping[str, Any]] = {"defaultAction": "Allow", "virtualNetworkRules": [], "ipRules": []}
"""What stands for rules that nobody gave."""


def compiled_network(properties: Mapping[str, Any]) -> NetworkPolicy:
    """Return what network rules read of a stored resource's `publicNetworkAccess` and `networkAcls`."""
    acls = properties.get("networkAcls") or OPEN
    return NetworkPolicy(
        public_access=properties.get("publicNetworkAccess", "Enabled") == "Enabled",
        admit_by_default=acls["defaultAction"] == "Allow",
        addresses=AddressSet.of(rule["value"] for rule in acls.get("ipRules", ())),
        subnets=tuple(
            SubnetRule(str(rule["id"]).lower(), without_endpoint(rule)) for rule in acls.get("virtualNetworkRules", ())
        ),
        trusted_services=acls.get("bypass") == "AzureServices",
    )


def without_endpoint(rule: Mapping[str, Any]) -> bool:
    """Say whether a subnet counts although it has no service endpoint."""
    return rule.get("ignoreMissingVnetServiceEndpoint") is True
