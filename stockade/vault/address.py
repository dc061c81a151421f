"""From host and path to a vault and an operation.

A vault has a host of its own, `{name}.vault.{domain}`; at every other host of the control plane the default vault answers below the paths that are
Key Vault's and not ARM's. Names and verbs compare without regard to case, and `GET /keys/k/` with its trailing slash is the newest version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from stockade.identity.audiences import DEFAULT_DOMAIN
from stockade.settings import Settings
from stockade.vault.wire import bad_parameter

ROOTS: Final = frozenset(
    {"keys", "secrets", "deletedkeys", "deletedsecrets", "rng", "certificates", "deletedcertificates"}
)
"""First segments that are Key Vault's wherever they stand."""
KNOWN_PLACES: Final = 1024
MAX_HOST: Final = 300
MAX_ROOT: Final = max(map(len, ROOTS))
"""Characters beyond which a host, or first segment, is none of ours whatever comes then."""
NAME: Final = re.compile(r"[0-9a-zA-Z-]{1,127}")
VERSION: Final = re.compile(r"[0-9a-fA-F]{32}")
MAX_SEGMENTS: Final = 6
_HOST: Final = re.compile(r"[a-z0-9.\-]{1,253}(:\d{1,5})?|\[[0-9a-f:.]{2,45}\](:\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request was sent. vault: its name, lower case. base: as the caller addressed it, `https://localhost:8444`."""

    vault: str
    base: str
    own_host: bool


class Addresses:
    """Knows the hosts of vaults as things are configured."""

    def __init__(self, settings: Settings) -> None:
        domain = (settings.names.domain or DEFAULT_DOMAIN).lower()
        # The default domain is known on a configured one too: it is this machine's own.
        self._suffixes = tuple(dict.fromkeys((f".vault.{domain}", f".vault.{DEFAULT_DOMAIN}")))
        self._default = settings.vault.default.lower()

        self._known = lru_cache(KNOWN_PLACES)(self._place)

    def place(self, host: str, path: bytes) -> Place | None:
        """Return where a request goes; None when it is not for a vault. host: the Host header."""
        first = path.lstrip(b"/").partition(b"/")[0].partition(b"?")[0][: MAX_ROOT + 1]
        return self._known(host[: MAX_HOST + 1], first)

    def _place(self, host: str, first: bytes) -> Place | None:
        authority = host.strip().lower()
        if _HOST.fullmatch(authority) is None:
            return None
        name = authority.partition(":")[0]
        for suffix in self._suffixes:
            if name.endswith(suffix):
                return Place(name.removesuffix(suffix), f"https://{authority}", own_host=True)
        if first.decode("latin-1").lower() not in ROOTS:
            return None
        return Place(self._default, f"https://{authority}", own_host=False)


def segments(raw_path: bytes) -> tuple[str, ...]:
    """Split a path as it came and decode each segment once; Fault(INVALID) for what could be read in two ways. Empty ones are kept."""
    parts = raw_path.partition(b"?")[0].removeprefix(b"/").split(b"/")
    if len(parts) > MAX_SEGMENTS:
        raise bad_parameter("The request path has too many segments.")
    found = []
    for raw in parts:
        try:
            segment = unquote_to_bytes(raw).decode("utf-8", "strict")
        except UnicodeDecodeError as failure:
            raise bad_parameter("The request path is not UTF-8.") from failure
        if any(mark in segment for mark in "/\\%?#\x00") or segment in {".", ".."}:
            raise bad_parameter("The request path contains a relative or encoded segment.")
        found.append(segment)
    return tuple(found)


def item_name(text: str, what: str) -> str:
    """Return a name of a key or secret; Fault(INVALID) for one that cannot be. what: `key-name`."""
    if NAME.fullmatch(text) is None:
        message = f"The request URI contains an invalid name: {what} has 1 to 127 letters, digits and hyphens."
        raise bad_parameter(message, what)
    return text


def version_name(text: str, what: str) -> str:
    """Return a version in lower case, "" for the newest; Fault(INVALID) for one that cannot be."""
    if text and VERSION.fullmatch(text) is None:
        raise bad_parameter(f"The request URI contains an invalid version: {what} has 32 hexadecimal digits.", what)
    return text.lower()
