"""Why a past request was answered as it was: the whole chain, in the order of the checks, and what would have helped.

What was decided is told from what was kept. What would help is worked out on today's policy, because that is what can be changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from stockade.decisions.record import OUTPUT, Decision, Refusal
from stockade.decisions.remedies import helps, helps_of_output
from stockade.decisions.replay import replay
from stockade.kernel.clock import iso
from stockade.kernel.control import Control
from stockade.kernel.verdict import Allow, Deny
from stockade.policy.facts import Rule
from stockade.policy.rules import ORDER
from stockade.policy.rules.role import DATA_ACTION_PREFIX
from stockade.policy.snapshot import Snapshot

Json: TypeAlias = dict[str, Any]
Outcome: TypeAlias = Literal["passed", "refused", "reported", "off", "notReached"]

TITLES: Final[Mapping[str, str]] = {
    "address": "Account",
    "network": "Network",
    "credential": "Credential",
    "local-auth": "Keys taken",
    "operation": "Operation",
    "role": "Role",
    "customer-key": "Customer's key",
    "outbound": "URIs in the request",
    "quota": "Calls a minute",
}
"""What a rule is called in an explanation; a rule that is not named here is called by its own name."""


def explain(made: Decision, snapshot: Snapshot, *, keys_made: Mapping[str, float] | None = None) -> Json:
    """Return the explanation as JSON. snapshot: the policy in force; keys_made: as for `replay`."""
    refusal = made.refusal
    return {
        "id": made.id,
        "time": iso(made.time),
        "accountId": made.account_id,
        "verdict": "allow" if made.allowed else "deny" if refusal is not None else "none",
        "rule": refusal.rule if refusal is not None else "",
        "reason": refusal.reason if refusal is not None else "",
        "message": refusal.message if refusal is not None else "",
        "status": made.status,
        "outcome": made.outcome,
        "policyGeneration": made.generation,
        "steps": list(_steps(made)),
        "wouldHelp": [
            *({"rule": told.rule, **one.body()} for told in _refusals(made) for one in helps(told, made, snapshot)),
            *({"rule": OUTPUT, **one.body()} for one in helps_of_output(made, snapshot)),
        ],
        "now": _now(made, snapshot, keys_made),
    }


def summary(made: Decision) -> Json:
    """Return one decision as an entry of a list."""
    return {
        "id": made.id,
        "time": iso(made.time),
        "verdict": "allow" if made.allowed else "deny",
        "rule": made.refusal.rule if made.refusal is not None else "",
        "reason": made.refusal.reason if made.refusal is not None else "",
        "reported": [told.rule for told in made.reported],
        "operation": made.operation,
        "address": made.address,
        "credential": credential_name(made),
        "principal": made.principal,
        "client": made.agent,
        "status": made.status,
        "outcome": made.outcome,
    }


def credential_name(made: Decision) -> str:
    """Return what was presented, as the audit log names it."""
    match made.credential:
        case "key":
            return f"sts:{made.slot}" if made.via_token else made.slot
        case "rejected":
            return f"rejected:{made.rejected}"
    return made.credential


def verdict_body(verdict: Allow | Deny) -> Json:
    """Return a verdict as JSON: who refused and why, and what would only be reported."""
    reported = [{"rule": one.rule, "reason": one.fault.kind.value} for one in verdict.reported]
    match verdict:
        case Allow():
            return {"verdict": "allow", "reported": reported}
        case Deny(rule=rule, fault=fault):
            return {
                "verdict": "deny",
                "rule": rule,
                "reason": fault.kind.value,
                "message": fault.message,
                "reported": reported,
            }


def _refusals(made: Decision) -> Iterable[Refusal]:
    return (made.refusal, *made.reported) if made.refusal is not None else made.reported


def _now(made: Decision, snapshot: Snapshot, keys_made: Mapping[str, float] | None) -> Json:
    again = replay(made, snapshot, keys_made=keys_made)
    same_policy = {"policyGeneration": snapshot.generation, "policyChanged": snapshot.generation != made.generation}
    if again.verdict is None:
        return {"verdict": "unknown", "because": again.unknown, **same_policy}
    return {**verdict_body(again.verdict), **same_policy}


# The chain


def _steps(made: Decision) -> Iterator[Json]:
    derived = made.derivation or (
        "the peer's own" if _host(made.peer) == made.address else "from a trusted proxy's X-Forwarded-For"
    )
    facts: Json = {"address": made.address, "peer": made.peer, "derivation": derived}
    if made.private_endpoint is not None:
        facts["privateEndpointConnection"] = made.private_endpoint
    yield _step("caller", "Caller's address", "passed", f"{made.address or 'not known'} ({derived})", facts)
    reported = {told.rule: told for told in made.reported}
    over = False
    for rule in ORDER:
        outcome, told = _outcome(made, rule, reported, over=over)
        over = over or outcome == "refused"
        text, facts = _told(made, rule, outcome, told)
        mode = made.mode(rule.CONTROL) if rule.CONTROL is not None else None
        yield _step(rule.NAME, TITLES.get(rule.NAME, rule.NAME), outcome, text, facts, mode)
    refused_at_once = made.refusal is not None and made.ended_by != "policy"
    answered = made.point == "body" and not refused_at_once
    text = f"{made.outcome} after {made.duration_ms:.1f} ms" if answered else "nothing was sent to it"
    outcome = "notReached" if not answered else "passed" if made.outcome == "success" else "refused"
    yield _step("engine", "Engine", outcome, text, {})
    for content in made.fetched:
        text = f"{content.path} from {content.host}: " + (content.failed or f"{content.bytes} bytes")
        yield _step(
            "fetch",
            "Content fetched",
            "refused" if content.failed else "passed",
            text,
            {"path": content.path, "host": content.host},
        )
    if made.output:
        redacted = any(found.redacted for found in made.output)
        found = [
            {"host": one.host, "place": one.place, "reason": one.reason, "count": one.count} for one in made.output
        ]
        named = sorted({one.host or one.reason for one in made.output})
        text = f"not on the list{', redacted' if redacted else ''}: {', '.join(named)}"
        mode = made.mode(Control.OUTPUT)
        yield _step(OUTPUT, "URIs in the reply", "refused" if redacted else "reported", text, {"found": found}, mode)
    ended = f", ended under way: {made.ended_by}" if made.ended_by else ""
    yield _step("reply", "Reply", "passed" if made.status < 400 else "refused", f"status {made.status}{ended}", {})


def _step(name: str, title: str, outcome: Outcome, text: str, facts: Json, mode: str | None = None) -> Json:
    step: Json = {"step": name, "title": title, "outcome": outcome, "says": text, "facts": facts}
    if mode is not None:
        step["mode"] = mode
    return step


def _outcome(
    made: Decision, rule: Rule, reported: Mapping[str, Refusal], *, over: bool
) -> tuple[Outcome, Refusal | None]:
    refusal = made.refusal
    if refusal is not None and refusal.rule == rule.NAME:
        return "refused", refusal
    if rule.NAME in reported:
        return "reported", reported[rule.NAME]
    if (
        over
        or (rule.POINT == "body" and made.point == "head")
        or (rule.POINT == "head" and not made.status and not made.account)
    ):
        return "notReached", None
    if made.mode(rule.CONTROL) == "off":
        return "off", None
    return "passed", None


def _told(made: Decision, rule: Rule, outcome: Outcome, told: Refusal | None) -> tuple[str, Json]:
    facts: Json = dict(told.because) if told is not None else {}
    if told is not None:
        if made.uris and rule.NAME == "outbound":
            facts["uris"] = [_uri_body(made, number) for number in range(len(made.uris))]
        return told.message or told.reason, facts
    if outcome == "notReached":
        return "not asked any more", facts
    if outcome == "off":
        return "not asked: the control is off on this account", facts
    match rule.NAME:
        case "address":
            return f"{made.account_id or 'named by the key'} ({made.kind} {made.sku})", {
                "regionalEndpoint": made.regional
            }
        case "network":
            return f"{made.address} is admitted" + (f" by {made.network_by}" if made.network_by else ""), facts
        case "credential":
            return _credential_text(made), _credential_facts(made)
        case "operation":
            return f"{made.operation}: {made.method} {made.template}", facts
        case "role":
            return _role_text(made), facts
        case "outbound":
            return _uris_text(made), {"uris": [_uri_body(made, number) for number in range(len(made.uris))]}
        case "quota":
            limit = made.deployment_limit if made.deployment_limit is not None else made.calls_limit
            used = made.deployment_calls if made.deployment_limit is not None else made.calls
            whose = f" of deployment {made.deployment}" if made.deployment_limit is not None else ""
            return f"{used} of {limit} used{whose}" if limit is not None else "no limit", facts
    return "passed", facts


def _credential_text(made: Decision) -> str:
    match made.credential:
        case "key":
            return f"{made.slot}{', as a session token' if made.via_token else ''}"
        case "token":
            return f"token of principal {made.principal}" + (
                f" (application {made.application})" if made.application else ""
            )
        case "rejected":
            return f"{made.rejected_form}: {made.rejected}; the operation needs none"
    return "none, and the operation needs none"


def _credential_facts(made: Decision) -> Json:
    known = {
        "kind": made.credential,
        "slot": made.slot,
        "principal": made.principal,
        "application": made.application,
        "tenant": made.tenant,
        "issuer": made.issuer,
        "audience": made.audience,
        "groups": list(made.groups),
    }
    return {name: value for name, value in known.items() if value}


def _role_text(made: Decision) -> str:
    if made.credential != "token" or made.data_action is None:
        return "none needed: a key carries every data action" if made.credential == "key" else "none needed"
    action = DATA_ACTION_PREFIX + made.data_action
    return f"{action} granted by {made.granted_by}" if made.granted_by else action


def _uris_text(made: Decision) -> str:
    if not made.looked:
        return "not looked at: the account restricts none"
    more = f" and {made.more_uris} more" if made.more_uris else ""
    return f"{len(made.uris)}{more} found, all allowed" if made.uris else "none found"


def _uri_body(made: Decision, number: int) -> Json:
    uri = made.uris[number]
    body: Json = {"place": uri.place, "scheme": uri.scheme, "host": uri.host, "declared": uri.declared}
    if uri.port:
        body["port"] = uri.port
    return {**body, "refused": uri.refused} if uri.refused else body


def _host(peer: str) -> str:
    return peer.rpartition(":")[0].strip("[]")
