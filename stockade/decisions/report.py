"""What a control has refused or would have refused, by whom, and the change that would let it pass: made from what was counted.

A proposal is a proposal. It lets pass what was seen; whether it should have been is for whoever reads it to say, so it is never applied unasked.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import Any, Final, TypeAlias

from stockade.decisions.store import OTHERS, Finding
from stockade.kernel.clock import iso
from stockade.kernel.control import Control
from stockade.policy import rbac
from stockade.policy.rules.role import DATA_ACTION_PREFIX
from stockade.policy.snapshot import Snapshot

Json: TypeAlias = dict[str, Any]

MAX_CALLERS: Final = 50
"""Callers named under one subject; all of them are counted."""
NARROWEST_AGGREGATE: Final = 8
"""An aggregate broader than this is no proposal any more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is about. properties: the account's, as stored. aggregate: widen IPv4 addresses to this prefix length (IPv6: to /64)."""

    account_id: str
    control: Control
    since: float
    now: float
    properties: Mapping[str, Any]
    aggregate: int | None = None


def report(asked: Asked, findings: Sequence[Finding], snapshot: Snapshot) -> Json:
    """Return the report as JSON: counts, subjects with their callers, and a proposal."""
    named = [finding for finding in findings if finding.key.subject != OTHERS]
    modes = ("enforce", "report")
    counts = {mode: sum(finding.count for finding in findings if finding.key.mode == mode) for mode in modes}
    return {
        "accountId": asked.account_id,
        "control": asked.control.value,
        "since": iso(asked.since),
        "until": iso(asked.now),
        "refused": counts["enforce"],
        "wouldRefuse": counts["report"],
        "countedTogether": sum(finding.count for finding in findings if finding.key.subject == OTHERS),
        "findings": _subjects(named, snapshot),
        "proposal": _PROPOSALS[asked.control](asked, named, snapshot),
    }


def _subjects(findings: Iterable[Finding], snapshot: Snapshot) -> list[Json]:
    grouped: dict[tuple[str, str, str, str], list[Finding]] = {}
    for finding in findings:
        key = finding.key
        grouped.setdefault((key.subject, key.mode, key.rule, key.reason), []).append(finding)
    told = [
        {
            "subject": subject,
            "mode": mode,
            "rule": rule,
            "reason": reason,
            "count": sum(finding.count for finding in found),
            "callers": [_caller(finding, snapshot) for finding in found[:MAX_CALLERS]],
            "callersInAll": len(found),
        }
        for (subject, mode, rule, reason), found in grouped.items()
    ]
    return sorted(told, key=lambda one: (-int(str(one["count"])), str(one["subject"])))


def _caller(finding: Finding, snapshot: Snapshot) -> Json:
    key = finding.key
    body: Json = {"principal": key.principal, "key": key.slot, "address": key.address, "client": key.agent}
    principal = snapshot.only("principal", key.principal) if key.principal else None
    if principal is not None:
        body["displayName"] = principal.display_name
    body = {name: value for name, value in body.items() if value}
    seen = {"firstSeen": iso(finding.first_seen), "lastSeen": iso(finding.last_seen), "decision": finding.sample}
    return {**body, "count": finding.count, **seen}


def _proposal(**members: Any) -> Json:
    return {"patch": None, "adds": [], "assignments": [], "commands": [], "notes": [], **members}


# Hosts


def _hosts(asked: Asked, findings: Sequence[Finding], snapshot: Snapshot) -> Json:
    present = list(asked.properties.get("allowedFqdnList") or ())
    known = {str(entry).lower() for entry in present}
    wanted = {finding.key.subject for finding in findings if finding.key.reason == "host" and finding.key.subject}
    adds = sorted(wanted - known)
    notes = []
    others = sum(finding.count for finding in findings if finding.key.reason != "host" or not finding.key.subject)
    if others:
        notes.append(
            f"{others} findings are about values that no entry of the list helps: not readable as URIs, or against rules for path and query."
        )
    patch = {"properties": {"allowedFqdnList": [*present, *adds]}} if adds else None
    return _proposal(patch=patch, adds=adds, notes=notes)


# Addresses


def _addresses(asked: Asked, findings: Sequence[Finding], snapshot: Snapshot) -> Json:
    acls = asked.properties.get("networkAcls")
    notes = []
    beyond = sum(finding.count for finding in findings if finding.key.reason != "NetworkDenied")
    if beyond:
        notes.append(
            f"{beyond} findings are about public access being disabled: no rule helps there, only a private endpoint or opening it."
        )
    addresses = {finding.key.address for finding in findings if finding.key.reason == "NetworkDenied"}
    adds = [_written(network) for network in _collapsed(addresses, asked.aggregate)]
    if not isinstance(acls, Mapping):
        return _proposal(notes=notes)
    rules = [dict(rule) for rule in acls.get("ipRules") or ()]
    known = {str(rule.get("value", "")) for rule in rules}
    adds = [value for value in adds if value not in known]
    # networkAcls is replaced as a whole by a PATCH, so the proposal holds all of it.
    whole = {**acls, "ipRules": [*rules, *({"value": value} for value in adds)]}
    return _proposal(patch={"properties": {"networkAcls": whole}} if adds else None, adds=adds, notes=notes)


def _collapsed(addresses: Iterable[str], aggregate: int | None) -> list[IPv4Network | IPv6Network]:
    fours: list[IPv4Network] = []
    sixes: list[IPv6Network] = []
    for text in addresses:
        try:
            address = ip_address(text)
        except ValueError:
            continue
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped if mapped is not None else address
        length = address.max_prefixlen
        if aggregate is not None:
            length = max(NARROWEST_AGGREGATE, min(32, aggregate)) if address.version == 4 else 64
        network = ip_network(f"{address}/{length}", strict=False)
        (fours if isinstance(network, IPv4Network) else sixes).append(network)  # type: ignore[arg-type]
    return [*collapse_addresses(fours), *collapse_addresses(sixes)]


def _written(network: IPv4Network | IPv6Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


# Keys


def _key_users(asked: Asked, findings: Sequence[Finding], snapshot: Snapshot) -> Json:
    users: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        users.setdefault((finding.key.slot, finding.key.address, finding.key.agent), []).append(finding)
    adds = []
    for (slot, address, client), found in sorted(users.items()):
        actions = sorted({DATA_ACTION_PREFIX + finding.key.subject for finding in found if finding.key.subject})
        role = rbac.smallest_role_for(snapshot, tuple(actions), data=True)
        adds.append(
            {
                "key": slot,
                "address": address,
                "client": client,
                "count": sum(finding.count for finding in found),
                "lastSeen": iso(max(finding.last_seen for finding in found)),
                "dataActions": actions,
                "role": role.name if role is not None else "",
            }
        )
    roles = sorted({str(user["role"]) for user in adds if user["role"]})
    scope = shlex.quote(asked.account_id)
    commands = [
        f"az role assignment create --assignee OBJECT_ID --role {shlex.quote(role)} --scope {scope}" for role in roles
    ]
    notes = (
        ["Give each of these callers an identity with the role that stands beside it, and have it call with a token."]
        if adds
        else []
    )
    return _proposal(adds=adds, commands=commands, notes=notes)


# Roles


def _assignments(asked: Asked, findings: Sequence[Finding], snapshot: Snapshot) -> Json:
    actions: dict[str, set[str]] = {}
    for finding in findings:
        if finding.key.principal and finding.key.subject:
            actions.setdefault(finding.key.principal, set()).add(DATA_ACTION_PREFIX + finding.key.subject)
    assignments, commands, notes = [], [], []
    for principal_id, wanted in sorted(actions.items()):
        role = rbac.smallest_role_for(snapshot, tuple(sorted(wanted)), data=True)
        known = snapshot.only("principal", principal_id)
        if role is None:
            notes.append(f"No built-in role gives {principal_id} all of {', '.join(sorted(wanted))}.")
            continue
        kind = known.type if known is not None else "ServicePrincipal"
        assignments.append(
            {
                "principalId": principal_id,
                "principalType": kind,
                "roleDefinitionId": f"/providers/Microsoft.Authorization/roleDefinitions/{role.id}",
                "roleName": role.name,
                "scope": asked.account_id,
            }
        )
        who = f"--assignee-object-id {principal_id} --assignee-principal-type {kind}"
        commands.append(
            f"az role assignment create {who} --role {shlex.quote(role.name)} --scope {shlex.quote(asked.account_id)}"
        )
        if known is None:
            notes.append(
                f"The principal {principal_id} is not in the directory; a role counts only once it is registered."
            )
    return _proposal(assignments=assignments, commands=commands, notes=notes)


_PROPOSALS: Final = {
    Control.NETWORK: _addresses,
    Control.DLP: _hosts,
    Control.OUTPUT: _hosts,
    Control.LOCAL_AUTH: _key_users,
    Control.RBAC: _assignments,
}
