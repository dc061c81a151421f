"""A log in one file, for whoever verifies it elsewhere with nothing but the public key. It is JSON lines.

    {"stockadeAuditExport":1,"origin":...}     what it is; the subtrees before the first record; how they continue the head before that
    {"checkpoint":...,"consistency":[...]}     each signed head, smallest first
    ...                                        the records from `start` on, as they are logged

A head among the records needs no proof: its root is found on the way through them. One before them, or behind them, has the proof that it
continues the point before it (RFC 9162 section 2.1.4): the head before, or where the records end. There is one way to write each line.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, BinaryIO, Final, Literal

import msgspec

from stockade.audit import tree
from stockade.audit.checkpoint import HeadKey, SignedHead
from stockade.audit.heads import Heads
from stockade.audit.reading import Reader
from stockade.kernel.faults import Fault, FaultKind

MAX_LINE: Final = 8 * 1024 * 1024
MAX_HEADS: Final = 100_000
EVERY: Final = 16_384
"""Records between two calls of `progress`."""

Progress = Callable[[int, int], None]
"""Told how many records have been looked at, and how many there are."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Hashes = Annotated[tuple[str, ...], msgspec.Meta(max_length=tree.MAX_PATH)]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line. Hashes in base64.

    subtrees: what makes up the records before `start`. consistency: from the last head at or before `start` to there.
    """

    version: Literal[1] = msgspec.field(name="stockadeAuditExport")
    origin: str
    key: str
    """The name and id of the key that the heads are signed with."""
    heads: Annotated[int, msgspec.Meta(ge=1, le=MAX_HEADS)]
    start: Count
    records: Count
    subtrees: Hashes
    consistency: Hashes


class HeadLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A head. consistency: from the point before it; empty where the records say it themselves."""

    checkpoint: str
    consistency: Hashes


class _Timed(msgspec.Struct):
    time: float = 0.0


def key_name(key: HeadKey, origin: str) -> str:
    """Return what an export calls a key: name and id, as in the key's own text."""
    return f"{origin}+{key.id_for(origin).hex()}"


def packed(hashes: Sequence[bytes]) -> tuple[str, ...]:
    """Return hashes as they are written."""
    return tuple(b64encode(value).decode() for value in hashes)


def unpacked(hashes: Sequence[str]) -> list[bytes]:
    """Return hashes that were written; Fault(INVALID) for what is none, or is not written as it would be."""
    try:
        found = [b64decode(value, validate=True) for value in hashes]
    except ValueError:
        found = []
    if packed(found) != tuple(hashes) or any(len(value) != tree.HASH for value in found):
        raise Fault(FaultKind.INVALID, "A hash is 32 bytes in base64.")
    return found


def index_at(log: Reader, time: float) -> int:
    """Return the first record of a time or later, as well as it can be said: records stand in the order in which they arrived."""

    def time_of(index: int) -> float:
        for _, line in log.records(index, index + 1):
            return msgspec.json.decode(line, type=_Timed).time
        return 0.0

    return bisect_left(range(log.size), time, lo=log.first, key=time_of)


def export(
    log: Reader, heads: Heads, to: BinaryIO, *, start: int = 0, end: int | None = None, progress: Progress | None = None
) -> tuple[int, int]:
    """Write a log, or the records from start to before end; return which of them those are that are still kept and under a signed head.

    Fault(NOT_FOUND) when there are none; Fault(CONFLICT) when retention removes what is being written. progress: see `EVERY`.
    """
    signed = sorted(heads.all(), key=lambda one: one.head.size)
    if not signed:
        raise Fault(FaultKind.NOT_FOUND, f"No head of the audit log {log.name} has been signed yet.")
    newest = signed[-1].head
    start, end = max(start, log.first), newest.size if end is None else min(end, newest.size)
    if start >= end and not start == end == log.first:
        message = f"There are no records to export: {log.first} to {newest.size} are kept and under a signed head."
        raise Fault(FaultKind.NOT_FOUND, message)
    _write(to, _header(log, signed, start, end))
    for line in _head_lines(log, signed, start, end):
        _write(to, line)
    expected = start
    for index, record in log.records(start, end):
        if index != expected:
            break
        to.write(record + b"\n")
        expected += 1
        if progress is not None and expected % EVERY == 0:
            progress(expected - start, end - start)
    if expected != end:
        raise Fault(FaultKind.CONFLICT, "Retention has removed records meanwhile; export them again.")
    return start, end


def _header(log: Reader, signed: Sequence[SignedHead], start: int, end: int) -> Header:
    head = signed[-1].head
    before = max((one.head.size for one in signed if one.head.size <= start), default=0)
    signature = next(one for one in signed[-1].signatures if one.name == head.origin)
    return Header(
        1,
        head.origin,
        f"{head.origin}+{signature.key_id.hex()}",
        len(signed),
        start,
        end - start,
        packed(log.subtrees(start)),
        packed(log.consistency(before, start)),
    )


def _head_lines(log: Reader, signed: Sequence[SignedHead], start: int, end: int) -> list[HeadLine]:
    proofs = []
    for before, size in pairwise([0, *(one.head.size for one in signed)]):
        proof: list[bytes] = []
        if size <= start:
            proof = log.consistency(before, size)
        elif size > end:
            proof = log.consistency(max(before, end), size)
        proofs.append(packed(proof))
    return [HeadLine(one.note.decode(), proof) for one, proof in zip(signed, proofs, strict=True)]


def _write(to: BinaryIO, line: msgspec.Struct) -> None:
    to.write(msgspec.json.encode(line) + b"\n")
