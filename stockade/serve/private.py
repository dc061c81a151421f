"""Private endpoints: a listener for each approved connection, all in one process: `python -m stockade.serve.private`.

A private endpoint has an address of its own on this machine. What comes in there is a request to the account of that connection and to no
other: the gateway is told which listener took it, and `policy/rules/network.py` says what follows. The listeners follow the snapshot, four
times a second. An address that cannot be listened on is a state with a reason (`stockade status`, `stockade doctor`) and is tried again.

Each listener is a Granian server embedded in this process's loop, on a socket that this process has opened: so a port that someone else has
is noticed (Granian's own sockets share their port), stopping leaves nothing behind, and a new certificate is taken over by a second server on the
same socket before the first one stops. Beside it stands one for WebSockets, on the port that they have on the public address too.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Final, Literal, Protocol, TypeAlias

import uvloop
from granian._granian import SocketHolder
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server.embed import Server

from stockade import settings
from stockade.boot.foundation import Foundation
from stockade.kernel.faults import Fault
from stockade.policy.snapshot import PrivateEndpointPolicy, Snapshot
from stockade.serve import child, logs, private_states, questions, wire
from stockade.serve.private_states import ListenerState
from stockade.settings import Listen, Settings

LOOK_S: Final = 0.25
RETRY_S: Final = 1.0
"""How often an address that could not be listened on is tried again."""
SETTLE_S: Final = 0.1
"""A server that was made this instant does not notice yet that it is to stop."""
ASK_TIMEOUT_S: Final = 10.0
MAX_LISTENERS: Final = 512

_EVERY_ADDRESS: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, not bound

log = logging.getLogger(__name__)

Place: TypeAlias = tuple[str, str]
"""A connection's id and the address it is to be reached at."""


def approved(snapshot: Snapshot) -> dict[Place, PrivateEndpointPolicy]:
    """Return the connections that want a listener."""
    found: Iterable[PrivateEndpointPolicy] = snapshot.all("private-endpoints", "")
    return {(one.id, one.address): one for one in found if one.status == "Approved" and one.address is not None}


async def start_when_wanted(base: Foundation) -> None:
    """Have the supervisor start this process once there is an approved connection. Runs beside the control plane."""
    seen, begun = -1, False
    while not begun:
        await asyncio.sleep(LOOK_S)
        if base.cell.value == seen:
            continue
        try:
            published = base.cell.value
            if approved(await asyncio.to_thread(base.source.current)):
                await questions.ask(base.settings.supervisor_socket, "plane", "private", ASK_TIMEOUT_S)
                begun = True  # from here on the supervisor keeps it
            seen = published
        except Fault:
            continue  # the documents cannot be read just now
        except questions.Refusal as refusal:
            log.warning("the private listeners are not started yet: %s", refusal)
            await asyncio.sleep(RETRY_S)
        except Exception:
            log.exception("whether private listeners are wanted could not be found out and will be tried again")
            await asyncio.sleep(RETRY_S)


class Gateway(Protocol):
    """What the listeners need of the gateway that `boot` builds."""

    @property
    def websockets(self) -> WebSockets: ...

    async def handle(self, scope: Any, proto: Any, private_endpoint: str | None = None) -> None: ...


class WebSockets(Protocol):
    """The gateway's WebSocket listeners."""

    async def listen(self, address: Any) -> Any: ...

    async def stop(self, server: Any, *, sessions: bool) -> None: ...


class Unusable(Exception):
    """An address that cannot be listened on. The message says why, for the operator."""


class PrivateListeners:
    """Keeps a listener for every approved connection, and none for any other."""

    def __init__(self, configured: Settings, gateway: Gateway) -> None:
        self._settings, self._gateway = configured, gateway
        self._networks = tuple(ip_network(text, strict=False) for text in configured.listen.private_networks)
        self._listeners: dict[Place, _Listener] = {}
        self._waiting: dict[Place, str] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._wanted: Mapping[Place, PrivateEndpointPolicy] = {}
        self._retry_at = 0.0
        self._told: object = None

    def follow(self, snapshot: Snapshot) -> None:
        """Start and stop what the snapshot asks for; try again what could not be started some seconds ago."""
        now = asyncio.get_running_loop().time()
        wanted = approved(snapshot)
        if wanted == self._wanted and now < self._retry_at and not any(one.ended for one in self._listeners.values()):
            return
        claims = Counter(address for _, address in wanted)
        for place in [place for place in self._listeners if place not in wanted or claims[place[1]] > 1]:
            self._stop(place)
        for place, listener in self._listeners.items():
            if listener.ended:
                log.error("a private listener ended and is started again", extra={"connection": place[0]})
                listener.start()
            self._websockets(place, listener)
        before, self._waiting = self._waiting, {}
        for place in wanted:
            if place not in self._listeners:
                self._try(place, claims[place[1]], before.get(place))
        self._wanted, self._retry_at = wanted, now + RETRY_S
        self._publish()

    def reload(self) -> None:
        """Take over the certificate that is in force now, without turning anybody away."""
        for listener in self._listeners.values():
            self._keep(listener.renew())

    async def close(self, timeout_s: float) -> bool:
        """Stop listening and let what has begun be finished; False when some of it is not within the time."""
        for place in list(self._listeners):
            self._stop(place, sessions=True)
        private_states.withdraw(self._settings)
        if not self._stopping:
            return True
        _, late = await asyncio.wait(self._stopping, timeout=timeout_s)
        return not late

    def states(self) -> tuple[ListenerState, ...]:
        """Return how every wanted connection stands, by address."""
        found = []
        for place, policy in self._wanted.items():
            listener = self._listeners.get(place)
            port, websocket_port = (listener.port, listener.websocket_port) if listener is not None else (0, 0)
            reason = listener.reason if listener is not None else self._waiting.get(place, "")
            state: Literal["listening", "waiting"] = "listening" if listener is not None else "waiting"
            found.append(ListenerState(policy.id, policy.account_id, place[1], port, state, reason, websocket_port))
        return tuple(sorted(found, key=lambda one: (one.address, one.connection)))

    def _try(self, place: Place, claims: int, said: str | None) -> None:
        try:
            if claims > 1:
                raise Unusable("several approved connections claim this address, so that it is nobody's")
            if len(self._listeners) >= MAX_LISTENERS:
                raise Unusable(f"there are {MAX_LISTENERS} private listeners already")
            opened = self._open(place[1], self._settings.listen.private_port)
            listener = self._listeners[place] = _Listener(self._settings, self._gateway, place[0], opened)
            self._websockets(place, listener)
        except Unusable as failure:
            self._waiting[place] = str(failure)
            if str(failure) != said:
                extra = {"address": place[1], "connection": place[0], "reason": str(failure)}
                log.warning("a private endpoint is not listened for", extra=extra)
        else:
            log.info("a private listener stands", extra={"address": place[1], "connection": place[0]})

    def _websockets(self, place: Place, listener: _Listener) -> None:
        port = self._settings.listen.websocket_port
        listener.forget_failed_websockets()
        if not port or listener.websocket_port:
            return
        try:
            listener.start_websockets(self._open(place[1], port))
        except (Unusable, OSError) as failure:
            reason = f"WebSockets are not listened for: {failure}"
            if reason != listener.reason:
                listener.reason = reason
                extra = {"address": place[1], "connection": place[0], "reason": reason}
                log.warning("a private endpoint is listened for in part", extra=extra)

    def _open(self, text: str, port: int) -> socket.socket:
        try:
            address = ip_address(text)
        except ValueError:
            raise Unusable("it is not an address") from None
        if address.is_unspecified or address.is_multicast:
            raise Unusable("it is not the address of one machine")
        if not any(address in network for network in self._networks if network.version == address.version):
            raise Unusable("it is in none of settings.listen.private_networks")
        opened = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.setblocking(False)
            opened.bind((str(address), port))
            opened.listen(wire.BACKLOG)
        except OSError as failure:
            opened.close()
            raise Unusable(_why(failure, port, self._settings.listen)) from failure
        return opened

    def _stop(self, place: Place, *, sessions: bool = False) -> None:
        log.info("a private listener is taken away", extra={"address": place[1], "connection": place[0]})
        self._keep(self._listeners.pop(place).close(sessions=sessions))

    def _keep(self, ending: asyncio.Task[None]) -> None:
        self._stopping.add(ending)
        ending.add_done_callback(self._stopping.discard)

    def _publish(self) -> None:
        found = self.states()
        if found != self._told:
            try:
                private_states.write(self._settings, found)
            except OSError:  # a full disk takes no listener away
                log.exception("how the private listeners stand could not be written")
                return
            self._told = found


class _Application:
    """What the server calls: the gateway, told which listener took the request."""

    def __init__(self, gateway: Gateway, connection: str) -> None:
        self._gateway, self._connection = gateway, connection

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        await self._gateway.handle(scope, proto, self._connection)


class _Server(Server):
    """Granian inside this process's loop, on a socket that is open already."""

    def __init__(self, listening: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._listening = listening

    def _init_shared_socket(self) -> None:
        # The server closes the descriptor it is given: a duplicate, so that a second server can take over.
        holder: Any = SocketHolder
        self._ssp: Any = None
        self._shd: Any = holder(os.dup(self._listening.fileno()), False, wire.BACKLOG)


class _Listener:
    """One address: its sockets, and the servers on them."""

    def __init__(self, configured: Settings, gateway: Gateway, connection: str, opened: socket.socket) -> None:
        self._settings, self._gateway, self._connection = configured, gateway, connection
        self._socket, self._application = opened, _Application(gateway, connection)
        self._websocket_socket: socket.socket | None = None
        self._websockets: asyncio.Task[Any] | None = None
        self._server: _Server
        self._serving: asyncio.Task[None]
        self.port: int = opened.getsockname()[1]
        self.reason = ""
        self.start()

    @property
    def ended(self) -> bool:
        return self._serving.done()

    @property
    def websocket_port(self) -> int:
        return int(self._websocket_socket.getsockname()[1]) if self._websocket_socket is not None else 0

    def start(self) -> None:
        """Put a server on the socket, with the certificate in force."""
        self._server = _Server(
            self._socket,
            self._application,
            interface=Interfaces.RSGI,
            log_level=LogLevels.error,  # its warning that embedding is experimental is for us, not for the operator
            log_dictconfig=logs.configuration("private", os.environ.get(logs.LEVEL_VARIABLE, "info")),
            **wire.options(self._settings),
        )
        self._serving = asyncio.create_task(self._server.serve())

    def start_websockets(self, opened: socket.socket) -> None:
        """Listen for WebSockets on a socket, with the certificate in force."""
        self._websocket_socket, self.reason = opened, ""
        # A duplicate, as above.
        own = socket.socket(fileno=os.dup(opened.fileno()))
        from stockade.boot.data_plane import WebSocketAddress  # the gateway is there by now

        address = WebSocketAddress(wire.websocket_tls(self._settings), socket=own, private_endpoint=self._connection)
        self._websockets = asyncio.create_task(self._gateway.websockets.listen(address))

    def forget_failed_websockets(self) -> None:
        """Let go of a WebSocket listener that did not come up, so that it can be tried again."""
        task = self._websockets
        if task is not None and task.done() and (task.cancelled() or task.exception() is not None):
            log.error(
                "a private WebSocket listener did not come up", exc_info=None if task.cancelled() else task.exception()
            )
            if self._websocket_socket is not None:
                self._websocket_socket.close()
            self._websocket_socket = self._websockets = None

    def renew(self) -> asyncio.Task[None]:
        """Put second servers in place of the first; return the first ones' end, when they have finished what they had begun."""
        server, serving, websockets = self._server, self._serving, self._websockets
        self.start()
        if self._websocket_socket is not None:
            self.start_websockets(self._websocket_socket)
        return asyncio.create_task(self._end(server, serving, websockets, sessions=False))

    def close(self, *, sessions: bool) -> asyncio.Task[None]:
        """Take no more connections; return the end of what had begun.

        sessions: tell WebSocket sessions to go. Else they are waited for: what the rules no longer admit, the gateway ends, and says why.
        """
        self._socket.close()
        if self._websocket_socket is not None:
            self._websocket_socket.close()
        return asyncio.create_task(self._end(self._server, self._serving, self._websockets, sessions=sessions))

    async def _end(
        self, server: _Server, serving: asyncio.Task[None], websockets: asyncio.Task[Any] | None, *, sessions: bool
    ) -> None:
        await asyncio.sleep(SETTLE_S)
        server.stop()  # type: ignore[no-untyped-call]
        if websockets is not None:
            listening: Any = (await asyncio.gather(websockets, return_exceptions=True))[0]
            if not isinstance(listening, BaseException):
                await self._gateway.websockets.stop(listening, sessions=sessions)
        await asyncio.gather(serving, return_exceptions=True)


def _why(failure: OSError, port: int, listen: Listen) -> str:
    match failure.errno:
        case errno.EADDRNOTAVAIL:
            return "it is not an address of this machine (give it to an interface, or route it here)"
        case errno.EADDRINUSE if port in {listen.data_port, listen.websocket_port} and listen.host in _EVERY_ADDRESS:
            return f"the public listener takes port {port} of every address (set listen.host to one of them)"
        case errno.EADDRINUSE:
            return f"its port {port} is in use"
        case errno.EACCES | errno.EPERM:
            return f"this user may not listen on its port {port}"
    return f"it cannot be listened on: {failure.strerror}"


async def run(configured: Settings) -> None:
    """Serve until SIGTERM."""
    from stockade.boot.data_plane import (
        data_plane,
    )  # not above: the control plane, which asks for this process, has no gateway

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = data_plane(configured.listen.private_port)
    gateway.__rsgi_init__(loop)
    listeners = PrivateListeners(configured, gateway)
    loop.add_signal_handler(signal.SIGHUP, listeners.reload)
    try:
        while not stop.is_set():
            try:
                listeners.follow(gateway.policy())
            except Fault:
                log.warning("policy cannot be read; the private listeners stay as they are")
            try:
                await asyncio.wait_for(stop.wait(), LOOK_S)
            except TimeoutError:
                continue
        finished = await listeners.close(configured.limits.drain_timeout_s)
    finally:
        await gateway.websockets.close()
        gateway.__rsgi_del__(loop)
    if not finished:
        log.warning("requests that were under way have been cut off")
        child.end()  # as other workers are killed then: the server has no way to end what it waits for


def main() -> None:
    """Run the private listeners until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m stockade.serve.private")
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    child.become("private", arguments.parent)
    uvloop.run(run(settings.load()))


if __name__ == "__main__":
    main()
