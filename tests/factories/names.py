"""A name server that answers what a test tells it to: honestly, differently the second time, with too much, with nonsense, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Answer = Callable[[dns.message.Message, int], "dns.message.Message | bytes | None"]
"""From a question, and how often this name and kind was asked before, to a reply; bytes as they stand, None for silence."""


def has(*addresses: str, ttl: int = 0) -> Answer:
    """Return an answer with these addresses, each under the kind it has."""

    def answer(question: dns.message.Message, _: int) -> dns.message.Message:
        reply, asked = dns.message.make_response(question), question.question[0]
        fitting = [one for one in addresses if (":" in one) == (asked.rdtype == dns.rdatatype.AAAA)]
        if fitting:
            reply.answer.append(
                dns.rrset.from_text(asked.name, ttl, "IN", dns.rdatatype.to_text(asked.rdtype), *fitting)
            )
        return reply

    return answer


def first_then(first: Answer, later: Answer) -> Answer:
    """Return an answer that changes after the first time (per kind)."""
    return lambda question, before: (first if before == 0 else later)(question, before)


def alias(*chain: str, to: str) -> Answer:
    """Return an answer that leads over a chain of aliases to an address."""

    def answer(question: dns.message.Message, _: int) -> dns.message.Message:
        reply, asked = dns.message.make_response(question), question.question[0]
        names = [asked.name.to_text(), *(f"{one}." for one in chain)]
        for here, there in itertools.pairwise(names):
            reply.answer.append(dns.rrset.from_text(here, 0, "IN", "CNAME", there))
        if (":" in to) == (asked.rdtype == dns.rdatatype.AAAA):
            reply.answer.append(dns.rrset.from_text(names[-1], 0, "IN", dns.rdatatype.to_text(asked.rdtype), to))
        return reply

    return answer


def fails(code: dns.rcode.Rcode) -> Answer:
    def answer(question: dns.message.Message, _: int) -> dns.message.Message:
        reply = dns.message.make_response(question)
        reply.set_rcode(code)
        return reply

    return answer


def silent(_: dns.message.Message, __: int) -> None:
    return None


def garbage(question: dns.message.Message, _: int) -> bytes:
    """Return the right id, and nothing right after it."""
    return struct.pack("!H", question.id) + b"\x81\x80" + b"\xff" * 40


@dataclass
class NameServer:
    """What has been asked so far."""

    zone: Mapping[str, Answer]
    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Name without the trailing dot, and kind."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answer(self, data: bytes, room: int) -> bytes | None:
        question = dns.message.from_wire(data)
        asked = question.question[0]
        entry = (asked.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(asked.rdtype))
        before = self.asked.count(entry)
        self.asked.append(entry)
        reply = self.zone.get(entry[0], fails(dns.rcode.NXDOMAIN))(question, before)
        if reply is None or isinstance(reply, bytes):
            return reply
        wire = reply.to_wire(max_size=65_535)
        if len(wire) > room:  # the rest is to be had over TCP
            reply = dns.message.make_response(question)
            reply.flags |= dns.flags.TC
            wire = reply.to_wire()
        return wire


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        wire = self._server.answer(data, 512)
        if wire is not None:
            self._transport.sendto(wire, addr)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def name_server(**zone: Answer) -> AsyncIterator[NameServer]:
    """Serve names on loopback, over UDP and TCP. A name's dots are written as double underscores: `images__example__com`."""
    server = NameServer({name.replace("__", "."): answer for name, answer in zone.items()})
    loop = asyncio.get_running_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            wire = server.answer(await reader.readexactly(size), 65_535)
            if wire is not None:
                writer.write(struct.pack("!H", len(wire)) + wire)
                await writer.drain()
        writer.close()

    streams = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.port = streams.sockets[0].getsockname()[1]
    datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(server), ("127.0.0.1", server.port))
    try:
        yield server
    finally:
        datagrams.close()
        streams.close()
        await streams.wait_closed()
