"""Where the console may be used: at its own name alone.

Passkeys belong to a name (the relying party's id) and work at no address that is a number, so callers of `127.0.0.1` are sent to `localhost`. Any
other name is answered with where to go: a name that somebody else has pointed at this server is an old way into people's browsers.
Source: W3C Web Authentication Level 3, sections 5.1.3 and 5.4.2 (the id is a domain; `localhost` is one).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from stockade.settings import Settings

_HOST: Final = re.compile(r"([a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a page was asked for.

    origin: as browsers write it, `https://localhost:8444`. relying_party: the id of passkeys made here. own: False for a way to say
    "this machine" that passkeys do not know; then `origin` is where to go.
    """

    origin: str
    relying_party: str
    own: bool = True

    @property
    def session_cookie(self) -> str:
        """Cookies know no ports, and a machine may run several platforms."""
        return f"__Host-stockade-{self._port}"

    @property
    def form_cookie(self) -> str:
        return f"__Host-stockade-form-{self._port}"

    @property
    def begun_cookie(self) -> str:
        """Of a sign-in at another issuer: sent when the browser comes back from there."""
        return f"__Host-stockade-begun-{self._port}"

    @property
    def _port(self) -> int:
        return urlsplit(self.origin).port or 443


class Addresses:
    """Knows the console's name as things are configured."""

    def __init__(self, settings: Settings) -> None:
        self.origin = settings.console_endpoint
        self._name = urlsplit(self.origin).hostname or ""

    def of(self, host: str) -> Address | None:
        """Return where a Host header says that we are; None for a name that is not the console's."""
        found = _HOST.fullmatch(host.strip().lower())
        if found is None:
            return None
        name, port = found.group(1), found.group(2)
        # The port is the caller's: something may stand between that forwards another one.
        suffix = "" if port in (None, "443") else f":{port}"
        if name == self._name:
            return Address(f"https://{name}{suffix}", name)
        if _is_this_machine(name):
            return Address(
                f"https://{self._name}{suffix}" if self._name == "localhost" else self.origin, self._name, own=False
            )
        return None


def _is_this_machine(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
