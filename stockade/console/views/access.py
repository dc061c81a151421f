"""Requests for what has to be asked for: the SKU E0, and roles for a while. Deciding on them takes a role and no signature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from stockade.console.arm import Arm, Json, Refused, below
from stockade.console.pages import Goto, Page, hours
from stockade.console.visit import ROOT, View, Visit
from stockade.kernel.faults import Fault, FaultKind

Kind: TypeAlias = Literal["sku", "role"]
TYPES: Final[dict[Kind, str]] = {"sku": "Stockade.Access/skuRequests", "role": "Stockade.Access/roleRequests"}
WAITING: Final = frozenset({"Submitted", "UnderReview", "Pending", "Approving"})
MAX_COMMENT: Final = 2000


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of either kind, as the pages show it. until: when an answer is due, or it lapses; ends: of what was granted."""

    kind: Kind
    id: str
    name: str
    state: str
    summary: str
    reason: str
    scope: str
    by: str
    object_id: str
    since: Any
    until: Any
    ends: Any
    comment: str

    @property
    def waits(self) -> bool:
        """Nobody has decided yet."""
        return self.state in WAITING


def asked(arm: Arm, subscription: str, kind: Kind) -> list[Asked]:
    """Return the requests of one kind, what waits first and the newest of that."""
    found, _ = arm.listed(below("subscriptions", subscription, "providers", TYPES[kind]))
    read = [_read(kind, one) for one in found]
    read.sort(key=lambda one: str(one.since or ""), reverse=True)
    read.sort(key=lambda one: not one.waits)
    return read


def _read(kind: Kind, request: Json) -> Asked:
    what = request.get("properties") or {}
    history = what.get("history") or [{}]
    by = what.get("requestedBy") or {}
    if kind == "sku":
        summary = f"{what.get('count', 1)} × {what.get('kind', '')} {what.get('sku', '')} in {what.get('location', '')}"
    else:
        summary = f"{what.get('roleName', '')} for {hours(float(what.get('durationMinutes') or 0) / 60)}"
    return Asked(
        kind=kind,
        id=str(request["id"]),
        name=str(request["name"]),
        state=str(what.get("state") or what.get("status") or ""),
        summary=summary,
        reason=str(what.get("reason", "")),
        scope=str(what.get("scope", "")),
        by=str(by.get("name", "")),
        object_id=str(by.get("objectId", "")),
        since=what.get("submittedAt") or what.get("requestedAt"),
        until=what.get("dueBy") or what.get("lapsesAt"),
        ends=what.get("endsAt"),
        comment=str(history[-1].get("comment", "")),
    )


def _access(visit: Visit, problem: str = "", status: int = 200) -> Page:
    groups: list[Json] = []
    for kind in TYPES:
        try:
            groups.append({"kind": kind, "requests": asked(visit.arm, visit.subscription, kind), "refused": ""})
        except Refused as refused:
            if refused.status not in (403, 404):
                raise
            groups.append({"kind": kind, "requests": [], "refused": refused.message})
    return Page("access.html", {"groups": groups, "problem": problem}, status)


def _decide(visit: Visit) -> Page | Goto:
    decision, request = visit.names["decision"], visit.form.get("id", "")
    kind = next((kind for kind, name in TYPES.items() if f"/providers/{name}/".lower() in request.lower()), None)
    inside = request.lower().startswith(below("subscriptions", visit.subscription).lower() + "/")
    if kind is None or not inside or decision not in ("approve", "deny"):
        raise Fault(FaultKind.NOT_FOUND, "There is no such request.")
    comment = visit.form.get("comment", "").strip()[:MAX_COMMENT]
    body = {"comment" if kind == "sku" else "reason": comment} if comment else {}
    try:
        answer = _read(kind, visit.arm.post(below(request, decision), body))
    except Refused as refused:
        return _access(visit, refused.message, refused.status)
    visit.session.tell(f"{answer.summary}, asked for by {answer.by}: {answer.state.lower()}.")
    return Goto(ROOT + below("subscriptions", visit.subscription, "access"))


_BASE: Final = "/subscriptions/{subscription}/access"
VIEWS: Final = (View("GET", _BASE, _access), View("POST", f"{_BASE}/{{decision}}", _decide))
