"""From headers and query to at most one credential, verified or refused.

Reads every place a credential may stand in, insists that they agree, and never keeps what it read: a key becomes its digest, a token its
claims. Source: choices.md and contracts, data-plane section 1.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from stockade.kernel.principal import Credential, KeyCredential, RejectedCredential, TokenCredential
from stockade.keys.session_token import SessionTokens
from stockade.keys.subscription import KeyDigester
from stockade.policy.snapshot import AccountPolicy, KeyPolicy, Snapshot

MAX_KEY = 512
MAX_TOKEN = 32 * 1024

VerifyToken: TypeAlias = Callable[[Snapshot, str, float], TokenCredential | RejectedCredential]
KEY_HEADERS = frozenset({"ocp-apim-subscription-key", "api-key"})


class Presented:
    """What a request carries, before any of it is believed."""

    __slots__ = ("bearer", "conflicting", "in_query", "key", "scheme")

    def __init__(self) -> None:
        self.key = ""
        self.bearer = ""
        self.scheme = ""
        self.conflicting = False
        self.in_query = False
        """A key stood in the query string."""

    def add_key(self, value: str) -> None:
        """Note a key from a header or the query; blank ones are absent (the native Speech SDK sends them)."""
        value = value.strip(" \t")
        if value:
            self.conflicting |= bool(self.key) and self.key != value
            self.key = value

    def add_authorization(self, value: str) -> None:
        """Note an `Authorization` header; a blank one, or a scheme without a value, is absent."""
        scheme, _, token = value.strip(" \t").partition(" ")
        token = token.strip(" \t")
        if token:
            self.conflicting |= bool(self.bearer) and (self.bearer, self.scheme) != (token, scheme.lower())
            self.scheme, self.bearer = scheme.lower(), token


class Credentials:
    """Turns what was presented into a credential."""

    def __init__(self, digester: KeyDigester, sessions: SessionTokens, verify_token: VerifyToken) -> None:
        self._digester, self._sessions, self._verify_token = digester, sessions, verify_token

    def read(
        self, snapshot: Snapshot, presented: Presented, account: AccountPolicy | None, *, bearer_key: bool, now: float
    ) -> Credential | None:
        """Return the one credential, None when there is none.

        account:    where the request is addressed; None on the regional endpoint.
        bearer_key: whether a bearer value that is no JWT is tried as a key.
        """
        key, bearer = presented.key, presented.bearer
        if not key and not bearer:
            return None
        if (
            bearer
            and bearer_key
            and presented.scheme == "bearer"
            and bearer.count(".") != 2
            and not bearer.startswith("aad#")
        ):
            presented.add_key(bearer)
            key, bearer = presented.key, ""
        if presented.conflicting or (key and bearer):
            return RejectedCredential("several", "several_credentials")
        if key:
            return self._key(snapshot, key)
        if presented.scheme != "bearer":
            return RejectedCredential("token", "not_bearer")
        if len(bearer) > MAX_TOKEN:
            return RejectedCredential("token", "too_long")
        if bearer.startswith("aad#"):
            return self._aad(snapshot, bearer, account, now)
        if self._sessions.is_one(bearer):
            return self._session(snapshot, bearer, now)
        return self._verify_token(snapshot, bearer, now)

    def digest(self, key: str) -> bytes:
        """Return the keyed digest of a presented key; of an overlong one, that of its beginning, which is no key's."""
        return self._digester.digest(key[: MAX_KEY + 1].encode("utf-8", "surrogatepass"))

    def _key(self, snapshot: Snapshot, key: str) -> Credential:
        if len(key) > MAX_KEY:
            return RejectedCredential("key", "too_long")
        digest = self.digest(key)
        # The look-up is by keyed digest: what a caller can learn from its timing is about digests it cannot compute.
        found: KeyPolicy | None = snapshot.only("key", digest)
        if found is None:
            return RejectedCredential("key", "unknown_key")
        return KeyCredential(found.account_id, found.slot, digest)

    def _session(self, snapshot: Snapshot, token: str, now: float) -> Credential:
        credential = self._sessions.read(token, now)
        if isinstance(credential, KeyCredential):
            found: KeyPolicy | None = snapshot.only("key", credential.digest)
            if found is None or found.account_id != credential.account_id:
                return RejectedCredential("token", "key_regenerated")
        return credential

    def _aad(self, snapshot: Snapshot, bearer: str, account: AccountPolicy | None, now: float) -> Credential:
        parts = bearer.split("#")
        if len(parts) != 3 or account is None or parts[1].lower().rstrip("/") != account.id:
            return RejectedCredential("token", "resource_id_of_another_account")
        return self._verify_token(snapshot, parts[2], now)
