"""Where requests to a vault may come from."""

from __future__ import annotations

import pytest

from stockade.kernel.principal import TokenCredential
from stockade.policy.addresses import AddressSet
from stockade.policy.snapshot import NetworkPolicy, PrincipalPolicy, Snapshot, SubnetPolicy, SubnetRule, VaultPolicy
from stockade.policy.vault_network import admitted_by

INSIDE, OUTSIDE = "203.0.113.7", "198.51.100.1"
ACCOUNT = "/subscriptions/s/resourcegroups/g/providers/microsoft.cognitiveservices/accounts/a1"
OTHER = "/subscriptions/s/resourcegroups/g/providers/microsoft.compute/virtualmachines/v1"


def vault(**network: object) -> VaultPolicy:
    policy = NetworkPolicy(**network)  # type: ignore[arg-type]
    return VaultPolicy("v", "v", "v", "u", "local", "t", True, {}, policy, True, True, False)


def caller(object_id: str) -> TokenCredential:
    return TokenCredential("t", object_id, None, "", "", 0.0)


def snapshot() -> Snapshot:
    identities = {"identity": (ACCOUNT, True, None), "vm": (OTHER, True, None), "off": (ACCOUNT, False, None)}
    identities["foreign"] = (ACCOUNT, True, "https://issuer")
    entries = tuple(
        ("principal", name, PrincipalPolicy(name, "ServicePrincipal", None, name, on, issuer, resource))
        for name, (resource, on, issuer) in identities.items()
    )
    subnets = tuple(
        ("subnet", name, SubnetPolicy(name, AddressSet.of([prefix]), False, served))
        for name, prefix, served in (("served", "10.0.0.0/24", True), ("unserved", "10.0.1.0/24", False))
    )
    return Snapshot().with_changes(1, {"d": (*entries, *subnets)})


RULES = AddressSet.of(["203.0.113.0/24"])
CLOSED = {"admit_by_default": False, "addresses": RULES}


@pytest.mark.parametrize(
    ("network", "address", "who", "admitted"),
    [
        ({}, OUTSIDE, None, ""),
        (CLOSED, INSIDE, None, "ipRules 203.0.113.0/24"),
        (CLOSED, OUTSIDE, None, None),
        (CLOSED, OUTSIDE, "identity", None),
        ({**CLOSED, "trusted_services": True}, OUTSIDE, "identity", f"bypass AzureServices: {ACCOUNT}"),
        ({**CLOSED, "trusted_services": True}, OUTSIDE, "vm", None),
        ({**CLOSED, "trusted_services": True}, OUTSIDE, "off", None),
        ({**CLOSED, "trusted_services": True}, OUTSIDE, "foreign", None),
        ({**CLOSED, "trusted_services": True}, OUTSIDE, None, None),
        ({"public_access": False, "addresses": RULES}, INSIDE, None, None),
        ({"public_access": False, "trusted_services": True}, OUTSIDE, "identity", f"bypass AzureServices: {ACCOUNT}"),
    ],
)
def test_what_lets_a_request_in(
    network: dict[str, object], address: str, who: str | None, admitted: str | None
) -> None:
    credential = caller(who) if who is not None else None
    assert admitted_by(snapshot(), vault(**network), address, credential) == admitted


@pytest.mark.parametrize(
    ("subnet", "ignored", "address", "admitted"),
    [("served", False, "10.0.0.9", True), ("unserved", False, "10.0.1.9", False), ("unserved", True, "10.0.1.9", True)],
)
def test_subnets_count_with_the_vaults_own_service_endpoint(
    subnet: str, ignored: bool, address: str, admitted: bool
) -> None:
    closed = vault(admit_by_default=False, subnets=(SubnetRule(subnet, ignored),))
    found = admitted_by(snapshot(), closed, address, None)
    assert (found is not None) == admitted
