"""Which URIs an account lets requests carry.

One parser decides, WHATWG's (ada): what it cannot read as an absolute URI is refused. Entries match by host: exactly, below a parent
(`*.example.com`, at any depth, not the parent itself), or by address and network; scheme and port matter only where the entry names them.
Source: choices.md (row "FQDN entry matching"), URL Standard (https://url.spec.whatwg.org).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import ada_url

_ENTRY = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?(?P<wild>\*\.)?(?P<host>\[[^\]]+\]|[^\s/:]+)(?::(?P<port>\d+))?",
    re.IGNORECASE,
)
_DEFAULT_PORTS = {"http:": "80", "https:": "443", "ws:": "80", "wss:": "443", "ftp:": "21"}


@dataclass(frozen=True, slots=True)
class _Entry:
    host: str
    """Lower case, punycode; without `*.`; empty for a network."""
    below: bool
    network: IPv4Network | IPv6Network | None
    scheme: str | None
    port: str | None


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The compiled list. Empty: every URI is refused."""

    entries: tuple[_Entry, ...]

    def refused_host(self, uri: str) -> str | None:
        """Return the host that is not allowed, "" for a URI that cannot be read, None when the URI may be carried.

        `data:` URIs are content, not destinations.
        """
        if uri[:5].lower() == "data:":
            return None
        try:
            url = ada_url.URL(uri)
        except ValueError:
            return ""
        host = url.hostname.rstrip(".").lower()
        if not host:
            return ""
        port = url.port or _DEFAULT_PORTS.get(url.protocol, "")
        return None if any(_matches(entry, host, url.protocol, port) for entry in self.entries) else host


def compile_allowed(entries: Iterable[str]) -> AllowedHosts:
    """Compile `allowedFqdnList`; ValueError for an entry that could match nothing (management refuses those before)."""
    return AllowedHosts(tuple(_entry(text.strip()) for text in entries))


def _entry(text: str) -> _Entry:
    try:
        return _Entry("", below=False, network=ip_network(text.strip("[]"), strict=False), scheme=None, port=None)
    except ValueError:
        pass
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise ValueError(f"not a host or network: {text[:60]!r}")
    # The same parser as for the URIs, so that an entry and a URI never disagree about how a host is spelled.
    host = ada_url.URL(f"https://{match['host']}").hostname.rstrip(".").lower()
    scheme = f"{match['scheme'].lower()}:" if match["scheme"] else None
    try:
        network = ip_network(host.strip("[]"))
    except ValueError:
        network = None
    return _Entry(
        "" if network else host, below=match["wild"] is not None, network=network, scheme=scheme, port=match["port"]
    )


def _matches(entry: _Entry, host: str, scheme: str, port: str) -> bool:
    if (entry.scheme is not None and entry.scheme != scheme) or (entry.port is not None and entry.port != port):
        return False
    if entry.network is not None:
        try:
            address = ip_address(host.strip("[]"))
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped if mapped is not None else address
        return address.version == entry.network.version and address in entry.network
    return host.endswith("." + entry.host) if entry.below else host == entry.host
