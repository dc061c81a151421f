"""Exports: one file that says all that is needed, and that every change of is found; verified with the key alone."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from stockade.audit.checkpoint import HeadKey, SignedHead, origin_of, read_note
from stockade.audit.export import export, index_at
from stockade.audit.heads import Heads, sign_newest
from stockade.audit.ledger import FORKED, ROLLED_BACK
from stockade.audit.pruning import record_of_pruning
from stockade.audit.store import Logs
from stockade.audit.verification import Verified, read_witness, verify_export
from stockade.kernel.faults import Fault, FaultKind
from tests.factories import merkle
from tests.factories.logs import LOG, TENANT, Signer, filled, lines

SIGNER = Signer()
KEYS = [SIGNER.key]
SIZES = [3, 7, 8, 20, 33, 50]


def exported(logs: Logs, start: int = 0, end: int | None = None) -> bytes:
    to, reader = io.BytesIO(), logs.reader(LOG)
    export(reader, Heads(reader.folder), to, start=start, end=end)
    return to.getvalue()


def verified(data: bytes, keys: Sequence[HeadKey] = KEYS, witness: Sequence[SignedHead] = ()) -> Verified:
    return verify_export(io.BytesIO(data), keys, witness)


def refused(data: bytes, keys: Sequence[HeadKey] = KEYS, witness: Sequence[SignedHead] = ()) -> Fault:
    with pytest.raises(Fault) as raised:
        verified(data, keys, witness)
    assert raised.value.kind is FaultKind.INVALID
    return raised.value


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return exported(filled(tmp_path_factory.mktemp("audit"), SIZES))


def test_a_whole_log(whole: bytes) -> None:
    found = verified(whole)
    assert (found.origin, found.start, found.end, found.heads) == (origin_of(TENANT, LOG), 0, 50, len(SIZES))
    assert found.newest is not None and found.newest.root == merkle.mth(lines(50))
    assert not found.missing_before and not found.missing_after
    assert whole.splitlines()[1 + len(SIZES) :] == lines(50)
    assert verified(whole, [HeadKey(SIGNER.key.public, found.origin)]) == found


def test_every_part(tmp_path: Path) -> None:
    logs = filled(tmp_path, SIZES)
    for start in range(0, 50, 3):
        for end in range(start + 1, 51, 4):
            found = verified(exported(logs, start, end))
            assert (found.start, found.end) == (start, end)
            assert (found.missing_before, found.missing_after) == (start > 0, end < 50)


@pytest.mark.parametrize(("start", "end", "step"), [(0, None, 1), (3, 9, 3)])
def test_every_flipped_byte_is_found(tmp_path: Path, start: int, end: int | None, step: int) -> None:
    data = exported(filled(tmp_path, [2, 8, 11]), start, end)
    for at in range(0, len(data), step):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        refused(bytes(changed))


def edited(data: bytes, number: int, count: int) -> list[list[bytes]]:
    """Return the file with a record dropped, said twice, and exchanged with the next; with the count as it was, and as it would be."""
    first = 1 + len(SIZES) + number
    all_lines = data.splitlines(keepends=True)
    dropped, doubled, moved = all_lines.copy(), all_lines.copy(), all_lines.copy()
    del dropped[first]
    doubled.insert(first, doubled[first])
    moved[first : first + 2] = reversed(moved[first : first + 2])
    found = [moved]
    for changed, records in ((dropped, count - 1), (doubled, count + 1)):
        header = json.loads(changed[0])
        header["records"] = records
        found += [changed, [json.dumps(header, separators=(",", ":")).encode() + b"\n", *changed[1:]]]
    return found


def test_every_dropped_doubled_or_moved_record_is_found(whole: bytes) -> None:
    for number in range(50):
        for changed in edited(whole, number, 50)[number == 49 :]:
            refused(b"".join(changed))


def test_heads_that_are_left_out_doubled_or_moved(whole: bytes) -> None:
    all_lines = whole.splitlines(keepends=True)
    refused(b"".join([all_lines[0], all_lines[2], all_lines[1], *all_lines[3:]]))
    refused(b"".join([all_lines[0], *all_lines[2:]]))
    refused(b"".join([all_lines[0], all_lines[1], *all_lines[1:]]))


def test_records_behind_the_newest_head_are_not_exported_and_not_taken(tmp_path: Path) -> None:
    logs = filled(tmp_path, SIZES)
    logs.writer(LOG).append(lines(5, 50))
    logs.writer(LOG).sync()
    data = exported(logs)
    assert verified(data).end == 50
    header = json.loads(data.splitlines()[0])
    header["records"] = 51
    longer = json.dumps(header, separators=(",", ":")).encode() + data[data.index(b"\n") :] + lines(1, 50)[0] + b"\n"
    assert "behind the newest" in refused(longer).message


def test_another_key_or_none(whole: bytes) -> None:
    assert "not the one that was given" in refused(whole, [Signer(b"o" * 32).key]).message
    refused(whole, [HeadKey(SIGNER.key.public, "stockade/other/log")])
    refused(whole, [])


@pytest.mark.parametrize(
    "data", [b"", b"{}\n", b"\xff\n", b"x" * 9_000_000, b'{"stockadeAuditExport":2}\n'], ids=range(5)
)
def test_what_is_no_export(data: bytes) -> None:
    refused(data)


def test_a_log_that_was_pruned_says_so_itself(tmp_path: Path) -> None:
    logs = filled(tmp_path, SIZES)
    writer = logs.writer(LOG)
    writer.prune(20)
    assert verified(exported(logs)).missing_before, (
        "somebody has removed them, and no record says that it was retention"
    )
    writer.append([msgspec.json.encode(record_of_pruning(LOG, 30, 1.0, "keep_days 400"))])
    writer.prune(30)
    sign_newest(writer, Heads(writer.folder), SIGNER.sign, 2000.0)
    found = verified(exported(logs))
    assert (found.start, found.end, found.pruned, found.missing_before) == (30, 51, 30, False)
    assert verified(exported(logs, 31)).missing_before
    writer.prune(40)
    assert verified(exported(logs)).missing_before


def test_there_is_nothing_to_export(tmp_path: Path) -> None:
    logs = filled(tmp_path, SIZES)
    for start, end in ((50, None), (20, 20), (60, 70)):
        with pytest.raises(Fault) as raised:
            exported(logs, start, end)
        assert raised.value.kind is FaultKind.NOT_FOUND
    with pytest.raises(Fault, match="has been signed yet"):
        exported(Logs(tmp_path / "other"))


def test_records_are_found_by_their_time(tmp_path: Path) -> None:
    writer = Logs(tmp_path).writer(LOG)
    writer.append([b'{"time":%d.5}' % second for second in range(100, 160)])
    writer.sync()
    writer.prune(10)
    assert [index_at(writer, time) for time in (0.0, 100.5, 120.5, 120.6, 159.5, 200.0)] == [10, 10, 20, 21, 59, 60]


# Witnesses.


def heads_of(logs: Logs) -> list[SignedHead]:
    return Heads(logs.reader(LOG).folder).all()


def test_a_witness_that_has_seen_the_same(tmp_path: Path) -> None:
    logs = filled(tmp_path / "a", SIZES)
    other = SIGNER.sign("platform", 1000, b"r" * 32, 5.0, [])
    kept = b"".join(signed.note + b"\n" for signed in heads_of(logs)) + other + b"\n"
    witness = read_witness(kept + other[:40])
    assert verified(exported(logs), witness=witness).unwitnessed == 0
    # At other sizes than those of the heads that are there: within the records they are held to them, elsewhere they cannot be.
    more = heads_of(filled(tmp_path / "b", [5, 12, 25, 45, 50]))
    assert verified(exported(logs), witness=more).unwitnessed == 0
    assert verified(exported(logs, 10, 30), witness=more).unwitnessed == 2


def test_a_witness_that_has_seen_more(tmp_path: Path) -> None:
    witness = heads_of(filled(tmp_path / "a", [20, 60]))
    fault = refused(exported(filled(tmp_path / "b", SIZES)), witness=witness)
    assert fault.code == ROLLED_BACK
    assert "has seen 60 records" in fault.message


@pytest.mark.parametrize(("start", "end"), [(0, 50), (20, 40), (30, 50), (0, 10)])
def test_a_witness_that_has_seen_others(tmp_path: Path, start: int, end: int) -> None:
    other = Logs(tmp_path / "a").writer(LOG)
    other.append([b"another", *lines(19, 1)])
    other.sync()
    signed = read_note(SIGNER.sign(LOG, 20, other.root(), 5.0, []))
    fault = refused(exported(filled(tmp_path / "b", SIZES), start, end), witness=[signed])
    assert fault.code == FORKED


def test_a_witness_with_heads_that_are_not_signed(tmp_path: Path) -> None:
    logs = filled(tmp_path, SIZES)
    forged = read_note(Signer(b"o" * 32).sign(LOG, 20, b"r" * 32, 5.0, []))
    assert "not signed with the given key" in refused(exported(logs), witness=[forged]).message
