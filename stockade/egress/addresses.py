"""Which addresses this platform connects to on behalf of a request.

Refused is every address that is not a machine on the public Internet: private, loopback, link-local, shared, reserved, multicast, documentation,
benchmarking, and every IPv6 form that carries an IPv4 address, because what it leads to is decided elsewhere. And the addresses at which clouds
answer questions about the machine that asks. An operator may name networks that are admitted nevertheless.

Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and what updates it), IANA IPv6 Global Unicast Address Assignments (only
2000::/3 is in use), RFC 6052 and 8215 (translation), RFC 3056 (6to4), RFC 4380 (Teredo), RFC 4291 section 2.5.5 (mapped, compatible);
metadata services as their clouds document them. The standard library's `is_global` says less, and not the same in every release of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network

_NEVER: Final = ("unspecified", "multicast", "broadcast")
"""No connection can be meant by them, whatever the settings say; 0.0.0.0 even leads to this machine."""

_RANGES: Final[Sequence[tuple[str, str]]] = (
    # First the single addresses, so that a reason is as exact as it can be.
    ("169.254.169.254", "metadata"),  # AWS, Azure, Google, most others
    ("169.254.170.2", "metadata"),  # AWS, credentials of containers
    ("169.254.170.23", "metadata"),  # AWS, identities of pods
    ("168.63.129.16", "metadata"),  # Azure, the host's own service
    ("100.100.100.200", "metadata"),  # Alibaba
    ("192.0.0.192", "metadata"),  # Oracle, formerly
    ("fd00:ec2::254", "metadata"),  # AWS
    ("fd00:ec2::23", "metadata"),  # AWS, identities of pods
    ("fd20:ce::254", "metadata"),  # Google
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "anycast service"),
    ("192.52.193.0/24", "anycast service"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "anycast service"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::ffff:0:0/96", "IPv4 inside IPv6"),
    ("::ffff:0:0:0/96", "IPv4 inside IPv6"),
    ("64:ff9b::/96", "IPv4 inside IPv6"),
    ("64:ff9b:1::/48", "IPv4 inside IPv6"),
    ("::/96", "IPv4 inside IPv6"),
    ("2001::/32", "IPv4 inside IPv6"),
    ("2002::/16", "IPv4 inside IPv6"),
    ("2001::/23", "protocol assignments"),
    ("2001:db8::/32", "documentation"),
    ("2620:4f:8000::/48", "anycast service"),
    ("3fff::/20", "documentation"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
)
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_TABLE: Final = tuple((ip_network(text), reason) for text, reason in _RANGES)


class AddressPolicy:
    """What may be connected to.

    allowed: networks or addresses (`10.1.0.0/16`, `fd00::/8`, `127.0.0.1`) that an operator admits; ValueError for anything else. A metadata
    service is admitted only where it is named by itself, never by a network around it.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed: tuple[IPNetwork, ...] = tuple(ip_network(text) for text in allowed)

    def refused(self, address: IPAddress) -> str | None:
        """Return why the address may not be connected to, in a word or two for records; None when it may."""
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return "link-local"
        reason = _reason(address)
        if reason is None:
            return None
        if reason in _NEVER or not self._admits(address, alone=reason == "metadata"):
            return reason
        inner = _embedded(address)
        return None if inner is None or inner == address else self.refused(inner)

    def refused_of(self, addresses: Iterable[IPAddress]) -> str | None:
        """Return why a name that resolves to these may not be connected to; None when it may.

        One refused address refuses them all. A name that has public and inside addresses is either set up wrongly or made to get past a check
        that looks at the first one, and no caller has a right to the difference.
        """
        for address in addresses:
            reason = self.refused(address)
            if reason is not None:
                return reason
        return None

    def _admits(self, address: IPAddress, *, alone: bool) -> bool:
        return any(
            network.version == address.version
            and address in network
            and (not alone or network.prefixlen == network.max_prefixlen)
            for network in self._allowed
        )


def read_address(text: str) -> IPAddress | None:
    """Return the address that a host of a parsed URI is (`192.0.2.1`, `[2001:db8::1]`); None when it is a name."""
    try:
        return ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        return None


def _reason(address: IPAddress) -> str | None:
    for network, reason in _TABLE:
        if network.version == address.version and address in network:
            return reason
    return "reserved" if isinstance(address, IPv6Address) and address not in _PUBLIC_V6 else None


def _embedded(address: IPAddress) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to; judged too where an operator admits the form, as with DNS64."""
    if not isinstance(address, IPv6Address):
        return None
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    number = int(address)
    if number >> 80 == 0x0064_FF9B_0001 and (number >> 32) & 0xFFFF_FFFF_FFFF:
        # RFC 6052 section 2.2 with a prefix of 48 bits: 16 bits, a zero byte, 16 bits.
        return IPv4Address(((number >> 64) & 0xFFFF) << 16 | (number >> 40) & 0xFFFF)
    if any(
        address in IPv6Network(form)
        for form in ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/96", "::/96")
    ):
        return IPv4Address(number & 0xFFFF_FFFF) if number > 1 else None
    return None
