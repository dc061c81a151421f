"""What operators type: asking, waiting, reading into files that are whole or not there."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import typer

from stockade.cli import lockbox_customer, lockbox_operator, lockbox_policy, outcome
from stockade.cli.lockbox_signing import new_key
from stockade.kernel.faults import Fault
from stockade.lockbox import statement
from stockade.lockbox.strict import base64url, from_base64url
from stockade.policy.builtin_roles import OWNER
from tests.factories.control_plane import SUB, ControlPlane, S
from tests.factories.lockbox_arm import ACCOUNT, Lockbox
from tests.factories.plane_arm import PlaneArm


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A protected account; `olga` owns the subscription and has the key, `engineer` asks."""
    plane = ControlPlane(tmp_path)
    lockbox = Lockbox(plane)
    olga = plane.principal("olga", (OWNER, S))
    arms = {
        "APPROVER": PlaneArm(plane, olga),
        "OPERATOR": PlaneArm(plane, lockbox.engineer),
        "REVIEWER": PlaneArm(plane, lockbox.reviewer),
    }
    for module in (lockbox_customer, lockbox_operator, lockbox_policy):
        monkeypatch.setattr(module, "speaking", lambda part: arms[part])
    monkeypatch.setattr(lockbox_operator, "POLL_S", 0.0)
    key = tmp_path / "olga.pem"
    new_key(key, None)
    lockbox.opt_in()
    lockbox_policy.protect(account=ACCOUNT, approver_keys=[f"file:{key}"], callers=["platform"], yes=True)
    plane.clock.advance(1)
    yield SimpleNamespace(plane=plane, lockbox=lockbox, arms=arms, key=f"file:{key}")
    plane.close()


def ask(capsys: pytest.CaptureFixture[str], **more: object) -> str:
    capsys.readouterr()
    lockbox_operator.request(account=ACCOUNT, scope=["files/file-1"], reason="r", form="json", **more)  # type: ignore[arg-type]
    return str(json.loads(capsys.readouterr().out)["properties"]["requestId"])


def ended(request: str, **more: str) -> int:
    with pytest.raises(typer.Exit) as found:
        lockbox_operator.wait(request, **more)
    return found.value.exit_code


def test_waiting_ends_as_the_decision_is(desk: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    request = ask(capsys, duration="30m", case="https://support.example/1")
    assert ended(request, timeout="1s") == outcome.BUSY
    said = capsys.readouterr()
    assert "Pending" in said.out and "Nobody has decided so far" in said.err
    lockbox_customer.approve(request, reason="yes", key=desk.key, yes=True)
    capsys.readouterr()
    assert ended(request) == outcome.OK
    assert "Approved by olga: yes" in capsys.readouterr().out
    lockbox_operator.done(request, reason="found it")
    assert "Completed" in capsys.readouterr().out
    assert ended(request) == outcome.REFUSED
    other = ask(capsys)
    lockbox_customer.deny(other, reason="no")
    assert ended(other) == outcome.REFUSED
    third = ask(capsys)
    lockbox_operator.cancel(third)
    assert "Cancelled" in capsys.readouterr().out


def test_lists_are_of_what_is_open(desk: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    request = ask(capsys)
    for show in (lockbox_operator.requests, lockbox_customer.list_requests):
        show()
        assert request in capsys.readouterr().out
    lockbox_customer.revoke(request, reason="x")
    capsys.readouterr()
    lockbox_operator.requests()
    assert "There are none." in capsys.readouterr().err
    lockbox_operator.requests(everything=True, form="json")
    assert len(json.loads(capsys.readouterr().out)) == 1


def test_without_somebody_at_the_keyboard_nothing_is_signed_unasked(
    desk: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask(capsys)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(typer.BadParameter, match="add --yes"):
        lockbox_customer.approve(request, reason="yes", key=desk.key)
    assert "You are about to sign this" in capsys.readouterr().out
    assert desk.lockbox.status(request) == "Pending"


def test_another_statement_than_is_shown_is_not_signed_for(
    desk: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask(capsys)
    arm, real = desk.arms["APPROVER"], desk.arms["APPROVER"].call

    def lying(method: str, path: str, body: object = None, api_version: str = "2025-09-01") -> object:
        answer = real(method, path, body, api_version)
        if method == "GET" and path.endswith("/policies/default"):
            another = msgspec.structs.replace(
                statement.read(from_base64url(answer["properties"]["payload"])), issued_at=1.0
            )
            answer["properties"]["payload"] = base64url(statement.encode(another))
        return answer

    monkeypatch.setattr(arm, "call", lying)
    with pytest.raises(Fault, match="not the one that would be signed for"):
        lockbox_customer.approve(request, reason="yes", key=desk.key, yes=True)
    assert desk.lockbox.status(request) == "Pending"


def test_an_approver_allows_less_than_was_asked_for(desk: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    wanted = ["files/file-1", "files/file-2"]
    lockbox_operator.request(account=ACCOUNT, scope=wanted, reason="r", duration="2h", form="json")
    request = json.loads(capsys.readouterr().out)["properties"]["requestId"]
    lockbox_customer.approve(request, reason="one", key=desk.key, scope=["files/file-2"], duration="30m", yes=True)
    said = capsys.readouterr().out
    assert "files/file-2" in said and "files/file-1" not in said and "0.5 hours" in said
    ends = desk.lockbox.show(request, by=desk.arms["APPROVER"].by)["stockade"]["accessEndsAt"]
    assert ends[:16] == "2027-01-15T08:30"


def test_a_body_is_written_whole_to_a_new_file_or_not_at_all(
    desk: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request, base = "22222222-2222-4222-8222-222222222222", f"/lockbox/v1/requests/{SUB}"
    at = f"{base}/{request}/content/files"
    desk.arms["OPERATOR"].downloads = {f"{at}/a": b"whole", f"{at}/b": b"broken...", f"{at}/c?part=metadata": b"{}"}
    file = tmp_path / "body"
    lockbox_operator.read(f"LockboxRequest_{request}", "files/a", output=file)
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"whole", 0o600)
    with pytest.raises(typer.BadParameter, match="nothing is written over it"):
        lockbox_operator.read(request, "files/a", output=file)
    for path in ("files/b", "files/none"):
        with pytest.raises(Fault):
            lockbox_operator.read(request, path, output=tmp_path / "other")
        assert not (tmp_path / "other").exists()
    with pytest.raises(typer.BadParameter, match="--output"):
        lockbox_operator.read(request, "files/a")
    for path in ("files/*", "../x", "files/a/b"):
        with pytest.raises(typer.BadParameter, match="a kind and an id"):
            lockbox_operator.read(request, path, output=tmp_path / "other")
    lockbox_operator.read(request, "files/c", output=tmp_path / "meta", metadata=True)
    assert (tmp_path / "meta").read_bytes() == b"{}"


# The statement


def test_a_statement_is_shown_with_whom_it_stops_and_read_from_what_was_signed(
    desk: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    lockbox_policy.show(account=ACCOUNT)
    said = capsys.readouterr().out
    assert "Statement number 1" in said and "olga: " in said and "Signed by" in said
    assert re.search(r"DOES NOT STOP +who writes the database", said)
    lockbox_customer.status(form="json")
    told = json.loads(capsys.readouterr().out)
    assert told["enabled"] and told["accounts"][0]["state"] == "number 1"


def test_a_draft_that_says_something_else_than_was_asked_for_is_not_signed(
    desk: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The platform answers with a draft that names a key of its own."""
    theirs = tmp_path / "theirs.pem"
    new_key(theirs, None)
    arm, real = desk.arms["APPROVER"], desk.arms["APPROVER"].call

    def lying(method: str, path: str, body: object = None, api_version: str = "2025-09-01") -> object:
        if path.endswith("/draft") and isinstance(body, dict) and "approvers" in body:
            jwk = lockbox_policy.key_of(f"file:{theirs}", arm).jwk
            body = {**body, "approvers": [{**body["approvers"][0], "jwk": dict(jwk)}]}
        return real(method, path, body, api_version)

    monkeypatch.setattr(arm, "call", lying)
    with pytest.raises(Fault, match="says something else than you asked for: approvers"):
        lockbox_policy.protect(account=ACCOUNT, approver_keys=[desk.key], yes=True)


@pytest.mark.parametrize("callers", ["everybody", "issuer:", "issuer:https://i.example", "keys="])
def test_callers_that_are_none_are_refused(desk: SimpleNamespace, callers: str) -> None:
    with pytest.raises(typer.BadParameter):
        lockbox_policy.protect(account=ACCOUNT, callers=[callers], yes=True)
