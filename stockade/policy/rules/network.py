"""May a request come from this address at all? Checked before any credential is looked at.

Source: contracts, control-plane section 8 and choices.md (network rows).
"""

from __future__ import annotations

from ipaddress import ip_address

from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny
from stockade.policy.facts import Facts, Point
from stockade.policy.snapshot import Snapshot

NAME = "network"
POINT: Point = "head"
CONTROL: Control | None = Control.NETWORK


def decide(snapshot: Snapshot, facts: Facts) -> Deny | None:
    """Refuse when public access is off, or the default is to deny and no rule admits the address."""
    account = facts.account
    if account is None or (account.public_access and account.admit_by_default):
        return None
    if not account.public_access:
        fault = Fault(FaultKind.PUBLIC_ACCESS_DISABLED, "Public access is disabled. Please configure private endpoint.")
        return Deny(NAME, fault, {"address": facts.address, "publicNetworkAccess": "Disabled"})
    address = ip_address(facts.address)
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    if any(address in network for network in account.admitted if network.version == address.version):
        return None
    fault = Fault(FaultKind.NETWORK_DENIED, "Access denied due to Virtual Network/Firewall rules.")
    return Deny(NAME, fault, {"address": str(address), "defaultAction": "Deny", "rules": len(account.admitted)})
