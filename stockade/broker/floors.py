"""What the broker has seen and does not go back behind: time, statements, revocations, tree heads. A small sealed file beside the keyring.

Whoever writes the database cannot write this file, and whoever writes this file cannot make another that opens. They can put back an older
one: then what it has forgotten is what SECURITY.md says it is, and the witnesses of the audit log have not forgotten it.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stockade.kernel.clock import Clock, SimulatedClock, SystemClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.durable import write_durably
from stockade.keys.root import RootKey

FILE_NAME: Final = "broker.floors"
PURPOSE: Final = "broker/floors/1"
TIME_STEP_S: Final = 30.0
"""How much time passes before it is written down anew."""
_NONCE: Final = 12
_BOUND: Final = b"stockade broker floors 1"


class StatementFloor(msgspec.Struct, frozen=True):
    """The newest statement of an account that the broker has bound keys to."""

    sequence: int
    digest: str
    protected: bool
    data_keys: tuple[str, ...] = ()
    """The versions of the data keys that were bound to it. They open beside it or a later one, and never again without."""


class HeadFloor(msgspec.Struct, frozen=True):
    """The newest tree head of a log that the broker has signed."""

    size: int
    root: bytes


class _Known(msgspec.Struct):
    time: float = 0.0
    statements: dict[str, StatementFloor] = {}
    """By the account's internal id: another account of the same name is another one."""
    revoked: dict[str, float] = {}
    """Requests, and until when what was signed for them could be valid."""
    heads: dict[str, HeadFloor] = {}


class Floors:
    """Every change is on disk before it returns; OSError when it cannot be. Fault(UNAVAILABLE) for a file that is not this broker's."""

    def __init__(self, folder: Path, keys: RootKey, clock: Clock) -> None:
        self._path, self._clock = folder / FILE_NAME, clock
        self._machine: Clock = SystemClock() if isinstance(clock, SimulatedClock) else clock
        self._cipher = AESGCM(keys.derive(PURPOSE).reveal())
        self._lock = Lock()
        self._known = self._read()
        self._written_time = self._known.time
        self._by_data_key = {one: floor for floor in self._known.statements.values() for one in floor.data_keys}

    def now(self) -> float:
        """Return the time, never earlier than it has been: setting the clock back lengthens nothing.

        It is the machine's that is remembered. What a rehearsal has moved it by goes back with `clock reset`, or nothing would hold any more.
        """
        with self._lock:
            known, found = self._known, self._machine.now()
            if found > known.time:
                known.time = found
                if found - self._written_time >= TIME_STEP_S:
                    self._write()
            return known.time + self._ahead_s()

    def latest(self) -> float:
        """Return the same without writing it down, for an event loop."""
        with self._lock:
            self._known.time = max(self._known.time, self._machine.now())
            return self._known.time + self._ahead_s()

    def statement(self, account_guid: str) -> StatementFloor | None:
        return self._known.statements.get(account_guid)

    def of_data_key(self, version: str) -> StatementFloor | None:
        """Return the newest statement that a data key was bound to; None for one that never was."""
        return self._by_data_key.get(version)

    def set_statement(self, account_guid: str, floor: StatementFloor) -> None:
        """Note an account's newest statement. One that is not newer than what is known changes nothing."""
        with self._lock:
            known = self._known.statements.get(account_guid)
            if known is not None and known.sequence >= floor.sequence:
                return
            versions = tuple(dict.fromkeys((*(known.data_keys if known is not None else ()), *floor.data_keys)))
            floor = StatementFloor(floor.sequence, floor.digest, floor.protected, versions)
            self._known.statements[account_guid] = floor
            self._by_data_key |= dict.fromkeys(versions, floor)
            self._write()

    def is_revoked(self, request_id: str) -> bool:
        return request_id in self._known.revoked

    @property
    def revocations(self) -> int:
        """How many are remembered."""
        return len(self._known.revoked)

    def revoke(self, request_id: str, until: float) -> None:
        """Note that a request's access is over. until: when it would have been anyway; it is forgotten a week after that."""
        with self._lock:
            old = self._known.time - 7 * 86_400.0
            kept = {name: ends for name, ends in self._known.revoked.items() if ends > old}
            self._known.revoked = {**kept, request_id: until}
            self._write()

    def head(self, log: str) -> HeadFloor | None:
        return self._known.heads.get(log)

    def set_head(self, log: str, floor: HeadFloor) -> None:
        with self._lock:
            self._known.heads[log] = floor
            self._write()

    def forget_head(self, log: str) -> HeadFloor | None:
        """Forget a log's newest head and return it: for whoever has the root key, after an older state of the log was restored."""
        with self._lock:
            found = self._known.heads.pop(log, None)
            if found is not None:
                self._write()
            return found

    def _ahead_s(self) -> float:
        """Return what a rehearsal is ahead of the machine by. Somebody else may write that file: it is never behind."""
        return max(0.0, self._clock.ahead_s) if isinstance(self._clock, SimulatedClock) else 0.0

    def _read(self) -> _Known:
        try:
            sealed = self._path.read_bytes()
        except FileNotFoundError:
            return _Known()
        try:
            opened = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], _BOUND)
            return msgspec.msgpack.decode(opened, type=_Known)
        except (InvalidTag, ValueError, msgspec.MsgspecError) as failure:
            message = f"{self._path} is damaged, or another platform's. Without it the broker does not know what it has revoked."
            raise Fault(FaultKind.UNAVAILABLE, message) from failure

    def _write(self) -> None:
        nonce = os.urandom(_NONCE)
        sealed = self._cipher.encrypt(nonce, msgspec.msgpack.encode(self._known), _BOUND)
        write_durably(self._path, nonce + sealed, replace=True)
        self._written_time = self._known.time
