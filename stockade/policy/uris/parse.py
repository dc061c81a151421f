r"""The one place where a URI is read. What is returned here is what is judged, and what is connected to.

The parser is ada's, of the URL Standard (https://url.spec.whatwg.org), which is what browsers and most fetchers follow: it takes out tabs and line
breaks, reads `\` as `/`, maps hosts to lower-case punycode, and reads octal, hexadecimal and integer IPv4. Its serialisation is unambiguous, so
one call returns it and one expression takes it apart; asking ada for each part costs three times as much (7.6 against 2.5 microseconds).

Engines behind this platform may use another parser. So a URI also says whether it is **spelled plainly**: as RFC 3986 writes it, with the host as
it is in the end, so that no parser in use can find another host in it. What is not plain is ambiguous: no backslash, blank or control character,
no user information, no percent sign in the host, no address other than in its usual form, no character in a host name that one IDNA mapping turns
into another (full-width letters, ideographic full stops, soft hyphens, `ß`), no `@` in a query or fragment that follows the host directly.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

import ada_url

MAX_CHARACTERS: Final = 8192
"""Longer values are not read. RFC 9110 section 4.1 asks servers for 8,000 octets; more than that is no place but a message."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}

_SERIALISED = re.compile(
    r"([a-z][a-z0-9+.\-]*):(?://(?:([^/?#@]*)@)?(\[[^\]]*\]|[^/?#:]*)(?::([0-9]+))?)?([^?#]*)(\?[^#]*)?(?:#.*)?",
    re.DOTALL,
)
_PLAIN = re.compile(
    r"[A-Za-z][A-Za-z0-9+.\-]*://(?P<host>[A-Za-z0-9_][A-Za-z0-9_.\-]*|\[[0-9A-Fa-f:.]+\])(?::0*(?P<port>[0-9]{1,5}))?"
    r"(?:/[^\x00-\x20\x7f\\]*|[?#][^\x00-\x20\x7f\\@]*)?"
)
_INTERNATIONAL = re.compile(
    r"[A-Za-z][A-Za-z0-9+.\-]*://(?P<host>[A-Za-z0-9_.\-\u0080-\U0010ffff]+)(?::0*(?P<port>[0-9]{1,5}))?"
    r"(?:/[^\x00-\x20\x7f\\]*|[?#][^\x00-\x20\x7f\\@]*)?"
)


class ParsedUri(NamedTuple):
    """A URI, read.

    scheme:          lower case, without the colon.
    host:            lower case, punycode, without a trailing dot or brackets; "" where the URI has none (`mailto:`, `file:///`).
    address:         the host as an address, an IPv4-mapped IPv6 address as the IPv4 address it maps; None for a name.
    port:            where a connection goes: as named, or the scheme's; None where neither says.
    has_credentials: a user name or password stands before the host.
    path, query:     as they are sent: ASCII without blanks, percent-encoded; the query without its question mark, "" for none.
    plain:           no other parser in use finds another host in it (see above).
    href:            the whole, normalised.
    """

    scheme: str
    host: str
    address: IPv4Address | IPv6Address | None
    port: int | None
    has_credentials: bool
    path: str
    query: str
    plain: bool
    href: str

    @property
    def authority(self) -> str:
        """What a fetch names in `Host`: the host, in brackets where it is IPv6, and the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = DEFAULT_PORTS.get(self.scheme)
        return host if self.port is None or self.port == default else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """What a fetch asks for: path and query, ASCII without blanks, never empty where the scheme has hosts."""
        return f"{self.path or '/'}?{self.query}" if self.query else self.path or "/"


def parse(text: str) -> ParsedUri | None:
    """Read an absolute URI; None for what cannot be read, or is longer than `MAX_CHARACTERS`."""
    if len(text) > MAX_CHARACTERS:
        return None
    try:
        href = ada_url.normalize_url(text)
    except ValueError:
        return None
    found = _SERIALISED.fullmatch(href)
    if found is None:
        return None
    scheme, credentials, shown, number, path, query = found.groups()
    host, address = _host(shown or "")
    port = int(number) if number else DEFAULT_PORTS.get(scheme)
    return ParsedUri(
        scheme,
        host,
        address,
        port,
        bool(credentials),
        path,
        query[1:] if query else "",
        _is_plain(text, host, port),
        href,
    )


def join(base: str, reference: str) -> ParsedUri | None:
    """Read a reference as it is meant at a base URI: where a redirect leads. None for what cannot be read."""
    if len(reference) > MAX_CHARACTERS:
        return None
    try:
        return parse(ada_url.join_url(base, reference))
    except ValueError:
        return None


def read_host(text: str) -> str | None:
    """Return a host name or address as `ParsedUri.host` has it; None for what is none. For lists, so that they and URIs agree on spelling."""
    parsed = parse(f"https://{text}")
    whole = parsed is not None and parsed.path == "/" and not parsed.query and not parsed.has_credentials
    return parsed.host if parsed is not None and whole and parsed.port == DEFAULT_PORTS["https"] else None


def _host(shown: str) -> tuple[str, IPv4Address | IPv6Address | None]:
    if shown.startswith("["):
        address: IPv4Address | IPv6Address = ip_address(shown[1:-1])
        mapped = getattr(address, "ipv4_mapped", None)
        return shown[1:-1], mapped if mapped is not None else address
    host = shown.removesuffix(".").lower()
    if host and host[-1].isdigit():
        try:
            return host, IPv4Address(host)
        except ValueError:  # a name of a scheme that has no addresses, such as `redis://cache1`
            return host, None
    return host, None


def _is_plain(text: str, host: str, port: int | None) -> bool:
    found = _PLAIN.fullmatch(text)
    if found is not None:
        written = found["host"].removesuffix(".").lower()
        if written != host and written[0] != "[":  # an IPv6 address has many spellings and one meaning
            return False
    else:
        found = _INTERNATIONAL.fullmatch(text)
        if found is None or not _maps_one_way(found["host"], host):
            return False
    return found["port"] is None or int(found["port"]) == port


def _maps_one_way(written: str, host: str) -> bool:
    """Say whether the older IDNA mapping agrees with the newer one, and the name comes back from it as it was written.

    So nothing in it was dropped, or mapped to something else, but for letters' case.
    """
    name = written.removesuffix(".")
    if name.isascii() or "\u3002" in name or unicodedata.normalize("NFKC", name) != name:
        return False
    try:
        older = name.encode("idna").lower()
        return older == host.encode() and older.decode("idna") == name.lower()
    except UnicodeError:
        return False
