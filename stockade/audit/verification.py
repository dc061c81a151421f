"""Verifying a log: an export (`export.py`) with nothing but the public key, or the folder of one, every record and every stored hash of it.

What does not fit is Fault(INVALID). Beside a witness's heads two things have a code of their own: `RolledBack`, the witness has seen more records
than there are; and `Forked`, it has seen others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, NoReturn, TypeVar

import msgspec

from stockade.audit import tree
from stockade.audit.checkpoint import Head, HeadKey, SignedHead, read_file, read_note, verify
from stockade.audit.export import EVERY, MAX_LINE, Header, HeadLine, Progress, key_name, unpacked
from stockade.audit.heads import Heads
from stockade.audit.ledger import FORKED, ROLLED_BACK
from stockade.audit.pruning import pruned_below
from stockade.audit.reading import READ_AT_ONCE, Reader
from stockade.kernel.faults import Fault, FaultKind

_Line = TypeVar("_Line", Header, HeadLine)


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found to be as it was signed.

    start, end: of the records. heads: how many. newest: the last of them, which everything is under. pruned: below which index the log itself says
    that retention has removed records; 0: nowhere. unwitnessed: a witness's heads that could be compared with nothing that is here.
    """

    origin: str
    start: int
    end: int
    heads: int
    newest: Head | None
    pruned: int
    unwitnessed: int = 0

    @property
    def missing_before(self) -> bool:
        """Whether the beginning is not there, and the log does not say that retention removed it."""
        return self.start > self.pruned

    @property
    def missing_after(self) -> bool:
        """Whether records that heads have are not there."""
        return self.newest is not None and self.end < self.newest.size


class _Walk:
    """Goes through the records in order, and looks at the root wherever a head says what it has to be."""

    def __init__(
        self, growing: tree.Growing, heads: Iterable[tuple[Head, bool]], total: int, progress: Progress | None
    ) -> None:
        self.growing, self.pruned = growing, 0
        self._due = sorted(heads, key=lambda one: one[0].size, reverse=True)
        self._start, self._total, self._progress, self._told = growing.size, total, progress, growing.size
        self._look()

    def lines(self, lines: Sequence[bytes], stored: Sequence[bytes] | None = None) -> list[bytes]:
        """Go on over records; returns the hashes that are to be written down for them. stored: the leaves that were."""
        for line in lines:
            if below := pruned_below(line):
                self.pruned = max(self.pruned, below)
        leaves = [tree.leaf_hash(line) for line in lines]
        if stored is not None and leaves != stored:
            wrong = next(at for at, pair in enumerate(zip(leaves, stored, strict=True)) if pair[0] != pair[1])
            _invalid(f"Record {self.growing.size + wrong} is not the one that was written.")
        return self.leaves(leaves)

    def leaves(self, leaves: Sequence[bytes]) -> list[bytes]:
        """Go on over records of which only the hashes are left."""
        made: list[bytes] = []
        while leaves:
            until = self._due[-1][0].size - self.growing.size if self._due else len(leaves)
            made += self.growing.grow(leaves[:until])
            leaves = leaves[until:]
            self._look()
        if self._progress is not None and self.growing.size - self._told >= EVERY:
            self._told = self.growing.size
            self._progress(self._told - self._start, self._total)
        return made

    def _look(self) -> None:
        while self._due and self._due[-1][0].size <= self.growing.size:
            head, witness = self._due.pop()
            if self.growing.root() != head.root:
                if witness:
                    _forked(head)
                _invalid(
                    f"The records up to {head.size} are not those that were signed: one of them, since the head before, "
                    "was changed, left out, added or moved."
                )


def verify_export(
    file: BinaryIO, keys: Sequence[HeadKey], witness: Sequence[SignedHead] = (), progress: Progress | None = None
) -> Verified:
    """Verify an export and return what it shows. keys: see `checkpoint.read_keys`. witness: heads pinned elsewhere, of whatever logs."""
    header = _read(file, Header)
    start, end = header.start, header.start + header.records
    if header.key not in [key_name(key, header.origin) for key in keys if key.name in ("", header.origin)]:
        _invalid(f"It is signed with the key {header.key[:300]}, which is not the one that was given.")
    heads = [_head(file, header.origin, keys) for _ in range(header.heads)]
    sizes = [head.size for head, _ in heads]
    newest = heads[-1][0]
    if sizes != sorted(sizes) or end > newest.size:
        _invalid("The heads do not stand in their order, or there are records behind the newest.")
    growing = _growing(start, header.subtrees)
    among = bisect_right(sizes, start), bisect_right(sizes, end)
    before, root = _chain(0, tree.EMPTY, heads[: among[0]])
    if not tree.continues(before, start, root, growing.root(), unpacked(header.consistency)):
        _invalid(f"What it says of the records before {start} does not continue the head of {before}.")
    if any(proof for _, proof in heads[slice(*among)]):
        _invalid("A head among the records has a proof, and needs none.")
    mine = [one for one in witness if one.head.origin == header.origin]
    pinned, unwitnessed = _pinned([head for head, _ in heads], mine, keys, range(start, end + 1))
    due = [(head, False) for head, _ in heads[slice(*among)]] + [(head, True) for head in pinned]
    walk = _Walk(growing, due, header.records, progress)
    left = header.records
    while left:
        lines = [_line(file) for _ in range(min(left, READ_AT_ONCE))]
        left -= len(lines)
        walk.lines(lines)
    if file.read(1):
        _invalid("There is more behind the last record.")
    _chain(end, growing.root(), heads[among[1] :])
    return Verified(header.origin, start, end, len(heads), newest, walk.pruned, unwitnessed)


def verify_log(
    log: Reader, keys: Sequence[HeadKey], witness: Sequence[SignedHead] = (), progress: Progress | None = None
) -> Verified:
    """Verify the folder of a log: each record that is kept, each hash, each head. Fault(UNAVAILABLE) for files that are damaged."""
    while True:
        first = log.first
        try:
            return _verify_log(log, keys, witness, progress)
        except Fault:
            if log.first == first:  # and no retention came in between
                raise


def _verify_log(
    log: Reader, keys: Sequence[HeadKey], witness: Sequence[SignedHead], progress: Progress | None
) -> Verified:
    kept = Heads(log.folder)
    signed, rest = kept.whole()
    if rest:
        signed, rest = kept.whole()  # it may have been written at this moment
    size, root = log.written()  # after the heads, which are of nothing that is not written
    first = log.first
    heads = [verify(one, keys) for one in signed]
    if rest:
        _invalid("Behind the last signed head stands something that is none.")
    if any(head.log != log.name for head in heads):
        _invalid(f"There is a signed head of another log in the folder of {log.name}.")
    last = heads[-1] if heads else None
    if last is not None and last.size > size:
        _invalid(f"There are {size} records, and {last.size} were signed: the newest ones are gone.", ROLLED_BACK)
    origin = last.origin if last is not None else log.name
    mine = [one for one in witness if origin in (one.head.origin, one.head.log)]
    pinned, unwitnessed = _pinned(heads, mine, keys, range(size + 1))
    due = [(head, False) for head in heads] + [(head, True) for head in pinned]
    walk = _Walk(tree.Growing(), due, size, progress)
    at = 0
    while at < first:
        stop = min(first, at + READ_AT_ONCE)
        stored = log.hashes(at, stop)
        _compare(at, stop, walk.leaves(_leaves(at, stop, stored)), stored)
        at = stop
    lines: list[bytes] = []
    for index, line in log.records(first, size):
        if index != at + len(lines):
            _invalid(f"The records {at + len(lines)} to {index} are not there.")
        lines.append(line)
        if len(lines) == READ_AT_ONCE or index == size - 1:
            stop = at + len(lines)
            stored = log.hashes(at, stop)
            _compare(at, stop, walk.lines(lines, _leaves(at, stop, stored)), stored)
            at, lines = stop, []
    if at != size or walk.growing.root() != root:
        _invalid(f"The {size} records are not those that were written.")
    return Verified(origin, first, size, len(heads), last, walk.pruned, unwitnessed)


def read_witness(data: bytes) -> list[SignedHead]:
    """Read a witness's file; what a crash left of a head at its end is passed over. Fault(INVALID) for anything else."""
    return read_file(data)[0]


def _pinned(
    heads: Sequence[Head], witness: Sequence[SignedHead], keys: Sequence[HeadKey], known: range
) -> tuple[list[Head], int]:
    """Return a witness's heads that are to be looked at among the records, and how many can be compared with nothing. known: the sizes there."""
    have = {head.size: head for head in heads}
    newest = max([*have, known[-1]])
    look, unknown = [], 0
    for signed in witness:
        head = verify(signed, keys)
        if head.size > newest:
            message = (
                f"It was rolled back: the witness has seen {head.size} records on {_when(head)}, and here are {newest}."
            )
            _invalid(message, ROLLED_BACK)
        if head.size in known:
            look.append(head)
        elif head.size not in have:
            unknown += 1
        elif have[head.size].root != head.root:
            _forked(head)
    return look, unknown


def _chain(size: int, root: bytes, heads: Sequence[tuple[Head, Sequence[bytes]]]) -> tuple[int, bytes]:
    """Go from a tree over heads that each prove to continue the one before; return where that ends."""
    for head, proof in heads:
        if not tree.continues(size, head.size, root, head.root, proof):
            _invalid(f"The head of {head.size} records does not continue the one of {size}.")
        size, root = head.size, head.root
    return size, root


def _compare(start: int, end: int, made: Sequence[bytes], stored: bytes) -> None:
    if b"".join(made) != stored:
        _invalid(f"The hashes of the records {start} to {end} are not those that were written.")


def _leaves(start: int, end: int, stored: bytes) -> list[bytes]:
    """Return the leaves among the hashes that are written down for some records."""
    before = tree.hashes_of(start)
    places = (tree.HASH * (tree.position(0, index) - before) for index in range(start, end))
    return [stored[at : at + tree.HASH] for at in places]


def _head(file: BinaryIO, origin: str, keys: Sequence[HeadKey]) -> tuple[Head, list[bytes]]:
    line = _read(file, HeadLine)
    head = verify(read_note(line.checkpoint.encode()), keys)
    if head.origin != origin:
        _invalid(f"There is a head of {head.origin} among those of {origin[:300]}.")
    return head, unpacked(line.consistency)


def _growing(start: int, subtrees: Sequence[str]) -> tree.Growing:
    try:
        return tree.Growing(start, unpacked(subtrees))
    except ValueError as failure:
        raise Fault(FaultKind.INVALID, f"It does not say what the {start} records before are made of.") from failure


def _line(file: BinaryIO) -> bytes:
    line = file.readline(MAX_LINE)
    if not line.endswith(b"\n"):
        _invalid("It ends before its last record, or has a line that is too long.")
    return line[:-1]


def _read(file: BinaryIO, wanted: type[_Line]) -> _Line:
    """Read one of our own lines, written as it would be written."""
    line = _line(file)
    try:
        found = msgspec.json.decode(line, type=wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError) as failure:
        raise Fault(FaultKind.INVALID, f"That is no export of an audit log: {failure}") from failure
    return found if msgspec.json.encode(found) == line else _invalid("A line is not written as it would be.")


def _when(head: Head) -> str:
    return datetime.fromtimestamp(head.time, UTC).isoformat(sep=" ", timespec="seconds")


def _forked(head: Head) -> NoReturn:
    message = f"It was rewritten: the witness has seen other records than these, {head.size} of them on {_when(head)}."
    _invalid(message, FORKED)


def _invalid(message: str, code: str | None = None) -> NoReturn:
    raise Fault(FaultKind.INVALID, message, code=code)
