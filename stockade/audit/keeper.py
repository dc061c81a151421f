"""The audit process without its process: takes in spools, writes logs and copy, has heads signed, lets go of what is old, says how things stand.

`run_once` does it all in the caller's thread, for commands and tests; `start` in threads of its own. One per data directory (`NotAlone`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from stockade.audit.ledger import PLATFORM_LOG, Placed
from stockade.audit.log import AuditSink
from stockade.audit.mirror import FILE_NAME, Mirror
from stockade.audit.pruning import record_of_pruning, resource_of
from stockade.audit.sequencer import Sequencer
from stockade.audit.standing import Sinks, Standing
from stockade.audit.store import Logs
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault
from stockade.kernel.ids import new_guid
from stockade.kernel.record import AuditRecord
from stockade.settings import Settings

POLL_S, BUSY_S, CROWDED_S = 0.05, 0.15, 0.4
"""How long until the spools are looked at again: when nothing had come, when something had, and when much had. A batch costs as many syncs
whatever its size, and the records are on disk already. Whoever asks for a place is served at once."""
CROWD: Final = 200
STANDING_S: Final = 1.0
SAID_AT_ONCE: Final = ("log", "mirror", "problem", "held", "heads")
UPKEEP_S: Final = 60.0
DAY_S: Final = 86_400.0
STOP_S: Final = 10.0

log = logging.getLogger(__name__)


class _Dated(msgspec.Struct):
    time: float


class Beside(Protocol):
    """What else goes on where the logs are kept: deliveries to further sinks, and to witnesses (`sending.py`). Started and closed with it."""

    @property
    def problem(self) -> str:
        """Why the platform is not healthy; "" when it is."""
        ...

    @property
    def held(self) -> bool:
        """Whether `problem` says what is known of the logs. Once it does, it goes on to."""
        ...

    def start(self) -> None: ...

    def close(self) -> None: ...

    def wake(self) -> None:
        """Hear that logs have grown. Never waits."""
        ...

    def prunable(self, name: str, before: int) -> int:
        """Return below which index a log may be pruned, where retention would remove everything below `before`."""
        ...


class Keeper:
    """Keeps the logs of one data directory.

    known:     whether there is such a subscription.
    sign:      has the newest head of a log signed; Fault when it cannot be. None: nobody does.
    keep_days: how long records of a log are kept; 0 for good.
    own:       where the keeper's own records go: its process's spool.

    `beside` may be added to before `start`.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        own: AuditSink,
        *,
        known: Callable[[str], bool] = lambda _: True,
        sign: Callable[[str], None] | None = None,
        keep_days: Callable[[str], int] | None = None,
    ) -> None:
        bounds = settings.audit
        self._settings, self._clock, self._own, self._sign = settings, clock, own, sign
        self._keep_days = keep_days or (lambda _: bounds.keep_days)
        self.logs = Logs(settings.audit_dir, bounds.segment_bytes)
        self._mirror = Mirror(
            settings.mirror_dir,
            settings.audit_dir,
            self.logs.reader,
            self._names,
            rotate_bytes=bounds.rotate_bytes,
            keep_files=bounds.keep_files,
        )
        self._sequencer = Sequencer(settings.audit_dir, self.logs.writer, known=known, hand=self._mirror.hand)
        self._standing = Standing(settings.run_dir)
        self._said, self._said_at = Sinks(), float("-inf")
        self._heads = ""
        self._unsigned: set[str] = set()
        self._stop, self._nudged, self._upkeep_due = threading.Event(), threading.Event(), threading.Event()
        self._came = threading.Condition()
        self._turns = self._rounds = 0
        self._threads: list[threading.Thread] = []
        self.beside: list[Beside] = []

    def open(self, wait_s: float = 0.0) -> None:
        """Begin; NotAlone when another one does not end in time, OSError. Heads that were not signed before are signed now."""
        self._sequencer.open(wait_s)
        self._begin()
        self._unsigned.update(self._names())

    def _begin(self) -> None:
        """Say in the platform's log, as the first record of all, that there are records of an older version, which no tree proves.

        The file is the copy's too: once there is a record in any log, what stands in it is ours.
        """
        old = self._settings.audit_dir / FILE_NAME
        with contextlib.suppress(OSError, Fault):  # out of reach, which the sequencer says; then it is not said
            if self._sequencer.ends or any(self.logs.reader(name).size for name in self.logs.names()):
                return
            if not old.stat().st_size:
                return
            record = AuditRecord(
                time=self._clock.now(),
                id=new_guid(),
                category="Audit",
                phase="outcome",
                operation="Stockade.Audit/logs/begin",
                resource=resource_of(PLATFORM_LOG),
                outcome="success",
                because={
                    "earlier": FILE_NAME,
                    "bytes": str(old.stat().st_size),
                    "proof": "none, of what is before this",
                },
            )
            first = self.logs.writer(PLATFORM_LOG)
            first.append([msgspec.json.encode(record)])
            first.sync()

    def start(self) -> None:
        """Do it in threads, from `open` to `close`."""
        self._mirror.start(self._sequencer.ends)
        for one in self.beside:
            one.start()
        for run, name in ((self._take_in, "audit-sequencer"), (self._keep_up, "audit-upkeep")):
            self._threads.append(threading.Thread(target=run, name=name, daemon=True))
            self._threads[-1].start()

    def close(self) -> None:
        """Take in and write what is there, and end."""
        for one in self.beside if self._threads else ():
            one.close()
        self._stop.set()
        self._nudged.set()
        self._upkeep_due.set()
        for thread in self._threads:
            thread.join(STOP_S)
        if not self._threads:
            self.run_once()
        self._mirror.close()
        self._say()
        self._sequencer.close()
        self.logs.close()

    def run_once(self) -> int:
        """Take in and write what is there; return how many records came to the logs. Only without `start`."""
        count = self._sequencer.take_in()
        try:
            if not self._mirror.ready:
                self._mirror.open(self._sequencer.ends)
            self._mirror.write_out()
        except OSError:
            log.exception("the copy of the audit log cannot be opened")
        return count

    def placed(self, file: str, offset: int, timeout_s: float) -> Placed | None:
        """Return where a record of a spool stands, once it does; None when it does not in time."""
        self._nudged.set()
        return self._sequencer.placed(file, offset, timeout_s)

    def wait(self, seen: int, timeout_s: float) -> int:
        """Return a number that grows whenever records have come to logs, as soon as it is greater than the one seen, or after a time."""
        with self._came:
            self._came.wait_for(lambda: self._rounds > seen, timeout_s)
            return self._rounds

    def settle(self, timeout_s: float) -> None:
        """Take in what is there and have the heads signed, before those who sign them end."""
        with self._came:
            begun, deadline = self._turns, time.monotonic() + timeout_s
            # The turn that is under way may have looked already; the one after it takes in everything there is now.
            while self._turns < begun + 2 and (left := deadline - time.monotonic()) > 0:
                self._nudged.set()
                self._came.wait(min(left, POLL_S))
        self._have_signed()

    def _names(self) -> list[str]:
        """Return the logs there are; none while their folder is out of reach, which the sequencer says."""
        try:
            return self.logs.names()
        except OSError:
            return []

    def _take_in(self) -> None:
        while True:
            last = self._stop.is_set()
            self._nudged.clear()
            try:
                count = self._sequencer.take_in()
            except Exception:
                log.exception("the audit logs failed")
                count = 0
            with self._came:
                self._turns += 1
                self._rounds += count > 0
                self._came.notify_all()
            for one in self.beside if count else ():
                one.wake()
            self._say()
            if last:
                return
            self._nudged.wait(CROWDED_S if count > CROWD else BUSY_S if count else POLL_S)

    def _say(self) -> None:
        """Say how the sinks stand, at once when that has changed."""
        now = time.monotonic()
        held = all(one.held for one in self.beside)  # asked before what they have found
        problem = next((one.problem for one in self.beside if one.problem), "")
        sinks = Sinks(
            log=self._sequencer.why,
            mirror=self._mirror.why,
            problem=problem,
            held=held,
            heads=self._heads,
            waiting=self._sequencer.waiting,
            pid=os.getpid(),
            time=self._clock.now(),
        )
        said = self._said
        changed = any(getattr(sinks, name) != getattr(said, name) for name in SAID_AT_ONCE)
        if changed or now - self._said_at > STANDING_S:
            self._standing.write(sinks)
            self._said, self._said_at = sinks, now

    # Heads, and what is old

    def _keep_up(self) -> None:
        looked = float("-inf")
        while not self._stop.is_set():
            if self._upkeep_due.wait(self._settings.audit.head_every_s):
                return  # it is the end, and whoever signs may have gone: `settle` came before
            try:
                self._have_signed()
                if time.monotonic() - looked > UPKEEP_S:
                    looked = time.monotonic()
                    self._prune()
            except Exception:
                log.exception("upkeep of the audit logs failed and will be tried again")

    def _have_signed(self) -> None:
        self._unsigned |= self._sequencer.grown()
        if self._sign is None:
            return
        failed = ""
        for name in sorted(self._unsigned):
            try:
                self._sign(name)
            except Fault as fault:
                failed = f"{name}: {fault.message}"
            except OSError as failure:
                failed = f"{name}: {failure.strerror or type(failure).__name__}"
            except Exception as failure:
                log.exception("a tree head could not be signed", extra={"log": name})
                failed = f"{name}: {type(failure).__name__}"
            else:
                self._unsigned.discard(name)
        if failed and failed != self._heads:
            log.warning("tree heads are not signed: %s", failed)
        self._heads = failed

    def _prune(self) -> None:
        for name in self._names():
            try:
                before = self._old(name)
                for one in self.beside:
                    before = one.prunable(name, before)
                if before > self.logs.reader(name).first:
                    self._prune_log(name, before)
            except (Fault, OSError) as failure:
                why = failure.message if isinstance(failure, Fault) else failure.strerror
                log.warning("a log could not be pruned: %s", why, extra={"log": name})

    def _old(self, name: str) -> int:
        """Return the index below which all records are older than they are kept; 0 while they are not by a day, so that it is done daily."""
        days, reader = self._keep_days(name), self.logs.reader(name)
        if not days:
            return 0
        oldest_kept, before = self._clock.now() - days * DAY_S, 0
        for index, line in reader.records(reader.first, reader.size):
            dated = msgspec.json.decode(line, type=_Dated).time
            if dated >= oldest_kept or (index == reader.first and dated >= oldest_kept - DAY_S):
                break
            before = index + 1
        return before

    def _prune_log(self, name: str, before: int) -> None:
        """Put into the log what goes, and then let it go."""
        self._own.place(record_of_pruning(name, before, self._clock.now(), f"keep_days {self._keep_days(name)}"))
        self.logs.writer(name).prune(before)
