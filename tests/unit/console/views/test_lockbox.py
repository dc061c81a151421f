"""Lockbox requests: what a page shows is what is signed, hostile words stay words, and decisions arrive as ARM wants them."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest

from stockade.lockbox import signature, statement
from stockade.lockbox.strict import base64url, from_base64url
from tests.factories.console import LOCKBOX, OPERATOR, REQUEST, SUB, Browser, ConsoleWorld, answer_of, refusal
from tests.factories.lockbox import PERSON, Authenticator

LIST = f"/console/subscriptions/{SUB}/lockbox"
PAGE = f"{LIST}/{REQUEST}"
HOSTILE = "Ha\"'><script>alert(1)</script><img src=x onerror=alert(1)> {{7*7}}"


def approve(browser: Browser, authenticator: Authenticator, **changed: str) -> Any:
    fields = browser.fields(PAGE)
    answer = answer_of(authenticator, from_base64url(fields["payload"]))
    return browser.post(f"{PAGE}/approve", {**fields, "assertion": answer, **changed})


def alert(reply: Any) -> str:
    return unescape("".join(re.findall(r'role="alert">([^<]*)<', reply.text)))


def test_what_waits_stands_on_the_first_page_and_in_the_list(world: ConsoleWorld) -> None:
    world.arm.add_request()
    browser = world.signed_in()
    for page in ("/console/", LIST, f"{LIST}?status=Pending"):
        text = browser.get(page).text
        assert f'href="{PAGE}"' in text
        assert "Answers are cut off since Tuesday" in text
        assert "Olga Operator" in text
    assert f'href="{PAGE}"' not in browser.get(f"{LIST}?status=Denied").text
    assert "No request has this status" in browser.get(f"{LIST}?status=Denied").text


def test_where_nothing_waits_it_says_how_to_begin(world: ConsoleWorld) -> None:
    browser = world.signed_in()
    assert "Nothing waits" in browser.get("/console/").text
    assert "stockade lockbox request" in browser.get(LIST).text


@pytest.mark.parametrize("page", ["/console/", LIST, PAGE])
def test_hostile_words_stay_words(world: ConsoleWorld, page: str) -> None:
    what = world.arm.add_request(reason=HOSTILE, case=HOSTILE, operator={**OPERATOR, "name": HOSTILE})
    what["stockade"]["history"][0]["comment"] = HOSTILE
    text = world.signed_in().get(page).text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert unescape(text).count(HOSTILE) >= 2


def test_a_page_shows_everything_that_an_approval_is_bound_to_and_the_bytes_themselves(named: ConsoleWorld) -> None:
    named.arm.add_request()
    named.put_in_force(Authenticator().approver)
    text = unescape(named.signed_in().get(PAGE).text)
    approval = named.arm.requests[REQUEST]["stockade"]["approval"]
    payload, said = from_base64url(approval["payload"]), approval["decoded"]
    shown = (
        said["account"],
        said["purpose"],
        said["case"],
        said["statement"],
        *said["scope"],
        said["operator"]["object_id"],
    )
    for one in (*shown, "2 hours", payload.decode(), statement.digest(payload), REQUEST, "carol"):
        assert one in text, one
    assert f'data-challenge="{base64url(signature.challenge(payload))}"' in text
    assert 'data-relying-party="console.stockade.localhost"' in text
    assert "could be forged" in text
    assert re.findall(r'<script src="[^"]+/passkey.js" defer>', text)


def test_approving_sends_exactly_what_was_shown_and_signed(named: ConsoleWorld) -> None:
    carol = Authenticator()
    named.arm.add_request()
    named.put_in_force(carol.approver)
    browser = named.signed_in()
    payload = named.arm.requests[REQUEST]["stockade"]["approval"]["payload"]
    assert approve(browser, carol, reason="see ticket").headers["location"] == PAGE
    (decision,) = named.arm.decisions
    assert (decision["status"], decision["reason"], decision["payload"]) == ("Approve", "see ticket", payload)
    assert [one["key"] for one in decision["signatures"]] == ["carol"]
    told = "Approved. Access ends by itself"
    assert told in browser.get(PAGE).text
    assert told not in browser.get(PAGE).text


def test_a_signature_of_two_is_kept_and_the_page_says_that_more_is_wanted(named: ConsoleWorld) -> None:
    carol, dave = Authenticator(), Authenticator(id="dave", principal=PERSON.format(4), credential=b"of-dave")
    named.arm.add_request()
    named.put_in_force(carol.approver, dave.approver, threshold=2)
    browser = named.signed_in()
    approve(browser, carol)
    text = browser.get(PAGE).text
    assert "More approvers have to sign" in text
    assert "has signed" in text
    credentials = re.findall(r'data-credentials="([^"]*)"', text)
    assert credentials == [base64url(b"of-dave")], "who has signed is not asked again"
    approve(browser, dave)
    assert named.arm.requests[REQUEST]["status"] == "Approved"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", "Nothing was signed"),
        ("{", "not readable"),
        ('{"id": "x", "response": {}}', "not readable"),
        ("[" * 9000, "not readable"),
        (
            '{"id": "eA", "response": {"authenticatorData": "", "clientDataJSON": "", "signature": ""}}',
            "none of the approvers",
        ),
    ],
    ids=["none", "cut", "without parts", "deep", "a stranger's"],
)
def test_what_no_approvers_passkey_made_goes_nowhere(named: ConsoleWorld, answer: str, said: str) -> None:
    named.arm.add_request()
    named.put_in_force(Authenticator().approver)
    browser = named.signed_in()
    reply = browser.post(f"{PAGE}/approve", {**browser.fields(PAGE), "assertion": answer})
    assert reply.status_code == 400
    assert said in reply.text
    assert named.arm.decisions == []


def test_a_signature_of_something_else_is_refused_in_arms_words(named: ConsoleWorld) -> None:
    carol = Authenticator()
    named.arm.add_request()
    named.put_in_force(carol.approver)
    browser = named.signed_in()
    reply = browser.post(f"{PAGE}/approve", {**browser.fields(PAGE), "assertion": answer_of(carol, b"another")})
    assert reply.status_code == 403
    assert "does not verify" in alert(reply)
    assert named.arm.requests[REQUEST]["status"] == "Pending"


def test_a_payload_that_is_no_approval_is_not_offered_for_signing(named: ConsoleWorld) -> None:
    what = named.arm.add_request()
    named.put_in_force(Authenticator().approver)
    approval = what["stockade"]["approval"]
    approval["payload"] = base64url(json.dumps({**approval["decoded"], "and": "more"}).encode())
    text = named.signed_in().get(PAGE).text
    assert "Do not sign it here" in text
    assert "data-challenge" not in text


def test_passkeys_of_another_address_are_not_asked_for(world: ConsoleWorld) -> None:
    world.arm.add_request()
    world.put_in_force(Authenticator().approver)
    text = world.signed_in().get(PAGE).text
    assert "belong to console.stockade.localhost, and this page is at localhost" in text
    assert "data-challenge" not in text
    assert "<script" not in text


def test_denying_takes_a_reason(world: ConsoleWorld) -> None:
    world.arm.add_request()
    browser = world.signed_in()
    assert browser.send(PAGE, f"{PAGE}/deny", reason="  ").status_code == 400
    assert world.arm.decisions == []
    assert browser.send(PAGE, f"{PAGE}/deny", reason="not now").headers["location"] == PAGE
    assert world.arm.decisions == [{"status": "Deny", "reason": "not now"}]
    text = browser.get(PAGE).text
    assert "Denied. The operator has been told why" in text
    assert f"{PAGE}/deny" not in text


def test_a_decision_that_comes_too_late_says_so(world: ConsoleWorld) -> None:
    what = world.arm.add_request()
    browser = world.signed_in()
    fields = browser.fields(PAGE)
    what["status"] = "Expired"
    reply = browser.post(f"{PAGE}/deny", {**fields, "reason": "no"})
    assert reply.status_code == 409
    assert alert(reply) == "The request is Expired."


def test_revoking_what_is_open(world: ConsoleWorld) -> None:
    what = world.arm.add_request()
    what["status"] = "Approved"
    browser = world.signed_in()
    browser.send(PAGE, f"{PAGE}/revoke", reason="enough")
    assert what["status"] == "Revoked"
    assert json.loads(world.arm.asked[-1].body) == {"reason": "enough"}
    assert f"{PAGE}/revoke" not in browser.get(PAGE).text


def test_ones_own_request_and_a_broken_glass_say_so(world: ConsoleWorld) -> None:
    world.arm.add_request(operator={**OPERATOR, "objectId": world.person.object_id}, breakGlass=True)
    text = world.signed_in().get(PAGE).text
    assert "This request is your own" in text
    assert "The glass is to be broken" in text
    assert "data-challenge" not in text


def test_a_request_that_there_is_not(world: ConsoleWorld) -> None:
    reply = world.signed_in().get(f"{LIST}/nope")
    assert reply.status_code == 404
    assert "There is no request" in reply.text


def test_a_list_that_one_may_not_read(world: ConsoleWorld) -> None:
    world.arm.replies["GET", LOCKBOX] = refusal(403, "AuthorizationFailed", "You may not.")
    browser = world.signed_in()
    assert browser.get(LIST).status_code == 403
    assert "Nothing waits" in browser.get("/console/").text
