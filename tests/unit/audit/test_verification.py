"""Verifying a log where it lies: every record, every hash and every head; what was changed is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from stockade.audit.heads import FILE_NAME, Heads, sign_newest
from stockade.audit.ledger import FORKED, ROLLED_BACK
from stockade.audit.pruning import record_of_pruning
from stockade.audit.reading import Reader
from stockade.audit.store import Logs
from stockade.audit.tree import HASH
from stockade.audit.verification import Verified, verify_log
from stockade.kernel.faults import Fault, FaultKind
from tests.factories.logs import LOG, Signer, filled, lines

SIGNER = Signer()
SIZES = [3, 7, 20, 33, 50]


def verified(folder: Path, **arguments: object) -> Verified:
    return verify_log(Reader(folder), [SIGNER.key], **arguments)  # type: ignore[arg-type]


def refused(folder: Path, **arguments: object) -> Fault:
    with pytest.raises(Fault) as raised:
        verified(folder, **arguments)
    assert raised.value.kind in {FaultKind.INVALID, FaultKind.UNAVAILABLE}
    return raised.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    logs = filled(tmp_path, SIZES, segment_bytes=300)
    logs.close()
    return logs.folder / LOG


def test_a_log_as_it_was_written(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    found = verified(folder, progress=lambda done, total: told.append((done, total)))
    assert (found.start, found.end, found.heads, found.missing_before) == (0, 50, len(SIZES), False)
    assert told == []


def test_a_log_that_has_not_begun(tmp_path: Path) -> None:
    assert verified(tmp_path / "platform").end == 0


def test_progress_is_told(tmp_path: Path) -> None:
    logs = filled(tmp_path, [40_000], segment_bytes=10**6)
    told: list[tuple[int, int]] = []
    verified(logs.reader(LOG).folder, progress=lambda done, total: told.append((done, total)))
    assert [total for _, total in told] == [40_000] * len(told)
    assert len(told) == 2


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    """Of records, hashes and heads; and of where lines end, which would move them."""
    folder = filled(tmp_path, [3, 8, 11], segment_bytes=200).reader(LOG).folder
    for path in sorted(folder.iterdir()):
        if path.name == "size":
            continue
        data = path.read_bytes()
        for at in range(0, len(data), 2):
            changed = bytearray(data)
            changed[at] ^= 1 << at % 8
            path.write_bytes(changed)
            refused(folder)
        path.write_bytes(data)
    verified(folder)


def test_a_changed_record_is_named(folder: Path) -> None:
    path = sorted(folder.glob("*.jsonl"))[2]
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"id":"', b'"id":"', 1).replace(b"xx", b"yy", 1))
    first = int(path.stem)
    assert f"Record {first + data[: data.index(b'xx')].count(10)} is not the one" in refused(folder).message


def test_a_rewritten_log_does_not_fit_what_was_signed(tmp_path: Path) -> None:
    """Somebody makes all of it anew, hashes included; the heads are what cannot be made."""
    real = filled(tmp_path / "real", SIZES).reader(LOG).folder
    forged = Logs(tmp_path / "forged").writer(LOG)
    forged.append([*lines(30), b'{"id":"30","pad":"forged"}', *lines(19, 31)])
    forged.sync()
    shutil.copy(real / FILE_NAME, forged.folder)
    assert "up to 33 are not those that were signed" in refused(forged.folder).message
    (forged.folder / FILE_NAME).unlink()
    sign_newest(forged, Heads(forged.folder), Signer(b"o" * 32).sign, 5.0)
    assert "not signed with the given key" in refused(forged.folder).message


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a segment is gone": lambda folder: sorted(folder.glob("*.jsonl"))[1].unlink(),
    "the newest segment is gone": lambda folder: max(folder.glob("*.jsonl")).unlink(),
    "hashes are cut": lambda folder: (folder / "hashes").write_bytes((folder / "hashes").read_bytes()[:-HASH]),
    "half a head": lambda folder: (folder / FILE_NAME).write_bytes((folder / FILE_NAME).read_bytes() + b"stockade/"),
    "a head is gone in its middle": lambda folder: (folder / FILE_NAME).write_bytes(
        (folder / FILE_NAME).read_bytes().replace(b"\n7\n", b"\n", 1)
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_what_is_missing_is_said(folder: Path, damage: Callable[[Path], object]) -> None:
    damage(folder)
    refused(folder)


def test_an_older_state_of_it_lacks_what_was_signed(tmp_path: Path) -> None:
    old = filled(tmp_path / "old", [3, 7, 20]).reader(LOG).folder
    new = filled(tmp_path / "new", SIZES).reader(LOG).folder
    witness = Heads(new).all()
    assert refused(old, witness=witness).code == ROLLED_BACK
    assert refused(tmp_path / "none" / LOG, witness=witness).code == ROLLED_BACK
    shutil.copy(new / FILE_NAME, old)
    assert refused(old).code == ROLLED_BACK


def test_a_witness_of_another_past(tmp_path: Path) -> None:
    folder = filled(tmp_path / "a", SIZES).reader(LOG).folder
    assert (
        verified(folder, witness=Heads(filled(tmp_path / "b", [2, 11, 50]).reader(LOG).folder).all()).unwitnessed == 0
    )
    other = Logs(tmp_path / "c").writer(LOG)
    other.append([b"other"])
    other.sync()
    sign_newest(other, Heads(other.folder), SIGNER.sign, 5.0)
    assert refused(folder, witness=Heads(other.folder).all()).code == FORKED


@pytest.mark.parametrize("before", [1, 20, 25, 50])
def test_what_retention_removed_is_verified_by_its_hashes(tmp_path: Path, before: int) -> None:
    logs = filled(tmp_path, SIZES, segment_bytes=300)
    writer = logs.writer(LOG)
    writer.append([msgspec.json.encode(record_of_pruning(LOG, before, 1.0, "keep_days 400"))])
    writer.prune(before)
    found = verified(writer.folder)
    assert (found.start, found.end, found.pruned, found.missing_before) == (before, 51, before, False)
    hashes = bytearray((writer.folder / "hashes").read_bytes())
    for at in range(0, len(hashes), HASH):
        hashes[at] ^= 1
        (writer.folder / "hashes").write_bytes(hashes)
        refused(writer.folder)
        hashes[at] ^= 1


def test_records_that_are_gone_without_a_record_of_it(tmp_path: Path) -> None:
    writer = filled(tmp_path, SIZES).writer(LOG)
    writer.prune(9)
    assert verified(writer.folder).missing_before
