"""Registering: only what an authenticator made for this session's challenge, at this address, with its user verified."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest

from tests.factories.console import SUB, ConsoleWorld
from tests.factories.lockbox import Authenticator

PAGE = f"/console/subscriptions/{SUB}/accounts/Group1/Letters/passkey"


def begun(browser: Any) -> tuple[str, dict[str, str]]:
    """Return the challenge and the fields of the page that was asked for last."""
    text = browser.get(PAGE).text
    (challenge,) = re.findall(r'data-challenge="([^"]+)"', text)
    return challenge, dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))


def test_the_page_asks_for_a_key_of_this_address_and_each_time_under_another_handle(named: ConsoleWorld) -> None:
    named.put_in_force(Authenticator().approver)
    browser = named.signed_in()
    pages = [browser.get(PAGE).text for _ in range(2)]
    assert 'data-relying-party="console.stockade.localhost"' in pages[0]
    assert 'data-algorithms="-7,-8,-257"' in pages[0]
    for name in ("user", "challenge"):
        first, second = (re.findall(rf'data-{name}="([^"]+)"', page)[0] for page in pages)
        assert first != second
    (known,) = re.findall(r'data-credentials="([^"]+)"', pages[0])
    assert known, "an authenticator that has one already is to say so"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "webauthn.get"}, "does not verify"),
        ({"origin": "https://evil.test"}, "does not verify"),
        ({"rp_id": "evil.test"}, "does not verify"),
        ({"flags": 1}, "does not verify"),
    ],
    ids=["a signature", "another origin", "another address", "nobody verified"],
)
def test_what_an_authenticator_did_otherwise_is_refused(
    named: ConsoleWorld, changes: dict[str, Any], said: str
) -> None:
    browser = named.signed_in()
    challenge, fields = begun(browser)
    kind = changes.pop("kind", "webauthn.create")
    credential = Authenticator(**changes).registration(challenge, kind=kind)
    reply = browser.post(PAGE, {**fields, "credential": credential})
    assert reply.status_code == 400
    assert said in reply.text


@pytest.mark.parametrize("credential", ["", "{", "x" * 40_000, '{"id": 1}', "[]"], ids=range(5))
def test_what_is_no_answer_is_refused(named: ConsoleWorld, credential: str) -> None:
    browser = named.signed_in()
    reply = browser.post(PAGE, {**begun(browser)[1], "credential": credential})
    assert reply.status_code == 400
    assert 'role="alert"' in reply.text


def test_a_challenge_is_good_once_and_for_its_own_session(named: ConsoleWorld) -> None:
    browser, other = named.signed_in(), named.signed_in()
    challenge, fields = begun(browser)
    theirs, _ = begun(other)
    made = Authenticator().registration
    assert browser.post(PAGE, {**fields, "credential": made(theirs)}).status_code == 400
    challenge, _ = begun(browser)
    assert browser.post(PAGE, {**fields, "credential": made(challenge)}).status_code == 303
    again = browser.post(PAGE, {**fields, "credential": made(challenge)})
    assert again.status_code == 400
    assert "begin again" in again.text


def test_who_may_not_see_accounts_makes_a_key_and_gives_it_to_whoever_drafts(named: ConsoleWorld) -> None:
    carol, dave = Authenticator(), Authenticator(id="dave", credential=b"of-dave")
    named.put_in_force(carol.approver)
    browser, alone = named.signed_in(), "/console/passkey"
    assert browser.get(f"{alone}/mine").headers["location"] == alone
    text = browser.get(alone).text
    (challenge,) = re.findall(r'data-challenge="([^"]+)"', text)
    assert browser.send(alone, alone, credential="{").status_code == 400
    text = browser.get(alone).text
    (challenge,) = re.findall(r'data-challenge="([^"]+)"', text)
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))
    reply = browser.post(alone, {**fields, "credential": dave.registration(challenge)})
    assert reply.headers["location"] == f"{alone}/mine"
    given = unescape(re.findall(r"<textarea[^>]*>([^<]*)<", browser.get(f"{alone}/mine").text)[0])
    approver = json.loads(given)
    assert approver["principal"] == named.person.object_id
    account, owner = PAGE.removesuffix("/passkey"), named.signed_in()
    drafted = owner.send(account, f"{account}/draft", threshold="1", theirs=given)
    assert f"New approver: <code>{approver['id']}</code>" in drafted.text
    refused = owner.send(account, f"{account}/draft", threshold="1", theirs="{}")
    assert refused.status_code == 400
    assert "no key of an approver" in refused.text
