"""Customer Lockbox in ARM: opting in, statements, filing, deciding, ending, and who is told. The broker is a pretended one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from stockade.identity.principals import Principal
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.lockbox import approval as approvals
from stockade.lockbox.strict import base64url, from_base64url
from stockade.policy.builtin_roles import LOCKBOX_APPROVER, OWNER, SUPPORT_ENGINEER
from stockade.settings import Lockbox as LockboxSettings
from stockade.settings import Mail, Notices, Settings
from tests.factories.control_plane import OTHER_SUB, READER, ControlPlane, S
from tests.factories.lockbox import Authenticator, Signer
from tests.factories.lockbox_arm import ACCOUNT, AZURES, OURS, POLICY, TENANT, Lockbox

DAY, HOUR = 86_400.0, 3_600.0
CONTACT = "mailto:secops@example.com"


def made(folder: Path, **rules: Any) -> Lockbox:
    mail = Mail(host="mail.example.com", sender="stockade@example.com")
    notices = Notices(mail=mail, operators=("boss@example.com",))
    settings = Settings(data_dir=folder, notices=notices, lockbox=LockboxSettings(**rules))
    return Lockbox(ControlPlane(folder, settings=settings))


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Lockbox]:
    found = made(tmp_path).ready()
    yield found
    found.plane.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lockbox]:
    """A platform for what is refused, and for what only reads."""
    found = made(tmp_path_factory.mktemp("lockbox")).ready()
    yield found
    found.plane.close()


@dataclass
class Glass:
    """A platform where the glass can be broken, an account whose statement agrees to it, and two operators with keys."""

    box: Lockbox
    second: Principal
    keys: tuple[Signer, Signer]


@pytest.fixture
def glass(tmp_path: Path) -> Iterator[Glass]:
    box = made(tmp_path, break_glass=True)
    box.opt_in()
    second = box.plane.principal("second", (SUPPORT_ENGINEER, S))
    keys = Signer("op1", box.engineer.object_id), Signer("op2", second.object_id)
    box.protect(breakGlass={"operators": [operator_key(one) for one in keys], "threshold": 2, "hours": 1})
    yield Glass(box, second, keys)
    box.plane.close()


def operator_key(signer: Signer) -> Any:
    approver = signer.approver
    return {"id": approver.id, "principal": approver.principal, "jwk": approver.jwk}


def refused(reply: httpx.Response, status: int, code: str) -> Any:
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text
    return reply.json()["error"]


def info(error: Any) -> Any:
    assert error["additionalInfo"][0]["type"]
    return error["additionalInfo"][0]["info"]


# Opting in


def test_the_tenant_opts_in_and_out(box: Lockbox) -> None:
    plane, where = box.plane, f"{TENANT}/tenantOptedIn/{box.plane.tenant_id}"
    assert plane.ok("GET", where, by=box.engineer) == {"isOptedIn": True}
    assert plane.source.current().only("lockbox", "tenant") is True
    reply = plane.send("POST", f"{TENANT}/disableLockbox", by=box.root)
    assert (reply.status_code, reply.content) == (200, b"")
    assert plane.ok("GET", where) == {"isOptedIn": False}
    assert plane.source.current().only("lockbox", "tenant") is None
    refused(box.send(new_guid()), 403, "LockboxNotEnabled")
    plane.fails(404, "ResourceNotFound", "GET", f"{TENANT}/tenantOptedIn/{new_guid()}")


def test_a_subscriptions_owner_is_not_the_tenants(shared: Lockbox) -> None:
    shared.plane.fails(403, "AuthorizationFailed", "POST", f"{TENANT}/disableLockbox")


def test_operations_have_azures_names(shared: Lockbox) -> None:
    names = {one["name"] for one in shared.plane.ok("GET", f"{TENANT}/operations")["value"]}
    logged = ("Create", "Approve", "Deny", "Expire", "Cancel", "AutoApprove", "AutoDeny")
    wanted = {f"Microsoft.CustomerLockbox/requests/activitylog/{one}LockboxRequest/action" for one in logged}
    assert names == wanted | {
        "Microsoft.CustomerLockbox/requests/read",
        "Microsoft.CustomerLockbox/register/action",
        "Microsoft.CustomerLockbox/requests/UpdateApproval/action",
    }
    assert (
        shared.plane.ok("POST", f"{S}/providers/Microsoft.CustomerLockbox/register")["registrationState"]
        == "Registered"
    )


# Filing


def test_a_request_in_azures_shape(box: Lockbox) -> None:
    name = box.file(case="https://support.example/cases/77", durationHours=2)
    found = box.plane.ok("GET", f"{AZURES}/{name}", by=box.alice)
    assert (found["name"], found["type"]) == (f"LockboxRequest_{name}", "requests")
    what = found["properties"]
    assert what.pop("stockade")["history"][0]["by"]["name"] == "engineer"
    assert what == {
        "requestId": name,
        "justification": "case 7: the upload is not found",
        "status": "Pending",
        "createdDateTime": "2027-01-15T08:00:00.0000000Z",
        "expirationDateTime": "2027-01-19T08:00:00.0000000Z",
        "duration": "2",
        "resourceIds": ACCOUNT,
        "resourceType": "Microsoft.CognitiveServices/accounts",
        "supportRequest": "77",
        "supportCaseUrl": "https://support.example/cases/77",
        "workItemSource": "Stockade",
        "subscriptionId": S.rpartition("/")[2],
    }
    assert box.plane.ok("GET", f"{AZURES}/LockboxRequest_{name.upper()}", by=box.alice)["id"] == found["id"]
    assert ("created", CONTACT) in box.told(name)
    page = f"https://localhost:8444/console{S}/lockbox/{name}"
    assert all(page in str(one.body["text"]) for one in box.outbox()), "the console shows it there"
    assert box.recorded(name) == ["CreateLockboxRequest"]


def test_the_list_needs_no_version_and_is_filtered_by_status(box: Lockbox) -> None:
    first, second = box.file(), box.file()
    box.approve(first)
    by_status = f"{AZURES}?$filter=properties/status eq 'Pending'"
    found = box.plane.ok("GET", by_status, by=box.alice, version=None)["value"]
    assert [one["properties"]["requestId"] for one in found] == [second]
    assert len(box.plane.ok("GET", AZURES, by=box.alice, version=None)["value"]) == 2
    box.plane.fails(
        400, "InvalidFilterInQueryString", "GET", f"{AZURES}?$filter=properties/status eq 'Lost'", by=box.alice
    )
    box.plane.fails(400, "InvalidApiVersionParameter", "GET", AZURES, by=box.alice, version="x")
    box.plane.fails(400, "MissingApiVersionParameter", "GET", f"{AZURES}/{first}", by=box.alice, version=None)


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        ("AuthorizationFailed", lambda box: box.send(new_guid(), by=box.plane.owner)),
        ("AuthorizationFailed", lambda box: box.send(new_guid(), by=box.reviewer)),
        ("LockboxAccountClosed", lambda box: elsewhere(box, "Face", "E0")),
        ("LockboxOwnStorage", lambda box: elsewhere(box, "SpeechServices", "S0")),
        ("LockboxNotProtected", lambda box: elsewhere(box, "OpenAI", "S0")),
        ("BreakGlassOff", lambda box: box.send(new_guid(), breakGlass=True)),
    ],
    ids=["owner", "reviewer", "closed", "own storage", "no statement", "no glass"],
)
def test_who_and_what_is_refused(shared: Lockbox, code: str, spoil: Callable[[Lockbox], httpx.Response]) -> None:
    before = shared.plane.ok("GET", OURS, by=shared.engineer)["value"]
    refused(spoil(shared), 403, code)
    assert shared.plane.ok("GET", OURS, by=shared.engineer)["value"] == before


def elsewhere(box: Lockbox, kind: str, sku: str) -> httpx.Response:
    """Ask for another account, of a kind."""
    path = f"{ACCOUNT}-{kind}-{sku}"
    if sku == "E0":
        with box.plane.database.write() as writer:  # asking for E0 is another test's
            body = {
                "id": path,
                "name": kind,
                "kind": kind,
                "sku": {"name": sku},
                "properties": {"internalId": "0" * 32},
            }
            writer.put(path, "Microsoft.Other/accounts", body, subscription=S.rpartition("/")[2])
    else:
        box.account(path, kind, sku)
    return box.send(new_guid(), account=path)


@pytest.mark.parametrize(
    ("code", "target", "properties"),
    [
        ("InvalidRequestContent", "properties.account", {"account": "x"}),
        ("InvalidRequestContent", "properties.account", {"account": ACCOUNT.replace(S, f"/subscriptions/{OTHER_SUB}")}),
        ("InvalidLockboxRequest", "properties.scope", {"scope": []}),
        ("InvalidLockboxRequest", "properties.scope", {"scope": ["files/../x"]}),
        ("InvalidLockboxRequest", "properties.scope", {"scope": ["secrets/*"]}),
        ("InvalidLockboxRequest", "properties.scope", {"scope": [f"files/{n}" for n in range(101)]}),
        ("InvalidLockboxRequest", "properties.reason", {"reason": " "}),
        ("InvalidRequestContent", "properties.reason", {"reason": "x\u202ey"}),
        ("InvalidLockboxRequest", "properties.case", {"case": "http://x.example"}),
        ("InvalidLockboxRequest", "properties.durationHours", {"durationHours": 8.5}),
        ("InvalidLockboxRequest", "properties.durationHours", {"durationHours": "nan"}),
        ("InvalidLockboxRequest", "properties.durationHours", {"durationHours": 0}),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_request(shared: Lockbox, code: str, target: str, properties: Any) -> None:
    assert refused(shared.send(new_guid(), **properties), 400, code)["target"] == target


def test_a_request_does_not_change_once_made(shared: Lockbox) -> None:
    refused(shared.send(shared.file()), 409, "LockboxRequestExists")
    refused(shared.send("not-a-guid"), 400, "InvalidResourceName")
    assert shared.send(new_guid(), account=f"{ACCOUNT}9").status_code == 404


def test_nobody_is_asked_where_nobody_could_approve(box: Lockbox) -> None:
    assignments = f"{S}/providers/Microsoft.Authorization/roleAssignments"
    found = box.plane.ok("GET", f"{assignments}?$filter=principalId eq '{box.alice.object_id}'")["value"]
    for one in found:
        if one["properties"]["roleDefinitionId"].endswith(LOCKBOX_APPROVER):
            box.plane.ok("DELETE", one["id"])
    assert "there are 0" in refused(box.send(new_guid()), 403, "NoApprover")["message"]


def test_customers_are_not_asked_all_day(box: Lockbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.management.lockbox.filing.MAX_TOLD_A_DAY", 2)
    box.file()
    box.file()
    refused(box.send(new_guid()), 429, "TooManyNotices")
    box.plane.clock.advance(DAY + 1)
    box.file()


# Deciding


def test_an_approval_is_a_signature_over_what_was_asked(box: Lockbox) -> None:
    name = box.file()
    error = refused(box.decide(name, "Approve"), 400, "SignatureRequired")
    shown = info(error)
    assert (shown["threshold"], shown["approvers"], shown["signed"]) == (1, ["alice"], [])
    approval = approvals.read(from_base64url(shown["payload"]))
    assert approval.request == name
    assert approval.account == ACCOUNT.lower()
    assert approval.scope == ("files/file-1",)
    assert approval.operator.object_id == box.engineer.object_id
    assert approval.not_after - approval.not_before == approval.duration_s == 8 * HOUR
    reply = box.decide(name, "Approve", box.key, payload=shown["payload"])
    assert reply.json()["status"] == "Approve"
    assert reply.json()["signatures"][0]["key"] == "alice"
    found = box.show(name)
    assert found["status"] == "Approved"
    assert found["stockade"]["accessEndsAt"] == "2027-01-15T16:00:00.0000000Z"
    assert "approval" not in found["stockade"]
    assert box.recorded(name) == ["CreateLockboxRequest", "ApproveLockboxRequest"]
    assert {("approved", CONTACT), ("approved", "mailto:boss@example.com")} <= set(box.told(name))


def test_decision_is_another_word_for_status(shared: Lockbox) -> None:
    name = shared.file()
    body = {"decision": "deny", "reason": "not now"}
    assert shared.plane.ok("POST", f"{AZURES}/{name}/updateApproval", body, by=shared.alice) == body
    assert shared.status(name) == "Denied"
    assert shared.recorded(name) == ["CreateLockboxRequest", "DenyLockboxRequest"]
    assert name in shared.plane.broker.revoked
    error = refused(shared.decide(name, "Approve", shared.key, payload=base64url(b"{}")), 409, "RequestNotDecidable")
    assert info(error) == {"currentStatus": "Denied"}
    for sent in ({}, {"status": "Maybe"}, {"status": "Approve", "decision": "Deny"}):
        shared.plane.fails(
            400, "InvalidRequestContent", "POST", f"{AZURES}/{name}/updateApproval", sent, by=shared.alice
        )


def test_whoever_became_an_approver_later_decides_on_later_ones(box: Lockbox) -> None:
    name = box.file()
    box.plane.clock.advance(1)
    late = box.plane.principal("late", (OWNER, S))
    error = refused(box.decide(name, "Deny", by=late), 403, "NotAnApprover")
    assert "after the request was made" in error["message"]
    box.plane.clock.advance(1)
    assert box.decide(box.file(), "Deny", by=late).status_code == 200


def test_a_role_from_above_the_subscription_does_not_count(shared: Lockbox) -> None:
    assert (
        "no approver" in refused(shared.decide(shared.file(), "Deny", by=shared.root), 403, "NotAnApprover")["message"]
    )
    shared.plane.fails(
        403,
        "AuthorizationFailed",
        "POST",
        f"{AZURES}/{shared.file()}/updateApproval",
        {"status": "Deny"},
        by=shared.engineer,
    )


def test_membership_in_a_group_counts(shared: Lockbox) -> None:
    member = shared.plane.principal("member")
    with shared.plane.database.write() as writer:
        group = shared.plane.directory.create_group(writer, "approvers")
        shared.plane.directory.add_member(writer, group.object_id, member.object_id)
    role = f"{S}/providers/Microsoft.Authorization/roleDefinitions/{LOCKBOX_APPROVER}"
    made = {"properties": {"roleDefinitionId": role, "principalId": group.object_id}}
    shared.plane.ok("PUT", f"{S}/providers/Microsoft.Authorization/roleAssignments/{new_guid()}", made)
    assert shared.decide(shared.file(), "Deny", by=member).status_code == 200


def test_nobody_decides_on_their_own(box: Lockbox) -> None:
    both = box.plane.principal("both", (SUPPORT_ENGINEER, S), (OWNER, S))
    name = box.file(by=both)
    for what in ("Approve", "Deny"):
        refused(box.decide(name, what, by=both), 403, "OwnLockboxRequest")
    second = Signer("both", both.object_id)
    box.protect(box.key, approvers=[operator_key(box.key), operator_key(second)])
    name = box.file(by=both)
    refused(box.decide(name, "Approve", second), 403, "OwnLockboxRequest")
    refused(box.decide(name, "Approve", second, box.key), 403, "OwnLockboxRequest")


def test_anothers_signature_alone_is_not_the_callers_decision(shared: Lockbox) -> None:
    refused(shared.decide(shared.file(), "Approve", shared.key, by=shared.plane.owner), 403, "NotASigner")


@pytest.mark.parametrize(
    "change",
    [
        {"scope": ("files/*",)},
        {"duration_s": 8.1 * HOUR, "not_after": 1_800_000_000.0 + HOUR},
        {"operator": approvals.Operator("00000000-0000-4000-8000-000000000001", "t")},
        {"purpose": "another"},
        {"case": "https://other.example"},
        {"nonce": "mine"},
        {"statement": "1" * 64},
        {"account": ACCOUNT.lower().replace("keeper", "other")},
        {"request": "00000000-0000-4000-8000-000000000001"},
        {"type": approvals.BREAK_GLASS},
        {"not_before": 1_800_000_000.0 + HOUR},
        {"not_after": 1_800_000_000.0 + 4.5 * DAY},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_differs_from_what_was_asked_is_not_taken(shared: Lockbox, change: Any) -> None:
    name = shared.file()
    asked = approvals.read(from_base64url(shared.to_sign(name)))
    wider = base64url(approvals.encode(msgspec.structs.replace(asked, **change)))
    reply = shared.decide(name, "Approve", shared.key, payload=wider)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["code"] in {"ApprovalDiffers", "InvalidApproval"}
    assert shared.status(name) == "Pending"


def test_an_approver_may_narrow_what_was_asked(box: Lockbox) -> None:
    name = box.file(scope=["files/file-1", "files/file-2"])
    asked = approvals.read(from_base64url(box.to_sign(name)))
    narrow = msgspec.structs.replace(asked, scope=("files/file-2",), duration_s=HOUR, not_after=asked.not_before + HOUR)
    reply = box.decide(name, "Approve", box.key, payload=base64url(approvals.encode(narrow)))
    assert reply.status_code == 200, reply.text
    assert box.show(name)["stockade"]["accessEndsAt"] == "2027-01-15T09:00:00.0000000Z"


def test_a_signature_that_does_not_verify_is_refused_at_once(shared: Lockbox) -> None:
    name = shared.file()
    refused(shared.decide(name, "Approve", Signer("alice", shared.alice.object_id)), 403, "NotSigned")
    refused(shared.decide(name, "Approve", Signer("mallory", shared.alice.object_id)), 403, "NotSigned")
    body = {"status": "Approve", "payload": "%", "signatures": []}
    shared.plane.fails(400, "InvalidRequestContent", "POST", f"{AZURES}/{name}/updateApproval", body, by=shared.alice)
    body = {"status": "Approve", "payload": "", "signatures": [{"nokey": 1}]}
    shared.plane.fails(400, "InvalidRequestContent", "POST", f"{AZURES}/{name}/updateApproval", body, by=shared.alice)


def test_of_two_approvers_at_once_one_wins(shared: Lockbox) -> None:
    name, payload = shared.file(), ""
    payload = shared.to_sign(name)
    body = {"status": "Approve", **shared.signed(payload, shared.key)}
    found: list[httpx.Response] = []

    def decide(sent: Any, by: Any) -> None:
        found.append(shared.plane.send("POST", f"{AZURES}/{name}/updateApproval", sent, by=by))

    both = [
        threading.Thread(target=decide, args=(body, shared.alice)),
        threading.Thread(target=decide, args=({"status": "Deny"}, shared.plane.owner)),
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    won, lost = sorted(found, key=lambda reply: reply.status_code)
    assert won.status_code == 200, won.text
    status = {"Approve": "Approved", "Deny": "Denied"}[won.json()["status"]]
    assert info(refused(lost, 409, "RequestNotDecidable")) == {"currentStatus": status}
    assert shared.status(name) == status


def test_several_sign_the_same(box: Lockbox) -> None:
    passkey = Authenticator("owner", box.plane.owner.object_id)
    first = [operator_key(box.key), {"id": "owner", "principal": passkey.principal, "passkey": raw(passkey)}]
    box.protect(box.key, approvers=first, threshold=2)
    name = box.file()
    payload = box.to_sign(name)
    assert approvals.read(from_base64url(payload)).not_after == 1_800_000_000 + 4 * DAY + 8 * HOUR
    assert box.decide(name, "Approve", box.key, payload=payload).status_code == 200
    found = box.show(name)
    assert found["status"] == "Approving"
    box.plane.clock.advance(HOUR)
    assert box.show(name)["stockade"]["approval"]["payload"] == payload
    assert box.show(name)["stockade"]["approval"]["signed"] == ["alice"]
    assert box.show(name)["stockade"]["approval"]["passkeys"][0]["key"] == "owner"
    sent = {"status": "Approve", **box.signed(payload, passkey)}  # type: ignore[arg-type]
    box.plane.ok("POST", f"{AZURES}/{name}/updateApproval", sent)
    assert box.show(name)["status"] == "Approved"
    assert box.show(name)["stockade"]["accessEndsAt"] == "2027-01-15T17:00:00.0000000Z"
    assert box.recorded(name)[1:] == ["Stockade.Lockbox/requests/sign", "ApproveLockboxRequest"]


def raw(passkey: Authenticator) -> Any:
    return msgspec.to_builtins(passkey.approver.passkey)


def test_a_broker_that_has_restarted_wants_another_signature(shared: Lockbox) -> None:
    name = shared.file()
    before = shared.to_sign(name)
    shared.plane.broker.restart()
    error = refused(shared.decide(name, "Approve", shared.key, payload=before), 400, "ApprovalDiffers")
    assert error["target"] == "payload.nonce"
    assert shared.decide(name, "Approve", shared.key, payload=info(error)["payload"]).status_code == 200


# Reviewing, ending


def test_a_reviewer_looks_first_where_that_is_on(tmp_path: Path) -> None:
    box = made(tmp_path, review=True).ready()
    name = box.file()
    assert box.status(name) == "Initializing"
    assert box.plane.ok("GET", AZURES, by=box.alice)["value"] == []
    assert box.plane.send("GET", f"{AZURES}/{name}", by=box.alice).status_code == 404
    assert not [one for one in box.told(name) if one[1] == CONTACT]
    assert "yet" in refused(box.decide(name, "Deny"), 409, "RequestNotDecidable")["message"]
    box.plane.fails(
        403, "AuthorizationFailed", "POST", f"{OURS}/{name}/review", {"decision": "Approve"}, by=box.engineer
    )
    assert box.act(name, "review", box.reviewer, decision="Approve").json()["properties"]["status"] == "Pending"
    assert ("reviewed", CONTACT) in box.told(name)
    box.approve(name)
    second = box.file()
    assert box.act(second, "review", box.reviewer, decision="Deny", reason="too wide").status_code == 200
    assert box.recorded(second) == ["CreateLockboxRequest", "AutoDenyLockboxRequest"]
    assert second in box.plane.broker.revoked
    box.plane.close()


def test_unanswered_requests_lapse_after_four_days(box: Lockbox) -> None:
    name = box.file()
    box.plane.clock.advance(4 * DAY - 1)
    assert box.status(name) == "Pending"
    box.plane.clock.advance(1)
    assert box.status(name) == "Expired"  # nobody has noted it yet
    error = refused(box.decide(name, "Approve", box.key, payload=base64url(b"{}")), 409, "RequestNotDecidable")
    assert info(error) == {"currentStatus": "Expired"}
    box.keep_up()
    assert box.recorded(name) == ["CreateLockboxRequest", "ExpireLockboxRequest"]
    assert ("expired", CONTACT) in box.told(name)
    assert name in box.plane.broker.revoked
    before = len(box.plane.audit.records)
    box.wait(HOUR)
    assert len(box.plane.audit.records) == before


def test_access_ends_by_the_clock(box: Lockbox) -> None:
    name = box.file()
    box.approve(name)
    box.wait(8 * HOUR)
    assert box.status(name) == "Completed"
    assert box.recorded(name)[-1] == "Stockade.Lockbox/requests/complete"
    assert name in box.plane.broker.revoked
    assert ("completed", CONTACT) in box.told(name)


@pytest.mark.parametrize("action", ["cancel", "complete"])
def test_who_asked_ends_it_and_nobody_else(shared: Lockbox, action: str) -> None:
    name = shared.file()
    if action == "complete":
        refused(shared.act(name, action), 409, "RequestStatusConflict")
        shared.approve(name)
    other = shared.plane.principal("other", (SUPPORT_ENGINEER, S))
    refused(shared.act(name, action, other), 403, "LockboxRequestOfAnother")
    found = shared.act(name, action, reason="solved").json()["properties"]
    assert found["status"] == {"cancel": "Revoked", "complete": "Completed"}[action]
    assert (
        shared.recorded(name)[-1]
        == {"cancel": "CancelLockboxRequest", "complete": "Stockade.Lockbox/requests/complete"}[action]
    )
    assert name in shared.plane.broker.revoked


@pytest.mark.parametrize("who", ["alice", "engineer", "reviewer"])
@pytest.mark.parametrize("approve", [False, True], ids=["waiting", "approved"])
def test_either_side_revokes_at_any_moment(shared: Lockbox, who: str, approve: bool) -> None:
    name = shared.file()
    if approve:
        shared.approve(name)
    assert shared.act(name, "revoke", getattr(shared, who), reason="enough").json()["properties"]["status"] == "Revoked"
    assert name in shared.plane.broker.revoked
    assert ("revoked", CONTACT) in shared.told(name)
    refused(shared.act(name, "revoke", getattr(shared, who)), 409, "RequestStatusConflict")


def test_a_stranger_revokes_nothing(shared: Lockbox) -> None:
    name = shared.file()
    refused(shared.act(name, "revoke", shared.plane.principal("reader", (READER, S))), 403, "AuthorizationFailed")
    assert shared.status(name) == "Pending"


def test_a_broker_that_cannot_be_reached_hears_of_it_later(box: Lockbox) -> None:
    name = box.file()
    box.approve(name)
    box.plane.broker.broken = Fault(FaultKind.UNAVAILABLE, "sealed")
    assert box.act(name, "revoke", box.alice).json()["properties"]["status"] == "Revoking"
    box.keep_up()
    assert box.status(name) == "Revoking"
    box.plane.broker.broken = None
    box.keep_up()
    assert box.status(name) == "Revoked"
    assert box.recorded(name)[-1] == "Stockade.Lockbox/requests/revoke"


def test_what_is_over_is_forgotten_after_a_while(box: Lockbox) -> None:
    name = box.file()
    box.act(name, "cancel")
    box.wait(399 * DAY)
    assert box.status(name) == "Revoked"
    box.wait(DAY)
    box.plane.fails(404, "ResourceNotFound", "GET", f"{OURS}/{name}", by=box.engineer)


# Breaking the glass


def test_two_operators_break_the_glass_and_the_customer_knows_first(glass: Glass) -> None:
    box, (first, second) = glass.box, glass.keys
    name = box.file(breakGlass=True, durationHours=1)
    assert ("created", CONTACT) in box.told(name)
    payload = box.to_sign(name)
    assert approvals.read(from_base64url(payload)).type == approvals.BREAK_GLASS
    refused(box.act(name, "breakGlass"), 400, "SignatureRequired")
    refused(box.decide(name, "Approve", box.key, payload=payload), 409, "BreakGlassRequest")
    assert box.act(name, "breakGlass", **box.signed(payload, first)).json()["properties"]["status"] == "Approving"
    found = box.act(name, "breakGlass", glass.second, **box.signed(payload, second)).json()["properties"]
    assert (found["status"], found["stockade"]["breakGlass"]) == ("Approved", True)
    assert box.recorded(name)[-2:] == ["Stockade.Lockbox/requests/breakGlass", "AutoApproveLockboxRequest"]
    assert ("autoApproved", CONTACT) in box.told(name)


def test_a_customer_stops_it(glass: Glass) -> None:
    box, nothing = glass.box, base64url(b"{}")
    name = box.file(breakGlass=True)
    assert box.decide(name, "Deny").status_code == 200
    refused(box.act(name, "breakGlass", **box.signed(nothing, *glass.keys)), 409, "RequestNotDecidable")
    refused(box.act(box.file(), "breakGlass", **box.signed(nothing, *glass.keys)), 409, "NotABreakGlassRequest")
    refused(box.send(new_guid(), breakGlass=True, durationHours=2), 400, "InvalidLockboxRequest")


# Statements


def test_a_statement_is_bound_and_shown(box: Lockbox) -> None:
    found = box.plane.ok("GET", POLICY)
    what = found["properties"]
    assert (found["name"], found["type"], what["state"], what["sequence"]) == (
        "default",
        "Stockade.Lockbox/policies",
        "Protected",
        1,
    )
    assert what["statement"]["approvers"][0]["id"] == "alice"
    assert what["contacts"] == ["secops@example.com"]
    with box.plane.database.read() as reader:
        account = reader.get(ACCOUNT)
    assert account is not None
    assert len(account.private["dataKeys"]) == 1
    assert box.plane.broker.bound[ACCOUNT.lower()] == what["digest"]
    box.plane.fails(403, "AuthorizationFailed", "GET", POLICY, by=box.reviewer)


def test_the_next_statement_takes_the_signatures_of_the_one_before(box: Lockbox) -> None:
    other = Signer("owner", box.plane.owner.object_id)
    drafted = box.plane.ok("POST", f"{POLICY}/draft", {"approvers": [operator_key(other)]})
    assert (drafted["statement"]["sequence"], drafted["signers"]["approvers"]) == (2, ["alice"])
    body = {"properties": box.signed(drafted["payload"], other)}
    box.plane.fails(403, "NotSigned", "PUT", POLICY, body)
    body = {"properties": box.signed(drafted["payload"], box.key)}
    assert box.plane.ok("PUT", POLICY, body)["properties"]["contacts"] == ["secops@example.com"]
    box.plane.fails(409, "StatementDoesNotContinue", "PUT", POLICY, body)


def test_a_statement_without_signatures_says_what_to_sign(box: Lockbox) -> None:
    error = refused(box.plane.send("PUT", POLICY, {"properties": {}}), 400, "SignatureRequired")
    assert info(error)["statement"]["sequence"] == 2
    reply = box.plane.send(
        "PUT", f"{ACCOUNT}/providers/Stockade.Lockbox/policies/default", {"properties": {"contacts": ["a@b.example"]}}
    )
    assert reply.json()["properties"]["contacts"] == ["a@b.example"]
    box.plane.fails(400, "InvalidRequestContent", "PUT", POLICY, {"properties": {"contacts": ["a\r\nb"]}})


def test_only_a_signed_statement_ends_the_protection(box: Lockbox) -> None:
    error = refused(box.plane.send("DELETE", POLICY), 400, "SignatureRequired")
    ends = info(error)["payload"]
    assert info(error)["statement"]["protected"] is False
    box.plane.fails(403, "NotSigned", "DELETE", POLICY, {"properties": box.signed(ends, Signer("alice", "x"))})
    body = {"properties": box.signed(ends, box.key)}
    box.plane.fails(400, "InvalidStatement", "PUT", POLICY, body)
    name = box.file()
    assert box.plane.send("DELETE", POLICY, body).status_code == 200
    box.plane.fails(404, "LockboxNotProtected", "GET", POLICY)
    refused(box.send(new_guid()), 403, "LockboxNotProtected")
    refused(box.decide(name, "Approve", box.key, payload=ends), 409, "LockboxNotProtected")
    assert box.plane.send("DELETE", POLICY).status_code == 204
    drafted = box.plane.ok("POST", f"{POLICY}/draft", {})  # the chain goes on
    assert drafted["statement"]["sequence"] == 3


def test_the_first_statement_is_put_by_one_of_its_approvers(tmp_path: Path) -> None:
    box = made(tmp_path)
    box.plane.fails(400, "SignatureRequired", "PUT", POLICY, {"properties": {}})
    box.plane.fails(400, "InvalidStatement", "POST", f"{POLICY}/draft", {})
    drafted = box.plane.ok("POST", f"{POLICY}/draft", {"approvers": [operator_key(box.key)]})
    body = {"properties": box.signed(drafted["payload"], box.key)}
    box.plane.fails(403, "NotASigner", "PUT", POLICY, body)
    box.plane.fails(403, "AuthorizationFailed", "PUT", POLICY, body, by=box.engineer)
    assert box.plane.send("PUT", POLICY, body, by=box.alice).status_code == 201
    box.plane.close()


def test_a_broker_that_refuses_leaves_the_account_as_it_was(box: Lockbox) -> None:
    before = box.plane.ok("GET", POLICY)
    drafted = box.plane.ok("POST", f"{POLICY}/draft", {"threshold": 1})
    box.plane.broker.broken = Fault(FaultKind.UNAVAILABLE, "sealed")
    box.plane.fails(503, "ServiceUnavailable", "PUT", POLICY, {"properties": box.signed(drafted["payload"], box.key)})
    box.plane.broker.broken = None
    assert box.plane.ok("GET", POLICY) == before


def test_an_account_that_is_not_there_has_no_policy(shared: Lockbox) -> None:
    shared.plane.fails(404, "ParentResourceNotFound", "GET", POLICY.replace("Keeper", "none"))
