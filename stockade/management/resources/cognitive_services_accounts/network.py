"""Network rules of an account, checked and normalised; `policy/network_acls.py` compiles what is stored, as the gateway's rule reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.cognitive_services.kinds import Kind
from stockade.management.network.access_rules import bounded, ip_rules, subnet_rules
from stockade.management.network.subnets import SERVICE
from stockade.management.resource_type import Call
from stockade.management.resources.cognitive_services_accounts.shape import NetworkRuleSet
from stockade.management.shape import one_of
from stockade.storage.database import Reader
from stockade.storage.documents import Json

STRICT_MAX_RULES = 100
"""Of each sort, in strict parity. Source: contracts, control-plane section 1.4."""
MAX_RULES = 10_000
"""Of each sort otherwise: a bound on what one document may hold, not on what a look-up can bear."""
OPEN: Json = {"defaultAction": "Allow", "virtualNetworkRules": [], "ipRules": []}
"""What an account with a subdomain shows when nobody gave it rules: `az` fails on a missing object."""


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
        bounded(len(acls.get(name) or ()), name, limit, "an account")
    acls["ipRules"] = ip_rules(acls.get("ipRules") or [], strict=strict)
    acls["virtualNetworkRules"] = subnet_rules(
        call, acls.get("virtualNetworkRules") or [], (stored or {}).get("virtualNetworkRules") or [], SERVICE, reader
    )
    return acls
