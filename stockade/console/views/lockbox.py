"""Lockbox requests: which there are, what an approval of one would be bound to, and deciding.

Approving signs the payload that ARM gives out, exactly its bytes; it stands on the page in full, and what is shown beside it is read from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from stockade.console.arm import Arm, Json, Refused, below
from stockade.console.pages import Goto, Page, decoded
from stockade.console.views import activity
from stockade.console.views.signing import Key, signature_of
from stockade.console.visit import ROOT, View, Visit
from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox import approval, signature, statement
from stockade.lockbox.approval import Approval
from stockade.lockbox.strict import base64url

API_VERSION: Final = "2018-02-28-preview"
CUSTOMER, OPERATOR = "providers/Microsoft.CustomerLockbox/requests", "providers/Stockade.Lockbox/requests"
STATUSES: Final = (
    "Initializing",
    "Pending",
    "Approving",
    "Approved",
    "Completed",
    "Denied",
    "Expired",
    "Revoked",
    "Denying",
    "Completing",
    "Revoking",
    "Error",
)
DECIDABLE: Final = frozenset({"Pending", "Approving"})
REVOCABLE: Final = frozenset({"Approving", "Approved"})
MAX_REASON: Final = 2000


def pending(arm: Arm, subscription: str) -> list[Json]:
    """Return the requests that wait for an approver."""
    found, _ = arm.listed(below("subscriptions", subscription, CUSTOMER), **{"api-version": API_VERSION})
    return [one for one in found if (one.get("properties") or {}).get("status") in DECIDABLE]


def _requests(visit: Visit) -> Page:
    status = visit.query.get("status", "")
    query = {"api-version": API_VERSION}
    if status in STATUSES:
        query["filter"] = f"properties/status eq '{status}'"
    found, more = visit.arm.listed(below("subscriptions", visit.subscription, CUSTOMER), **query)
    found.sort(key=lambda one: str(one["properties"].get("createdDateTime", "")), reverse=True)
    return Page("lockbox_requests.html", {"requests": found, "status": status, "statuses": STATUSES, "more": more})


def _request(visit: Visit, problem: str = "", status: int = 200) -> Page:
    request = visit.arm.get(_path(visit), **{"api-version": API_VERSION})
    what = request["properties"]
    details = what.get("stockade") or {}
    asked = details.get("approval") or {}
    payload = decoded(str(asked.get("payload", "")))
    keys = _keys(asked)
    usable = [
        key
        for key in keys
        if key.relying_party == visit.address.relying_party and key.id not in asked.get("signed", ())
    ]
    bound = _bound(payload)
    values = {
        "request": request,
        "what": what,
        "details": details,
        "approval": asked if payload else {},
        "bound": bound,
        "payload": base64url(payload),
        "challenge": base64url(signature.challenge(payload)),
        "digest": statement.digest(payload),
        "keys": usable,
        "mine": [key for key in usable if key.principal == visit.session.object_id],
        "elsewhere": [key for key in keys if key.relying_party != visit.address.relying_party],
        "relying_party": visit.address.relying_party,
        "decidable": what.get("status") in DECIDABLE,
        "revocable": what.get("status") in REVOCABLE,
        "own": (details.get("operator") or {}).get("objectId") == visit.session.object_id,
        "reads": activity.reads(visit.arm, str(request["id"])) if details.get("firstUsedAt") else None,
        "problem": problem,
    }
    return Page("lockbox_request.html", values, status, script=bool(payload and usable))


def _approve(visit: Visit) -> Page | Goto:
    payload = decoded(visit.form.get("payload", ""))
    request = visit.arm.get(_path(visit), **{"api-version": API_VERSION})
    asked = (request["properties"].get("stockade") or {}).get("approval") or {}
    # What was shown is what is signed, and goes on as it was signed; whether it is still what the request comes to, ARM and the broker say.
    signed = signature_of(visit.form.get("assertion", ""), _keys(asked))
    body = {
        "status": "Approve",
        "reason": _reason(visit, required=False),
        "payload": base64url(payload),
        "signatures": [msgspec.to_builtins(signed)],
    }
    try:
        visit.arm.post(f"{_path(visit)}/updateApproval", body)
    except Refused as refused:
        return _request(visit, refused.message, refused.status)
    what = visit.arm.get(_path(visit), **{"api-version": API_VERSION})["properties"]
    if what.get("status") == "Approving":
        visit.session.tell("Your signature is kept. More approvers have to sign the same before access opens.")
    else:
        visit.session.tell("Approved. Access ends by itself; you can revoke it here at any moment.")
    return Goto(_page(visit))


def _deny(visit: Visit) -> Page | Goto:
    body = {"status": "Deny", "reason": _reason(visit)}
    try:
        visit.arm.post(f"{_path(visit)}/updateApproval", body)
    except Refused as refused:
        return _request(visit, refused.message, refused.status)
    visit.session.tell("Denied. The operator has been told why.")
    return Goto(_page(visit))


def _revoke(visit: Visit) -> Page | Goto:
    path = below("subscriptions", visit.subscription, OPERATOR, visit.names["request"])
    try:
        visit.arm.post(f"{path}/revoke", {"reason": _reason(visit, required=False)})
    except Refused as refused:
        return _request(visit, refused.message, refused.status)
    visit.session.tell("Revoked. Nothing more can be read under this request, whatever was signed for it.")
    return Goto(_page(visit))


def _keys(asked: Mapping[str, Any]) -> list[Key]:
    found = asked.get("passkeys") or ()
    return [
        Key(str(one["key"]), str(one["credentialId"]), str(one["rpId"]), str(one.get("principal", ""))) for one in found
    ]


def _bound(payload: bytes) -> Approval | None:
    """Return what an approval says, read from the bytes that are signed as strictly as the broker reads them; None where they are none."""
    try:
        return approval.read(payload)
    except Fault:
        return None


def _reason(visit: Visit, *, required: bool = True) -> str:
    reason = visit.form.get("reason", "").strip()
    if len(reason) > MAX_REASON:
        raise Fault(FaultKind.INVALID, f"A reason has at most {MAX_REASON} characters.")
    if required and not reason:
        raise Fault(FaultKind.INVALID, "Say why: the operator and the log are told.")
    return reason


def _path(visit: Visit) -> str:
    return below("subscriptions", visit.subscription, CUSTOMER, visit.names["request"])


def _page(visit: Visit) -> str:
    return ROOT + below("subscriptions", visit.subscription, "lockbox", visit.names["request"])


_BASE: Final = "/subscriptions/{subscription}/lockbox"
VIEWS: Final = (
    View("GET", _BASE, _requests),
    View("GET", f"{_BASE}/{{request}}", _request),
    View("POST", f"{_BASE}/{{request}}/approve", _approve),
    View("POST", f"{_BASE}/{{request}}/deny", _deny),
    View("POST", f"{_BASE}/{{request}}/revoke", _revoke),
)
