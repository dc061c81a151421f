"""Sending one sink what it is to get: from the log itself, at least once, of each log in order, from where it had got to.

A cursor for each log is on disk after every batch, so that nothing is kept in memory beyond the batch under way: after an outage of any length, or
a crash, the log is read on from there. A crash between the receiver's word and the cursor sends that batch twice. A receiver that refuses what one
log has to say gets the others' all the same.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from stockade.audit.disk import sync_folder
from stockade.audit.ledger import LogReader
from stockade.audit.outgoing import shown_address
from stockade.audit.resource_log import NotARecord, decoded, resource_log
from stockade.audit.sinks.installed import open_sink
from stockade.audit.sinks.sink import OpenSink, ResourceLog, Undelivered
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault
from stockade.settings import Sink

MOST_RECORDS: Final = 500
MOST_BYTES: Final = 1024 * 1024
"""Of one batch. A single record may be larger."""
SCAN: Final = 5_000
"""Records looked at for one batch; where few of a log's are wanted, most of them are passed over."""
POLL_S: Final = 1.0
GATHER_S: Final = 0.1
"""How long is waited after a log has grown, for what comes right after."""
FIRST_WAIT_S, LONGEST_WAIT_S, REFUSED_WAIT_S, FAULT_WAIT_S = 0.5, 60.0, 60.0, 5.0
SAVE_PASSED_S: Final = 30.0
"""How often it is written down that records were passed over. Looking at them again is no harm."""

log = logging.getLogger(__name__)


class Routes(Protocol):
    """What diagnostic settings ask for, at one moment."""

    def logs(self, sink: str) -> Collection[str]:
        """Return the logs of which a sink is to get anything."""
        ...

    def wants(self, sink: str, record: Mapping[str, Any]) -> bool:
        """Say whether a sink is to get a record."""
        ...


class LogPlace(msgspec.Struct, rename="camel"):
    """How far a sink has got in one log."""

    next: int = 0
    """The index of the first record that it has not got."""
    size: int = 0
    """Of the log, when it was last looked at."""
    missed: int = 0
    """Records that were removed before it could get them."""
    waiting_since: float = 0.0
    """The time of the oldest record that could not be delivered; 0 while none waits."""
    leaf: str = ""
    """SHA-256 of the record before `next`, in hex, by which a log is known again; "" where it was not looked at."""


class SinkState(msgspec.Struct, rename="camel"):
    """What is remembered of a sink, and shown to operators. Times are epoch seconds, 0 for never."""

    name: str
    type: str
    address: str
    everything: bool = False
    logs: dict[str, LogPlace] = {}
    delivered: int = 0
    last_success: float = 0.0
    last_error: str = ""
    last_error_at: float = 0.0
    failing_since: float = 0.0

    @property
    def behind(self) -> int:
        """How many records it has yet to get, or to pass over."""
        return sum(max(0, place.size - place.next) for place in self.logs.values())


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What deliveries are made with. All of it is called from several threads.

    folder: of the states. logs: the logs there are, by name. routes: diagnostic settings as they are now. location: the platform's.
    """

    folder: Path
    logs: Callable[[], Mapping[str, LogReader]]
    routes: Callable[[], Routes]
    clock: Clock
    location: str


class Delivery:
    """One sink's. `run` on one event loop, until it is cancelled."""

    def __init__(self, configured: Sink, around: Surroundings) -> None:
        self._configured, self._around = configured, around
        self.state = _read(around.folder, configured)
        self.wanted = asyncio.Event()
        """Set when a log has grown."""
        self._sink: OpenSink | None = None
        self._most = MOST_RECORDS
        self._wait_s = 0.0
        self._not_before: dict[str, float] = {}
        """Monotonic, by log: refused ones are not tried before. Under "": the whole sink is not."""
        self._saved_at = float("-inf")
        self._known: set[str] = set()
        """Logs that were found to go on from where this sink had got to."""

    async def run(self) -> None:
        """Deliver what is there and what comes."""
        try:
            while True:
                self.wanted.clear()
                try:
                    pause_s = await self._pass()
                except Fault as fault:  # a log that is damaged, and says so elsewhere too
                    about = {"sink": self.state.name, "why": fault.message}
                    log.error("audit records cannot be sent on", extra=about, exc_info=fault.__cause__)  # noqa: TRY400
                    pause_s = FAULT_WAIT_S
                except Exception:
                    log.exception("audit records cannot be sent on", extra={"sink": self.state.name})
                    pause_s = REFUSED_WAIT_S
                if pause_s:
                    await self._sleep(pause_s)
        finally:
            if self._sink is not None:
                await self._sink.close()

    async def _sleep(self, pause_s: float) -> None:
        """Wait, shorter when a log has grown and nothing keeps this sink from being asked."""
        now = self._around.clock.monotonic()
        held_s = self._not_before.get("", now) - now
        if held_s > 0:
            await asyncio.sleep(held_s)
            return
        try:
            async with asyncio.timeout(pause_s):
                await self.wanted.wait()
                await asyncio.sleep(GATHER_S)
        except TimeoutError:
            pass

    async def _pass(self) -> float:
        """Try one batch of each log; return how long to wait then, 0 when there may be more."""
        more, monotonic = False, self._around.clock.monotonic
        for name, reader in self._around.logs().items():
            if self._not_before.get("", 0.0) > monotonic():
                return POLL_S
            if self._not_before.get(name, 0.0) > monotonic():
                continue
            # The size first: a record that is counted here was made under settings no newer than those asked for next.
            place, size = self._place(name, reader), reader.size
            place.size = size
            routes = None if self._configured.everything else self._around.routes()
            if place.next < size and routes is not None and name not in routes.logs(self.state.name):
                place.next, place.waiting_since, place.leaf = size, 0.0, ""
            if place.next < size:
                more |= await self._batch(name, reader, place, routes)
        if monotonic() - self._saved_at >= SAVE_PASSED_S:
            await self._save()
        return 0.0 if more else POLL_S

    def _place(self, name: str, reader: LogReader) -> LogPlace:
        place = self.state.logs.setdefault(name, LogPlace())
        about = {"sink": self.state.name, "log": name}
        if place.next < reader.first:
            lost = reader.first - place.next
            place.missed, place.next = place.missed + lost, reader.first
            if self._configured.everything or place.waiting_since:
                log.error("retention removed records before a sink got them", extra={**about, "records": lost})
        if name not in self._known and not self._is_known(reader, place):
            # Which of its records are others than before nobody can say, so all are sent.
            log.error("a log is not the one that a sink has got records of; it gets all of it again", extra=about)
            place.next, place.leaf = reader.first, ""
        self._known.add(name)
        return place

    def _is_known(self, reader: LogReader, place: LogPlace) -> bool:
        """Say whether a log goes on from where this sink had got to. It may have been rolled back while nobody looked."""
        last = place.next - 1
        if place.next > reader.size:
            return False
        if not place.leaf or last < reader.first:
            return True
        return any(_leaf(line) == place.leaf for _, line in reader.records(last, place.next))

    async def _batch(self, name: str, reader: LogReader, place: LogPlace, routes: Routes | None) -> bool:
        """Deliver the next batch; say whether it is worth going on at once. routes: None when everything is wanted."""
        batch, after, leaf = await asyncio.to_thread(self._collect, name, reader, place, routes)
        if not batch:
            passed, place.next, place.leaf = after > place.next, after, leaf
            return passed and after < place.size
        try:
            if self._sink is None:
                self._sink = open_sink(self._configured)
            await self._sink.deliver(batch)
        except Undelivered as failure:
            place.waiting_since = batch[0].time
            await self._failed(name, failure)
            return False
        state = self.state
        place.next, place.leaf, place.waiting_since = after, leaf, 0.0
        state.delivered += len(batch)
        state.last_success = self._around.clock.now()
        if state.failing_since:
            log.warning("a sink takes audit records again", extra={"sink": state.name, "behind": state.behind})
        state.failing_since = 0.0
        self._wait_s, self._most = 0.0, min(MOST_RECORDS, self._most * 2)
        self._not_before.pop(name, None)
        await self._save()
        return place.next < place.size

    def _collect(
        self, name: str, reader: LogReader, place: LogPlace, routes: Routes | None
    ) -> tuple[list[ResourceLog], int, str]:
        """Return the next records that are wanted, the index after the last one that was looked at, and that one's leaf."""
        batch, size, after, last = list[ResourceLog](), 0, place.next, b""
        location = self._around.location
        for index, line in reader.records(place.next, min(place.size, place.next + SCAN)):
            try:
                record = decoded(line)
            except NotARecord:
                log.exception("a line of an audit log is no record", extra={"log": name, "index": index})
                after, last = index + 1, line
                continue
            if routes is None or routes.wants(self.state.name, record):
                made = resource_log(name, index, line, record, location)
                if batch and size + len(made.body) > MOST_BYTES:
                    break
                batch.append(made)
                size += len(made.body)
            after, last = index + 1, line
            if len(batch) >= self._most:
                break
        return batch, after, _leaf(last) if last else place.leaf

    async def _failed(self, name: str, failure: Undelivered) -> None:
        now, state, jitter = self._around.clock.monotonic(), self.state, random.uniform(0.8, 1.2)  # noqa: S311
        if failure.too_large and self._most > 1:
            self._most = max(1, self._most // 2)
        elif failure.refused:
            self._not_before[name] = now + REFUSED_WAIT_S * jitter
        else:
            self._wait_s = min(LONGEST_WAIT_S, self._wait_s * 2 or FIRST_WAIT_S)
            wait_s = failure.again_s if failure.again_s is not None else self._wait_s * jitter
            self._not_before[""] = now + max(wait_s, FIRST_WAIT_S / 2)
        if not state.failing_since or state.last_error != str(failure):
            log.error("a sink does not take audit records", extra={"sink": state.name, "why": str(failure)})
        state.last_error, state.last_error_at = str(failure), self._around.clock.now()
        state.failing_since = state.failing_since or state.last_error_at
        await self._save()

    async def _save(self) -> None:
        self._saved_at = self._around.clock.monotonic()
        await asyncio.to_thread(save, self._around.folder / f"{self.state.name}.json", msgspec.json.encode(self.state))


def states(folder: Path, sinks: Collection[Sink]) -> list[SinkState]:
    """Return what is remembered of the settings' sinks, by whatever process."""
    return [_read(folder, one) for one in sinks]


def _leaf(line: bytes) -> str:
    return sha256(line).hexdigest()


def save(path: Path, data: bytes) -> None:
    """Put a small file in place, durably and whole."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)
    sync_folder(path.parent)


def _read(folder: Path, configured: Sink) -> SinkState:
    """Return a sink's state; where it has none, or one that cannot be read, it begins with the oldest records."""
    path = folder / f"{configured.name}.json"
    state = SinkState(configured.name, configured.type, "")
    try:
        state = msgspec.json.decode(path.read_bytes(), type=SinkState)
    except FileNotFoundError:
        pass
    except (OSError, msgspec.MsgspecError):
        log.exception("a sink's cursors cannot be read; it gets everything again", extra={"sink": configured.name})
    state.name, state.type, state.everything = configured.name, configured.type, configured.everything
    state.address = shown_address(configured.url)
    return state
