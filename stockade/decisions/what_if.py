"""What a change of policy would do: to a described request, to a past one, to the last requests of an account. Nothing is changed by asking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from stockade.decisions.explain import credential_name, verdict_body
from stockade.decisions.record import Decision
from stockade.decisions.replay import replay
from stockade.kernel.operation import Operation
from stockade.kernel.principal import Credential
from stockade.kernel.verdict import Allow, Deny, Verdict
from stockade.policy.decide import decide
from stockade.policy.facts import Facts
from stockade.policy.snapshot import Snapshot
from stockade.policy.uris.found import FoundUri

Json: TypeAlias = dict[str, Any]
Change: TypeAlias = Literal["refused", "allowed", "reported", "same", "unknown"]

SHOWN: Final = 200
"""Requests named one by one in an answer; all of them are counted."""


@dataclass(frozen=True, slots=True)
class Described:
    """A request that nobody has sent. account: lower-case id; address: the client's."""

    account: str
    operation: Operation
    address: str
    credential: Credential | None
    deployment: str = ""
    private_endpoint: str | None = None
    uris: tuple[str, ...] = ()
    now: float = 0.0


def judge(request: Described, snapshot: Snapshot) -> Verdict:
    """Decide on a described request: at the head, and then, its URIs being known, at the body. Of calls a minute none are used."""
    account = snapshot.only("account", request.account)
    operation = request.operation
    facts = Facts(
        now=request.now,
        address=request.address,
        account=account,
        regional=False,
        credential=request.credential,
        operation=operation,
        path=operation.path,
        method=operation.method,
        private_endpoint=request.private_endpoint,
    )
    head = decide(snapshot, facts, "head")
    if isinstance(head, Deny):
        return head
    if account is not None and request.deployment:
        facts.deployment = snapshot.only("deployment", (account.id, request.deployment.lower()))
    facts.uris = tuple(FoundUri(f"uri[{number}]", uri) for number, uri in enumerate(request.uris))
    body = decide(snapshot, facts, "body")
    reported = (*head.reported, *body.reported)
    return Deny(body.rule, body.fault, body.because, reported) if isinstance(body, Deny) else Allow(reported)


def changed(before: Verdict | None, after: Verdict | None) -> Change:
    """Say what a change does to a request."""
    match before, after:
        case (None, _) | (_, None):
            return "unknown"
        case Allow(), Deny():
            return "refused"
        case Deny(), Allow():
            return "allowed"
        case Allow(reported=old), Allow(reported=new) if {one.rule for one in new} - {one.rule for one in old}:
            return "reported"
    return "same"


@dataclass(slots=True)
class _Caller:
    name: str
    address: str
    client: str
    changes: Counter[Change] = field(default_factory=Counter)
    rules: set[str] = field(default_factory=set)


def compare(
    decisions: Iterable[Decision], before: Snapshot, after: Snapshot, *, keys_made: Mapping[str, float] | None = None
) -> Json:
    """Decide on past requests by the policy in force and by the draft, and return what is different, by caller and one by one.

    A request on which either cannot be told is counted by why, and as neither refused nor allowed.
    """
    totals: Counter[Change] = Counter()
    unknown: Counter[str] = Counter()
    callers: dict[tuple[str, str, str], _Caller] = {}
    requests: list[Json] = []
    for made in decisions:
        old, new = (replay(made, snapshot, keys_made=keys_made) for snapshot in (before, after))
        change = changed(old.verdict, new.verdict)
        totals[change] += 1
        if change == "unknown":
            unknown[new.unknown or old.unknown] += 1
        elif change == "same" and new.unknown:
            unknown[f"whether it would be reported: {new.unknown}"] += 1
        name = made.principal or credential_name(made)
        caller = callers.setdefault((name, made.address, made.agent), _Caller(name, made.address, made.agent))
        caller.changes[change] += 1
        if change in ("refused", "reported"):
            caller.rules.update(_rules(new.verdict))
        if change != "same" and len(requests) < SHOWN:
            entry: Json = {
                "decision": made.id,
                "change": change,
                "caller": name,
                "address": made.address,
                "operation": made.operation,
            }
            if new.verdict is not None:
                entry["draft"] = verdict_body(new.verdict)
            requests.append({**entry, "because": new.unknown or old.unknown} if change == "unknown" else entry)
    return {
        "judged": sum(totals.values()) - totals["unknown"],
        "newlyRefused": totals["refused"],
        "newlyAllowed": totals["allowed"],
        "newlyReported": totals["reported"],
        "same": totals["same"],
        "unknown": [{"because": why, "count": count} for why, count in unknown.most_common()],
        "callers": [
            {
                "caller": caller.name,
                "address": caller.address,
                "client": caller.client,
                "newlyRefused": caller.changes["refused"],
                "newlyAllowed": caller.changes["allowed"],
                "newlyReported": caller.changes["reported"],
                "unknown": caller.changes["unknown"],
                "rules": sorted(caller.rules),
            }
            for caller in callers.values()
            if caller.changes.total() > caller.changes["same"]
        ],
        "requests": requests,
    }


def _rules(verdict: Verdict | None) -> list[str]:
    if isinstance(verdict, Deny):
        return [verdict.rule]
    return [one.rule for one in verdict.reported] if verdict is not None else []
