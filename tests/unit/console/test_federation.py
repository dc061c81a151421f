"""Signing in at another issuer, over TLS, from beginning to session; and everything on the way that is not as it was begun."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import closing
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from joserfc.jwk import RSAKey

from stockade.console.attempts import TRIES
from stockade.console.federation import LONGEST_S, OPERATION
from stockade.identity.external_ids import object_id_of
from stockade.identity.issuers import IssuerKeys
from stockade.kernel.clock import SystemClock
from stockade.settings import Settings
from tests.factories.code_issuer import CLIENT, CodeIssuer
from tests.factories.console import Browser, ConsoleWorld, Directory

BEGIN, RETURN = "/console/sign-in/sso/begin", "/console/sign-in/sso"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CodeIssuer, Directory]]:
    folder = tmp_path_factory.mktemp("federation")
    secret = folder / "secret"
    secret.write_text("s3cret\n")
    issuer = CodeIssuer(folder, secret="s3cret")
    settings = Settings(data_dir=folder, issuers=(issuer.settings(credential_file=str(secret)),))
    with issuer.serving():
        directory = Directory(folder, settings, SystemClock())
        directory.loop.run_until_complete(IssuerKeys(directory.world.services).refresh_due())
        yield issuer, directory
        directory.close()


@pytest.fixture
def issuer(place: tuple[CodeIssuer, Directory]) -> CodeIssuer:
    found = place[0]
    found.access, found.identity, found.discovery, found.signing_key = {}, {}, {}, None
    found.asked.clear()
    return found


@pytest.fixture
def there(place: tuple[CodeIssuer, Directory], issuer: CodeIssuer) -> ConsoleWorld:
    return ConsoleWorld(place[1])


def begun(browser: Browser, path: str = BEGIN) -> str:
    """Begin, and return where the browser is sent."""
    reply = browser.get(path)
    assert reply.status_code == 303, reply.text
    return reply.headers["location"]


def back(browser: Browser, query: dict[str, str], **headers: str) -> Any:
    return browser.get(f"{RETURN}?{urlencode(query)}", **headers)


def told(reply: Any) -> str:
    return "".join(re.findall(r'role="alert">([^<]*)<', reply.text))


def test_the_page_offers_it_and_the_browser_is_sent_with_everything_that_binds_the_answer(
    there: ConsoleWorld, issuer: CodeIssuer
) -> None:
    browser = there.browser()
    page = browser.get("/console/sign-in?next=/console/subscriptions/x/lockbox").text
    assert f'href="{BEGIN}?next=%2Fconsole%2Fsubscriptions%2Fx%2Flockbox"' in page
    reply = browser.get(BEGIN)
    address = urlsplit(reply.headers["location"])
    asked = dict(parse_qsl(address.query))
    assert f"{address.scheme}://{address.netloc}{address.path}" == f"{issuer.issuer}/authorize"
    assert asked["redirect_uri"] == f"{there.origin}{RETURN}"
    assert (asked["response_type"], asked["client_id"], asked["scope"]) == ("code", CLIENT, "openid profile")
    assert asked["code_challenge_method"] == "S256"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    (cookie,) = [one for line in reply.headers.get_list("set-cookie") for one in SimpleCookie(line).values()]
    assert cookie.key == "__Host-stockade-begun-8444"
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "lax")
    assert asked["state"] not in cookie.value


def test_who_comes_back_has_a_session_of_their_own_token_and_goes_on_where_they_wanted(
    there: ConsoleWorld, issuer: CodeIssuer
) -> None:
    browser = there.browser()
    address = begun(browser, f"{BEGIN}?next=/console/subscriptions/x/access")
    reply = back(browser, issuer.answer_to(address), sec_fetch_site="cross-site")
    assert reply.status_code == 200
    assert 'content="0;url=/console/subscriptions/x/access"' in reply.text
    home = browser.get("/console/").text
    assert ">Ann<" in home
    assert object_id_of(issuer.issuer, "ann") in home
    (sent,) = {question.token.reveal_text() for question in there.arm.asked}
    assert sent.count(".") == 2
    assert issuer.asked[0]["redirect_uri"] == f"{there.origin}{RETURN}"
    assert "s3cret" not in str(issuer.asked[0]["code_verifier"])
    record = there.identity.audit.records[-1]
    assert (record.operation, record.decision, record.resource) == (OPERATION, "allow", issuer.issuer)
    assert record.principal == object_id_of(issuer.issuer, "ann")
    assert "__Host-stockade-begun-8444" not in browser.client.cookies


def test_a_session_is_not_longer_than_a_working_day(there: ConsoleWorld, issuer: CodeIssuer) -> None:
    issuer.access = {"exp": 4_000_000_000}
    browser = there.browser()
    reply = back(browser, issuer.answer_to(begun(browser)))
    cookies = {name: one for line in reply.headers.get_list("set-cookie") for name, one in SimpleCookie(line).items()}
    assert 0 < int(cookies["__Host-stockade-8444"]["max-age"]) <= LONGEST_S


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "x" * 43}, "begun elsewhere"),
        ({"state": ""}, "begun elsewhere"),
        ({"iss": "https://evil.test"}, "Another issuer"),
        ({"code": ""}, "did not sign you in"),
        ({"code": "x" * 3000}, "did not sign you in"),
        ({"error": "access_denied"}, "did not sign you in (access_denied)"),
        ({"error": "<script>"}, "did not sign you in."),
        ({"code": "stolen"}, "did not take its own code"),
    ],
    ids=["state", "no state", "issuer", "no code", "long code", "denied", "hostile error", "another code"],
)
def test_an_answer_that_was_not_asked_for_signs_nobody_in(
    there: ConsoleWorld, issuer: CodeIssuer, changes: dict[str, str], said: str
) -> None:
    browser = there.browser()
    reply = back(browser, issuer.answer_to(begun(browser), **changes))
    assert reply.status_code == 401
    assert said in told(reply)
    assert browser.get("/console/").status_code == 303
    assert there.identity.audit.records[-1].decision == "deny"


@pytest.mark.parametrize(
    ("identity", "access", "said"),
    [
        ({"nonce": "another"}, {}, "wrong_nonce"),
        ({"nonce": None}, {}, "wrong_nonce"),
        ({"aud": "another"}, {}, "wrong_audience"),
        ({"aud": [CLIENT, "b"], "azp": "b"}, {}, "wrong_audience"),
        ({"iss": "https://evil.test"}, {}, "wrong_audience"),
        ({"exp": 1000}, {}, "expired"),
        ({"exp": None}, {}, "expired"),
        ({"sub": None}, {}, "wrong_audience"),
        ({}, {"aud": "another"}, "wrong_audience"),
        ({}, {"exp": 1000}, "expired"),
        ({}, {"iss": "https://evil.test"}, "unknown_issuer"),
    ],
)
def test_tokens_that_are_not_for_this_sign_in_sign_nobody_in(
    there: ConsoleWorld, issuer: CodeIssuer, identity: dict[str, Any], access: dict[str, Any], said: str
) -> None:
    issuer.identity, issuer.access = identity, access
    browser = there.browser()
    reply = back(browser, issuer.answer_to(begun(browser)))
    assert reply.status_code == 401
    assert said in told(reply)
    assert browser.get("/console/").status_code == 303


def test_tokens_that_somebody_else_has_signed_are_worth_nothing(there: ConsoleWorld, issuer: CodeIssuer) -> None:
    issuer.signing_key = RSAKey.generate_key(2048, auto_kid=False)
    browser = there.browser()
    assert "bad_signature" in told(back(browser, issuer.answer_to(begun(browser))))


def test_what_another_browser_has_begun_is_not_finished_here(there: ConsoleWorld, issuer: CodeIssuer) -> None:
    victim, attacker = there.browser(), there.browser()
    answer = issuer.answer_to(begun(attacker))
    assert "has begun no sign-in" in told(back(victim, answer))
    begun(victim)
    assert "begun elsewhere" in told(back(victim, answer))


def test_a_code_is_good_once_and_what_has_begun_is_over_then(there: ConsoleWorld, issuer: CodeIssuer) -> None:
    browser = there.browser()
    answer = issuer.answer_to(begun(browser))
    assert back(browser, answer).status_code == 200
    assert back(browser, answer).status_code == 401


def test_somebody_who_fails_again_and_again_waits(there: ConsoleWorld, issuer: CodeIssuer) -> None:
    browser = there.browser()
    for _ in range(TRIES):
        assert back(browser, {"code": "x", "state": "y"}).status_code == 401
    assert back(browser, issuer.answer_to("?state=x")).status_code == 429
    assert browser.get(BEGIN).status_code == 429


@pytest.mark.parametrize(
    "discovery",
    [{"issuer": "https://evil.test"}, {"token_endpoint": "http://evil.test/t"}, {"authorization_endpoint": ""}],
    ids=["another issuer", "plain http", "none"],
)
def test_an_issuer_that_says_nothing_usable_is_not_asked(
    there: ConsoleWorld, issuer: CodeIssuer, discovery: dict[str, Any]
) -> None:
    issuer.discovery = discovery
    reply = there.browser().get(BEGIN)
    assert reply.status_code == 503
    assert "nothing usable" in told(reply)


def test_an_issuer_that_is_not_there_and_one_that_there_is_not(tmp_path: Path) -> None:
    away = CodeIssuer(tmp_path)
    away.bound.close()
    with closing(Directory(tmp_path, Settings(data_dir=tmp_path, issuers=(away.settings(),)))) as directory:
        browser = ConsoleWorld(directory).browser()
        reply = browser.get(BEGIN)
        assert reply.status_code == 503
        assert "cannot be reached" in told(reply)
        assert browser.get("/console/sign-in/other/begin").status_code == 404
        assert browser.get("/console/sign-in/other").status_code == 404
        assert browser.post(RETURN, {"a": "b"}).status_code == 405


def test_a_closed_audit_log_signs_nobody_in(there: ConsoleWorld, issuer: CodeIssuer) -> None:
    browser = there.browser()
    answer = issuer.answer_to(begun(browser))
    there.identity.audit.healthy = False
    assert back(browser, answer).status_code == 503


def test_many_who_begin_at_once_ask_the_issuer_where_once(there: ConsoleWorld, issuer: CodeIssuer) -> None:
    client = there.browser().client

    async def all_at_once() -> list[int]:
        replies = await asyncio.gather(*(client.get(BEGIN) for _ in range(5)))
        return [reply.status_code for reply in replies]

    assert there.loop.run_until_complete(all_at_once()) == [303] * 5
