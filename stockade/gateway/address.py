"""From host and path to an account, and from a peer to the client's address.

Three shapes of address (design section 2): `{sub}.ai.{domain}`, `localhost/{sub}/...`, and the regional endpoint, where the key names the
account. Paths are compared after one decoding, as the server hands them over; anything that could be read in two ways is no address.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from stockade.policy.addresses import AddressSet
from stockade.policy.snapshot import AccountPolicy, Snapshot
from stockade.settings import Settings

DEFAULT_DOMAIN = "stockade.localhost"
MAX_PATH = 2048
MAX_FORWARDED: Final = 2048
"""Characters of `X-Forwarded-For` that are read, from its end."""
MAX_HOPS: Final = 32
MAX_ENTRY: Final = 64
"""An IPv6 address in brackets with a port and some blanks."""
ADDRESSES_KEPT: Final = 4096
"""Texts whose address is remembered. Callers choose them, so their number is bounded, and so is their length."""

PEER: Final = "peer address"
PEER_NOT_TRUSTED: Final = "peer address; X-Forwarded-For ignored, the peer is no trusted proxy"
UNREADABLE: Final = "address of the last trusted proxy; X-Forwarded-For cannot be read beyond it"
ALL_TRUSTED: Final = "left-most address of X-Forwarded-For; all of them are trusted proxies"
FORWARDED: Final = tuple(
    f"right-most untrusted address of X-Forwarded-For; {count} trusted {'proxy' if count == 1 else 'proxies'}"
    for count in range(MAX_HOPS + 1)
)
_AMBIGUOUS = re.compile(r"//|/\.{1,2}(?:/|$)|[\\\x00-\x1f\x7f]|;")

_LEADING = re.compile(r"\A//(?!/)")
_JOINED = re.compile(r"/([^/]+)//(?!/)")
_ENTRY = re.compile(
    r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]{2,45})\]|(?P<four>[0-9.]{7,15}))(?::[0-9]{1,5})?|(?P<bare>[0-9A-Fa-f:.]{2,45})"
)


@dataclass(frozen=True, slots=True)
class Located:
    """Where a request is addressed to. `path` starts with a slash and is relative to the account."""

    account: AccountPolicy | None
    regional: bool
    path: str


class AddressBook:
    """Reads addresses. roots: the first path segments of all services' operations, lower case; no subdomain may take one of them."""

    def __init__(self, settings: Settings, roots: frozenset[str]) -> None:
        domain = (settings.names.domain or DEFAULT_DOMAIN).lower()
        self._account_suffix = f".ai.{domain}"
        self._regional_host = f"{settings.names.location.lower()}.api.{domain}"
        self._roots = roots

    def locate(self, snapshot: Snapshot, host: str, path: str) -> Located:
        """Find the account; `account` is None and `regional` False when the address is nobody's."""
        host = _without_port(host).lower().rstrip(".")
        named = host.endswith(self._account_suffix)
        if "//" in path:
            path = self._joined(path, by_host=named or host == self._regional_host)
        if len(path) > MAX_PATH or _AMBIGUOUS.search(path):
            return Located(None, False, path)
        if named:
            return Located(_account(snapshot, host[: -len(self._account_suffix)]), False, path)
        if host == self._regional_host:
            return Located(None, True, path)
        first, slash, rest = path[1:].partition("/")
        if first.lower() in self._roots:
            return Located(None, True, path)
        return Located(_account(snapshot, first.lower()) if slash else None, False, "/" + rest)

    def _joined(self, path: str, *, by_host: bool) -> str:
        """Return the path with one slash where an endpoint and an operation's path were put together with two.

        An endpoint ends with a slash, and most of Azure's clients put another after it (`https://localhost/a1/` and `/face/v1.0/detect`). Only
        there: any other doubled slash stays, and is no address.
        """
        if by_host:
            return _LEADING.sub("/", path)
        joined = _JOINED.match(path)
        if joined is None or joined[1].lower() in self._roots:
            return path
        return path[: joined.end() - 1] + path[joined.end() :]


class ClientAddresses:
    """Works out who the client is. `X-Forwarded-For` is worth nothing unless the peer is a trusted proxy.

    Then it is the right-most address in the header that is not itself a trusted proxy. A header that cannot be read gives the address of
    the proxy that sent it on. Every address comes out in one form, an IPv4-mapped IPv6 address as the IPv4 address it stands for, so that no
    rule ever meets two spellings of one client. Source: choices.md, "Client address".
    """

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = AddressSet.of(str(ip_network(text, strict=False)) for text in trusted_proxies)
        self._is_trusted = lru_cache(ADDRESSES_KEPT)(self._trusted.contains)

    def client(self, peer: str, forwarded_for: str) -> str:
        """Return the client's address. peer: `127.0.0.1:50123` or `[::1]:50123` as the server gives it."""
        return self.derive(peer, forwarded_for)[0]

    def derive(self, peer: str, forwarded_for: str) -> tuple[str, str]:
        """Return the client's address and, in words for whoever asks why, how it was worked out: one of a few constant texts."""
        address = peer.rpartition(":")[0].strip("[]")
        if ":" in address:
            address = _peer_address(address)
        if not forwarded_for:
            return address, PEER
        if not self._trusted or not self._is_trusted(address):
            return address, PEER_NOT_TRUSTED
        return self._forwarded(address, forwarded_for)

    def _forwarded(self, address: str, forwarded_for: str) -> tuple[str, str]:
        told = forwarded_for[-MAX_FORWARDED:].split(",")
        if len(forwarded_for) > MAX_FORWARDED:
            del told[0]  # the cut may have left half an address, which would read as another one
        for proxies, entry in enumerate(reversed(told[-MAX_HOPS:]), 1):
            found = _entry_address(entry) if len(entry) <= MAX_ENTRY else None
            if found is None:
                return address, UNREADABLE
            if not self._is_trusted(found):
                return found, FORWARDED[proxies]
            address = found
        cut = len(forwarded_for) > MAX_FORWARDED or len(told) > MAX_HOPS
        return address, UNREADABLE if cut else ALL_TRUSTED


@lru_cache(ADDRESSES_KEPT)
def _peer_address(text: str) -> str:
    """Return a peer's IPv6 address in its one form. A zone says which of our own interfaces it came by; it is no part of who it is."""
    try:
        address = IPv6Address(text.partition("%")[0])
    except ValueError:
        return text
    return str(address.ipv4_mapped or address)


@lru_cache(ADDRESSES_KEPT)
def _entry_address(entry: str) -> str | None:
    """Return the address of one entry, whose port some gateways add (`192.0.2.1:50123`, `[2001:db8::1]:443`); None when it is not one.

    A zone means something on the proxy alone, so that an entry with one is not an address here.
    """
    found = _ENTRY.fullmatch(entry.strip(" \t"))
    if found is None:
        return None
    try:
        address = ip_address(found["bracketed"] or found["four"] or found["bare"])
    except ValueError:
        return None
    if found["bracketed"] and address.version == 4:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _account(snapshot: Snapshot, subdomain: str) -> AccountPolicy | None:
    account_id = snapshot.only("subdomain", subdomain)
    found: AccountPolicy | None = snapshot.only("account", account_id) if account_id is not None else None
    return found


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0]
