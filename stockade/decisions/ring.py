"""Keeps what was decided: noted in memory on the request path, written to `decisions.db` twice a second by a thread of its own.

However fast requests come, and whether or not the file can be written, the work and the memory are bounded: of what does not fit, the oldest is
dropped. Refusals wait in a queue of their own, so that allowed requests never push them out.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

import msgspec

from stockade.decisions.record import OUTPUT, Decision, Exchange, Noted, Refusal, decision, noted
from stockade.decisions.store import DAY_S, DecisionStore, Finding, FindingKey, FindingMode, Row
from stockade.kernel.clock import Clock
from stockade.kernel.control import Control
from stockade.kernel.record import AuditRecord
from stockade.settings import Decisions

FLUSH_INTERVAL_S: Final = 0.5
QUEUE_LIMIT: Final = 4_096
"""Allowed requests, and again as many refused ones, waiting in one process; about 2 KB each."""
UNWRITTEN_LIMIT: Final = 2_000
"""Encoded decisions that wait for a file that cannot be written."""
FINDINGS_LIMIT: Final = 4_096

log = logging.getLogger(__name__)


class DecisionRing:
    """One worker's side of the ring. `start` and `close` frame its life; `close` writes what is waiting."""

    def __init__(self, store: DecisionStore, bounds: Decisions, clock: Clock) -> None:
        self._store, self._bounds, self._clock = store, bounds, clock
        self._allowed: deque[Noted] = deque(maxlen=QUEUE_LIMIT)
        self._told: deque[Noted] = deque(maxlen=QUEUE_LIMIT)
        self._rows: deque[Row] = deque(maxlen=UNWRITTEN_LIMIT)
        self._findings: dict[FindingKey, Finding] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed = False

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is waiting and stop."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._flush()
        self._store.close()

    def note(self, exchange: Exchange, record: AuditRecord) -> None:
        """Remember an ended request. Never waits and never fails the request it is about."""
        try:
            note = noted(exchange, record)
        except Exception:
            log.exception("a decision could not be kept", extra={"request": record.id})
            return
        (self._allowed if note.denied is None and not note.reported else self._told).append(note)

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_INTERVAL_S):
            self._flush()

    def _flush(self) -> None:
        try:
            self._gather(sorted((*_drained(self._allowed), *_drained(self._told)), key=lambda note: note.record.time))
            if self._rows or self._findings:
                self._store.write(tuple(self._rows), self._findings, self._clock.now())
                self._rows.clear()
                self._findings.clear()
        except (sqlite3.Error, OSError) as failure:
            if not self._failed:
                log.warning(
                    "decisions cannot be kept; requests go on, and the newest are written when they can be: %s", failure
                )
            self._failed = True
        except Exception:  # whatever it is, this thread must outlive it
            log.exception("decisions were lost")
            self._rows.clear()
            self._findings.clear()
        else:
            if self._failed:
                log.warning("decisions can be kept again")
            self._failed = False

    def _gather(self, notes: list[Noted]) -> None:
        """Encode the newest of each account, as many as its ring holds, and count what controls said of all of them."""
        newest: Counter[str] = Counter()
        rows = []
        for note in reversed(notes):
            account = note.account.id if note.account is not None else ""
            counts = note.denied is not None or note.reported
            if newest[account] >= self._bounds.keep_per_account and not counts:
                continue
            made = decision(note)
            if counts:
                self._count(made)
            if newest[account] < self._bounds.keep_per_account:
                newest[account] += 1
                rows.append(self._row(made))
        self._rows.extend(reversed(rows))

    def _row(self, made: Decision) -> Row:
        try:
            data = self._encode(made)
        except UnicodeEncodeError:  # a lone surrogate in what a caller sent
            made = msgspec.convert(_printable(msgspec.to_builtins(made)), Decision)
            data = self._encode(made)
        rule = made.refusal.rule if made.refusal is not None else made.reported[0].rule if made.reported else ""
        return Row(made.id, made.account, made.time, rule, "allow" if made.allowed else "deny", made.known, data)

    def _count(self, made: Decision) -> None:
        for key in findings(made):
            full = key not in self._findings and len(self._findings) >= FINDINGS_LIMIT
            place = key.counted_together() if full else key
            known = self._findings.get(place)
            if known is None:
                self._findings[place] = Finding(place, 1, made.time, made.time, made.id)
            else:
                first, last = min(known.first_seen, made.time), max(known.last_seen, made.time)
                self._findings[place] = replace(
                    known, count=known.count + 1, first_seen=first, last_seen=last, sample=made.id
                )


def findings(made: Decision) -> Iterator[FindingKey]:
    """Yield what one request adds to the reports: each control that refused it or would have, once per host, caller or action."""
    if not made.account:
        return
    mode: FindingMode
    refusals: list[tuple[Refusal, FindingMode]] = [(refusal, "report") for refusal in made.reported]
    if made.refusal is not None:
        refusals.append((made.refusal, "enforce"))
    seen: set[FindingKey] = set()
    for refusal, mode in refusals:
        control = refusal.control
        if control is None:
            continue
        for reason, subject in _subjects(made, refusal, control):
            key = _key(made, control, mode, refusal.rule, reason, subject)
            if key not in seen:
                seen.add(key)
                yield key
    for found in made.output:
        key = _key(made, Control.OUTPUT, "enforce" if found.redacted else "report", OUTPUT, found.reason, found.host)
        if key not in seen:
            seen.add(key)
            yield key


def _key(made: Decision, control: Control, mode: FindingMode, rule: str, reason: str, subject: str) -> FindingKey:
    return FindingKey(
        account=made.account,
        day=int(made.time // DAY_S),
        control=control.value,
        mode=mode,
        rule=rule,
        reason=reason,
        principal=_text(made.principal),
        slot=made.slot,
        address=_text(made.address),
        agent=_text(made.agent),
        subject=_text(subject),
    )


def _subjects(made: Decision, refusal: Refusal, control: Control) -> Iterable[tuple[str, str]]:
    match control:
        case Control.DLP:
            refused = [(uri.refused, uri.host) for uri in made.uris if uri.refused]
            return refused or [(refusal.because.get("why", refusal.reason), refusal.because.get("host", ""))]
        case Control.LOCAL_AUTH | Control.RBAC:
            return [(refusal.reason, made.data_action or "")]
        case _:
            return [(refusal.reason, made.address)]


def _drained(queue: deque[Noted]) -> Iterator[Noted]:
    for _ in range(len(queue)):
        try:
            yield queue.popleft()
        except IndexError:  # it was full, and what came meanwhile took the place of what was counted
            return


def _text(value: str) -> str:
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {_text(name): _printable(item) for name, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list | tuple) else value
