"""Who is signed in: kept in this process, a bounded number, named by a random cookie.

A token in a sealed cookie would survive its owner's signing out and may be larger than a browser keeps (its groups alone can be 7 kB), so it stays
here. Sessions end with the token, which is within the hour, and with the process: then people sign in again.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from threading import Lock
from typing import Final

from stockade.kernel.clock import Clock
from stockade.kernel.secret import Secret
from stockade.lockbox.statement import Passkey

MAX_SESSIONS: Final = 512
MAX_EACH: Final = 8
"""Of one principal: whoever signs in again and again ends sessions of their own, and nobody else's."""
MAX_NOTICE: Final = 600


@dataclass(slots=True)
class Session:
    """One person at one browser.

    token:     for ARM. Ends at `expires_at`, in epoch seconds, and the session with it.
    form:      what stands in every form of the session, and nowhere else.
    challenge: of a registration that has begun. passkey: the one that was registered last, to be put into statements.
    """

    object_id: str
    app_id: str
    name: str
    token: Secret
    expires_at: float
    form: Secret = field(default_factory=lambda: Secret(secrets.token_urlsafe(32)))
    challenge: bytes = b""
    passkey: Passkey | None = None
    _notice: str = ""

    def tell(self, notice: str) -> None:
        """Have something said on the next page."""
        self._notice = notice[:MAX_NOTICE]

    def told(self) -> str:
        """Return what is to be said, once."""
        notice, self._notice = self._notice, ""
        return notice


class Sessions:
    """All of them, by the hash of their cookie."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: OrderedDict[bytes, Session] = OrderedDict()
        self._lock = Lock()

    def begin(self, session: Session) -> Secret:
        """Keep a session and return the cookie that names it."""
        cookie = secrets.token_urlsafe(32)
        with self._lock:
            self._forget_ended()
            own = [name for name, held in self._held.items() if held.object_id == session.object_id]
            for name in own[: len(own) - MAX_EACH + 1] if len(own) >= MAX_EACH else ():
                del self._held[name]
            while len(self._held) >= MAX_SESSIONS:
                self._held.popitem(last=False)
            self._held[_name(cookie)] = session
        return Secret(cookie)

    def find(self, cookie: str) -> Session | None:
        """Return the session a cookie names, unless it has ended."""
        with self._lock:
            session = self._held.get(_name(cookie))
            if session is not None and session.expires_at <= self._clock.now():
                del self._held[_name(cookie)]
                return None
            return session

    def end(self, cookie: str) -> None:
        """End the session a cookie names."""
        with self._lock:
            self._held.pop(_name(cookie), None)

    def _forget_ended(self) -> None:
        now = self._clock.now()
        for name in [name for name, session in self._held.items() if session.expires_at <= now]:
            del self._held[name]


def _name(cookie: str) -> bytes:
    # Looked up by its hash: how long a look-up takes tells nothing about cookies.
    return sha256(cookie.encode(errors="replace")).digest()
