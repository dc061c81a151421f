"""Which hosts an account lets requests name.

Entries match by host: exactly, below a parent (`*.example.com`, at any depth, not the parent itself), or by address and network. Scheme and port
matter only where the entry names them; schemes other than the web's own match only an entry that names them. Compiled so that a look-up costs the
same for one entry and for a thousand: one dictionary for hosts, one for parents that is asked once per label, one set of sorted address ranges.
Source: choices.md (row "FQDN entry matching").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Final, TypeAlias

from stockade.policy.addresses import NOWHERE, AddressSet
from stockade.policy.uris.parse import ParsedUri, parse, read_host

WEB: Final = frozenset({"http", "https", "ws", "wss"})
"""The schemes that an entry without a scheme means."""

_ENTRY = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?(?P<wild>\*\.)?(?P<host>\[[^\]]+\]|[^\s/:]+)(?::(?P<port>\d+))?",
    re.IGNORECASE,
)

_Place: TypeAlias = tuple[str | None, int | None]
"""Scheme and port that an entry names; None for any."""


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The compiled list. Empty: every URI is refused.

    exact:    host, or address without brackets, to what its entries name beside it.
    below:    parent domain to the same.
    networks: entries that are addresses or networks.
    entries:  the list as it was written.
    schemes:  schemes that some entry names.
    """

    exact: Mapping[str, tuple[_Place, ...]] = field(default_factory=dict)
    below: Mapping[str, tuple[_Place, ...]] = field(default_factory=dict)
    networks: AddressSet = NOWHERE
    entries: tuple[str, ...] = ()
    schemes: frozenset[str] = frozenset()

    def allows(self, uri: ParsedUri) -> bool:
        """Say whether an entry matches the URI's host, scheme and port. Other properties of it are not asked for here."""
        host, scheme, port = uri.host, uri.scheme, uri.port
        if not host:
            return False
        places = self.exact.get(host)
        if places is not None and _fits(places, scheme, port):
            return True
        if uri.address is not None:
            address = str(uri.address)
            if address != host:
                places = self.exact.get(address)
                if places is not None and _fits(places, scheme, port):
                    return True
            return scheme in WEB and self.networks.contains(address)
        if self.below:
            dot = host.find(".")
            while dot >= 0:
                places = self.below.get(host[dot + 1 :])
                if places is not None and _fits(places, scheme, port):
                    return True
                dot = host.find(".", dot + 1)
        return False

    def refused_host(self, uri: str) -> str | None:
        """Return the host that is not allowed, "" for a URI that cannot be read, None when its host is allowed.

        `data:` URIs are content, not destinations. For the host alone: `LossPrevention.refuse` says everything there is to say.
        """
        if uri[:5].lower() == "data:":
            return None
        parsed = parse(uri)
        if parsed is None:
            return ""
        return None if self.allows(parsed) else parsed.host

    def names_scheme(self, uri: ParsedUri) -> bool:
        """Say whether an entry that allows the URI names its scheme too."""
        if uri.scheme not in self.schemes:
            return False
        return any(
            scheme == uri.scheme and port in (None, uri.port)
            for places in (
                self.exact.get(uri.host, ()),
                self.exact.get(str(uri.address), ()),
                *(self.below.get(parent, ()) for parent in _parents(uri.host)),
            )
            for scheme, port in places
        )


def compile_allowed(entries: Iterable[str]) -> AllowedHosts:
    """Compile `allowedFqdnList`; ValueError for an entry that could match nothing (management refuses those before)."""
    exact: dict[str, tuple[_Place, ...]] = {}
    below: dict[str, tuple[_Place, ...]] = {}
    networks: list[str] = []
    written = tuple(text.strip() for text in entries)
    for text in written:
        try:
            networks.append(str(ip_network(text.strip("[]"), strict=False)))
            continue
        except ValueError:
            pass
        match = _ENTRY.fullmatch(text)
        # The same parser as for the URIs, so that an entry and a URI never disagree about how a host is spelled.
        host = read_host(match["host"]) if match is not None else None
        if match is None or not host:
            raise ValueError(f"not a host or network: {text[:60]!r}")
        table = below if match["wild"] else exact
        place = (match["scheme"].lower() if match["scheme"] else None, int(match["port"]) if match["port"] else None)
        table[host] = (*table.get(host, ()), place)
    schemes = frozenset(
        scheme for table in (exact, below) for places in table.values() for scheme, _ in places if scheme is not None
    )
    return AllowedHosts(exact, below, AddressSet.of(networks) if networks else NOWHERE, written, schemes)


def _fits(places: tuple[_Place, ...], scheme: str, port: int | None) -> bool:
    for named_scheme, named_port in places:
        if (scheme == named_scheme or (named_scheme is None and scheme in WEB)) and named_port in (None, port):
            return True
    return False


def _parents(host: str) -> Iterable[str]:
    dot = host.find(".")
    while dot >= 0:
        yield host[dot + 1 :]
        dot = host.find(".", dot + 1)
