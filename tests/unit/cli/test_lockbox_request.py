"""What an approver signs: exactly what the request says, read from the bytes; whatever differs is refused, and nothing is signed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import typer

from stockade.cli.lockbox_request import guid_of, narrowed, print_one, print_to_sign, to_be_signed
from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox import approval as approvals
from stockade.lockbox import strict
from stockade.lockbox.approval import APPROVAL, BREAK_GLASS, Approval, Operator

NOW = 1_800_000_000.0
GUID = "22222222-2222-4222-8222-222222222222"
OPERATOR = "33333333-3333-4333-8333-333333333333"
ACCOUNT = "/subscriptions/11111111-1111-4111-8111-111111111111/resourceGroups/rg/providers/Microsoft.CognitiveServices/accounts/Demo"
ASKED = Approval(
    request=GUID,
    account=ACCOUNT.lower(),
    statement="a" * 64,
    scope=("files/file-1", "files/file-2"),
    operator=Operator(OPERATOR, "t"),
    purpose="the case",
    case="https://support.example/1",
    duration_s=7200.0,
    not_before=NOW,
    not_after=NOW + 7200,
    nonce="n0nce",
)


def request(payload: bytes | None = None, approval: Approval = ASKED, **more: Any) -> Any:
    told = {"payload": strict.base64url(payload or approvals.encode(approval)), "threshold": 2, "signed": ["bob"]}
    stockade = {
        "account": ACCOUNT,
        "scope": list(ASKED.scope),
        "breakGlass": False,
        "operator": {"objectId": OPERATOR, "tenant": "t", "name": "ollie"},
        "reason": ASKED.purpose,
        "case": ASKED.case,
        "durationHours": 2.0,
        "history": [
            {"event": "Created", "status": "Pending", "at": iso(NOW), "by": {"name": "ollie"}, "comment": "x\ny"}
        ],
        "approval": {**told, "approvers": ["alice", "bob"], "statement": ASKED.statement},
        **more,
    }
    properties = {
        "requestId": GUID,
        "status": "Approving",
        "expirationDateTime": iso(NOW + 4 * 86_400),
        "duration": "2",
    }
    return {"properties": {**properties, "stockade": stockade}}


def test_what_the_request_says_is_what_is_signed() -> None:
    found, told = to_be_signed(request(), APPROVAL, NOW)
    assert found == ASKED and told["threshold"] == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"type": BREAK_GLASS},
        {"request": "99999999-9999-4999-8999-999999999999"},
        {"account": ACCOUNT.lower() + "2"},
        {"scope": ("files/*",)},
        {"scope": ("files/file-1", "files/file-3")},
        {"operator": Operator("44444444-4444-4444-8444-444444444444", "t")},
        {"operator": Operator(OPERATOR, "another")},
        {"purpose": "another"},
        {"case": ""},
        {"duration_s": 7201.0},
        {"not_before": NOW + 301},
        {"not_after": NOW + 4 * 86_400 + 7201},
    ],
    ids=lambda one: next(iter(one)),
)
def test_bytes_that_say_anything_else_are_not_signed(changed: Any) -> None:
    with pytest.raises(Fault, match=f"'{next(iter(changed))}' differs. Nothing was signed") as refused:
        to_be_signed(request(approval=msgspec.structs.replace(ASKED, **changed)), APPROVAL, NOW)
    assert refused.value.kind is FaultKind.INVALID


def test_bytes_that_can_be_read_in_another_way_are_not_signed() -> None:
    spaced = approvals.encode(ASKED).replace(b'","', b'", "')
    with pytest.raises(Fault, match="'payload' differs"):
        to_be_signed(request(spaced), APPROVAL, NOW)
    twice = approvals.encode(ASKED)[:-1] + b',"purpose":"another"}'
    with pytest.raises(Fault, match="repeats a name"):
        to_be_signed(request(twice), APPROVAL, NOW)
    broken = request()
    broken["properties"]["stockade"]["approval"]["payload"] = "!!"
    with pytest.raises(Fault, match="'payload' differs"):
        to_be_signed(broken, APPROVAL, NOW)


def test_where_nothing_is_to_be_signed_that_is_said() -> None:
    asked = request()
    del asked["properties"]["stockade"]["approval"]
    with pytest.raises(Fault, match="none of those who can") as refused:
        to_be_signed(asked, APPROVAL, NOW)
    assert refused.value.kind is FaultKind.CONFLICT
    asked["properties"]["status"] = "Denied"
    with pytest.raises(Fault, match="is Denied, and there is nothing to sign"):
        to_be_signed(asked, APPROVAL, NOW)


def test_an_approver_may_allow_less_and_nothing_else() -> None:
    less = narrowed(ASKED, ["files/file-2"], 1800.0)
    assert (less.scope, less.duration_s) == (("files/file-2",), 1800.0)
    assert msgspec.structs.replace(less, scope=ASKED.scope, duration_s=ASKED.duration_s) == ASKED
    assert narrowed(ASKED, [], None) == ASKED
    with pytest.raises(typer.BadParameter, match="only leave out"):
        narrowed(ASKED, ["files/file-9"], None)
    with pytest.raises(typer.BadParameter, match="only be shorter"):
        narrowed(ASKED, [], 7201.0)


def test_everything_that_is_signed_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print_to_sign(ASKED, "ollie")
    said = capsys.readouterr().out
    shown = (
        "files/file-1",
        "files/file-2",
        OPERATOR,
        "tenant t",
        "the case",
        ASKED.case,
        "2 hours",
        GUID,
        "a" * 64,
        "n0nce",
    )
    assert all(text in said for text in shown)
    print_to_sign(msgspec.structs.replace(ASKED, type=BREAK_GLASS), "ollie")
    assert "BREAK THE GLASS" in capsys.readouterr().out


def test_a_request_is_shown_with_who_has_signed(capsys: pytest.CaptureFixture[str]) -> None:
    print_one(request(), "table")
    said = capsys.readouterr().out
    assert "1 of 2 (bob)" in said and "alice, bob" in said and "x y" in said


def test_both_of_a_requests_names_are_taken() -> None:
    assert guid_of(f"LockboxRequest_{GUID.upper()}") == guid_of(GUID) == GUID
