"""An OpenID Connect provider that signs people in with the authorization code flow, strict about all that the RFCs have a client do."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from stockade.settings import ConsoleClient, Issuer
from tests.factories.identity import listener, server_certificate, serving
from tests.factories.jose import sign

CLIENT, AUDIENCE = "console", "api://stockade"


class CodeIssuer:
    """Signs `ann` in at once. access, identity: changes to the claims of its tokens. refuses: the error it answers with instead."""

    def __init__(self, folder: Path, *, secret: str = "") -> None:
        self.secret, self.subject = secret, "ann"
        self.bound = listener()
        self.certificate = server_certificate(folder)
        self.key = RSAKey.generate_key(2048, auto_kid=False)
        self.issuer = f"https://localhost:{self.bound.getsockname()[1]}/realms/main"
        self.access: dict[str, Any] = {}
        self.identity: dict[str, Any] = {}
        self.signing_key: Any = None
        self.discovery: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[dict[str, str]] = []
        paths = {
            "/.well-known/openid-configuration": self._discover,
            "/certs": self._certs,
            "/authorize": self._authorize,
            "/token": self._token,
        }
        self.app = Starlette(
            routes=[Route(f"/realms/main{path}", answer, methods=["GET", "POST"]) for path, answer in paths.items()]
        )

    def settings(self, name: str = "sso", **changes: Any) -> Issuer:
        """Return what the platform's settings say of it."""
        client = ConsoleClient(name=name, client_id=CLIENT, scope="openid profile", **changes)
        return Issuer(
            issuer=self.issuer,
            audiences=(AUDIENCE,),
            object_id_claim="sub",
            app_id_claim="azp",
            ca_file=str(self.certificate[0]),
            console=client,
        )

    @contextmanager
    def serving(self) -> Iterator[CodeIssuer]:
        with serving(self.app, self.bound, self.certificate):
            yield self

    def answer_to(self, address: str, **changes: str) -> dict[str, str]:
        """Do what a browser does that is sent to an address and signs in: return the query it comes back with."""
        asked = dict(parse_qsl(address.partition("?")[2]))
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return {"code": code, "state": asked["state"], "iss": self.issuer, **changes}

    async def _discover(self, _: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/certs",
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                **self.discovery,
            }
        )

    async def _certs(self, _: Request) -> Response:
        return JSONResponse({"keys": [{**self.key.as_dict(private=False), "kid": "one", "use": "sig", "alg": "RS256"}]})

    async def _authorize(self, request: Request) -> Response:
        answer = self.answer_to(str(request.url))
        return RedirectResponse(f"{request.query_params['redirect_uri']}?{urlencode(answer)}", 302)

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        self.asked.append({**form, "authorization": request.headers.get("authorization", "")})
        begun = self.codes.pop(form.get("code", ""), None)
        digest = sha256(form.get("code_verifier", "").encode()).digest()
        expected = f"Basic {base64.b64encode(f'{CLIENT}:{self.secret}'.encode()).decode()}" if self.secret else ""
        if (
            begun is None
            or begun["code_challenge_method"] != "S256"
            or begun["code_challenge"] != base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            or begun["redirect_uri"] != form["redirect_uri"]
            or form["client_id"] != CLIENT
            or request.headers.get("authorization", "") != expected
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse(
            {
                "token_type": "Bearer",
                "access_token": self._signed({"aud": AUDIENCE, "azp": CLIENT, **self.access}),
                "id_token": self._signed({"aud": CLIENT, "nonce": begun["nonce"], "name": "Ann", **self.identity}),
            }
        )

    def _signed(self, claims: dict[str, Any]) -> str:
        now = int(time.time())
        whole = {"iss": self.issuer, "sub": self.subject, "iat": now, "nbf": now, "exp": now + 600, **claims}
        said = {name: value for name, value in whole.items() if value is not None}
        return sign({"alg": "RS256", "typ": "JWT", "kid": "one"}, said, self.signing_key or self.key)
