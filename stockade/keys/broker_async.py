"""The key broker, for an event loop: over its socket (`AsyncBrokerClient`), or one in this process, in threads (`BrokerInThreads`).

Deadlines and recovery are as in `keys/broker_client.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol, cast

from stockade.kernel.evidence import ArmToken, Evidence
from stockade.kernel.secret import Secret
from stockade.keys import broker_wire as wire
from stockade.keys.broker import (
    Access,
    Binding,
    Broker,
    BrokerStatus,
    JobScope,
    ObjectKeys,
    ObjectRef,
    WrappedDataKey,
)
from stockade.keys.broker_calls import BrokerCalls
from stockade.keys.broker_client import IDLE, TIMEOUT_S, result_of, unreachable
from stockade.keys.lockbox import Challenge, Lent
from stockade.keys.material import KeyAnswer, KeyRequest, KeySpec
from stockade.keys.providers.provider import ProviderKey
from stockade.keys.request_receipts import Receipt
from stockade.lockbox.signature import Signed

AT_ONCE: Final = 16
"""Calls under way at once from one event loop; further ones wait."""


class AsyncBroker(Protocol):
    """`Broker`, for an event loop."""

    async def object_keys(
        self,
        account_id: str,
        objects: Sequence[ObjectRef],
        access: Access,
        data_action: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ObjectKeys: ...
    async def job_grant(
        self, account_id: str, job: str, scope: JobScope, data_action: str, evidence: Evidence
    ) -> Secret: ...
    async def new_data_key(self, account_id: str, binding: Binding | None, evidence: Evidence) -> WrappedDataKey: ...
    async def rewrap(
        self,
        account_id: str,
        held: WrappedDataKey,
        before: Binding | None,
        after: Binding | None,
        evidence: Evidence | None,
    ) -> WrappedDataKey: ...
    async def bind_statement(
        self, account_id: str, signed: Signed, evidence: ArmToken
    ) -> tuple[WrappedDataKey, ...]: ...
    async def open_request(self, account_id: str, request_id: str, evidence: ArmToken) -> Challenge: ...
    async def grant_access(self, request_id: str, signed: Signed, evidence: ArmToken) -> Lent: ...
    async def revoke_access(self, request_id: str) -> None: ...
    async def make_key(
        self, provider: str, spec: KeySpec, version_id: str, evidence: Evidence | None, asked_by: str
    ) -> ProviderKey: ...
    async def take_key(
        self,
        provider: str,
        spec: KeySpec,
        private: dict[str, Secret],
        version_id: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ProviderKey: ...
    async def use_key(self, version_id: str, request: KeyRequest, evidence: Evidence, asked_by: str) -> KeyAnswer: ...
    async def destroy_key(self, provider: str, handle: bytes, version_id: str) -> None: ...
    async def back_up_key(self, version_id: str, evidence: Evidence, asked_by: str) -> bytes: ...
    async def restore_key(
        self, provider: str, backup: bytes, version_id: str, evidence: Evidence, asked_by: str
    ) -> ProviderKey: ...
    async def seal_secret(self, value: Secret, version_id: str) -> bytes: ...
    async def open_secret(self, sealed: bytes, version_id: str, evidence: Evidence, asked_by: str) -> Secret: ...
    async def back_up_secret(self, sealed: bytes, version_id: str, evidence: Evidence, asked_by: str) -> bytes: ...
    async def restore_secret(self, backup: bytes, version_id: str, evidence: Evidence, asked_by: str) -> bytes: ...
    async def random(self, provider: str, count: int) -> bytes: ...
    async def purpose_key(self, purpose: str) -> Secret: ...
    async def sign(self, statement: bytes) -> bytes: ...
    async def receipt_key(self) -> bytes: ...
    async def sign_tree_head(
        self, log: str, size: int, root: bytes, time: float, consistency: Sequence[bytes]
    ) -> bytes: ...
    async def tree_head_key(self) -> bytes: ...
    async def sign_receipt(self, receipt: Receipt) -> str: ...
    async def request_receipt_key(self) -> bytes: ...
    async def rotate_platform(self) -> str: ...
    async def status(self) -> BrokerStatus: ...
    async def seal(self) -> None: ...
    async def unseal(self, share: Secret) -> BrokerStatus: ...


class AsyncBrokerClient(BrokerCalls):
    """Asks from one event loop, over a few connections."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._idle: deque[_Line] = deque()
        self._turn = asyncio.Semaphore(AT_ONCE)

    def close(self) -> None:
        """Let go of the connections."""
        while self._idle:
            self._idle.pop().end()

    async def _ask(self, call: wire.Call, wanted: Any) -> Any:
        message = wire.frame(call)
        try:
            line = None if self._turn.locked() else self._line()
            if line is not None:
                async with self._turn:
                    answer = await line.ask(message, self._timeout_s)
            else:
                async with asyncio.timeout(self._timeout_s), self._turn:
                    line = self._line() or await self._connect()
                    answer = await line.ask(message, self._timeout_s)
        except (OSError, EOFError, ValueError, TimeoutError) as failure:
            raise unreachable() from failure
        if len(self._idle) < IDLE:
            self._idle.append(line)
        else:
            line.end()
        return result_of(answer, wanted)

    def _line(self) -> _Line | None:
        """Return a connection that nobody uses; None when there is none that stands."""
        while self._idle:
            line = self._idle.pop()
            if line.stands:
                return line
        return None

    async def _connect(self) -> _Line:
        _, line = await asyncio.get_running_loop().create_unix_connection(_Line, str(self._path))
        return line


class _Line(asyncio.Protocol):
    """A connection to the broker: one question at a time, and nothing comes that was not asked for."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._answer: asyncio.Future[bytes] | None = None

    @property
    def stands(self) -> bool:
        return self._transport is not None

    async def ask(self, message: bytes, timeout_s: float) -> bytes:
        """Send a frame and return the answer's; OSError, EOFError, ValueError, TimeoutError, after which the connection is none any more."""
        if self._transport is None:
            raise EOFError
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        self._answer = answer
        late = loop.call_later(timeout_s, self._fail, TimeoutError())
        try:
            self._transport.write(message)
            return await answer
        except BaseException:
            self.end()
            raise
        finally:
            late.cancel()
            self._answer = None

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(exc or EOFError())

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._answer is None:
            self.end()  # nobody asked
        elif len(self._data) >= wire.HEADER:
            try:
                end = wire.HEADER + wire.length_of(bytes(self._data[: wire.HEADER]))
            except ValueError as failure:
                self._fail(failure)
                return
            if len(self._data) > end:
                self._fail(ValueError("more than an answer"))
            elif len(self._data) == end:
                answer = bytes(self._data[wire.HEADER :])
                self._data.clear()
                if not self._answer.done():
                    self._answer.set_result(answer)

    def _fail(self, failure: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(failure)


class BrokerInThreads:
    """A synchronous broker for an event loop: each call in a thread."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def object_keys(
        self,
        account_id: str,
        objects: Sequence[ObjectRef],
        access: Access,
        data_action: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ObjectKeys:
        return await asyncio.to_thread(
            self._broker.object_keys, account_id, objects, access, data_action, evidence, asked_by
        )

    async def job_grant(
        self, account_id: str, job: str, scope: JobScope, data_action: str, evidence: Evidence
    ) -> Secret:
        return await asyncio.to_thread(self._broker.job_grant, account_id, job, scope, data_action, evidence)

    async def new_data_key(self, account_id: str, binding: Binding | None, evidence: Evidence) -> WrappedDataKey:
        return await asyncio.to_thread(self._broker.new_data_key, account_id, binding, evidence)

    async def rewrap(
        self,
        account_id: str,
        held: WrappedDataKey,
        before: Binding | None,
        after: Binding | None,
        evidence: Evidence | None,
    ) -> WrappedDataKey:
        return await asyncio.to_thread(self._broker.rewrap, account_id, held, before, after, evidence)

    async def bind_statement(self, account_id: str, signed: Signed, evidence: ArmToken) -> tuple[WrappedDataKey, ...]:
        return await asyncio.to_thread(self._broker.bind_statement, account_id, signed, evidence)

    async def open_request(self, account_id: str, request_id: str, evidence: ArmToken) -> Challenge:
        return await asyncio.to_thread(self._broker.open_request, account_id, request_id, evidence)

    async def grant_access(self, request_id: str, signed: Signed, evidence: ArmToken) -> Lent:
        return await asyncio.to_thread(self._broker.grant_access, request_id, signed, evidence)

    async def revoke_access(self, request_id: str) -> None:
        await asyncio.to_thread(self._broker.revoke_access, request_id)

    async def make_key(
        self, provider: str, spec: KeySpec, version_id: str, evidence: Evidence | None, asked_by: str
    ) -> ProviderKey:
        return await asyncio.to_thread(self._broker.make_key, provider, spec, version_id, evidence, asked_by)

    async def take_key(
        self,
        provider: str,
        spec: KeySpec,
        private: dict[str, Secret],
        version_id: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ProviderKey:
        return await asyncio.to_thread(self._broker.take_key, provider, spec, private, version_id, evidence, asked_by)

    async def use_key(self, version_id: str, request: KeyRequest, evidence: Evidence, asked_by: str) -> KeyAnswer:
        return await asyncio.to_thread(self._broker.use_key, version_id, request, evidence, asked_by)

    async def destroy_key(self, provider: str, handle: bytes, version_id: str) -> None:
        await asyncio.to_thread(self._broker.destroy_key, provider, handle, version_id)

    async def back_up_key(self, version_id: str, evidence: Evidence, asked_by: str) -> bytes:
        return await asyncio.to_thread(self._broker.back_up_key, version_id, evidence, asked_by)

    async def restore_key(
        self, provider: str, backup: bytes, version_id: str, evidence: Evidence, asked_by: str
    ) -> ProviderKey:
        return await asyncio.to_thread(self._broker.restore_key, provider, backup, version_id, evidence, asked_by)

    async def seal_secret(self, value: Secret, version_id: str) -> bytes:
        return await asyncio.to_thread(self._broker.seal_secret, value, version_id)

    async def open_secret(self, sealed: bytes, version_id: str, evidence: Evidence, asked_by: str) -> Secret:
        return await asyncio.to_thread(self._broker.open_secret, sealed, version_id, evidence, asked_by)

    async def back_up_secret(self, sealed: bytes, version_id: str, evidence: Evidence, asked_by: str) -> bytes:
        return await asyncio.to_thread(self._broker.back_up_secret, sealed, version_id, evidence, asked_by)

    async def restore_secret(self, backup: bytes, version_id: str, evidence: Evidence, asked_by: str) -> bytes:
        return await asyncio.to_thread(self._broker.restore_secret, backup, version_id, evidence, asked_by)

    async def random(self, provider: str, count: int) -> bytes:
        return await asyncio.to_thread(self._broker.random, provider, count)

    async def purpose_key(self, purpose: str) -> Secret:
        return await asyncio.to_thread(self._broker.purpose_key, purpose)

    async def sign(self, statement: bytes) -> bytes:
        return await asyncio.to_thread(self._broker.sign, statement)

    async def receipt_key(self) -> bytes:
        return await asyncio.to_thread(self._broker.receipt_key)

    async def sign_tree_head(
        self, log: str, size: int, root: bytes, time: float, consistency: Sequence[bytes]
    ) -> bytes:
        return await asyncio.to_thread(self._broker.sign_tree_head, log, size, root, time, consistency)

    async def tree_head_key(self) -> bytes:
        return await asyncio.to_thread(self._broker.tree_head_key)

    async def sign_receipt(self, receipt: Receipt) -> str:
        return await asyncio.to_thread(self._broker.sign_receipt, receipt)

    async def request_receipt_key(self) -> bytes:
        return await asyncio.to_thread(self._broker.request_receipt_key)

    async def rotate_platform(self) -> str:
        return await asyncio.to_thread(self._broker.rotate_platform)

    async def status(self) -> BrokerStatus:
        return await asyncio.to_thread(self._broker.status)

    async def seal(self) -> None:
        await asyncio.to_thread(self._broker.seal)

    async def unseal(self, share: Secret) -> BrokerStatus:
        return await asyncio.to_thread(self._broker.unseal, share)
