"""The shape of `allowedFqdnList` entries.

Source: contracts, control-plane section 1.5 (at most 1,000 entries, host names and IPv4) and choices.md (row "FQDN entry matching":
wildcards below a parent, CIDR, and outside strict parity IPv6; scheme and port where the entry names them).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv6Network, ip_network

from stockade.kernel.faults import Fault, FaultKind

MAX_ENTRIES = 10_000
MAX_ENTRIES_STRICT = 1000
"""Azure's limit. Asking a list costs the same whatever its length, so outside strict parity ten times as many are taken."""
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*{_LABEL}", re.IGNORECASE)
_ENTRY = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]{0,15})://)?(?P<host>\[[^\]]+\]|[^\s/:?#@]+)(?::(?P<port>\d{1,5}))?", re.IGNORECASE
)


def check_fqdn_list(entries: Sequence[str], *, strict: bool) -> None:
    """Refuse a list that is too long or holds something that could never match a destination; Fault(INVALID)."""
    most = MAX_ENTRIES_STRICT if strict else MAX_ENTRIES
    if len(entries) > most:
        raise _invalid(f"it has {len(entries)} entries, at most {most} are allowed")
    for entry in entries:
        problem = entry_problem(entry, strict=strict)
        if problem is not None:
            raise _invalid(f"'{entry[:120]}' {problem}")


def entry_problem(entry: str, *, strict: bool) -> str | None:
    """Say what is wrong with an entry, to be put behind it; None when nothing is."""
    network = _network(entry)
    if network is not None:
        return "is IPv6, which strict parity does not take" if strict and isinstance(network, IPv6Network) else None
    match = _ENTRY.fullmatch(entry)
    if match is None:
        return "is not a host name or address (no path, user or query)"
    if strict and (match["scheme"] or match["port"] or "*" in match["host"]):
        return "has a scheme, port or wildcard, which strict parity does not take"
    if match["port"] and not 0 < int(match["port"]) < 65536:
        return "has an impossible port"
    host = match["host"].removesuffix(".")
    if host.startswith("["):
        return None if isinstance(_network(host[1:-1]), IPv6Network) and not strict else "is not a host name or address"
    try:
        ascii_host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return "is not a host name"
    return None if _HOST.fullmatch(ascii_host) and len(ascii_host) <= 253 else "is not a host name"


def _network(text: str) -> object:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _invalid(why: str) -> Fault:
    target = "properties.allowedFqdnList"
    return Fault(FaultKind.INVALID, f"allowedFqdnList is invalid: {why}.", code="InvalidAllowedFqdn", target=target)
