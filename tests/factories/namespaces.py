"""Real network namespaces: machines of a test's own, with addresses of their own, joined by cables of their own.

Whatever is made by `Net` has a name of this run and is gone afterwards, also when something failed on the way. Code runs inside a namespace in a
thread that has entered it; what that thread starts (sockets, processes) is inside too. Needs root and iproute2, hence the marker `netns`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import http.client
import json
import os
import secrets
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
TIMEOUT_S = 30
COMMAND_S = 20


def ip(*arguments: str) -> None:
    """Run one `ip` command."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=COMMAND_S, check=False)
    if done.returncode != 0:
        raise AssertionError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Answer:
    """What a caller was answered with."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Namespace:
    """One machine."""

    name: str

    def run(self, function: Callable[[], T]) -> T:
        """Run a function inside and return its result, or raise what it raised."""
        results: list[T] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self.enter()
                results.append(function())
            except BaseException as failure:  # noqa: BLE001 - raised again where it was called from
                failures.append(failure)

        thread = threading.Thread(target=work, name=f"in-{self.name}", daemon=True)
        thread.start()
        thread.join(300)
        assert not thread.is_alive(), f"it does not end in {self.name}"
        if failures:
            raise failures[0]
        return results[0]

    def enter(self) -> None:
        """Move the calling thread inside, for good."""
        descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            library = ctypes.CDLL(None, use_errno=True)
            if library.setns(descriptor, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {self.name}")
        finally:
            os.close(descriptor)

    def addresses(self, device: str, *addresses: str) -> None:
        """Give an interface addresses and turn it on."""
        for address in addresses:
            # Without `nodad` an IPv6 address is not usable for a second or two.
            ip("-n", self.name, "address", "add", address, "dev", device, *(("nodad",) if ":" in address else ()))
        ip("-n", self.name, "link", "set", device, "up")

    def ask(
        self,
        address: str,
        port: int,
        path: str,
        headers: Sequence[tuple[str, str]] = (),
        *,
        source: str = "",
        trust: Path,
        name: str = "localhost",
    ) -> Answer:
        """Send one GET over TLS from inside. source: the own address to call from; name: the one that the certificate has to show."""

        def send() -> Answer:
            context = ssl.create_default_context(cafile=trust)
            plain = socket.create_connection((address, port), TIMEOUT_S, (source, 0) if source else None)
            connection = http.client.HTTPConnection(name, port, timeout=TIMEOUT_S)
            with context.wrap_socket(plain, server_hostname=name) as connection.sock:
                connection.putrequest("GET", path)
                for header, value in headers:
                    connection.putheader(header, value)
                connection.endheaders()
                reply = connection.getresponse()
                shown = {header.lower(): value for header, value in reply.getheaders()}
                return Answer(reply.status, shown, reply.read())

        return self.run(send)


class Net:
    """The namespaces and cables of one test module."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack, self._run = stack, secrets.token_hex(3)
        self._cables = 0

    def machine(self, name: str) -> Namespace:
        made = Namespace(f"sk-{self._run}-{name}")
        ip("netns", "add", made.name)
        self._stack.callback(ip, "netns", "delete", made.name)
        ip("-n", made.name, "link", "set", "lo", "up")
        return made

    def bridge(self, machine: Namespace, name: str = "br0") -> str:
        """Put a switch into a machine; cables can be plugged into it."""
        ip("-n", machine.name, "link", "add", name, "type", "bridge")
        ip("-n", machine.name, "link", "set", name, "up")
        return name

    def cable(self, one: Namespace, other: Namespace, *, into: str = "") -> str:
        """Join two machines; return the name of the new interface, the same at both ends. into: a switch of the first that it is plugged into."""
        self._cables += 1
        name = f"eth{self._cables}"
        ip("link", "add", name, "netns", one.name, "type", "veth", "peer", "name", name, "netns", other.name)
        if into:
            ip("-n", one.name, "link", "set", name, "master", into)
        ip("-n", one.name, "link", "set", name, "up")
        return name


@dataclass
class Proxy:
    """A reverse proxy that ends TLS and says in `X-Forwarded-For` who came to it.

    writes: `append` adds to the header that came, `port` adds the address with its port (Azure's gateways), `second` sends a header of its own
    after the one that came, `nothing` passes on what came.
    """

    inside: Namespace
    listen: tuple[str, int]
    target: tuple[str, int]
    server: ssl.SSLContext
    client: ssl.SSLContext
    writes: Literal["append", "port", "second", "nothing"] = "append"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        loop, up = asyncio.new_event_loop(), threading.Event()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self.inside.enter()
                asyncio.set_event_loop(loop)
                server = loop.run_until_complete(asyncio.start_server(self._serve, *self.listen, ssl=self.server))
            except BaseException as failure:  # noqa: BLE001 - raised again where it was called from
                failures.append(failure)
                up.set()
                return
            up.set()
            loop.run_forever()
            server.close()
            loop.run_until_complete(server.wait_closed())
            loop.run_until_complete(asyncio.sleep(0.05))  # transports close in the loop's next rounds
            loop.close()

        thread = threading.Thread(target=work, name="proxy", daemon=True)
        thread.start()
        assert up.wait(TIMEOUT_S)
        if failures:
            raise failures[0]
        try:
            yield
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(TIMEOUT_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
            host, port = writer.get_extra_info("peername")[:2]
            kept, said = [], []
            for line in lines:
                name, _, value = line.partition(":")
                (said if name.lower() == "x-forwarded-for" else kept).append(line if name else value)
            came = [line.partition(":")[2].strip() for line in said]
            match self.writes:
                case "append":
                    kept.append("X-Forwarded-For: " + ", ".join([*came, host]))
                case "port":
                    kept.append(
                        "X-Forwarded-For: "
                        + ", ".join([*came, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"])
                    )
                case "second":
                    kept += [*said, f"X-Forwarded-For: {host}"]
                case "nothing":
                    kept += said
            inner, outer = await asyncio.open_connection(*self.target, ssl=self.client, server_hostname="localhost")
            outer.write("\r\n".join([first, *kept, "Connection: close", "", ""]).encode("latin-1"))
            writer.write(await inner.read())
            await writer.drain()
            outer.close()
        writer.close()


@contextlib.contextmanager
def net() -> Iterator[Net]:
    """Make namespaces that are gone after the block."""
    with contextlib.ExitStack() as stack:
        yield Net(stack)
