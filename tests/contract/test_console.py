"""The console in a real browser against a running server: signing in, passkeys, approving so that an operator reads, denying, by keyboard alone.

One server and one browser for all.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from stockade.identity.issuers import IssuerKeys
from stockade.kernel.clock import SystemClock
from stockade.policy.builtin_roles import LOCKBOX_APPROVER, SUPPORT_ENGINEER
from stockade.settings import Listen, Names, Settings
from tests.factories.browser import Visitor, chromium, visitor
from tests.factories.code_issuer import CodeIssuer
from tests.factories.console import SUB, ConsoleWorld, Directory
from tests.factories.identity import listener, serving
from tests.live import Live, wait_for

pytestmark = pytest.mark.chromium
ACCOUNT = "console-letters"
CONTENT = b'{"custom_id": "a letter"}\n'


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as started:
        yield started


@dataclass
class Stage:
    """An account that keeps a file, an operator, and the administrator, who is Owner and approves."""

    live: Live
    file: str
    operator: str
    """The operator's token."""

    @property
    def account(self) -> str:
        return f"/console/subscriptions/{self.live.subscription}/accounts/{self.live.resource_group}/{ACCOUNT}"

    def assign(self, role: str, object_id: str) -> None:
        """Give a role at the subscription."""
        roles = f"/subscriptions/{self.live.subscription}/providers/Microsoft.Authorization"
        role_id = f"{roles}/roleDefinitions/{role}"
        asked = {"roleDefinitionId": role_id, "principalId": object_id, "principalType": "ServicePrincipal"}
        place = f"{roles}/roleAssignments/{uuid.uuid4()}"
        made = self.live.request("PUT", place, {"properties": asked}, version="2022-04-01")
        assert made.status_code == 201, made.text

    def request(self, reason: str) -> str:
        """File a Lockbox request as the operator; return its page."""
        name = str(uuid.uuid4())
        asked = {
            "account": self.live.account_id(ACCOUNT),
            "scope": [f"files/{self.file}"],
            "reason": reason,
            "durationHours": 1,
        }
        path = f"/subscriptions/{self.live.subscription}/providers/Stockade.Lockbox/requests/{name}"
        filed = self.live.request("PUT", path, {"properties": asked}, token=self.operator, version="2026-11-01")
        assert filed.status_code == 201, filed.text
        return f"/console/subscriptions/{self.live.subscription}/lockbox/{name}"

    def read(self, page: str) -> requests.Response:
        """Read the file as the operator, under a request."""
        name = page.rpartition("/")[2]
        url = f"{self.live.arm}/lockbox/v1/requests/{self.live.subscription}/{name}/content/files/{self.file}"
        sent = {"Authorization": f"Bearer {self.operator}"}
        return requests.get(url, headers=sent, verify=str(self.live.bundle), timeout=30)


@pytest.fixture(scope="module")
def stage(live: Live) -> Stage:
    account = live.account_id(ACCOUNT)
    body = {
        "kind": "OpenAI",
        "location": live.location,
        "sku": {"name": "S0"},
        "properties": {"customSubDomainName": ACCOUNT},
    }
    assert live.request("PUT", account, body).status_code in (200, 201)
    assert live.request("POST", "/providers/Microsoft.CustomerLockbox/enableLockbox", {}).status_code == 200
    key = live.request("POST", f"{account}/listKeys", {}).json()["key1"]
    upload = requests.post(
        f"{live.data}/{ACCOUNT}/openai/files?api-version=2024-10-21",
        headers={"api-key": key},
        files={"file": ("letter.jsonl", CONTENT)},
        data={"purpose": "batch"},
        verify=str(live.bundle),
        timeout=30,
    )
    assert upload.status_code in (200, 201), upload.text
    operator = live.identity("console-operator")
    with live.credential(operator["clientId"], operator["clientSecret"]) as credential:
        token = credential.get_token("https://management.azure.com/.default").token
    found = Stage(live, upload.json()["id"], token)
    found.assign(SUPPORT_ENGINEER, operator["objectId"])
    return found


@pytest.fixture(scope="module")
def owner(browser: object, live: Live, stage: Stage) -> Iterator[Visitor]:
    """The administrator at a browser with an authenticator, signed in, whose passkey stands in the account's statement."""
    with visitor(browser, live.arm) as person:  # type: ignore[arg-type]
        person.with_authenticator()
        person.sign_in(*live.admin)
        person.goto(stage.account)
        person.says("There is no Lockbox statement")
        person.press("Register a passkey")
        person.says("Your device, or a security key")
        person.press("Register a passkey")
        person.says("The passkey is registered")
        person.press("Draft the statement")
        person.says("Statement 1, to be signed")
        person.press("Sign with a passkey")
        person.says("The statement is in force")
        yield person


@pytest.fixture(autouse=True)
def _nothing_wrong(owner: Visitor) -> Iterator[None]:
    owner.wrong.clear()
    yield
    assert owner.wrong == []


def test_an_operator_reads_once_an_approver_has_signed_with_a_passkey_and_no_longer(
    owner: Visitor, stage: Stage
) -> None:
    page = stage.request("Answers are cut off <b>since Tuesday</b>")
    assert stage.read(page).status_code in (403, 409)
    owner.goto("/console/")
    owner.press("Answers are cut off <b>since Tuesday</b>")
    owner.says("What your signature would open")
    assert owner.path == page
    assert f"files/{stage.file}" in owner.text()
    assert "could be forged" in owner.text()
    owner.press("Approve with a passkey")
    owner.says("Approved. Access ends by itself")
    reply = stage.read(page)
    assert (reply.status_code, reply.content) == (200, CONTENT), reply.text
    owner.goto(page)
    owner.says("First used")

    def listed() -> bool:
        owner.goto(page)
        return f"files/{stage.file}" in owner.page.locator("section:has(#reads)").inner_text()

    wait_for(listed, "the read stands in the log")
    owner.fill("Reason", "enough")
    owner.press("Revoke")
    owner.says("Revoked. Nothing more can be read")
    assert stage.read(page).status_code in (403, 409)


def test_an_approver_by_role_alone_has_an_owner_put_their_passkey_into_the_statement(
    owner: Visitor, browser: object, stage: Stage
) -> None:
    """The role sees requests and neither accounts nor statements."""
    person = stage.live.identity("console-approver")
    stage.assign(LOCKBOX_APPROVER, person["objectId"])
    with visitor(browser, stage.live.arm) as approver:  # type: ignore[arg-type]
        approver.with_authenticator()
        approver.sign_in(person["clientId"], person["clientSecret"])
        approver.press("register a passkey")
        approver.press("Register a passkey")
        approver.says("Your passkey is registered")
        key = approver.page.get_by_label("Your key").input_value()
        owner.goto(stage.account)
        owner.page.get_by_text("Add somebody else’s key").click()
        owner.page.locator("#theirs").fill(key)
        owner.press("Draft the statement")
        owner.says("New approver: console-approver-passkey")
        owner.press("Sign with a passkey")
        owner.says("The statement is in force")
        page = stage.request("Of the approver")
        approver.goto("/console/")
        approver.press("Of the approver")
        approver.press("Approve with a passkey")
        approver.says("Approved. Access ends by itself")
        assert stage.read(page).content == CONTENT
        assert approver.wrong == []


def test_denying_by_keyboard_alone(owner: Visitor, stage: Stage) -> None:
    page = stage.request("By keyboard")
    owner.goto(page)
    keyboard = owner.page.keyboard
    keyboard.press("Tab")
    assert owner.page.locator(":focus").inner_text() == "Skip to content"
    assert owner.page.locator(":focus").bounding_box()["y"] >= 0, "what has the focus is to be seen"  # type: ignore[index]
    keyboard.press("Enter")
    reached = []
    for _ in range(40):
        keyboard.press("Tab")
        focus = owner.page.locator(":focus")
        reached.append(focus.evaluate("one => one.name || one.innerText"))
        shown = focus.evaluate("one => getComputedStyle(one).outlineStyle")
        assert shown != "none", f"nothing shows that {reached[-1]} has the focus"
        if focus.evaluate("one => one.id") == "why":
            break
    assert "Approve with a passkey" in reached
    assert "Sign out" not in reached, "the header was skipped"
    keyboard.type("Not without a case")
    keyboard.press("Tab")
    keyboard.press("Enter")
    owner.says("Denied. The operator has been told why.")
    assert "Not without a case" in owner.text()


def test_every_page_fits_a_narrow_window_and_names_what_can_be_used(owner: Visitor, stage: Stage) -> None:
    request = stage.request("W" * 300)
    here = f"/console/subscriptions/{stage.live.subscription}"
    pages = ("/console/", f"{here}/lockbox", request, f"{here}/accounts", stage.account, f"{stage.account}/passkey",
             f"{here}/activity", f"{here}/access")  # fmt: skip
    for path in pages:
        owner.goto(path)
        assert owner.too_wide() == [], path
        nameless = owner.page.evaluate(
            """[...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a")].filter(one =>
                !(one.labels?.length || one.textContent.trim() || one.hidden)).map(one => one.outerHTML)"""
        )
        assert nameless == [], path
        assert owner.page.locator("h1").count() == 1, path
        twice = owner.page.evaluate(
            """[...document.querySelectorAll("[id]")].map(one => one.id).filter((id, at, all) => all.indexOf(id) !== at)"""
        )
        assert twice == [], path


def test_without_javascript_all_but_the_passkey_works(browser: object, live: Live, stage: Stage) -> None:
    page = stage.request("Without scripts")
    with visitor(browser, live.arm, javascript=False) as person:  # type: ignore[arg-type]
        person.sign_in(*live.admin)
        person.press("Without scripts")
        person.says("Signing with a passkey takes JavaScript")
        assert person.page.get_by_role("button", name="Approve with a passkey").count() == 0
        person.fill("Why it is denied", "No scripts here")
        person.press("Deny")
        person.says("Denied.")
        assert person.path == page
        person.press("Sign out")
        person.says("You have signed out.")
        person.goto(page)
        person.says("Application (client) id")
        assert person.wrong == []


def test_at_a_number_the_browser_is_sent_to_the_name_that_passkeys_know(browser: object, live: Live) -> None:
    with visitor(browser, live.arm.replace("localhost", "127.0.0.1")) as person:  # type: ignore[arg-type]
        person.goto("/console/sign-in")
        assert person.page.url == f"{live.arm}/console/sign-in"
        assert person.page.evaluate("window.isSecureContext && !!window.PublicKeyCredential")
        assert person.wrong == []


def test_a_page_in_somebody_elses_frame_is_not_shown(browser: object, live: Live) -> None:
    with visitor(browser, live.arm) as person:  # type: ignore[arg-type]
        person.page.set_content(f'<iframe src="{live.arm}/console/sign-in"></iframe>')
        wait_for(lambda: any("frame" in one.lower() for one in person.wrong), "the browser refuses the frame")


def test_what_was_done_stands_in_the_activity_log_with_its_proof(owner: Visitor, stage: Stage, tmp_path: Path) -> None:
    here = f"/console/subscriptions/{stage.live.subscription}/activity"

    def shown() -> bool:
        owner.goto(here)
        return "Create Lockbox Request" in owner.text()

    wait_for(shown, "the request stands in the activity log")
    # The oldest: a signed tree head follows within seconds, and without one there is no proof.
    owner.page.get_by_role("link", name="Create Lockbox Request").last.click()
    owner.says("Place in the log")
    card = owner.page.locator("section.card", has_text="CreateLockboxRequest").first
    link = card.get_by_role("link", name="Download its proof").get_attribute("href")

    def proof() -> bytes:
        reply = owner.context.request.get(f"{owner.origin}{link}")
        named = reply.headers.get("content-disposition", "").startswith('attachment; filename="stockade-proof-')
        return reply.body() if reply.status == 200 and named else b""

    file = tmp_path / "proof.json"
    file.write_bytes(wait_for(proof, "a tree head covers the record"))
    key = tmp_path / "key.pem"
    key.write_text(stage.live.stockade("audit", "keys", "--pem"))
    stage.live.stockade("audit", "verify", str(file), "--key", str(key))
    file.write_bytes(file.read_bytes().replace(b"CreateLockboxRequest", b"ApproveLockboxRequest"))
    stage.live.stockade("audit", "verify", str(file), "--key", str(key), fails=7)


def test_from_an_issuer_at_another_site_a_person_comes_back_signed_in(browser: object, tmp_path: Path) -> None:
    """The session's cookie is kept from what other sites ask for; that does not keep out who comes from there."""
    issuer = CodeIssuer(tmp_path)
    bound = listener()
    settings = Settings(
        data_dir=tmp_path,
        listen=Listen(control_port=bound.getsockname()[1]),
        names=Names(domain="stockade.localhost"),
        issuers=(issuer.settings("example-sso"),),
    )
    with issuer.serving(), closing(Directory(tmp_path, settings, SystemClock())) as directory:
        with ThreadPoolExecutor(1) as elsewhere:  # Playwright's own loop runs in this thread
            elsewhere.submit(asyncio.run, IssuerKeys(directory.world.services).refresh_due()).result()
        world = ConsoleWorld(directory, "stockade.localhost")
        page = f"/console/subscriptions/{SUB}/lockbox"
        with (
            serving(world.app, bound, issuer.certificate),
            visitor(browser, world.origin) as person,  # type: ignore[arg-type]
        ):
            person.goto(page)
            person.press("Sign in with example-sso")
            person.says("No operator has asked")
            assert person.path == page
            assert person.page.locator(".who").inner_text().startswith("Ann")
            assert person.wrong == []
