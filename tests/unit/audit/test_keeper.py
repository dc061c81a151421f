"""Keeping the logs: from spools to trees and their copy, how things stand, what is old, and the end."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.audit import keeper as keeper_module
from stockade.audit import spool as spool_module
from stockade.audit.keeper import Keeper
from stockade.audit.ledger import PLATFORM_LOG, Placed
from stockade.audit.pruning import OPERATION, pruned_below
from stockade.audit.sequencer import NotAlone
from stockade.audit.spool import Spool
from stockade.audit.standing import Standing
from stockade.audit.store import Logs
from stockade.audit.tree import leaf_hash
from stockade.audit.writing import Writer
from stockade.kernel.clock import ManualClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Audit, Settings
from tests.factories.audit import copied, record, take_in

SUB = "11111111-1111-4111-8111-111111111111"
DAY = 86_400.0


class Kept:
    """A data directory and its keeper."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.settings = Settings(data_dir=folder, audit=Audit(head_every_s=0.05))
        self.clock, self.own = ManualClock(), Spool(self.settings)
        options.setdefault("keep_days", lambda _: 0)
        self.keeper = Keeper(self.settings, self.clock, self.own, **options)
        self.keeper.open()

    def ids(self, name: str = PLATFORM_LOG) -> list[str]:
        return [json.loads(line)["id"] for _, line in Logs(self.settings.audit_dir).reader(name).records(0)]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    found = Kept(tmp_path)
    yield found
    found.keeper.close()


def test_records_come_to_their_trees_and_the_copy(kept: Kept) -> None:
    kept.own.commit(record("1"))
    kept.own.commit(record("2", resource=f"/subscriptions/{SUB}/x"))
    assert kept.keeper.run_once() == 2
    assert (kept.ids(), kept.ids(SUB)) == (["1"], ["2"])
    assert [one["id"] for one in copied(kept.settings.mirror_dir)] == ["1", "2"]
    with pytest.raises(NotAlone):
        take_in(kept.settings)


def test_in_threads_it_is_prompt_and_ends_with_everything(kept: Kept) -> None:
    kept.keeper.start()
    kept.own.start()
    seen = 0
    for number in range(20):
        kept.own.commit(record(number))
        seen = kept.keeper.wait(seen, 5.0)
    assert len(kept.ids()) > 0
    kept.own.record(record("last"))
    kept.own.close()
    kept.keeper.close()
    assert kept.ids() == [*map(str, range(20)), "last"]
    assert [one["id"] for one in copied(kept.settings.mirror_dir)] == kept.ids()


def test_a_record_is_given_its_place(kept: Kept) -> None:
    kept.keeper.start()
    kept.own.commit(record("before"))
    written = kept.own._committed(record("wanted"), b"+")
    placed = kept.keeper.placed(written.file, written.offset, 5.0)
    line = Logs(kept.settings.audit_dir).reader(PLATFORM_LOG)
    assert placed == Placed(PLATFORM_LOG, 1, leaf_hash(next(line.records(1))[1]))
    assert kept.keeper.placed("no such spool", 0, 0.01) is None


def test_heads_are_signed_when_something_came_and_tried_again_when_not(tmp_path: Path) -> None:
    signed, refusing = [], threading.Event()
    refusing.set()
    came = threading.Condition()

    def sign(name: str) -> None:
        if refusing.is_set():
            raise Fault(FaultKind.UNAVAILABLE, "The platform is sealed.")
        with came:
            signed.append(name)
            came.notify_all()

    kept = Kept(tmp_path, sign=sign)
    kept.keeper.start()
    kept.own.commit(record("1"))
    standing = Standing(kept.settings.run_dir)
    with came:
        while standing.read().heads != "platform: The platform is sealed.":
            came.wait(0.02)  # another file says it
        refusing.clear()
        assert came.wait_for(lambda: signed, 5.0)
    kept.own.commit(record("2", resource=f"/subscriptions/{SUB}/x"))
    kept.keeper.settle(5.0)
    assert signed[-1] == SUB
    before = len(signed)
    kept.keeper.settle(5.0)
    assert len(signed) == before, "nothing came"
    kept.keeper.close()


@pytest.mark.parametrize("failing", ["log", "mirror", "both"])
def test_a_sink_that_fails_is_said_and_caught_up_with(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    monkeypatch.setattr(spool_module, "LOOK_S", 0.0)
    monkeypatch.setattr(keeper_module, "STANDING_S", 0.0)
    full = OSError(errno.ENOSPC, "No space left on device")

    def fails(*_: object) -> Any:
        raise full

    kept.own.commit(record("1"))
    kept.keeper.run_once()
    with monkeypatch.context() as patch:
        if failing in ("log", "both"):
            patch.setattr(Writer, "append", fails)
        if failing in ("mirror", "both"):
            patch.setattr("stockade.audit.mirror.Mirror._append", fails)
        kept.own.commit(record("2"))
        kept.keeper.run_once()
        kept.keeper._say()
        said = Standing(kept.settings.run_dir).read()
        assert (bool(said.log), bool(said.mirror)) == (failing != "mirror", failing != "log")
        kept.own.flush()
        assert kept.own.healthy is (failing != "both")
        assert kept.ids() == (["1"] if failing != "mirror" else ["1", "2"])
        assert len(list(copied(kept.settings.mirror_dir))) == (2 if failing == "log" else 1)
    kept.own.record(record("3", decision="allow"))
    kept.own.flush()
    kept.keeper.run_once()
    kept.keeper._say()
    kept.own.flush()
    assert kept.own.healthy
    assert kept.ids() == ["1", "2", "3"]
    assert [one["id"] for one in copied(kept.settings.mirror_dir)] == ["1", "2", "3"]


def test_retention_is_put_into_the_log_and_then_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = {PLATFORM_LOG: 0, SUB: 30}
    kept = Kept(tmp_path, keep_days=days.__getitem__)
    now = kept.clock.now()
    for resource in ("", f"/subscriptions/{SUB}/x"):
        for age in (40, 31, 31, 30.5, 20, 35, 1):  # the clock was set back once: what is older may stand behind
            kept.own.record(record(age, time=now - age * DAY, resource=resource))
    kept.own.flush()
    kept.keeper.run_once()
    placed: list[bool] = []

    def place(one: Any) -> Placed:
        kept.own.commit(one)
        kept.keeper.run_once()
        placed.append(Logs(kept.settings.audit_dir).reader(SUB).first == 0)
        return Placed(SUB, 7, b"")

    monkeypatch.setattr(kept.own, "place", place)
    kept.keeper._prune()
    kept.keeper._prune()
    assert placed == [True], "once, and before anything was removed"
    reader = Logs(kept.settings.audit_dir).reader(SUB)
    assert (reader.first, reader.size) == (4, 8)
    said = json.loads(next(reader.records(7))[1])
    assert said["operation"] == OPERATION
    assert pruned_below(next(reader.records(7))[1]) == 4
    assert Logs(kept.settings.audit_dir).reader(PLATFORM_LOG).first == 0
    kept.clock.advance(11.5 * DAY)
    kept.keeper._prune()
    assert Logs(kept.settings.audit_dir).reader(SUB).first == 6, (
        "the rest, and what came after it, when its day has come"
    )
    kept.keeper.close()


def test_what_is_beside_is_told_and_asked(kept: Kept) -> None:
    class Beside:
        problem, held = "", False
        told: list[str] = []  # noqa: RUF012 - one instance

        def start(self) -> None:
            self.told.append("start")

        def close(self) -> None:
            self.told.append("close")

        def wake(self) -> None:
            self.told.append("wake")

        def prunable(self, name: str, before: int) -> int:
            return min(before, 1)

    beside = Beside()
    kept.keeper.beside.append(beside)
    kept.keeper.start()
    kept.own.commit(record("1"))
    kept.keeper.wait(0, 5.0)
    assert not Standing(kept.settings.run_dir).read().held
    beside.problem, beside.held = "platform was rolled back", True
    kept.keeper.close()
    assert Standing(kept.settings.run_dir).read().held
    assert beside.told == ["start", "wake", "close"]
    assert Standing(kept.settings.run_dir).nowhere() == "platform was rolled back"


def test_records_of_an_older_version_stay_and_are_said_to_be_in_no_tree(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.audit_dir.mkdir()
    (settings.audit_dir / "audit.jsonl").write_text('{"id":"old"}\n')
    for number in range(2):
        kept = Kept(tmp_path)
        kept.own.commit(record(number))
        kept.keeper.close()
        kept.own.close()
    (first, *_), *rest = [(json.loads(line),) for _, line in Logs(settings.audit_dir).reader(PLATFORM_LOG).records(0)]
    assert (first["operation"], first["because"]["earlier"]) == ("Stockade.Audit/logs/begin", "audit.jsonl")
    assert [one["id"] for (one,) in rest] == ["0", "1"]
    assert [one["id"] for one in copied(settings.mirror_dir)] == ["old", first["id"], "0", "1"]


def test_the_copy_of_a_subscriptions_records_is_not_taken_for_an_older_versions(tmp_path: Path) -> None:
    for number in range(2):
        kept = Kept(tmp_path)
        kept.own.commit(record(number, resource=f"/subscriptions/{SUB}"))
        kept.keeper.close()
        kept.own.close()
    assert [one["id"] for one in copied(kept.settings.mirror_dir)] == ["0", "1"]
    assert Logs(kept.settings.audit_dir).reader(PLATFORM_LOG).size == 0
