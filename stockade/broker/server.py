"""The key broker's socket: a UNIX socket in a folder of its own that only its user can enter, and nothing else.

Whoever connects is asked for by the kernel (SO_PEERCRED) before a byte is read. Frames have a limit, connections and calls under way too; a
frame that is no call ends its connection. One call at a time per connection, each in a thread, since keys and databases block.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

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
    """Answers calls to a broker. uids: who may ask."""

    def __init__(self, path: Path, broker: Broker, uids: frozenset[int]) -> None:
        self._path, self._broker, self._uids = path, broker, uids
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="broker")
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen. The folder must be there; a socket that an earlier broker left is replaced."""
        # Bound under another name and then put in its place, so that it is never there with the wrong mode.
        draft = self._path.with_name(f".{self._path.name}")
        draft.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(draft))
        draft.chmod(0o600 if self._uids <= {0, os.geteuid()} else 0o666)
        listener.listen(CONNECTIONS)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=wire.MAX_FRAME + wire.HEADER)
        draft.replace(self._path)

    async def close(self) -> None:
        """Answer nothing more, and end when what is under way has been answered."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._connections) >= CONNECTIONS or not self._may_ask(writer):
                return
            self._connections.add(task)
            while await self._answer(reader, writer):
                pass
        except (OSError, EOFError, ValueError, TimeoutError) as failure:
            if not isinstance(failure, EOFError):
                log.warning("a connection to the key broker broke off", extra={"reason": type(failure).__name__})
        except asyncio.CancelledError:
            pass  # the broker ends
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _may_ask(self, writer: asyncio.StreamWriter) -> bool:
        peer: socket.socket = writer.get_extra_info("socket")
        uid = peer_uid(peer)
        if uid in self._uids:
            return True
        log.error("another user tried to ask the key broker and was not answered", extra={"uid": uid})
        return False

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one call; False when the other side has ended."""
        header = await reader.read(1)
        if not header:
            return False
        async with asyncio.timeout(READ_TIMEOUT_S):
            header += await reader.readexactly(wire.HEADER - 1)
            data = await reader.readexactly(wire.length_of(header))
        call = wire.read_call(data)
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, answer_to, self._broker, call)
        writer.write(answer)
        async with asyncio.timeout(READ_TIMEOUT_S):
            await writer.drain()
        return True


def peer_uid(peer: socket.socket) -> int:
    """Return the user of whoever is connected, as the kernel knows it; -1 where this system does not say."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.geteuid()  # the folder's and the socket's modes are all there is
    _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(uid)


def answer_to(broker: Broker, call: wire.Call) -> bytes:
    """Do a call and return the frame with what came of it."""
    try:
        return wire.answered(_METHODS[type(call)](broker, call))
    except Fault as fault:
        return wire.refused(fault)
    except Exception:  # a bug of ours must neither end the broker nor tell anything
        log.exception("a call to the key broker failed", extra={"call": type(call).__name__})
        return wire.refused(Fault(FaultKind.INTERNAL, "The key broker failed."))


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
    wire.RotatePlatformCall: lambda broker, _: broker.rotate_platform(),
    wire.StatusCall: lambda broker, _: broker.status(),
    wire.SealCall: lambda broker, _: broker.seal(),
    wire.UnsealCall: lambda broker, call: broker.unseal(call.share),
}
