"""`POST {account}/whatIf`: the engine that decides on requests, on a draft of the account. Nothing is stored, whatever is asked.

    {"change": {"properties": {...}}, "assign": [{"principalId": ..., "role": ...}], "removeAssignments": [id],
     "requests": [{...}] | "decisions": [id] | "last": 500}

`change` is the body of a PATCH, planned by the account's own resource type: what a PATCH would be refused for is refused here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from stockade.decisions.explain import verdict_body
from stockade.decisions.record import Decision, parts
from stockade.decisions.what_if import Described, changed, compare, judge
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import Credential, KeyCredential, RejectedCredential, TokenCredential
from stockade.kernel.resource_id import ResourceId
from stockade.management.authorization_scopes import ROLE_ASSIGNMENTS, role_id_of
from stockade.management.decisions import operations
from stockade.management.decisions.explaining import keys_made, store
from stockade.management.envelope import envelope
from stockade.management.resource_type import Call
from stockade.policy.snapshot import AccountPolicy, Entry, RoleAssignment, Snapshot
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json

MAX_REQUESTS: Final = 100
MAX_DECISIONS: Final = 1000
MAX_ASSIGNMENTS: Final = 100


class _Request(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A described request. operation, or method and path below the account; key (`Key1`) or principal (object id), or neither."""

    operation: str = ""
    method: str = ""
    path: str = ""
    address: str = ""
    key: str = ""
    principal: str = ""
    deployment: str = ""
    private_endpoint: str | None = None
    uris: tuple[str, ...] = ()


class _Assignment(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A role assignment that is not there. role: name or id; scope: the account, or one above it."""

    principal_id: str
    role: str
    scope: str = ""


class _Body(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    change: dict[str, Any] | None = None
    assign: tuple[_Assignment, ...] = ()
    remove_assignments: tuple[str, ...] = ()
    requests: tuple[_Request, ...] = ()
    decisions: tuple[str, ...] = ()
    last: int | None = None


def what_if(call: Call, reader: Reader, document: Document) -> Json:
    """Answer for described requests (`requests`: each before and after) or past ones (`comparison`: counts, callers, what is different)."""
    body = _read(call.body)
    draft = _draft(call, reader, document, body)
    answer: Json = {"accountId": document.body["id"], "policyGeneration": call.snapshot.generation}
    if body.requests:
        described = [_described(call, document, request) for request in body.requests]
        return {**answer, "requests": [_judged(request, call.snapshot, draft) for request in described]}
    return {
        **answer,
        "comparison": compare(_past(call, document, body), call.snapshot, draft, keys_made=keys_made(document)),
    }


def _read(body: Mapping[str, Any]) -> _Body:
    try:
        read = msgspec.convert(dict(body), _Body)
    except msgspec.ValidationError as failure:
        problem, _, where = str(failure).partition(" - at `$.")
        target = where.rstrip("`") or None
        raise Fault(
            FaultKind.INVALID,
            f"The request content is invalid: {problem}.",
            code="InvalidRequestContent",
            target=target,
        ) from failure
    if sum((bool(read.requests), bool(read.decisions), read.last is not None)) != 1:
        raise _invalid("Name one of 'requests', 'decisions' and 'last'.", "requests")
    for name, count, most in (
        ("requests", len(read.requests), MAX_REQUESTS),
        ("decisions", len(read.decisions), MAX_DECISIONS),
        ("last", read.last if read.last is not None else 1, MAX_DECISIONS),
        ("assign", len(read.assign), MAX_ASSIGNMENTS),
        ("removeAssignments", len(read.remove_assignments), MAX_ASSIGNMENTS),
    ):
        if count > most or (name == "last" and count < 1):
            raise _invalid(f"'{name}' is at most {most}.", name)
    return read


# The draft


def _draft(call: Call, reader: Reader, document: Document, body: _Body) -> Snapshot:
    changes: dict[str, tuple[Entry, ...]] = {}
    kind = call.platform.types.of(call.id)
    if body.change is not None and kind is not None:
        patch = replace(call, method="PATCH", body=body.change)
        planned = kind.plan(patch, document, reader)
        private = planned.private if planned.private is not None else document.private
        drafted = replace(document, body=envelope(patch, kind, planned.body, document, None), private=private)
        changes[document.id] = tuple(kind.compile(drafted))
    for assignment_id in body.remove_assignments:
        key = assignment_id.lower().rstrip("/")
        if not any(
            one.id == key
            for scope in call.snapshot.keys("assignment")
            for one in call.snapshot.all("assignment", scope)
        ):
            raise _invalid(f"There is no role assignment '{assignment_id[:200]}'.", "removeAssignments")
        changes[key] = ()
    for number, assignment in enumerate(body.assign):
        made = _assignment(call, document, assignment, number)
        changes[made.id] = (("assignment", made.scope, made),)
    return call.snapshot.with_changes(call.snapshot.generation, changes) if changes else call.snapshot


def _assignment(call: Call, document: Document, wanted: _Assignment, number: int) -> RoleAssignment:
    scope = ResourceId.parse(wanted.scope or document.id).key
    role_id = _role(call.snapshot, wanted.role)
    return RoleAssignment(
        f"{scope}/providers/{ROLE_ASSIGNMENTS}/draft-{number}".lower(), scope, role_id, wanted.principal_id.lower()
    )


def _role(snapshot: Snapshot, text: str) -> str:
    guid = (role_id_of(text) or "").lower()
    for key in snapshot.keys("role"):
        role = snapshot.only("role", key)
        if role is not None and (role.id == guid or role.name.lower() == text.lower()):
            return str(role.id)
    raise _invalid(f"There is no role '{text[:100]}'.", "assign")


# Requests


def _described(call: Call, document: Document, request: _Request) -> Described:
    account: AccountPolicy | None = call.snapshot.only("account", document.id)
    kind, settings = document.body["kind"], call.platform.settings
    values: Mapping[str, str] = {}
    if request.operation:
        operation = operations.named(settings, kind, request.operation)
    elif request.path:
        operation, values = operations.addressed(settings, kind, request.method or "POST", request.path)
    else:
        raise _invalid("A request names its 'operation', or its 'method' and 'path'.", "requests")
    return Described(
        account=document.id,
        operation=operation,
        address=request.address or call.address,
        credential=_credential(call.snapshot, account, request, call.now),
        deployment=request.deployment or values.get("deployment", ""),
        private_endpoint=request.private_endpoint.lower() if request.private_endpoint else None,
        uris=request.uris,
        now=call.now,
    )


def _credential(snapshot: Snapshot, account: AccountPolicy | None, request: _Request, now: float) -> Credential | None:
    if request.key and request.principal:
        raise _invalid("A request has a 'key' or a 'principal', not both.", "requests")
    if request.key and account is not None:
        if request.key.lower() not in ("key1", "key2"):
            raise _invalid("'key' is Key1 or Key2.", "requests")
        return KeyCredential(account.id, "Key1" if request.key.lower() == "key1" else "Key2", b"")
    if request.principal and account is not None:
        known = snapshot.only("principal", request.principal.lower())
        if known is None or not known.enabled or known.type == "Group":
            return RejectedCredential("token", "unknown_principal" if known is None else "disabled_principal")
        issuer = known.issuer or ""
        return TokenCredential(account.tenant_id, known.object_id, known.app_id, "", issuer, now + 3600)
    return None


def _judged(request: Described, before: Snapshot, after: Snapshot) -> Json:
    old, new = judge(request, before), judge(request, after)
    told: Json = {
        "operation": request.operation.name,
        "address": request.address,
        "hosts": [parts(uri)[1] for uri in request.uris],
    }
    return {**told, "now": verdict_body(old), "draft": verdict_body(new), "change": changed(old, new)}


def _past(call: Call, document: Document, body: _Body) -> list[Decision]:
    with store(call) as kept:
        if body.last is not None:
            return [entry.decision for entry in kept.newest(document.id, body.last)]
        found = [(decision_id, kept.find(decision_id)) for decision_id in body.decisions]
    for decision_id, made in found:
        if made is None or made.account != document.id:
            message = f"There is no decision '{decision_id[:64]}' of this account, or it is no longer kept."
            raise Fault(FaultKind.NOT_FOUND, message, code="DecisionNotFound")
    return [made for _, made in found if made is not None]


def _invalid(message: str, target: str) -> Fault:
    return Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target=target)
