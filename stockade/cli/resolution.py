"""What a name resolves to, as a caller would find out: by this system's resolver, or by one name server that callers use."""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import threading
from dataclasses import dataclass
from ipaddress import ip_address

TIMEOUT_S = 10.0
QUERY_TIMEOUT_S = 2.0
_SERVER = re.compile(r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name means. `failure` says why it means nothing."""

    name: str
    by: str
    addresses: tuple[str, ...] = ()
    failure: str = ""


def resolve(name: str, server: str = "") -> Resolved:
    """Resolve a name to IPv4 and IPv6 addresses. server: `192.0.2.53`, `192.0.2.53:5353` or `[2001:db8::53]:53`; "" is this system's resolver.

    ValueError when `server` is no address.
    """
    return _by_server(name, *name_server(server)) if server else _by_system(name)


def name_server(text: str) -> tuple[str, int]:
    """Read the address of a name server and its port; ValueError."""
    found = _SERVER.fullmatch(text)
    host, port = (found["bracketed"] or found["plain"], int(found["port"] or 53)) if found else (text, 53)
    if not 0 < port < 65_536:
        raise ValueError(f"{port} is no port")
    return str(ip_address(host)), port


def _by_system(name: str) -> Resolved:
    by = "this system's resolver"
    answers: queue.SimpleQueue[tuple[str, ...] | str] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            answers.put(tuple(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except (OSError, UnicodeError) as failure:
            answers.put(getattr(failure, "strerror", None) or str(failure))

    # The system's own patience has no setting here, so that it is left behind when it takes too long.
    threading.Thread(target=ask, name="resolver", daemon=True).start()
    with contextlib.suppress(queue.Empty):
        found = answers.get(timeout=TIMEOUT_S)
        return Resolved(name, by, failure=found) if isinstance(found, str) else Resolved(name, by, found)
    return Resolved(name, by, failure="no answer in time")


def _by_server(name: str, host: str, port: int) -> Resolved:
    import dns.exception  # only here: it is a tenth of a second, which every other command would wait for
    import dns.resolver

    by = f"the name server {host}" + (f" port {port}" if port != 53 else "")
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [host], port
    resolver.timeout, resolver.lifetime = QUERY_TIMEOUT_S, TIMEOUT_S
    addresses: list[str] = []
    try:
        for kind in ("A", "AAAA"):
            answer = resolver.resolve(name, kind, search=False, raise_on_no_answer=False)
            addresses += [record.to_text() for record in answer.rrset or ()]
    except dns.resolver.NXDOMAIN:
        return Resolved(name, by, failure="there is no such name")
    except dns.exception.Timeout:
        return Resolved(name, by, failure="no answer in time")
    except dns.resolver.NoNameservers:
        return Resolved(name, by, failure="the name server refused or answered nonsense")
    except (dns.exception.DNSException, OSError, UnicodeError) as failure:
        return Resolved(name, by, failure=str(failure) or type(failure).__name__)
    return Resolved(name, by, tuple(dict.fromkeys(addresses)), "" if addresses else "it has no address record")
