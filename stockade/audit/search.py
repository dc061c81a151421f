"""Finding records in a log, newest first, page by page. What the index finds is read from the log, and looked at again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stockade.audit.criteria import Indexed, Wanted, read_record
from stockade.audit.index import LogIndex, Progress
from stockade.audit.ledger import LogReader
from stockade.kernel.faults import Fault, FaultKind

FOLDER: Final = "index"
"""In the audit folder."""
MAX_PAGE: Final = 1000
MAX_LOOKED_AT: Final = 20_000
"""Records that are read for one page, where only reading them says whether they are looked for."""
_MAX_TOKEN: Final = 20


@dataclass(frozen=True, slots=True)
class Found:
    """A record, where it stands in its log, and its line as it was hashed."""

    index: int
    line: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Records, newest first. token: where the next page begins, "" at the end; a page may be short, or empty, and not be the last one."""

    found: tuple[Found, ...]
    token: str


def search(
    reader: LogReader,
    audit_dir: Path,
    wanted: Wanted,
    *,
    limit: int = 100,
    token: str = "",
    within_s: float | None = None,
    also: Callable[[Indexed], bool] | None = None,
    progress: Progress | None = None,
) -> Page:
    """Return a page of what is looked for. Fault(INVALID) for a token that is none of ours.

    within_s: how long it may index what is new, and then as long again look; Fault(UNAVAILABLE) when a log is so far behind that more is to be
    indexed, which asking again goes on with. None: as long as it takes. also: looked at beside `wanted`. progress: of indexing.
    """
    limit = max(1, min(limit, MAX_PAGE))
    before = _before(token)
    with LogIndex(audit_dir / FOLDER, reader) as index:
        if not index.catch_up(within_s, progress):
            done, size = index.indexed, reader.size
            message = f"The audit log is being indexed: {done} of {size} records. Ask again."
            raise Fault(FaultKind.UNAVAILABLE, message, code="AuditIndexBehind", retry_after_s=1)
        found: list[Found] = []
        looked_at, last = 0, before
        for place, stands in index.places(wanted, before, within_s):
            if not stands:
                return Page(tuple(found), str(place))
            if looked_at >= MAX_LOOKED_AT:
                return Page(tuple(found), str(last))
            looked_at, last = looked_at + 1, place
            line = _line(reader, place)
            record = read_record(line) if line is not None else None
            if line is None or record is None or not wanted.fits(record) or not (also is None or also(record)):
                continue
            if len(found) == limit:
                return Page(tuple(found), str(found[-1].index))
            found.append(Found(place, line))
    return Page(tuple(found), "")


def records_of(
    reader: LogReader,
    audit_dir: Path,
    decision_id: str,
    within_s: float | None = None,
    progress: Progress | None = None,
) -> tuple[Found, ...]:
    """Return all records of one request, oldest first."""
    wanted = Wanted(decision_id=decision_id)
    return search(reader, audit_dir, wanted, limit=MAX_PAGE, within_s=within_s, progress=progress).found[::-1]


def _line(reader: LogReader, place: int) -> bytes | None:
    for _, line in reader.records(place, place + 1):
        return line
    return None  # pruned since


def _before(token: str) -> int:
    if not token:
        return 2**62
    if not (token.isascii() and token.isdigit()) or len(token) > _MAX_TOKEN or int(token) > 2**62:
        raise Fault(FaultKind.INVALID, "The continuation token is none that was given out here.", target="$skipToken")
    return int(token)
