"""May a request to a key vault come from here? Pure.

In this order: managed identities of trusted services where the vault's bypass says so (also past `publicNetworkAccess` Disabled, which for vaults
Azure's documents say); `publicNetworkAccess`; `defaultAction`; `ipRules`; `virtualNetworkRules`, whose subnets need the service endpoint
`Microsoft.KeyVault` unless the rule ignores that; refused.
Source: azure-mgmt-keyvault 14.1.0 (VaultProperties.public_network_access); contracts, control-plane sections 6.2 and 8.
"""

from __future__ import annotations

from typing import cast

from stockade.kernel.principal import Credential
from stockade.policy.addresses import AddressSet
from stockade.policy.rules.network import TRUSTED_PROVIDERS, managed_resource
from stockade.policy.snapshot import Snapshot, SubnetPolicy, VaultPolicy


def admitted_by(snapshot: Snapshot, vault: VaultPolicy, address: str, credential: Credential | None) -> str | None:
    """Return what lets a request in, for its record ("" where all are let in); None when nothing does."""
    network = vault.network
    if network.public_access and network.admit_by_default:
        return ""
    if network.trusted_services:
        resource = managed_resource(snapshot, credential)
        if resource is not None and resource.rpartition("/providers/")[2].partition("/")[0] in TRUSTED_PROVIDERS:
            return f"bypass AzureServices: {resource}"
    if not network.public_access:
        return None
    rule = network.addresses.rule_for(address)
    if rule is not None:
        return f"ipRules {rule}"
    rule = _subnets(snapshot, vault).rule_for(address) if network.subnets else None
    return f"virtualNetworkRules {rule}" if rule is not None else None


def _subnets(snapshot: Snapshot, vault: VaultPolicy) -> AddressSet:
    def compute() -> AddressSet:
        found = []
        for rule in vault.network.subnets:
            subnet: SubnetPolicy | None = snapshot.only("subnet", rule.subnet_id)
            if subnet is not None and (subnet.vault_endpoint or rule.without_endpoint):
                found.append(subnet.addresses)
        return AddressSet.union(found)

    return cast("AddressSet", snapshot.remembered(("vault-subnets", vault.id), compute))
