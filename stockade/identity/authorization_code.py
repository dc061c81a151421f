"""People who sign in at another issuer: OpenID Connect's authorization code flow with PKCE, as a client of issuers that the settings name.

What comes back is an access token for ARM, verified as every other one, and an ID token that says it was made for this sign-in. Nothing is kept here:
what has to be remembered until the browser returns is `Begun`, which whoever calls keeps with that browser.
Source: OpenID Connect Core 1.0 (3.1), RFC 7636 (PKCE, S256), RFC 9700 (2.1: exact redirect URIs, state and nonce, one redirect URI per
issuer against mix-up), RFC 9207 (`iss`), RFC 6749 section 2.3.1 for how a confidential client says who it is.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import ssl
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import httpx2
import msgspec

from stockade.identity import compact
from stockade.identity.compact import NotVerified
from stockade.identity.verify import LEEWAY_S
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.policy.snapshot import Snapshot
from stockade.settings import ConsoleClient, Issuer

TIMEOUT_S: Final = 5.0
MAX_BYTES: Final = 128 * 1024
KNOWN_FOR_S: Final = 300.0
"""How long an issuer's addresses are believed."""
BEGUN_FOR_S: Final = 600.0
MAX_CODE: Final = 2048
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Begun(msgspec.Struct, frozen=True):
    """A sign-in that has begun. client: the name of `ConsoleClient`. following: where to go on afterwards. until: epoch seconds."""

    client: str
    state: str
    nonce: str
    verifier: str
    following: str
    until: float

    @classmethod
    def now(cls, client: ConsoleClient, following: str, now: float) -> Begun:
        """Return a new one."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(client.name, state, nonce, verifier, following, now + BEGUN_FOR_S)


@dataclass(frozen=True, slots=True)
class Answered:
    """What an issuer gave for a code: an access token, not verified yet, and what it calls the person."""

    access_token: Secret
    subject: str
    name: str


@dataclass(frozen=True, slots=True)
class _Endpoints:
    authorization: str
    token: str
    known_until: float


class AuthorizationCode:
    """The client of one issuer."""

    def __init__(self, issuer: Issuer, client: ConsoleClient, clock: Clock) -> None:
        self.issuer, self.client = issuer, client
        self._clock = clock
        self._endpoints: _Endpoints | None = None
        self._asking = asyncio.Lock()

    async def address(self, begun: Begun, redirect_uri: str) -> str:
        """Return where the browser is to be sent; Fault(UNAVAILABLE) while the issuer does not answer."""
        endpoints = await self._known()
        challenge = urlsafe_b64encode(sha256(begun.verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.client.client_id,
            "redirect_uri": redirect_uri,
            "scope": self.client.scope,
            "state": begun.state,
            "nonce": begun.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(endpoints.authorization).query else "?"
        return f"{endpoints.authorization}{joint}{urlencode(asked)}"

    async def answer(self, begun: Begun, query: Mapping[str, str], redirect_uri: str, snapshot: Snapshot) -> Answered:
        """Take up what the browser came back with: check that it belongs to what has begun, and trade the code in.

        Fault(UNAUTHENTICATED) where it does not, or the issuer refused; Fault(UNAVAILABLE) while the issuer does not answer.
        """
        if not Secret(begun.state).matches(query.get("state", "")) or begun.until <= self._clock.now():
            raise _refused("That sign-in was begun elsewhere, or too long ago. Begin again.")
        if query.get("iss", self.issuer.issuer) != self.issuer.issuer:
            raise _refused("Another issuer answered than was asked. Begin again.")
        code = query.get("code", "")
        if "error" in query or not 0 < len(code) <= MAX_CODE:
            word = query.get("error", "")
            said = f" ({word})" if 0 < len(word) <= 64 and word.replace("_", "").isalnum() and word.isascii() else ""
            raise _refused(f"The issuer did not sign you in{said}.")
        found = await self._exchange(code, begun.verifier, redirect_uri)
        access, identity = found.get("access_token"), found.get("id_token")
        if not isinstance(access, str) or not isinstance(identity, str):
            raise _refused("The issuer gave no access token, or no ID token; the scope has to hold `openid`.")
        claims = self._checked(identity, begun.nonce, snapshot)
        name = next((claims[one] for one in ("name", "preferred_username") if isinstance(claims.get(one), str)), "")
        return Answered(Secret(access), str(claims["sub"]), str(name)[:100])

    def _checked(self, token: str, nonce: str, snapshot: Snapshot) -> Mapping[str, Any]:
        """Return an ID token's claims (OpenID Connect Core, section 3.1.3.7)."""
        try:
            read = compact.read(token)
            key = snapshot.only("verification-key", (self.issuer.issuer, read.header.get("kid")))
            if key is None:
                raise NotVerified("unknown_key")
            compact.check_signature(read, key.algorithm, compact.import_key(key.jwk, key.algorithm))
            claims, now = read.claims, self._clock.now()
            audience = claims.get("aud")
            named = audience if isinstance(audience, list) else [audience]
            expires_at = compact.instant(claims, "exp")
            mine = self.client.client_id in named and claims.get("azp", self.client.client_id) == self.client.client_id
            if claims.get("iss") != self.issuer.issuer or not mine or compact.text(claims, "sub") is None:
                raise NotVerified("wrong_audience")
            if expires_at is None or expires_at + LEEWAY_S <= now:
                raise NotVerified("expired")
            if not Secret(nonce).matches(str(claims.get("nonce", ""))):
                raise NotVerified("wrong_nonce")
        except (NotVerified, UnicodeEncodeError) as failure:
            reason = failure.reason if isinstance(failure, NotVerified) else "malformed"
            raise _refused(f"The issuer's ID token is not for this sign-in ({reason}).") from failure
        return claims

    async def _exchange(self, code: str, verifier: str, redirect_uri: str) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "client_id": self.client.client_id,
            "code_verifier": verifier,
        }
        secret, headers = self._secret(), {}
        if secret is not None:
            pair = f"{quote(self.client.client_id, safe='')}:{quote(secret.reveal_text(), safe='')}"
            headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        endpoints = await self._known()
        status, found = await self._send("POST", endpoints.token, headers, urlencode(form).encode())
        if status != 200:
            raise _refused("The issuer did not take its own code. Begin again.")
        return found

    def _secret(self) -> Secret | None:
        client = self.client
        if client.credential_env:
            return Secret(os.environ.get(client.credential_env, ""))
        if client.credential_file:
            try:
                return Secret(Path(client.credential_file).read_text().strip())
            except (OSError, UnicodeDecodeError) as failure:
                raise _unavailable("The client's secret cannot be read.") from failure
        return None

    async def _known(self) -> _Endpoints:
        """Return the issuer's addresses, from its discovery document. It is asked once at a time, however many wait."""
        async with self._asking:
            known = self._endpoints
            if known is not None and known.known_until > self._clock.monotonic():
                return known
            address = self.issuer.issuer.rstrip("/") + "/.well-known/openid-configuration"
            status, found = await self._send("GET", address, {}, None)
            places = [str(found.get(name, "")) for name in ("authorization_endpoint", "token_endpoint")]
            if (
                status != 200
                or found.get("issuer") != self.issuer.issuer
                or not all(self._is_safe(one) for one in places)
            ):
                raise _unavailable("The issuer says nothing usable of where people sign in.")
            self._endpoints = _Endpoints(places[0], places[1], self._clock.monotonic() + KNOWN_FOR_S)
            return self._endpoints

    def _is_safe(self, address: str) -> bool:
        """Say whether an address is https, or on loopback like the issuer itself."""
        parts, own = urlsplit(address), urlsplit(self.issuer.issuer)
        plain = parts.scheme == own.scheme == "http" and parts.hostname in _LOOPBACK and own.hostname in _LOOPBACK
        return bool(parts.hostname) and (parts.scheme == "https" or plain) and "@" not in parts.netloc

    async def _send(
        self, method: str, address: str, headers: Mapping[str, str], content: bytes | None
    ) -> tuple[int, Mapping[str, Any]]:
        """Send a request and return status and JSON object; no redirects, no proxies from the environment, bounded in size and time."""
        sent = {"accept": "application/json", "accept-encoding": "identity", **headers}
        if content is not None:
            sent["content-type"] = "application/x-www-form-urlencoded"
        data = bytearray()
        try:
            context = ssl.create_default_context(cafile=self.issuer.ca_file or None)
            async with (
                asyncio.timeout(TIMEOUT_S),
                httpx2.AsyncClient(
                    verify=context, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False
                ) as client,
                client.stream(method, address, headers=sent, content=content) as response,
            ):
                async for chunk in response.aiter_raw():
                    data += chunk
                    if len(data) > MAX_BYTES:
                        raise _unavailable("The issuer sent too much.")
            found = json.loads(data.decode()) if data else {}
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as failure:
            raise _unavailable("The issuer cannot be reached.") from failure
        except (ValueError, RecursionError) as failure:
            raise _unavailable("The issuer did not answer with JSON.") from failure
        return response.status_code, found if isinstance(found, dict) else {}


def _refused(message: str) -> Fault:
    return Fault(FaultKind.UNAUTHENTICATED, message)


def _unavailable(message: str) -> Fault:
    return Fault(FaultKind.UNAVAILABLE, message, retry_after_s=5)
