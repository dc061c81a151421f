"""Heads in a log's folder: appended, found, thinned; and having the next one signed whatever was lost between the broker and the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from stockade.audit import heads as heads_module
from stockade.audit.heads import FILE_NAME, Heads, sign_newest
from stockade.audit.tree import continues
from stockade.kernel.faults import Fault, FaultKind
from tests.factories.logs import LOG, Signer, filled, lines

SIGNER = Signer()


def note(size: int, time: float = 1000.0) -> bytes:
    return SIGNER.sign(LOG, size, bytes([size % 256]) * 32, time, [])


def sizes(heads: Heads) -> list[int]:
    return [signed.head.size for signed in heads.all()]


def test_heads_are_kept_in_order(tmp_path: Path) -> None:
    heads = Heads(tmp_path)
    assert (heads.newest(), heads.all()) == (None, [])
    for size in range(1, 200):
        heads.append(note(size))
        newest = Heads(tmp_path).newest()
        assert newest is not None and newest.note == note(size)
    assert sizes(heads) == sizes(Heads(tmp_path)) == list(range(1, 200))
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o77 == 0


def test_half_a_head_is_passed_over_and_cut_off(tmp_path: Path) -> None:
    Heads(tmp_path).append(note(1))
    Heads(tmp_path).append(note(2))
    whole = (tmp_path / FILE_NAME).read_bytes()
    for cut in range(len(whole) // 2, len(whole), 7):
        (tmp_path / FILE_NAME).write_bytes(whole[:cut])
        newest = Heads(tmp_path).newest()
        assert newest is not None and newest.head.size == 1
        heads = Heads(tmp_path)
        heads.append(note(3))
        assert sizes(heads) == [1, 3]


def test_what_is_no_head_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(Fault):
        Heads(tmp_path).append(b"nothing")
    assert not (tmp_path / FILE_NAME).exists()


def test_damage_is_said(tmp_path: Path) -> None:
    heads = Heads(tmp_path)
    heads.append(note(1))
    (tmp_path / FILE_NAME).write_bytes((tmp_path / FILE_NAME).read_bytes().replace(b"\n1\n", b"\n01\n"))
    for ask in (heads.all, heads.newest, lambda: Heads(tmp_path).append(note(2))):
        with pytest.raises(Fault, match="are damaged") as raised:
            ask()
        assert raised.value.kind is FaultKind.UNAVAILABLE


def test_more_than_half_a_head_is_damage_and_stays(tmp_path: Path) -> None:
    heads = Heads(tmp_path)
    heads.append(note(1))
    data = (tmp_path / FILE_NAME).read_bytes() + b"x" * 20_000
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(Fault, match="are damaged"):
        heads.append(note(2))
    assert (tmp_path / FILE_NAME).read_bytes() == data


def test_a_full_disk_leaves_the_heads_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = Heads(tmp_path)
    heads.append(note(1))
    write = os.pwrite

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        write(descriptor, memoryview(data)[:9], at)
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(OSError, match="no space"):
            heads.append(note(2))
    assert (tmp_path / FILE_NAME).read_bytes() == note(1) + b"\n"
    heads.append(note(3))
    assert sizes(heads) == [1, 3]


def test_old_heads_are_thinned_to_one_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_module, "MOST", 20)
    heads = Heads(tmp_path)
    for number in range(1, 100):
        heads.append(note(number, time=number * 600.0))
    found = sizes(heads)
    assert len(found) <= 20
    assert found[-10:] == list(range(90, 100))
    assert [size % 6 for size in found[:4]] == [5] * 4, "one an hour, the last of each"
    heads.append(note(100))
    assert sizes(Heads(tmp_path))[-2:] == [99, 100]


def test_they_stay_in_order_when_an_hour_comes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_module, "MOST", 20)
    heads = Heads(tmp_path)
    for number in range(1, 30):
        heads.append(note(number, time=36_000.0 if number == 9 else 600.0))
    found = sizes(heads)
    assert found == sorted(found)
    assert 9 in found


class Broker:
    """Signs what continues the last it signed, as the key broker does."""

    def __init__(self) -> None:
        self.size, self.root, self.asked = 0, b"", 0

    def sign(self, log: str, size: int, root: bytes, time: float, consistency: Sequence[bytes]) -> bytes:
        self.asked += 1
        if self.size and not continues(self.size, size, self.root, root, consistency):
            raise Fault(FaultKind.CONFLICT, "It does not continue.", details={"size": self.size})
        self.size, self.root = size, root
        return SIGNER.sign(log, size, root, time, consistency)


def test_the_newest_is_signed_once(tmp_path: Path) -> None:
    writer, broker = filled(tmp_path, []).writer(LOG), Broker()
    heads = Heads(writer.folder)
    assert sign_newest(writer, heads, broker.sign, 5.0) is None
    for size in (3, 17, 40):
        writer.append(lines(size - writer.size, writer.size))
        writer.sync()
        signed = sign_newest(writer, heads, broker.sign, 5.0)
        assert signed is not None and (signed.head.size, signed.head.root) == (size, writer.root())
        assert sign_newest(writer, heads, broker.sign, 6.0) is None
    assert broker.asked == 3
    assert sizes(heads) == [3, 17, 40]


def test_a_log_that_was_rolled_back_with_its_heads_is_told_when_it_asks(tmp_path: Path) -> None:
    writer, broker = filled(tmp_path, []).writer(LOG), Broker()
    heads = Heads(writer.folder)
    writer.append(lines(10))
    writer.sync()
    sign_newest(writer, heads, broker.sign, 5.0)
    assert sign_newest(writer, heads, broker.sign, 6.0, ask=True) is None
    assert (broker.asked, sizes(heads)) == (2, [10])
    broker.size = 12
    assert sign_newest(writer, heads, broker.sign, 6.0) is None
    with pytest.raises(Fault, match="does not continue"):
        sign_newest(writer, heads, broker.sign, 6.0, ask=True)


@pytest.mark.parametrize("grows", [0, 9])
def test_a_head_that_was_signed_and_not_kept_is_made_up_for(tmp_path: Path, grows: int) -> None:
    writer, broker = filled(tmp_path, []).writer(LOG), Broker()
    heads = Heads(writer.folder)
    writer.append(lines(10))
    writer.sync()
    sign_newest(writer, heads, broker.sign, 5.0)
    writer.append(lines(10, 10))
    writer.sync()
    broker.sign(LOG, 20, writer.root(), 5.0, writer.consistency(10, 20))
    if grows:
        writer.append(lines(grows, 20))
        writer.sync()
    sign_newest(writer, heads, broker.sign, 5.0)
    assert sizes(heads) == [10, 20 + grows]


def test_a_log_that_lost_what_was_signed_is_not_signed(tmp_path: Path) -> None:
    writer, broker = filled(tmp_path, []).writer(LOG), Broker()
    writer.append(lines(10))
    writer.sync()
    broker.size, broker.root = 12, b"x" * 32
    with pytest.raises(Fault, match="does not continue"):
        sign_newest(writer, Heads(writer.folder), broker.sign, 5.0)
    broker.size = 4
    with pytest.raises(Fault, match="does not continue"):
        sign_newest(writer, Heads(writer.folder), broker.sign, 5.0)
    Heads(writer.folder).append(note(30))
    with pytest.raises(Fault, match="its newest head is of 30"):
        sign_newest(writer, Heads(writer.folder), broker.sign, 5.0)
    assert broker.asked == 3


def test_two_that_append_by_turns_take_nothing_from_each_other(tmp_path: Path) -> None:
    one, other = Heads(tmp_path), Heads(tmp_path)
    for size in range(1, 9):
        (one, other)[size % 2].append(note(size))
    assert sizes(one) == list(range(1, 9))
