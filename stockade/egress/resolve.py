"""One look-up for one connection: which addresses a name has, asked once, within a time limit.

Nothing is remembered, so how long an answer says it is good for does not matter: what is connected to is what was just answered, and judged.
Two ways to ask: as this system resolves names (its hosts file, search domains and cache included), or the name servers that the settings
name, by dnspython, for absolute names only.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol
from urllib.parse import urlsplit

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver

from stockade.egress.addresses import IPAddress, read_address
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Egress

MAX_ADDRESSES: Final = 32
"""An answer with more is refused: no host that is meant to be found has so many, and each one would have to be judged."""
MAX_LOOKUPS: Final = 64
"""Under way at a time in one process. The system's resolver cannot be interrupted, so those that nobody waits for any more count too."""
_THREADS: Final = 8

_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*", re.IGNORECASE
)


class Resolver(Protocol):
    """Answers which addresses a name has."""

    async def resolve(self, host: str) -> tuple[IPAddress, ...]:
        """Return at least one address, in the order in which they are to be tried.

        host: a name without a trailing dot, in punycode. Raises Fault(INVALID) for a name that does not exist or is none, UPSTREAM_TIMEOUT
        and UPSTREAM_FAILED when there is no usable answer, UNAVAILABLE when too many are waiting for one.
        """
        ...


class SystemResolver:
    """Asks as every program on this machine does (`getaddrinfo`), in threads of its own."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="resolve")
        self._under_way = 0

    async def resolve(self, host: str) -> tuple[IPAddress, ...]:
        _check(host)
        if self._under_way >= MAX_LOOKUPS:
            raise Fault(FaultKind.UNAVAILABLE, "Too many names are being looked up.", retry_after_s=1)
        self._under_way += 1
        asked = asyncio.get_running_loop().run_in_executor(self._threads, _ask_system, host)
        asked.add_done_callback(self._answered)
        try:
            # Shielded, so that the count goes down when the thread is done, not when nobody waits for it any more.
            found = await asyncio.wait_for(asyncio.shield(asked), self._timeout_s)
        except TimeoutError:
            raise _too_late(host) from None
        except socket.gaierror as failure:
            if failure.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
                raise _unknown(host) from failure
            raise _failed(host) from failure
        except (OSError, UnicodeError) as failure:
            raise _failed(host) from failure
        return _bounded(host, found)

    def _answered(self, asked: asyncio.Future[list[str]]) -> None:
        self._under_way -= 1
        if not asked.cancelled():
            asked.exception()  # so that one nobody waited for is not reported as lost


class ServerResolver:
    """Asks name servers that the settings name, for A and AAAA at once. servers: `192.0.2.53`, `127.0.0.1:5353`, `[2001:db8::53]:53`."""

    def __init__(self, servers: Sequence[str], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        self._resolver.nameservers = [_server(text) for text in servers]
        self._resolver.timeout = timeout_s
        self._under_way = 0

    async def resolve(self, host: str) -> tuple[IPAddress, ...]:
        _check(host)
        if self._under_way >= MAX_LOOKUPS:
            raise Fault(FaultKind.UNAVAILABLE, "Too many names are being looked up.", retry_after_s=1)
        self._under_way += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await asyncio.gather(self._ask(host, "A"), self._ask(host, "AAAA"))
        except (TimeoutError, dns.exception.Timeout):
            raise _too_late(host) from None
        except dns.resolver.NXDOMAIN as failure:
            raise _unknown(host) from failure
        except (dns.exception.DNSException, OSError, EOFError) as failure:
            raise _failed(host) from failure
        finally:
            self._under_way -= 1
        return _bounded(host, [text for answer in answers for text in answer])

    async def _ask(self, host: str, kind: str) -> list[str]:
        answer = await self._resolver.resolve(
            host + ".", kind, search=False, raise_on_no_answer=False, lifetime=self._timeout_s
        )
        # `rrset` is what stands at the end of the chain of aliases, which dnspython follows within the one reply and bounds itself.
        return [str(record.address) for record in answer.rrset or ()]


def resolver_for(settings: Egress) -> Resolver:
    """Return the resolver that the settings ask for; ValueError for name servers that are no addresses."""
    if settings.dns_servers:
        return ServerResolver(settings.dns_servers, settings.resolve_timeout_s)
    return SystemResolver(settings.resolve_timeout_s)


def _ask_system(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(entry[4][0]) for entry in found]


def _check(host: str) -> None:
    """Refuse what a resolver might read as something else than a name: `getaddrinfo` takes 127.1, 0x7f000001 and %-scopes for addresses."""
    last = host.rpartition(".")[2]
    if not _NAME.fullmatch(host) or last.isdigit() or re.fullmatch(r"0[xX][0-9a-fA-F]*", last):
        raise Fault(FaultKind.INVALID, "The host of the URI is not a name that can be looked up.")


def _bounded(host: str, found: Sequence[str]) -> tuple[IPAddress, ...]:
    if len(found) > MAX_ADDRESSES:
        raise Fault(
            FaultKind.UPSTREAM_FAILED, f"The host '{host}' resolves to more addresses than this platform accepts."
        )
    addresses: dict[IPAddress, None] = {}
    for text in found:
        address = read_address(text)
        if address is None:
            raise _failed(host)
        addresses[address] = None
    if not addresses:
        raise _unknown(host)
    return tuple(addresses)


def _server(text: str) -> dns.nameserver.Do53Nameserver:
    try:
        whole = read_address(text)
        if whole is not None:
            return dns.nameserver.Do53Nameserver(str(whole), 53)
        parts = urlsplit(f"//{text}")
        address = read_address(parts.hostname or "")
        if address is None or parts.netloc != text or "@" in text:
            raise ValueError(text)
        return dns.nameserver.Do53Nameserver(str(address), parts.port or 53)
    except ValueError:
        raise ValueError(f"egress.dns_servers: {text!r} is not an address, with or without a port") from None


def _unknown(host: str) -> Fault:
    return Fault(FaultKind.INVALID, f"The host '{host}' does not exist.")


def _too_late(host: str) -> Fault:
    return Fault(FaultKind.UPSTREAM_TIMEOUT, f"The name of the host '{host}' was not resolved in time.")


def _failed(host: str) -> Fault:
    return Fault(FaultKind.UPSTREAM_FAILED, f"The name of the host '{host}' could not be resolved.")
