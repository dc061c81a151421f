"""Chromium without a window, as a person would use it: pages that say when something about them is wrong, and an authenticator in software."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserContext, CDPSession, ConsoleMessage, Page, Request, sync_playwright

from tests.outside import program

TIMEOUT_MS = 10_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; the marker `chromium` has made sure that it is here."""
    # Chromium's own sandbox does not start as the system's superuser, which tests in containers often run as.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(program("chromium")), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visitor:
    """One person's browser window. wrong: what it complained of: errors, refused content, resources that are not there."""

    context: BrowserContext
    page: Page
    origin: str
    wrong: list[str] = field(default_factory=list)

    def goto(self, path: str) -> None:
        self.page.goto(f"{self.origin}{path}")

    @property
    def path(self) -> str:
        return self.page.url.removeprefix(self.origin).partition("#")[0]

    def text(self) -> str:
        return self.page.locator("main").inner_text()

    def says(self, text: str) -> None:
        """Wait until the page says something."""
        self.page.locator("main", has_text=text).wait_for()

    def press(self, name: str) -> None:
        """Press a button or follow a link by its name."""
        link = self.page.get_by_role("link", name=name, exact=True)
        # Waited for: what takes a script is there once the script is.
        self.page.get_by_role("button", name=name, exact=True).or_(link).first.click()

    def fill(self, label: str, value: str) -> None:
        self.page.get_by_label(label).fill(value)

    def sign_in(self, client_id: str, client_secret: str) -> None:
        self.goto("/")
        self.fill("Application (client) id", client_id)
        self.fill("Client secret", client_secret)
        self.press("Sign in")
        self.says("What waits for a decision")

    def too_wide(self) -> list[int]:
        """Return the widths of window in which the page has to be moved sideways to be read."""
        found = []
        for width in (320, 768, 1280):
            self.page.set_viewport_size({"width": width, "height": 800})
            if self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                found.append(width)
        return found

    def with_authenticator(self) -> CDPSession:
        """Give the window an authenticator that verifies its user and answers at once."""
        devtools = self.context.new_cdp_session(self.page)
        devtools.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        return devtools


@contextmanager
def visitor(browser: Browser, origin: str, *, javascript: bool = True) -> Iterator[Visitor]:
    """Open a window of its own, with no cookies. The certificate is the local authority's, which only this browser is told to let pass."""
    context = browser.new_context(ignore_https_errors=True, java_script_enabled=javascript)
    context.set_default_timeout(TIMEOUT_MS)
    opened = Visitor(context, context.new_page(), origin)

    def complain(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            opened.wrong.append(message.text)

    def fail(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page was left before that came
            opened.wrong.append(f"{request.url}: {request.failure}")

    opened.page.on("console", complain)
    opened.page.on("pageerror", lambda error: opened.wrong.append(str(error)))
    opened.page.on("requestfailed", fail)
    try:
        yield opened
    finally:
        context.close()
