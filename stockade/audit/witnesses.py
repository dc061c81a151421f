"""Pinning signed tree heads where whoever rewrites this machine's disk does not reach: a file elsewhere, or an address that takes POST.

A witness gets each log's newest head (`audit/heads.py`) when it has changed, and once a day in any case. When the platform starts, each log is held
to the newest head that a file has of it: a log that is shorter, or has another root at that size, was rolled back or rewritten. Then this platform
is not healthy until an operator has said that it is known (`stockade audit accept-rollback`), which is a record of the log itself.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from stockade.audit.appending import Appender, append_durably, path_of
from stockade.audit.checkpoint import HeadKey, SignedHead, read_note, verify
from stockade.audit.delivery import FIRST_WAIT_S, LONGEST_WAIT_S, save
from stockade.audit.disk import sync_folder
from stockade.audit.ledger import LogReader
from stockade.audit.outgoing import Outgoing, shown_address
from stockade.audit.pruning import resource_of
from stockade.audit.sinks.sink import Undelivered
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault
from stockade.kernel.ids import new_guid
from stockade.kernel.record import AuditRecord
from stockade.settings import Witness

TAIL_BYTES: Final = 64 * 1024 * 1024
"""Of a file, in which the newest heads are looked for. Written again every day, each log's is in there."""
AGAIN_S: Final = 86_400.0
MOST_ACCEPTED: Final = 100
LOOK_S: Final = 1.0
STATE_FILE: Final = "witnesses.state.json"
ACCEPTED_FILE: Final = "accepted-rollbacks.json"
ACCEPT: Final = "Stockade.Audit/logs/acceptRollback/action"
_NOTE: Final = re.compile(rb"^(?P<origin>[^\n]+)\n(?:[^\n]+\n)+\n(?:\xe2\x80\x94 [^\n]+\n)+", re.MULTILINE)
"""A signed note: its text, an empty line, and signatures, each behind a dash (C2SP signed-note). In a file an empty line stands behind each."""

log = logging.getLogger(__name__)


class WitnessPlace(msgspec.Struct, rename="camel"):
    """What a witness has of one log."""

    size: int = 0
    at: float = 0.0


class WitnessState(msgspec.Struct, rename="camel"):
    """What is remembered of a witness. Times are epoch seconds, 0 for never."""

    address: str
    logs: dict[str, WitnessPlace] = {}
    last_success: float = 0.0
    last_error: str = ""
    last_error_at: float = 0.0
    failing_since: float = 0.0


class Contradiction(msgspec.Struct, frozen=True, rename="camel"):
    """A log that is not the one a witness knows: it had `size` records with that root (hex), and now has `found`."""

    log: str
    witness: str
    size: int
    root: str
    found: int

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What it is about, however the log grows meanwhile."""
        return self.log, self.witness, self.size, self.root

    @property
    def message(self) -> str:
        what = "is rewritten" if self.found >= self.size else f"has {self.found} records"
        return f"the log {self.log} {what}; {self.witness} has pinned {self.size} records of it"


class Accepted(msgspec.Struct, frozen=True, rename="camel"):
    """What an operator has said of contradictions."""

    contradictions: list[Contradiction]
    reason: str
    who: str
    time: float


class WitnessesState(msgspec.Struct, rename="camel"):
    """What stands in the state file."""

    witnesses: list[WitnessState] = []
    contradictions: list[Contradiction] = []
    accepted: list[Contradiction] = []
    """What an operator has said to be known. It stays so until the witness has newer heads."""
    unrecorded: list[Accepted] = []
    """What was accepted and is not on record yet."""


@dataclass(frozen=True, slots=True)
class WitnessSurroundings:
    """What witnessing is done with. All of it is called from several threads.

    folder: of the state. heads: each log's newest head. key: what heads verify with; Fault(UNAVAILABLE) while nobody can say. record: puts a record
    into the log, durably.
    """

    folder: Path
    logs: Callable[[], Mapping[str, LogReader]]
    heads: Callable[[], Mapping[str, SignedHead]]
    key: Callable[[], HeadKey]
    record: Callable[[AuditRecord], None]
    clock: Clock


class Witnessing:
    """All witnesses'. `run` on one event loop, until it is cancelled."""

    def __init__(self, witnesses: Sequence[Witness], around: WitnessSurroundings) -> None:
        self._around = around
        self.state = read_state(around.folder)
        known = {one.address: one for one in self.state.witnesses}
        self._pins = [_Pin(one, known.get(shown_address(one.url)), around) for one in witnesses]
        self.state.witnesses = [pin.state for pin in self._pins]
        self.checked = threading.Event()
        """Set when the logs were held to every file that can be read; what cannot be is held to later, and keeps nobody from being served."""

    @property
    def problem(self) -> str:
        """Say what is wrong with the logs; "" when nothing is known to be."""
        return "; ".join(one.message for one in self.state.contradictions)

    async def run(self) -> None:
        """Hold the logs to what was pinned, and pin what is new."""
        try:
            while True:
                try:
                    await self._pass()
                except Fault as fault:
                    log.warning("tree heads are not pinned now: %s", fault.message)
                except OSError as failure:  # the logs are out of reach; whoever writes them says so
                    log.warning("tree heads are not pinned now: %s", failure.strerror)
                except Exception:
                    log.exception("tree heads cannot be pinned")
                await asyncio.sleep(LOOK_S)
        finally:
            for pin in self._pins:
                pin.close()

    async def _pass(self) -> None:
        before = msgspec.json.encode(self.state)
        try:
            await asyncio.to_thread(self._accept)
            for pin in self._pins:
                if not pin.checked:
                    self._note(pin, await pin.check())
            if all(pin.tried for pin in self._pins):
                self.checked.set()
            await asyncio.to_thread(self._put_on_record)
            wrong = {one.log for one in self.state.contradictions}
            newest = await asyncio.to_thread(self._around.heads)
            heads = {name: signed for name, signed in newest.items() if name not in wrong}
            await asyncio.gather(*(pin.pin(heads) for pin in self._pins if pin.checked))
        finally:
            if (after := msgspec.json.encode(self.state)) != before:
                await asyncio.to_thread(save, self._around.folder / STATE_FILE, after)

    def _note(self, pin: _Pin, found: Sequence[Contradiction]) -> None:
        if not pin.checked:
            return
        known = {one.key for one in self.state.accepted}
        new = [one for one in found if one.key not in known]
        old = [one for one in self.state.contradictions if one.witness != pin.state.address]
        self.state.contradictions = [*old, *new]
        for one in new:
            log.error("an audit log was rolled back or rewritten: %s", one.message)

    def _put_on_record(self) -> None:
        while self.state.unrecorded and not self.state.contradictions:
            accepted = self.state.unrecorded[0]
            for one in accepted.contradictions:
                self._around.record(_acceptance(one, accepted, self._around.clock.now()))
            self.state.unrecorded.pop(0)

    def _accept(self) -> None:
        """Take note of what an operator has said. It goes on record later: while the platform is not healthy, nothing can."""
        if not self.state.contradictions:
            return
        path = self._around.folder / ACCEPTED_FILE
        try:
            accepted = msgspec.json.decode(path.read_bytes(), type=Accepted)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError):
            log.exception("what an operator has accepted cannot be read")
            return
        keys = {one.key for one in accepted.contradictions}
        known = [one for one in self.state.contradictions if one.key in keys]
        for one in known:
            log.warning("an operator has accepted: %s", one.message, extra={"who": accepted.who})
        self.state.contradictions = [one for one in self.state.contradictions if one not in known]
        self.state.accepted = [*self.state.accepted, *known][-MOST_ACCEPTED:]
        self.state.unrecorded = [*self.state.unrecorded, msgspec.structs.replace(accepted, contradictions=known)]
        save(self._around.folder / STATE_FILE, msgspec.json.encode(self.state))
        path.unlink(missing_ok=True)


class _Pin:
    """One witness."""

    def __init__(self, configured: Witness, known: WitnessState | None, around: WitnessSurroundings) -> None:
        self._configured, self._around = configured, around
        self.state = known or WitnessState(shown_address(configured.url))
        self._is_file = configured.url.startswith("file:")
        self.checked = not self._is_file
        """An address gives nothing back to hold a log to."""
        self.tried = self.checked
        """Also where the file could not be read, which is not ours to mend."""
        self._appender = Appender()
        self._outgoing = Outgoing(
            configured.url,
            credential_env=configured.credential_env,
            credential_file=configured.credential_file,
            ca_file=configured.ca_file,
            timeout_s=configured.timeout_s,
        )
        self._wait_s = self._not_before = 0.0

    async def check(self) -> list[Contradiction]:
        """Hold the logs to what the file has; nothing is pinned there before that was possible."""
        if self._held():
            return []
        found = list[Contradiction]()
        try:
            key = await asyncio.to_thread(self._around.key)
        except Fault as fault:
            self._failed(f"the logs cannot be held to it: {fault.message}", LOOK_S)  # sealed, say: not for long
            return []
        try:
            await self._appender.run(lambda: found.extend(self._contradictions(key)), self._configured.timeout_s)
        except TimeoutError:
            self._failed("it did not answer in time")
        except OSError as failure:
            self._failed(f"it cannot be read: {failure.strerror or 'it failed'}")
        except Fault as fault:
            self._failed(f"the logs cannot be held to it: {fault.message}", LOOK_S)
        else:
            self.checked = True
        self.tried = True
        return found

    async def pin(self, heads: Mapping[str, SignedHead]) -> None:
        """Give the witness what is new."""
        if self._held():
            return
        now = self._around.clock.now()
        for name, signed in heads.items():
            place, size = self.state.logs.setdefault(name, WitnessPlace()), signed.head.size
            if size == place.size and now - place.at < AGAIN_S:
                continue
            try:
                await self._give(signed.note)
            except TimeoutError:
                self._failed("it did not take what was written in time")
                return
            except OSError as failure:
                self._failed(f"it cannot be written: {failure.strerror or 'it failed'}")
                return
            except Undelivered as failure:
                self._failed(str(failure), failure.again_s)
                return
            place.size, place.at = size, now
            self.state.last_success, self.state.failing_since, self._wait_s = now, 0.0, 0.0

    def close(self) -> None:
        self._outgoing.close()

    async def _give(self, note: bytes) -> None:
        if self._is_file:
            await self._appender.run(lambda: self._append(note), self._configured.timeout_s)
        else:
            await self._outgoing.post(note, "text/plain; charset=utf-8")

    def _append(self, note: bytes) -> None:
        path = path_of(self._configured.url)
        new = not path.exists()
        append_durably(path, note + b"\n")
        if new:
            sync_folder(path.parent)

    def _contradictions(self, key: HeadKey) -> Iterator[Contradiction]:
        logs, notes = self._around.logs(), newest_notes(path_of(self._configured.url))
        if self.state.logs and not notes:
            log.error("a witness that had tree heads has none", extra={"at": self.state.address})
        for note in notes:
            try:
                pinned = verify(read_note(note), [key])
            except Fault as fault:
                about = {"at": self.state.address, "why": fault.message}
                log.error("a witness has a tree head that is not this platform's", extra=about)  # noqa: TRY400
                continue
            reader = logs.get(pinned.log)
            size = reader.size if reader is not None else 0
            if reader is None or size < pinned.size or reader.root(pinned.size) != pinned.root:
                yield Contradiction(pinned.log, self.state.address, pinned.size, pinned.root.hex(), size)

    def _held(self) -> bool:
        return self._around.clock.monotonic() < self._not_before

    def _failed(self, why: str, again_s: float | None = None) -> None:
        self._wait_s = min(LONGEST_WAIT_S, self._wait_s * 2 or FIRST_WAIT_S)
        self._not_before = self._around.clock.monotonic() + (again_s if again_s is not None else self._wait_s)
        state, now = self.state, self._around.clock.now()
        if not state.failing_since or state.last_error != why:
            log.error("a witness does not take tree heads", extra={"at": state.address, "why": why})
        state.last_error, state.last_error_at = why, now
        state.failing_since = state.failing_since or now


def newest_notes(path: Path) -> list[bytes]:
    """Return the last signed note of each log (told apart by its first line) in a witness's file; none where there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            data = file.read(TAIL_BYTES)
    except FileNotFoundError:
        return []
    return list({found["origin"]: found.group() for found in _NOTE.finditer(data)}.values())


def read_state(folder: Path) -> WitnessesState:
    """Return what is remembered; nothing where it cannot be read."""
    try:
        return msgspec.json.decode((folder / STATE_FILE).read_bytes(), type=WitnessesState)
    except FileNotFoundError:
        return WitnessesState()
    except (OSError, msgspec.MsgspecError):
        log.exception("what witnesses have cannot be read")
        return WitnessesState()


def accept(folder: Path, reason: str, now: float) -> list[Contradiction]:
    """Say that what contradicts witnesses is known, for the audit process to take up; return what that is."""
    found = read_state(folder).contradictions
    if found:
        said = Accepted(found, reason, getpass.getuser(), now)
        save(folder / ACCEPTED_FILE, msgspec.json.encode(said))
    return found


def _acceptance(one: Contradiction, accepted: Accepted, now: float) -> AuditRecord:
    return AuditRecord(
        time=now,
        id=new_guid(),
        category="Audit",
        phase="outcome",
        operation=ACCEPT,
        resource=resource_of(one.log),
        principal=f"local:{accepted.who}",
        client="stockade audit accept-rollback",
        decision="allow",
        reason=accepted.reason[:500],
        outcome="success",
        because={"witness": one.witness, "pinned": str(one.size), "root": one.root, "found": str(one.found)},
    )
