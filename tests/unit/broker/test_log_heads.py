"""Tree heads: the broker signs what continues the last one it has signed, and remembers it, whoever asks and whatever is restarted."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stockade.audit import tree
from stockade.audit.checkpoint import Head, HeadKey, read_note, sign_note, verify
from stockade.audit.heads import Heads, sign_newest
from stockade.audit.ledger import log_of
from stockade.broker.floors import FILE_NAME, Floors, HeadFloor
from stockade.identity.tenant import tenant_of
from stockade.kernel.faults import Fault, FaultKind
from tests.factories import merkle
from tests.factories.broker import Brokered
from tests.factories.logs import LOG, filled, lines


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Brokered]:
    found = Brokered(tmp_path)
    yield found
    found.close()


def sign(world: Brokered, size: int, old: int = 0, *, log: str = LOG, root: bytes | None = None) -> Head:
    """Have a log of numbered records signed, with the proof that it continues the one of `old` records."""
    records = lines(size)
    proof = merkle.proof(old, records) if 0 < old < size else []
    note = world.broker.sign_tree_head(log, size, root or merkle.mth(records), 0.0, proof)
    return verify(read_note(note), [HeadKey(world.broker.tree_head_key())])


def refused(world: Brokered, kind: FaultKind, size: int, old: int = 0, root: bytes | None = None) -> Fault:
    with pytest.raises(Fault) as raised:
        sign(world, size, old, root=root)
    assert raised.value.kind is kind
    return raised.value


def test_a_head_says_whose_it_is_and_when(world: Brokered) -> None:
    head = sign(world, 5)
    tenant = tenant_of(world.snapshot())
    assert tenant is not None
    assert head == Head(f"stockade/{tenant.id}/{LOG}", 5, merkle.mth(lines(5)), head.time)
    assert head.time == pytest.approx(world.clock.now(), abs=0.001)
    assert sign(world, 3, log="platform").origin == f"stockade/{tenant.id}/platform"


def test_it_signs_what_continues_and_nothing_else(world: Brokered) -> None:
    sign(world, 5)
    sign(world, 9, 5)
    sign(world, 9)
    other = merkle.mth([*lines(8), b"other"])
    for size, old, root in ((8, 5, None), (5, 0, None), (9, 0, other), (12, 0, None), (12, 5, None), (12, 9, other)):
        fault = refused(world, FaultKind.CONFLICT, size, old, root)
        assert fault.details["size"] == 9
    assert sign(world, 12, 9).size == 12


def test_it_remembers_across_restarts(world: Brokered) -> None:
    sign(world, 9)
    world.broker = world.another()
    refused(world, FaultKind.CONFLICT, 8)
    refused(world, FaultKind.CONFLICT, 12)
    sign(world, 12, 9)


def test_only_the_first_head_is_on_record(world: Brokered) -> None:
    def recorded() -> list[tuple[str, dict[str, str] | None]]:
        found = [one for one in world.audit.records if one.operation == "Stockade.Keys/treeHeads/begin"]
        return [(log_of(one.resource), one.because) for one in found]

    sign(world, 5)
    sign(world, 9, 5)
    world.broker = world.another()
    sign(world, 12, 9)
    assert recorded() == [(LOG, {"records": "5"})]
    world.broker.close()
    floors = Floors(world.plane.settings.data_dir, world.another().keys.keys, world.clock)
    assert floors.forget_head(LOG) == HeadFloor(12, merkle.mth(lines(12)))
    assert floors.forget_head(LOG) is None
    world.broker = world.another()
    sign(world, 7)
    assert recorded() == [(LOG, {"records": "5"}), (LOG, {"records": "7"})]


def test_nothing_is_signed_that_cannot_be_written_down(world: Brokered, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(world, 5)

    def full(*_: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(Floors, "set_head", full)
        refused(world, FaultKind.UNAVAILABLE, 9, 5)
    before = (world.plane.settings.data_dir / FILE_NAME).read_bytes()
    sign(world, 9, 5)
    assert (world.plane.settings.data_dir / FILE_NAME).read_bytes() != before


@pytest.mark.parametrize(
    ("log", "size", "root", "time", "proof"),
    [
        ("nothing", 5, b"r" * 32, 0.0, []),
        ("platform", 0, tree.EMPTY, 0.0, []),
        ("platform", -1, b"r" * 32, 0.0, []),
        ("platform", 2**63, b"r" * 32, 0.0, []),
        ("platform", 5, b"r" * 31, 0.0, []),
        ("platform", 5, b"r" * 32, 1e12, []),
        ("platform", 5, b"r" * 32, float("nan"), []),
        ("platform", 5, b"r" * 32, 0.0, [b"p" * 31]),
        ("platform", 5, b"r" * 32, 0.0, [b"p" * 32] * 65),
    ],
)
def test_what_is_no_head(world: Brokered, log: str, size: int, root: bytes, time: float, proof: list[bytes]) -> None:
    with pytest.raises(Fault) as raised:
        world.broker.sign_tree_head(log, size, root, time, proof)
    assert raised.value.kind is FaultKind.INVALID
    sign(world, 3, log="platform")


def test_receipts_and_heads_have_different_keys(world: Brokered) -> None:
    """What `sign` makes of a head's text is no signature of the head."""
    key = HeadKey(world.broker.tree_head_key())
    forged = sign_note(Head("stockade/t/platform", 1, b"r" * 32, 0.0), key, world.broker.sign)
    with pytest.raises(Fault, match="is not its key's"):
        verify(read_note(forged), [key])
    assert world.broker.receipt_key() != world.broker.tree_head_key() == world.another().tree_head_key()


def test_two_that_ask_at_once_do_not_fork_the_log(world: Brokered) -> None:
    sign(world, 5)

    def ask(number: int) -> bytes | None:
        records = [*lines(5), b"%d" % number]
        try:
            return world.broker.sign_tree_head(LOG, 6, merkle.mth(records), 0.0, merkle.proof(5, records))
        except Fault:
            return None

    with ThreadPoolExecutor(8) as threads:
        signed = [note for note in threads.map(ask, range(16)) if note is not None]
    assert len(signed) == 1


def test_a_log_on_disk_is_signed_as_it_grows(world: Brokered, tmp_path: Path) -> None:
    writer = filled(tmp_path, []).writer(LOG)
    heads = Heads(writer.folder)
    for size in (4, 11, 30):
        writer.append(lines(size - writer.size, writer.size))
        writer.sync()
        sign_newest(writer, heads, world.broker.sign_tree_head, world.clock.now())
    key = HeadKey(world.broker.tree_head_key())
    assert [verify(signed, [key]).size for signed in heads.all()] == [4, 11, 30]
