"""The console over ASGI: one request in seven numbered steps.

1. address: the console's own name; elsewhere passkeys would not work, and a strange name may be an attack on the browser
2. files: style, script, icon
3. session: who this is; without one, to the sign-in
4. form: bounded and within its time, of our own pages
5. page: the handler, in a thread, asking ARM with the person's own token
6. refusal: ARM's words on a page; an ended token ends the session
7. reply: rendered, with its headers

Paths: `/` (without an Authorization header) and everything below `/console`; the rest of the control plane's is ARM's and identity's.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from stockade.console import forms
from stockade.console.address import Address, Addresses
from stockade.console.arm import Arm, Ask, Refused
from stockade.console.federation import Federation
from stockade.console.pages import MEDIA_TYPES, STATIC, VERSION, Download, Goto, Page, headers, render
from stockade.console.sessions import Session, Sessions
from stockade.console.sign_in import SignIn
from stockade.console.views import access, activity, home, lockbox, passkeys, statements
from stockade.console.visit import ROOT, Outcome, View, Visit
from stockade.identity.authorization_code import BEGUN_FOR_S
from stockade.identity.services import IdentityServices
from stockade.identity.token_service import Caller
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.threads import BoundedThreads

THREADS: Final = 4
MAX_WAITING: Final = 64
"""Pages being made at once; above it the answer is 503, so that a flood cannot fill memory."""

FORM_COOKIE_LENGTH: Final = 43

log = logging.getLogger(__name__)


VIEWS: Final = (*home.VIEWS, *lockbox.VIEWS, *statements.VIEWS, *passkeys.VIEWS, *activity.VIEWS, *access.VIEWS)


class Console:
    """An ASGI application for the console's paths."""

    def __init__(self, services: IdentityServices, ask: Ask) -> None:
        self._services, self._ask = services, ask
        self._addresses = Addresses(services.settings)
        self._sessions = Sessions(services.clock)
        self._sign_in = SignIn(services, self._sessions)
        self._threads = BoundedThreads(THREADS, MAX_WAITING)
        self._federation = Federation(services, self._threads)
        self._views = [(Route(ROOT + view.path, _unused, methods=[view.method]), view) for view in VIEWS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Fault as fault:
            response = self._fault(fault)
        except Exception:
            decision = new_guid()
            log.exception("a page failed", extra={"decision": decision})
            response = self._problem(500, f"The page could not be made. Its number in the log: {decision}.")
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        # 1. address
        address = self._addresses.of(request.headers.get("host", ""))
        if address is None:
            return self._problem(421, "", elsewhere=self._addresses.origin)
        if not address.own:
            return RedirectResponse(address.origin + _asked_for(request), 307, {**headers(script=False)})
        # 2. files
        path = request.url.path.rstrip("/") or "/"
        if path.startswith(f"{ROOT}/static/"):
            return _static(path.removeprefix(f"{ROOT}/static/"))
        if path == "/":
            return _redirect(f"{ROOT}/")
        if path == f"{ROOT}/sign-in":
            return await self._signing_in(request, address)
        if path.startswith(f"{ROOT}/sign-in/"):
            return await self._signing_in_elsewhere(request, address, path.removeprefix(f"{ROOT}/sign-in/"))
        return await self._signed_in_page(request, address, path)

    async def _signed_in_page(self, request: Request, address: Address, path: str) -> Response:
        # 3. session
        cookie = request.cookies.get(address.session_cookie, "")
        session = self._sessions.find(cookie) if cookie else None
        if session is None:
            return self._to_sign_in(request, cookie)
        # 4. form
        form: dict[str, str] = {}
        if request.method == "POST":
            form = await forms.read(request, address.origin, forms.MAX_BYTES)
            forms.require_form(form, session.form)
            if path == f"{ROOT}/sign-out":
                self._sessions.end(cookie)
                return _without_session(_redirect(f"{ROOT}/sign-in?left=1"), address)
        view, names = self._find(request)
        caller = self._caller(request)
        arm = Arm(self._ask, session.token, caller.address, caller.client)
        now = self._services.clock.now()
        visit = Visit(names, dict(request.query_params), form, session, arm, address, now)
        # 5. page
        try:
            outcome = await self._threads.run(view.handler, visit)
            return self._reply(outcome, visit)
        except Refused as refused:
            # 6. refusal
            if refused.status == HTTPStatus.UNAUTHORIZED:
                self._sessions.end(cookie)
                return _without_session(self._to_sign_in(request, cookie), address)
            return self._problem(refused.status, refused.message, visit=visit, code=refused.code)
        except Fault as fault:
            return self._fault(fault, visit)

    def _find(self, request: Request) -> tuple[View, Mapping[str, str]]:
        scope = dict(request.scope)
        scope["path"] = request.url.path.rstrip("/")
        partial = False
        for route, view in self._views:
            match, found = route.matches(scope)
            if match is Match.FULL:
                return view, found["path_params"]
            partial = partial or match is Match.PARTIAL
        if partial:
            raise Fault(FaultKind.METHOD_NOT_ALLOWED, "This page is not used that way.")
        raise Fault(FaultKind.NOT_FOUND, "There is no such page.")

    # Signing in

    async def _signing_in(self, request: Request, address: Address) -> Response:
        form: dict[str, str] = {}
        if request.method == "POST":
            form = await forms.read(request, address.origin, forms.MAX_SIGN_IN_BYTES)
        elif request.method not in ("GET", "HEAD"):
            raise Fault(FaultKind.METHOD_NOT_ALLOWED, "This page is not used that way.")
        following = _own_path((form if request.method == "POST" else request.query_params).get("next", ""))
        kept = request.cookies.get(address.form_cookie, "")
        problem, status, headers_ = "", 200, {}
        if request.method == "POST":
            try:
                forms.require_form(form, forms.before_sign_in(kept))
                caller = self._caller(request)
                session = await self._threads.run(self._sign_in.attempt, form, caller)
            except Fault as fault:
                status, problem = _status(fault), fault.message
                if fault.retry_after_s is not None:
                    headers_["retry-after"] = str(max(1, round(fault.retry_after_s)))
            else:
                return self._signed_in(request, session, address, _redirect(following or f"{ROOT}/"))
        return self._sign_in_page(request, address, form, following, problem, status, headers_)

    async def _signing_in_elsewhere(self, request: Request, address: Address, path: str) -> Response:
        """Send the browser to an issuer (`<name>/begin`), and take it back (`<name>`)."""
        if request.method != "GET":
            raise Fault(FaultKind.METHOD_NOT_ALLOWED, "This page is not used that way.")
        name, _, begins = path.partition("/")
        caller = self._caller(request)
        try:
            if begins == "begin":
                following = _own_path(request.query_params.get("next", ""))
                place, kept = await self._federation.begin(name, following, address, caller)
                response: Response = RedirectResponse(place, 303, headers(script=False))
                # Lax: the issuer sends the browser back, and then it has to be sent.
                response.set_cookie(
                    address.begun_cookie, kept, int(BEGUN_FOR_S), path="/", secure=True, httponly=True, samesite="lax"
                )
                return response
            kept = request.cookies.get(address.begun_cookie, "")
            session, following = await self._federation.finish(name, dict(request.query_params), kept, address, caller)
        except Fault as fault:
            if fault.kind is FaultKind.NOT_FOUND:
                raise
            response = self._sign_in_page(request, address, {}, "", fault.message, _status(fault), {})
        else:
            # A page of our own, and no redirect: a browser that comes from elsewhere would keep the new cookie back.
            page = self._render(Page("arriving.html", {"path": following or f"{ROOT}/"}), None)
            response = self._signed_in(request, session, address, page)
        response.delete_cookie(address.begun_cookie, path="/", secure=True, httponly=True, samesite="lax")
        return response

    def _sign_in_page(
        self,
        request: Request,
        address: Address,
        form: Mapping[str, str],
        following: str,
        problem: str,
        status: int,
        more: Mapping[str, str],
    ) -> Response:
        kept = request.cookies.get(address.form_cookie, "")
        cookie = kept if len(kept) == FORM_COOKIE_LENGTH else secrets.token_urlsafe(32)
        values = {
            "next": following,
            "problem": problem,
            "left": request.query_params.get("left") == "1" and not problem,
            "form": forms.before_sign_in(cookie).reveal_text(),
            "client_id": form.get("client_id", "")[:100],
            "issuers": self._federation.names,
        }
        response = self._render(Page("sign_in.html", values, status), None)
        response.headers.update(more)
        response.set_cookie(address.form_cookie, cookie, path="/", secure=True, httponly=True, samesite="strict")
        return response

    def _signed_in(self, request: Request, session: Session, address: Address, response: Response) -> Response:
        old = request.cookies.get(address.session_cookie, "")
        if old:
            self._sessions.end(old)
        cookie = self._sessions.begin(session)
        left = max(1, int(session.expires_at - self._services.clock.now()))
        response.set_cookie(
            address.session_cookie,
            cookie.reveal_text(),
            max_age=left,
            path="/",
            secure=True,
            httponly=True,
            samesite="strict",
        )
        response.delete_cookie(address.form_cookie, path="/", secure=True, httponly=True, samesite="strict")
        return response

    def _to_sign_in(self, request: Request, cookie: str) -> Response:
        if not cookie and request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET":
            # From a link in somebody's web mail: the browser keeps the cookie back, and sends it when our own page asks.
            return self._render(Page("arriving.html", {"path": _asked_for(request)}), None)
        asked = _asked_for(request) if request.method == "GET" else ""
        back = f"?next={quote(asked, safe='')}" if asked not in ("", f"{ROOT}/", ROOT) else ""
        return _redirect(f"{ROOT}/sign-in{back}")

    def _caller(self, request: Request) -> Caller:
        peer = request.client.host if request.client is not None else ""
        address = self._services.client_address(peer, request.headers.get("x-forwarded-for", ""))
        return Caller(address, request.headers.get("user-agent", "")[:120], new_guid())

    # Replies

    def _reply(self, outcome: Outcome, visit: Visit) -> Response:
        match outcome:
            case Page():
                return self._render(outcome, visit)
            case Goto(path=path):
                return _redirect(path)
            case Download(name=name, content=content, media_type=media_type):
                kept = {**headers(script=False), "content-disposition": f'attachment; filename="{name}"'}
                return Response(content, 200, kept, media_type)
        raise TypeError(outcome)

    def _render(self, page: Page, visit: Visit | None) -> Response:
        session = visit.session if visit is not None else None
        common: dict[str, Any] = {
            "now": self._services.clock.now(),
            "session": session,
            "csrf": session.form.reveal_text() if session is not None else "",
            "notice": session.told() if session is not None else "",
            "subscription": visit.names.get("subscription", "") if visit is not None else "",
            "root": ROOT,
            "section": "",
        }
        html = render(page, **common)
        return Response(html, page.status, headers(script=page.script), "text/html; charset=utf-8")

    def _problem(
        self, status: int, message: str, *, visit: Visit | None = None, code: str = "", elsewhere: str = ""
    ) -> Response:
        shown = status if 400 <= status < 600 else 500
        values = {"status": shown, "message": message, "code": code, "elsewhere": elsewhere}
        return self._render(Page("problem.html", values, shown), visit)

    def _fault(self, fault: Fault, visit: Visit | None = None) -> Response:
        response = self._problem(_status(fault), fault.message, visit=visit)
        if fault.retry_after_s is not None:
            response.headers["retry-after"] = str(max(1, round(fault.retry_after_s)))
        return response


class ConsoleFirst:
    """Takes what is for the console out of the control plane's requests; the rest is another application's."""

    def __init__(self, console: ASGIApp, rest: ASGIApp) -> None:
        self._console, self._rest = console, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._console if _is_ours(scope) else self._rest)(scope, receive, send)


def _is_ours(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    path: str = scope["path"]
    if path == ROOT or path.startswith(f"{ROOT}/"):
        return True
    if path != "/" or scope["method"] not in ("GET", "HEAD"):
        return False
    # ARM's clients show a token, or name a version, wherever they ask.
    return not scope["query_string"] and all(name != b"authorization" for name, _ in scope["headers"])


_STATUS: Final[Mapping[FaultKind, int]] = {
    FaultKind.INVALID: 400,
    FaultKind.UNAUTHENTICATED: 401,
    FaultKind.AUTHORIZATION_FAILED: 403,
    FaultKind.PERMISSION_DENIED: 403,
    FaultKind.NOT_FOUND: 404,
    FaultKind.METHOD_NOT_ALLOWED: 405,
    FaultKind.TIMEOUT: 408,
    FaultKind.CONFLICT: 409,
    FaultKind.TOO_LARGE: 413,
    FaultKind.UNSUPPORTED_MEDIA_TYPE: 415,
    FaultKind.LIMIT: 429,
    FaultKind.UNAVAILABLE: 503,
}
"""Of the faults that arise here; ARM's come as `Refused`, with a status of their own."""


def _status(fault: Fault) -> int:
    return _STATUS.get(fault.kind, 500)


def _static(path: str) -> Response:
    version, _, name = path.partition("/")
    content = STATIC.get(name)
    if content is None or version != VERSION:
        raise Fault(FaultKind.NOT_FOUND, "There is no such file.")
    kept = {**headers(script=False), "cache-control": "public, max-age=31536000, immutable"}
    return Response(content, 200, kept, MEDIA_TYPES[name.rpartition(".")[2]])


def _redirect(path: str) -> Response:
    return RedirectResponse(path, 303, headers(script=False))


def _without_session(response: Response, address: Address) -> Response:
    response.delete_cookie(address.session_cookie, path="/", secure=True, httponly=True, samesite="strict")
    response.headers["clear-site-data"] = '"cache"'
    return response


def _asked_for(request: Request) -> str:
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    query: bytes = request.scope["query_string"]
    path = raw.split(b"?", 1)[0].decode("latin-1")
    return f"{path}?{query.decode('latin-1')}" if query else path


def _own_path(path: str) -> str:
    """Return a path to go on to after signing in, "" for what is none of ours: a link must not send people elsewhere."""
    safe = path.startswith(f"{ROOT}/") and len(path) <= 1000 and path.isascii() and path.isprintable()
    return path if safe and not any(mark in path for mark in '\\ "<>#') and "//" not in path else ""


async def _unused(_: Request) -> Response:
    raise NotImplementedError
