"""From host and path to an account, and from a peer to the client's address.

Three shapes of address (design section 2): `{sub}.ai.{domain}`, `localhost/{sub}/...`, and the regional endpoint, where the key names the
account. Paths are compared after one decoding, as the server hands them over; anything that could be read in two ways is no address.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from stockade.policy.snapshot import AccountPolicy, Snapshot
from stockade.settings import Settings

DEFAULT_DOMAIN = "stockade.localhost"
MAX_PATH = 2048
_AMBIGUOUS = re.compile(r"//|/\.{1,2}(?:/|$)|[\\\x00-\x1f\x7f]|;")

Network: TypeAlias = IPv4Network | IPv6Network


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
        if len(path) > MAX_PATH or _AMBIGUOUS.search(path):
            return Located(None, False, path)
        host = _without_port(host).lower().rstrip(".")
        if host.endswith(self._account_suffix):
            return Located(_account(snapshot, host[: -len(self._account_suffix)]), False, path)
        if host == self._regional_host:
            return Located(None, True, path)
        first, slash, rest = path[1:].partition("/")
        if first.lower() in self._roots:
            return Located(None, True, path)
        return Located(_account(snapshot, first.lower()) if slash else None, False, "/" + rest)


class ClientAddresses:
    """Works out who the client is. `X-Forwarded-For` is worth nothing unless the peer is a trusted proxy.

    Then it is the right-most address in the header that is not itself a trusted proxy. A header that cannot be read gives the address of
    the proxy, which no rule admits by accident.
    """

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted: tuple[Network, ...] = tuple(ip_network(text, strict=False) for text in trusted_proxies)

    def client(self, peer: str, forwarded_for: str) -> str:
        """Return the client's address. peer: `127.0.0.1:50123` or `[::1]:50123` as the server gives it."""
        address = peer.rpartition(":")[0].strip("[]")
        if not self._trusted or not forwarded_for or not self._is_trusted(address):
            return address
        for candidate in reversed(forwarded_for[-2048:].split(",")):
            text = candidate.strip()
            try:
                normal = str(ip_address(text))
            except ValueError:
                return address
            if not self._is_trusted(normal):
                return normal
            address = normal
        return address

    def _is_trusted(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)  # a proxy's IPv4 address, as a listener on `::` sees it
        if mapped is not None:
            address = mapped
        return any(address in network for network in self._trusted if network.version == address.version)


def _account(snapshot: Snapshot, subdomain: str) -> AccountPolicy | None:
    account_id = snapshot.only("subdomain", subdomain)
    found: AccountPolicy | None = snapshot.only("account", account_id) if account_id is not None else None
    return found


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0]
