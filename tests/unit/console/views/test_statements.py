"""Statements: drafted by ARM, signed by passkeys, passed on between approvers, and never for another account."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest

from stockade.console.arm import Answer
from stockade.lockbox import statement
from stockade.lockbox.strict import base64url, from_base64url
from tests.factories.console import ACCOUNT, SUB, Browser, ConsoleWorld, answer_of, refusal
from tests.factories.lockbox import PERSON, Authenticator, Signer, a_statement

ACCOUNTS = f"/console/subscriptions/{SUB}/accounts"
PAGE = f"{ACCOUNTS}/Group1/Letters"
HERE = {"rp_id": "console.stockade.localhost"}


@pytest.fixture
def ada(named: ConsoleWorld) -> Authenticator:
    """The person's own passkey."""
    return Authenticator(id="ada", principal=named.person.object_id)


def with_passkey(world: ConsoleWorld, authenticator: Authenticator) -> Browser:
    """Return a browser in whose session a passkey has been registered."""
    browser = world.signed_in()
    fields = browser.fields(f"{PAGE}/passkey")
    (challenge,) = re.findall(r'data-challenge="([^"]+)"', browser.get(f"{PAGE}/passkey").text)
    reply = browser.post(f"{PAGE}/passkey", {**fields, "credential": authenticator.registration(challenge)})
    assert reply.headers["location"] == f"{PAGE}#draft", reply.text
    return browser


def drafted(reply: Any) -> dict[str, str]:
    assert reply.status_code == 200, reply.text
    return {
        name: unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', reply.text)
    }


def signed(browser: Browser, fields: dict[str, str], authenticator: Authenticator) -> Any:
    payload = from_base64url(json.loads(fields["draft"])["payload"])
    return browser.post(f"{PAGE}/sign", {**fields, "assertion": answer_of(authenticator, payload)})


def test_accounts_say_whether_they_have_a_statement(named: ConsoleWorld) -> None:
    browser = named.signed_in()
    assert "None</span>" in browser.get(ACCOUNTS).text
    assert "no Lockbox statement: nobody can approve" in browser.get(PAGE).text
    named.put_in_force(Authenticator().approver)
    assert "In force</span>" in browser.get(ACCOUNTS).text
    text = browser.get(PAGE).text
    assert "carol" in text
    assert "whoever the platform’s own documents admit" in text
    path = f"{ACCOUNT}/providers/Stockade.Lockbox/policies/default"
    named.arm.replies["GET", path] = refusal(403, "AuthorizationFailed", "You may not.")
    assert "You may not see it" in browser.get(ACCOUNTS).text
    assert browser.get(PAGE).status_code == 403


def test_the_first_statement_names_whoever_registered_and_is_signed_by_them(
    named: ConsoleWorld, ada: Authenticator
) -> None:
    browser = with_passkey(named, ada)
    text = browser.get(PAGE).text
    assert "The passkey is registered" in text
    assert 'value="ada-approver-passkey"' in text
    form = {"add": "on", "key": "ada", "threshold": "1", "contacts": "a@x.test, b@x.test"}
    fields = drafted(browser.send(PAGE, f"{PAGE}/draft", **form))
    reply = signed(browser, fields, ada)
    assert reply.headers["location"] == PAGE
    assert named.arm.statement is not None
    (approver,) = named.arm.statement["approvers"]
    assert (approver["id"], approver["principal"]) == ("ada", named.person.object_id)
    passkey = ada.approver.passkey
    assert passkey is not None
    assert approver["passkey"]["public_key"] == passkey.public_key
    assert approver["passkey"]["origin"] == "https://console.stockade.localhost:8444"
    assert named.arm.statement["callers"] == {"platform": True}
    put = json.loads(named.arm.asked[-1].body)["properties"]
    assert put["contacts"] == ["a@x.test", "b@x.test"]
    text = browser.get(PAGE).text
    assert "The statement is in force" in text
    assert "Add the passkey" not in text


def test_a_second_approver_is_signed_for_by_the_first_in_another_session(
    named: ConsoleWorld, ada: Authenticator
) -> None:
    carol = Authenticator()
    named.put_in_force(carol.approver)
    browser = with_passkey(named, ada)
    reply = browser.send(PAGE, f"{PAGE}/draft", add="on", key="ada", threshold="1")
    assert "New approver: <code>ada</code>" in reply.text
    passed_on = drafted(reply)["draft"]
    assert passed_on in unescape(reply.text.partition("<textarea")[2])
    assert signed(browser, drafted(reply), ada).status_code == 400, "a new approver does not let themselves in"
    other = named.signed_in()
    reply = other.send(PAGE, f"{PAGE}/continue", draft=passed_on)
    assert signed(other, drafted(reply), carol).headers["location"] == PAGE
    assert named.arm.statement is not None
    assert [one["id"] for one in named.arm.statement["approvers"]] == ["carol", "ada"]


def test_where_two_have_to_sign_the_draft_goes_from_one_to_the_other(named: ConsoleWorld) -> None:
    carol, dave = Authenticator(), Authenticator(id="dave", principal=PERSON.format(4), credential=b"of-dave")
    named.put_in_force(carol.approver, dave.approver, threshold=2)
    browser = named.signed_in()
    reply = browser.send(PAGE, f"{PAGE}/draft", threshold="1", **{"remove:dave": "on"})
    assert "No longer approver: <code>dave</code>" in reply.text
    once = signed(browser, drafted(reply), carol)
    assert "has signed" in once.text
    assert named.arm.statement is not None
    assert named.arm.statement["threshold"] == 2, "nothing is in force yet"
    draft = unescape(re.findall(r"<textarea id=\"draft\"[^>]*>([^<]*)<", once.text)[0])
    other = named.signed_in()
    reply = other.send(PAGE, f"{PAGE}/continue", draft=draft)
    assert signed(other, drafted(reply), dave).headers["location"] == PAGE
    assert named.arm.statement["approvers"][0]["id"] == "carol"
    assert "threshold" not in named.arm.statement or named.arm.statement["threshold"] == 1


def test_a_draft_that_ends_the_protection_is_told_so_and_deletes(named: ConsoleWorld) -> None:
    carol = Authenticator()
    named.put_in_force(carol.approver)
    assert named.arm.policy is not None
    digest = named.arm.policy["digest"]
    ending = a_statement(carol.approver, account=ACCOUNT.lower(), sequence=2, previous=digest, protected=False)
    payload = base64url(statement.encode(ending))
    draft = json.dumps({"account": ACCOUNT, "payload": payload, "signatures": [], "ends": True})
    path = f"{ACCOUNT}/providers/Stockade.Lockbox/policies/default"
    named.arm.replies["DELETE", path] = Answer(200)
    browser = named.signed_in()
    reply = browser.send(PAGE, f"{PAGE}/continue", draft=draft)
    assert "<strong>ends</strong> with this statement" in reply.text
    assert signed(browser, drafted(reply), carol).headers["location"] == PAGE
    assert named.arm.asked[-1].method == "DELETE"
    assert json.loads(named.arm.asked[-1].body)["properties"]["payload"] == payload
    assert "The protection has ended." in browser.get(PAGE).text


def test_a_signature_of_something_else_is_not_kept(named: ConsoleWorld) -> None:
    carol = Authenticator()
    named.put_in_force(carol.approver, Signer().approver)
    browser = named.signed_in()
    fields = drafted(browser.send(PAGE, f"{PAGE}/draft", threshold="2"))
    reply = browser.post(f"{PAGE}/sign", {**fields, "assertion": answer_of(carol, b"another")})
    assert reply.status_code == 400
    assert "does not verify" in reply.text
    assert drafted_text(reply) == fields["draft"]


def drafted_text(reply: Any) -> str:
    return unescape(re.findall(r"<textarea id=\"draft\"[^>]*>([^<]*)<", reply.text)[0])


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"add": "on", "key": "a b"}, "A key&#39;s name has"),
        ({"add": "on", "key": "carol"}, "already"),
        ({"threshold": "0"}, "a number from 1"),
        ({"threshold": "²"}, "a number from 1"),
        ({"threshold": "9" * 40}, "a number from 1"),
    ],
)
def test_what_cannot_be_drafted_says_why(
    named: ConsoleWorld, ada: Authenticator, form: dict[str, str], said: str
) -> None:
    named.put_in_force(Authenticator().approver)
    browser = with_passkey(named, ada)
    reply = browser.send(PAGE, f"{PAGE}/draft", **{"threshold": "1", **form})
    assert reply.status_code == 400
    assert said in reply.text


def test_a_passkey_of_no_session_is_not_added(named: ConsoleWorld) -> None:
    reply = named.signed_in().send(PAGE, f"{PAGE}/draft", add="on", key="x", threshold="1")
    assert reply.status_code == 400
    assert "register it again" in reply.text


@pytest.mark.parametrize(
    "draft",
    ["", "{", "[" * 5000, '{"account": "x", "payload": "e30", "signatures": []}', '{"payload": "!"}', "other account"],
    ids=range(6),
)
def test_a_draft_that_is_none_says_so(named: ConsoleWorld, draft: str) -> None:
    if draft == "other account":
        other = a_statement(Authenticator().approver)
        draft = json.dumps({"account": ACCOUNT, "payload": base64url(statement.encode(other)), "signatures": []})
    reply = named.signed_in().send(PAGE, f"{PAGE}/continue", draft=draft)
    assert reply.status_code == 400
    assert 'role="alert"' in reply.text


def test_what_arm_refuses_is_said_on_the_page_and_the_draft_is_not_lost(named: ConsoleWorld) -> None:
    carol = Authenticator()
    named.put_in_force(carol.approver, Signer().approver)
    browser = named.signed_in()
    fields = drafted(browser.send(PAGE, f"{PAGE}/draft", threshold="2"))
    path = f"{ACCOUNT}/providers/Stockade.Lockbox/policies/default"
    named.arm.replies["PUT", path] = refusal(409, "StatementDoesNotContinue", "Ask for a draft anew.")
    reply = signed(browser, fields, carol)
    assert reply.status_code == 409
    assert "Ask for a draft anew." in reply.text
    assert drafted_text(reply) == fields["draft"]
