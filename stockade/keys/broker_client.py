"""The key broker, asked over its socket from threads. `keys/broker_async.py` does it from an event loop.

Every call has a deadline. A broker that is not there, or ends in the middle, is Fault(UNAVAILABLE) with a second to wait; the next call connects
anew, so that everybody recovers by themselves once it is back.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from stockade.kernel.evidence import Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import broker_wire as wire
from stockade.keys.broker import (
    Access,
    Binding,
    BrokerStatus,
    JobScope,
    ObjectKeys,
    ObjectRef,
    WrappedDataKey,
)
from stockade.keys.material import KeyAnswer, KeyRequest, KeySpec
from stockade.keys.providers.provider import ProviderKey

TIMEOUT_S: Final = 15.0
"""For one call; longer than any provider's own limit by default."""
IDLE: Final = 16
"""Connections kept open by one client."""
SOCKET_VARIABLE: Final = "STOCKADE_BROKER"
"""Names the socket in the environment of every process below the supervisor."""


class BrokerClient:
    """Asks from threads, each call on a connection of its own while it lasts."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._idle: deque[socket.socket] = deque()
        self._lock = threading.Lock()

    def object_keys(
        self,
        account_id: str,
        objects: Sequence[ObjectRef],
        access: Access,
        data_action: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ObjectKeys:
        call = wire.ObjectKeysCall(account_id, tuple(objects), access, data_action, wire.shown(evidence), asked_by)
        return self._ask(call, ObjectKeys)  # type: ignore[no-any-return]

    def job_grant(self, account_id: str, job: str, scope: JobScope, data_action: str, evidence: Evidence) -> Secret:
        return self._ask(wire.JobGrantCall(account_id, job, scope, data_action, wire.shown(evidence)), Secret)  # type: ignore[no-any-return]

    def new_data_key(self, account_id: str, binding: Binding | None, evidence: Evidence) -> WrappedDataKey:
        return self._ask(wire.NewDataKeyCall(account_id, binding, wire.shown(evidence)), WrappedDataKey)  # type: ignore[no-any-return]

    def rewrap(
        self,
        account_id: str,
        held: WrappedDataKey,
        before: Binding | None,
        after: Binding | None,
        evidence: Evidence | None,
    ) -> WrappedDataKey:
        shown = wire.shown(evidence) if evidence is not None else None
        return self._ask(wire.RewrapCall(account_id, held, before, after, shown), WrappedDataKey)  # type: ignore[no-any-return]

    def make_key(
        self, provider: str, spec: KeySpec, version_id: str, evidence: Evidence | None, asked_by: str
    ) -> ProviderKey:
        shown = wire.shown(evidence) if evidence is not None else None
        return self._ask(wire.MakeKeyCall(provider, spec, version_id, shown, asked_by), ProviderKey)  # type: ignore[no-any-return]

    def take_key(
        self,
        provider: str,
        spec: KeySpec,
        private: dict[str, Secret],
        version_id: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ProviderKey:
        call = wire.TakeKeyCall(provider, spec, private, version_id, wire.shown(evidence), asked_by)
        return self._ask(call, ProviderKey)  # type: ignore[no-any-return]

    def use_key(self, version_id: str, request: KeyRequest, evidence: Evidence, asked_by: str) -> KeyAnswer:
        return self._ask(wire.UseKeyCall(version_id, request, wire.shown(evidence), asked_by), KeyAnswer)  # type: ignore[no-any-return]

    def destroy_key(self, provider: str, handle: bytes, version_id: str) -> None:
        self._ask(wire.DestroyKeyCall(provider, handle, version_id), None)

    def back_up_key(self, version_id: str, evidence: Evidence, asked_by: str) -> bytes:
        return self._ask(wire.BackUpKeyCall(version_id, wire.shown(evidence), asked_by), bytes)  # type: ignore[no-any-return]

    def restore_key(
        self, provider: str, backup: bytes, version_id: str, evidence: Evidence, asked_by: str
    ) -> ProviderKey:
        call = wire.RestoreKeyCall(provider, backup, version_id, wire.shown(evidence), asked_by)
        return self._ask(call, ProviderKey)  # type: ignore[no-any-return]

    def seal_secret(self, value: Secret, version_id: str) -> bytes:
        return self._ask(wire.SealSecretCall(value, version_id), bytes)  # type: ignore[no-any-return]

    def open_secret(self, sealed: bytes, version_id: str, evidence: Evidence, asked_by: str) -> Secret:
        return self._ask(wire.OpenSecretCall(sealed, version_id, wire.shown(evidence), asked_by), Secret)  # type: ignore[no-any-return]

    def back_up_secret(self, sealed: bytes, version_id: str, evidence: Evidence, asked_by: str) -> bytes:
        return self._ask(wire.BackUpSecretCall(sealed, version_id, wire.shown(evidence), asked_by), bytes)  # type: ignore[no-any-return]

    def restore_secret(self, backup: bytes, version_id: str, evidence: Evidence, asked_by: str) -> bytes:
        return self._ask(wire.RestoreSecretCall(backup, version_id, wire.shown(evidence), asked_by), bytes)  # type: ignore[no-any-return]

    def random(self, provider: str, count: int) -> bytes:
        return self._ask(wire.RandomCall(provider, count), bytes)  # type: ignore[no-any-return]

    def purpose_key(self, purpose: str) -> Secret:
        return self._ask(wire.PurposeKeyCall(purpose), Secret)  # type: ignore[no-any-return]

    def sign(self, statement: bytes) -> bytes:
        return self._ask(wire.SignCall(statement), bytes)  # type: ignore[no-any-return]

    def receipt_key(self) -> bytes:
        return self._ask(wire.ReceiptKeyCall(), bytes)  # type: ignore[no-any-return]

    def rotate_platform(self) -> str:
        return self._ask(wire.RotatePlatformCall(), str)  # type: ignore[no-any-return]

    def status(self) -> BrokerStatus:
        return self._ask(wire.StatusCall(), BrokerStatus)  # type: ignore[no-any-return]

    def seal(self) -> None:
        self._ask(wire.SealCall(), None)

    def unseal(self, share: Secret) -> BrokerStatus:
        return self._ask(wire.UnsealCall(share), BrokerStatus)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    def _ask(self, call: wire.Call, wanted: Any) -> Any:
        message, deadline = wire.frame(call), time.monotonic() + self._timeout_s
        try:
            connection = self._connection()
            try:
                connection.settimeout(self._timeout_s)
                connection.sendall(message)
                length = wire.length_of(_exactly(connection, wire.HEADER, deadline))
                answer = _exactly(connection, length, deadline)
            except BaseException:
                connection.close()
                raise
        except (OSError, EOFError, ValueError) as failure:
            raise unreachable() from failure
        with self._lock:
            if len(self._idle) < IDLE:
                self._idle.append(connection)
            else:
                connection.close()
        return result_of(answer, wanted)

    def _connection(self) -> socket.socket:
        """Return a connection that nobody uses, or a new one. What can be read from an idle one is its end."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                break
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            if not poll.poll(0):
                return connection
            connection.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._timeout_s)
            connection.connect(str(self._path))
        except BaseException:
            connection.close()
            raise
        return connection


def _exactly(connection: socket.socket, count: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < count:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def result_of(answer: bytes, wanted: Any) -> Any:
    """Return what an answer says; raises the broker's own Fault, and Fault(UNAVAILABLE) for what is no answer."""
    try:
        return wire.read_answer(answer, wanted)
    except ValueError as failure:
        raise unreachable() from failure


def unreachable() -> Fault:
    """Return what a caller is told while there is no broker."""
    return Fault(FaultKind.UNAVAILABLE, "The key broker cannot be reached.", retry_after_s=1)
