"""The console as browsers meet it: addresses, sessions, forms, headers, refusals."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie
from typing import Any

import pytest

from stockade.console.arm import Answer
from stockade.console.attempts import TRIES
from stockade.console.forms import MAX_BYTES, MAX_SIGN_IN_BYTES
from tests.factories.console import LOCKBOX, REQUEST, SUB, Browser, ConsoleWorld, refusal

SIGN_IN = "/console/sign-in"
HOME = "/console/"
LIST = f"/console/subscriptions/{SUB}/lockbox"


def test_the_root_leads_to_signing_in_and_arms_clients_are_left_alone(world: ConsoleWorld) -> None:
    browser = world.browser()
    assert browser.get("/").headers["location"] == HOME
    assert browser.get(HOME).headers["location"] == SIGN_IN
    assert browser.get("/", authorization="Bearer x").status_code == 418
    assert browser.get("/?api-version=2020-01-01").status_code == 418
    assert browser.post("/", {}).status_code == 418
    assert browser.get("/subscriptions").status_code == 418
    assert browser.get("/consoles").status_code == 418


def test_a_page_that_was_asked_for_comes_after_signing_in(world: ConsoleWorld) -> None:
    browser = world.browser()
    asked = browser.get(f"{LIST}?status=Pending").headers["location"]
    page = browser.get(asked).text
    assert f'name="next" value="{LIST}?status=Pending"' in page
    assert browser.sign_in(next=f"{LIST}?status=Pending").headers["location"] == f"{LIST}?status=Pending"


@pytest.mark.parametrize(
    "path",
    ["https://evil.test/", "//evil.test", "/console//evil.test", "/\\evil.test", "/subscriptions", "/console/x\n"],
)
def test_nobody_is_sent_elsewhere_after_signing_in(world: ConsoleWorld, path: str) -> None:
    assert world.browser().sign_in(next=path).headers["location"] == HOME


def test_cookies_are_for_this_host_alone_and_no_script_reads_them(world: ConsoleWorld) -> None:
    reply = world.browser().sign_in()
    cookies = {name: one for line in reply.headers.get_list("set-cookie") for name, one in SimpleCookie(line).items()}
    session = cookies["__Host-stockade-8444"]
    assert (session["secure"], session["httponly"], session["samesite"], session["path"]) == (True, True, "strict", "/")
    assert session["domain"] == ""
    assert int(session["max-age"]) <= 3600
    assert len(session.value) == 43
    assert cookies["__Host-stockade-form-8444"]["max-age"] == "0"


def test_a_wrong_secret_is_told_nothing_more_and_is_on_record(world: ConsoleWorld) -> None:
    wrong = world.browser().sign_in(client_secret="stockade~wrong")
    unknown = world.browser().sign_in(client_id="77777777-7777-4777-8777-777777777777")
    assert wrong.status_code == unknown.status_code == 401
    said = [re.findall(r'role="alert">([^<]*)<', reply.text) for reply in (wrong, unknown)]
    assert said[0] == said[1] != []
    assert "stockade~wrong" not in wrong.text
    records = world.identity.audit.records
    assert [(one.operation, one.decision, one.reason) for one in records] == [
        ("Stockade.Identity/tokens/issue", "deny", "7000215"),
        ("Stockade.Identity/tokens/issue", "deny", "700016"),
    ]


def test_after_many_failures_not_even_the_right_secret_is_tried(world: ConsoleWorld) -> None:
    browser = world.browser()
    for _ in range(TRIES):
        assert browser.sign_in(client_secret="stockade~wrong").status_code == 401
    refused = browser.sign_in()
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert len(world.identity.audit.records) == TRIES


def test_signing_out_ends_the_session_for_whoever_kept_the_cookie(world: ConsoleWorld) -> None:
    browser = world.signed_in()
    kept = dict(browser.client.cookies)
    assert browser.get(HOME).status_code == 200
    assert browser.send(HOME, "/console/sign-out").headers["location"] == f"{SIGN_IN}?left=1"
    browser.client.cookies.update(kept)
    assert browser.get(HOME).status_code == 303


def test_a_session_ends_with_its_token(world: ConsoleWorld) -> None:
    browser = world.signed_in()
    world.identity.manual.advance(3599)
    assert browser.get(HOME).status_code == 200
    world.identity.manual.advance(1)
    assert browser.get(HOME).headers["location"] == SIGN_IN


def test_a_token_that_arm_does_not_take_any_more_ends_the_session(world: ConsoleWorld) -> None:
    browser = world.signed_in()
    world.arm.replies["GET", "/subscriptions"] = refusal(401, "AuthenticationFailed", "Ended.")
    assert browser.get(HOME).headers["location"] == SIGN_IN
    del world.arm.replies["GET", "/subscriptions"]
    assert browser.get(HOME).status_code == 303


def test_signing_in_anew_ends_the_session_before(world: ConsoleWorld) -> None:
    browser = world.signed_in()
    kept = dict(browser.client.cookies)
    assert browser.sign_in().status_code == 303
    assert browser.get(HOME).status_code == 200
    other = world.browser()
    other.client.cookies.update(kept)
    assert other.get(HOME).status_code == 303


@pytest.mark.parametrize(
    ("changed", "headers"),
    [
        ({"form": "x" * 43}, {}),
        ({"form": ""}, {}),
        ({}, {"origin": "https://evil.test"}),
        ({}, {"origin": "null"}),
        ({}, {"sec_fetch_site": "cross-site"}),
        ({}, {"sec_fetch_site": "same-site"}),
    ],
    ids=["another value", "no value", "another origin", "no origin", "cross-site", "another port"],
)
@pytest.mark.parametrize("page", ["decision", "sign-in", "sign-out"])
def test_forms_from_elsewhere_do_nothing(
    world: ConsoleWorld, page: str, changed: dict[str, str], headers: dict[str, str]
) -> None:
    world.arm.add_request()
    browser = world.browser() if page == "sign-in" else world.signed_in()
    form = {"reason": "no", "client_id": str(world.person.app_id), "client_secret": world.secret}
    at, to = {
        "decision": (f"{LIST}/{REQUEST}", f"{LIST}/{REQUEST}/deny"),
        "sign-in": (SIGN_IN, SIGN_IN),
        "sign-out": (HOME, "/console/sign-out"),
    }[page]
    fields = {**browser.fields(at), **form, **changed}
    assert browser.post(to, fields, **headers).status_code == 403
    assert world.arm.decisions == []
    assert browser.get(HOME).status_code == (303 if page == "sign-in" else 200)


def test_a_form_of_another_persons_session_does_nothing(world: ConsoleWorld) -> None:
    world.arm.add_request()
    mallory, ada = world.signed_in(), world.signed_in()
    theirs = mallory.fields(HOME)
    assert ada.post(f"{LIST}/{REQUEST}/deny", {**theirs, "reason": "no"}).status_code == 403
    assert world.arm.decisions == []


def test_nothing_is_read_of_somebody_without_a_session_but_what_signs_them_in(world: ConsoleWorld) -> None:
    browser = world.browser()
    kind = {"content-type": "application/x-www-form-urlencoded"}
    large = b"a=" + b"x" * (MAX_SIGN_IN_BYTES + 1)
    assert browser.request("POST", f"{LIST}/{REQUEST}/deny", content=large, headers=kind).status_code == 303
    assert browser.request("POST", SIGN_IN, content=large, headers=kind).status_code == 413


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"a=" + b"x" * MAX_BYTES, "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 415),
        (b"form=1&form=2", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a%d=1" % n for n in range(50)), "application/x-www-form-urlencoded", 400),
        (b"a=%ff", "application/x-www-form-urlencoded", 400),
    ],
    ids=["too large", "no form", "twice", "too many", "no text"],
)
def test_what_is_no_form_is_refused(world: ConsoleWorld, content: bytes, kind: str, status: int) -> None:
    browser = world.signed_in()
    reply = browser.request("POST", "/console/sign-out", content=content, headers={"content-type": kind})
    assert reply.status_code == status


@pytest.mark.parametrize("path", [SIGN_IN, HOME, "/console/nowhere", LIST, "/console/static/x/console.css"])
def test_every_page_has_the_headers(world: ConsoleWorld, path: str) -> None:
    for browser in (world.browser(), world.signed_in()):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script-src" not in policy
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"


def test_files_are_kept_by_the_browser_and_there_are_only_those(world: ConsoleWorld) -> None:
    browser = world.browser()
    page = browser.get(SIGN_IN).text
    (style,) = re.findall(r'rel="stylesheet" href="([^"]+)"', page)
    reply = browser.get(style)
    assert reply.headers["content-type"].startswith("text/css")
    assert "immutable" in reply.headers["cache-control"]
    assert "url(" not in reply.text
    assert "<script" not in page
    for other in ("console.css", "../app.py", "%2e%2e/app.py"):
        assert browser.get(f"{style.rpartition('/')[0]}x/{other}").status_code == 404


@pytest.mark.parametrize("host", ["evil.test", "10.0.0.1:8444", "management.evil.test:8444"])
def test_another_name_is_told_where_the_console_is(world: ConsoleWorld, host: str) -> None:
    reply = world.browser().get(HOME, host=host)
    assert reply.status_code == 421
    assert 'href="https://localhost:8444/"' in reply.text
    assert "set-cookie" not in reply.headers


def test_a_number_is_sent_to_the_name_that_passkeys_know(world: ConsoleWorld) -> None:
    reply = world.browser("https://127.0.0.1:8444").get(f"{LIST}?status=Pending")
    assert reply.status_code == 307
    assert reply.headers["location"] == f"https://localhost:8444{LIST}?status=Pending"


def test_from_a_link_in_web_mail_the_browser_is_asked_for_its_cookie_again(world: ConsoleWorld) -> None:
    browser = world.browser()
    reply = browser.get(LIST, sec_fetch_site="cross-site")
    assert reply.status_code == 200
    assert '<meta http-equiv="refresh" content="0;url=/console/subscriptions' in reply.text
    assert browser.get(LIST, sec_fetch_site="none").status_code == 303


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/console/nowhere", 404), ("POST", LIST, 405), ("GET", f"{LIST}/{REQUEST}/deny", 405)],
)
def test_what_there_is_not(world: ConsoleWorld, method: str, path: str, status: int) -> None:
    browser = world.signed_in()
    reply = browser.get(path) if method == "GET" else browser.post(path, browser.fields(HOME))
    assert reply.status_code == status


def test_refusals_of_arm_are_shown_in_its_words_and_escaped(world: ConsoleWorld) -> None:
    world.arm.replies["GET", LOCKBOX] = refusal(403, "AuthorizationFailed", "No <script>alert(1)</script> for you.")
    reply = world.signed_in().get(LIST)
    assert reply.status_code == 403
    assert "No &lt;script&gt;alert(1)&lt;/script&gt; for you." in reply.text


def test_a_bug_shows_no_details(world: ConsoleWorld, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Any) -> Answer:
        raise RuntimeError("secret detail")

    world.arm.replies["GET", "/subscriptions"] = broken
    reply = world.signed_in().get(HOME)
    assert reply.status_code == 500
    assert "secret detail" not in reply.text
    assert re.search(r"[0-9a-f-]{36}", reply.text)
    caplog.clear()


def test_a_closed_audit_log_signs_nobody_in(world: ConsoleWorld) -> None:
    world.identity.audit.healthy = False
    reply = world.browser().sign_in()
    assert reply.status_code == 503
    assert "retry-after" in reply.headers


def test_arm_is_asked_with_the_persons_own_token(world: ConsoleWorld) -> None:
    browser: Browser = world.signed_in()
    browser.get(HOME)
    tokens = {question.token.reveal_text() for question in world.arm.asked}
    assert len(tokens) == 1
    assert tokens.pop().count(".") == 2
    assert not [line for line in browser.get(HOME).headers.get_list("set-cookie") if "eyJ" in line]
