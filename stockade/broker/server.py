"""The key broker's socket: a UNIX socket in a folder of its own that only its user can enter, and nothing else.

Whoever connects is asked for by the kernel (SO_PEERCRED) before a byte is read. Frames have a limit, connections and calls under way too; a
frame that is no call ends its connection. One call at a time per connection, in a thread where keys or databases block (`at_once.py`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, cast

from stockade.broker.at_once import AtOnce, NotAtOnce
from stockade.kernel.evidence import ArmToken
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys import broker_wire as wire
from stockade.keys.broker import Broker

CONNECTIONS: Final = 512
THREADS: Final = 32
READ_TIMEOUT_S: Final = 10.0
"""For the rest of a frame that has begun, and for an answer to be taken."""
_PEER: Final = struct.Struct("iII")

log = logging.getLogger(__name__)


class BrokerServer:
    """Answers calls to a broker. uids: who may ask. at_once: answers on the event loop what it can; all else is done in threads."""

    def __init__(self, path: Path, broker: Broker, uids: frozenset[int], at_once: AtOnce | None = None) -> None:
        self._path, self._broker, self._uids, self._at_once = path, broker, uids, at_once
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="broker")
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def open(self) -> None:
        """Listen. The folder must be there; a socket that an earlier broker left is replaced."""
        # Bound under another name and then put in its place, so that it is never there with the wrong mode.
        draft = self._path.with_name(f".{self._path.name}")
        draft.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(draft))
        draft.chmod(0o600 if self._uids <= {0, os.geteuid()} else 0o666)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Connection(self), sock=listener, backlog=CONNECTIONS)
        draft.replace(self._path)

    async def close(self) -> None:
        """Answer nothing more, and end when what is under way has been done."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for connection in list(self._connections):
            connection.end()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def take(self, connection: _Connection, transport: asyncio.Transport) -> bool:
        """Say whether somebody who has connected is answered."""
        if len(self._connections) >= CONNECTIONS or not self._may_ask(transport):
            return False
        self._connections.add(connection)
        return True

    def leave(self, connection: _Connection) -> None:
        self._connections.discard(connection)

    def answer(self, call: wire.Call) -> bytes | asyncio.Future[bytes]:
        """Return the frame that answers a call, or what it will come in."""
        method = _AT_ONCE.get(type(call))
        if self._at_once is not None and method is not None:
            try:
                return _answer(method, self._at_once, call)
            except NotAtOnce:
                pass  # a thread, then
        return asyncio.get_running_loop().run_in_executor(self._threads, answer_to, self._broker, call)

    def _may_ask(self, transport: asyncio.Transport) -> bool:
        peer: socket.socket = transport.get_extra_info("socket")
        uid = peer_uid(peer)
        if uid in self._uids:
            return True
        log.error("another user tried to ask the key broker and was not answered", extra={"uid": uid})
        return False


class _Connection(asyncio.Protocol):
    """One connection: a call is answered before the next one is looked at, and meanwhile nothing more is read than has come already."""

    def __init__(self, server: BrokerServer) -> None:
        self._server = server
        self._data = bytearray()
        self._transport: asyncio.Transport | None = None
        self._under_way: asyncio.Future[bytes] | None = None
        self._choked = False
        """The other side does not take its answer."""
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if not self._server.take(self, self._transport):
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._in_time()
        self._server.leave(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._under_way is not None or self._choked:
            if self._transport is not None:
                self._transport.pause_reading()
        else:
            self._go_on()

    def pause_writing(self) -> None:
        self._choked = True
        self._within(READ_TIMEOUT_S)

    def resume_writing(self) -> None:
        self._choked = False
        self._in_time()
        self._next()

    def end(self) -> None:
        """Answer nothing more here."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _go_on(self) -> None:
        """Answer what has come in whole."""
        data = self._data
        try:
            while self._transport is not None and self._under_way is None and not self._choked:
                if len(data) < wire.HEADER or len(data) < (
                    end := wire.HEADER + wire.length_of(bytes(data[: wire.HEADER]))
                ):
                    break
                call = wire.read_call(bytes(data[wire.HEADER : end]))
                del data[:end]
                self._in_time()
                answer = self._server.answer(call)
                if isinstance(answer, bytes):
                    self._transport.write(answer)
                else:
                    self._under_way = answer
                    answer.add_done_callback(self._answered)
        except ValueError as failure:
            self._break_off(failure)
            return
        if data and self._under_way is None and not self._choked:
            self._within(READ_TIMEOUT_S)

    def _answered(self, answer: asyncio.Future[bytes]) -> None:
        self._under_way = None
        if self._transport is None or answer.cancelled():
            return
        self._transport.write(answer.result())
        self._next()

    def _next(self) -> None:
        if self._transport is not None and self._under_way is None and not self._choked:
            self._transport.resume_reading()
            self._go_on()

    def _within(self, seconds: float) -> None:
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(seconds, self._break_off, TimeoutError())

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _break_off(self, failure: Exception) -> None:
        log.warning("a connection to the key broker broke off", extra={"reason": type(failure).__name__})
        self.end()


def peer_uid(peer: socket.socket) -> int:
    """Return the user of whoever is connected, as the kernel knows it; -1 where this system does not say."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.geteuid()  # the folder's and the socket's modes are all there is
    _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(uid)


def answer_to(broker: Broker, call: wire.Call) -> bytes:
    """Do a call and return the frame with what came of it."""
    return _answer(_METHODS[type(call)], broker, call)


def _answer(method: Callable[[Any, Any], object], broker: Broker | AtOnce, call: wire.Call) -> bytes:
    try:
        return wire.answered(method(broker, call))
    except Fault as fault:
        return wire.refused(fault)
    except NotAtOnce:
        raise
    except Exception:  # a bug of ours must neither end the broker nor tell anything
        log.exception("a call to the key broker failed", extra={"call": type(call).__name__})
        return wire.refused(Fault(FaultKind.INTERNAL, "The key broker failed."))


def _arm(shown: wire.Shown) -> ArmToken:
    """Return what was shown to ARM; Fault(UNAUTHENTICATED) for everything else."""
    evidence = shown.evidence
    if not isinstance(evidence, ArmToken):
        raise Fault(FaultKind.UNAUTHENTICATED, "Lockbox takes what was shown to ARM only.")
    return evidence


_METHODS: Final[dict[type, Callable[[Broker, Any], object]]] = {
    wire.ObjectKeysCall: lambda broker, call: broker.object_keys(
        call.account_id, call.objects, call.access, call.data_action, call.evidence.evidence, call.asked_by
    ),
    wire.JobGrantCall: lambda broker, call: broker.job_grant(
        call.account_id, call.job, call.scope, call.data_action, call.evidence.evidence
    ),
    wire.NewDataKeyCall: lambda broker, call: broker.new_data_key(
        call.account_id, call.binding, call.evidence.evidence
    ),
    wire.RewrapCall: lambda broker, call: broker.rewrap(
        call.account_id, call.held, call.before, call.after, call.evidence and call.evidence.evidence
    ),
    wire.BindStatementCall: lambda broker, call: broker.bind_statement(
        call.account_id, call.signed, _arm(call.evidence)
    ),
    wire.OpenRequestCall: lambda broker, call: broker.open_request(
        call.account_id, call.request_id, _arm(call.evidence)
    ),
    wire.GrantAccessCall: lambda broker, call: broker.grant_access(call.request_id, call.signed, _arm(call.evidence)),
    wire.RevokeAccessCall: lambda broker, call: broker.revoke_access(call.request_id),
    wire.MakeKeyCall: lambda broker, call: broker.make_key(
        call.provider, call.spec, call.version_id, call.evidence and call.evidence.evidence, call.asked_by
    ),
    wire.TakeKeyCall: lambda broker, call: broker.take_key(
        call.provider, call.spec, call.private, call.version_id, call.evidence.evidence, call.asked_by
    ),
    wire.UseKeyCall: lambda broker, call: broker.use_key(
        call.version_id, call.request, call.evidence.evidence, call.asked_by
    ),
    wire.DestroyKeyCall: lambda broker, call: broker.destroy_key(call.provider, call.handle, call.version_id),
    wire.BackUpKeyCall: lambda broker, call: broker.back_up_key(call.version_id, call.evidence.evidence, call.asked_by),
    wire.RestoreKeyCall: lambda broker, call: broker.restore_key(
        call.provider, call.backup, call.version_id, call.evidence.evidence, call.asked_by
    ),
    wire.SealSecretCall: lambda broker, call: broker.seal_secret(call.value, call.version_id),
    wire.OpenSecretCall: lambda broker, call: broker.open_secret(
        call.sealed, call.version_id, call.evidence.evidence, call.asked_by
    ),
    wire.BackUpSecretCall: lambda broker, call: broker.back_up_secret(
        call.sealed, call.version_id, call.evidence.evidence, call.asked_by
    ),
    wire.RestoreSecretCall: lambda broker, call: broker.restore_secret(
        call.backup, call.version_id, call.evidence.evidence, call.asked_by
    ),
    wire.RandomCall: lambda broker, call: broker.random(call.provider, call.count),
    wire.PurposeKeyCall: lambda broker, call: broker.purpose_key(call.purpose),
    wire.SignCall: lambda broker, call: broker.sign(call.statement),
    wire.ReceiptKeyCall: lambda broker, _: broker.receipt_key(),
    wire.SignTreeHeadCall: lambda broker, call: broker.sign_tree_head(
        call.log, call.size, call.root, call.time, call.consistency
    ),
    wire.TreeHeadKeyCall: lambda broker, _: broker.tree_head_key(),
    wire.SignReceiptCall: lambda broker, call: broker.sign_receipt(call.receipt),
    wire.RequestReceiptKeyCall: lambda broker, _: broker.request_receipt_key(),
    wire.RotatePlatformCall: lambda broker, _: broker.rotate_platform(),
    wire.StatusCall: lambda broker, _: broker.status(),
    wire.SealCall: lambda broker, _: broker.seal(),
    wire.UnsealCall: lambda broker, call: broker.unseal(call.share),
}

_AT_ONCE: Final[dict[type, Callable[[AtOnce, Any], object]]] = {
    wire.ObjectKeysCall: lambda broker, call: broker.object_keys_at_once(
        call.account_id, call.objects, call.access, call.data_action, call.evidence.evidence, call.asked_by
    ),
    wire.UseKeyCall: lambda broker, call: broker.use_key_at_once(
        call.version_id, call.request, call.evidence.evidence, call.asked_by
    ),
}
