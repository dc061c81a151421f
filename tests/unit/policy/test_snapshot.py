"""Indexes that are copied, never changed, and do not depend on the order of arrival."""

from __future__ import annotations

import itertools

import pytest

from stockade.policy import snapshot as snapshot_module
from stockade.policy.snapshot import Entry, Snapshot

ONE: tuple[Entry, ...] = (("subdomain", "a", "one"), ("at", "/", "first"))
TWO: tuple[Entry, ...] = (("subdomain", "a", "two"), ("at", "/", "second"))


def test_single_claim_is_found_and_two_that_collide_are_nobodys() -> None:
    for order in itertools.permutations([("d1", ONE), ("d2", TWO)]):
        both = Snapshot()
        for number, (document_id, entries) in enumerate(order):
            both = both.with_changes(number, {document_id: entries})
        assert both.only("subdomain", "a") is None
        assert both.all("at", "/") == ("first", "second"), "ordered by document, whichever came first"
        assert both.with_changes(9, {"d1": ()}).only("subdomain", "a") == "two"
        assert both.with_changes(9, {"d2": ()}).only("subdomain", "a") == "one"


def test_earlier_snapshot_is_untouched_by_later_ones() -> None:
    first = Snapshot().with_changes(1, {"d": ONE})
    second = first.with_changes(2, {"d": (), "e": TWO})
    assert (first.only("subdomain", "a"), second.only("subdomain", "a")) == ("one", "two")
    assert (first.generation, second.generation) == (1, 2)
    assert first.indexes["at"] is not second.indexes["at"]


def test_index_that_did_not_change_is_shared() -> None:
    first = Snapshot().with_changes(1, {"d": ONE})
    second = first.with_changes(2, {"e": (("other", 1, 1),)})
    assert second.indexes["at"] is first.indexes["at"]


def test_changed_document_leaves_nothing_of_its_former_self() -> None:
    moved = Snapshot().with_changes(1, {"d": ONE}).with_changes(2, {"d": (("subdomain", "b", "one"),)})
    assert moved == Snapshot().with_changes(1, {"d": (("subdomain", "b", "one"),)})
    assert (moved.only("subdomain", "a"), moved.all("at", "/")) == (None, ())
    assert moved.with_changes(3, {"d": ()}) == Snapshot()


def test_document_that_says_an_entry_twice_can_be_changed_and_removed() -> None:
    doubled = Snapshot().with_changes(1, {"d": (*ONE, *ONE)})
    assert doubled.only("subdomain", "a") == "one"
    assert doubled.with_changes(2, {"d": ()}) == Snapshot()
    assert doubled.with_changes(2, {"d": TWO}).only("subdomain", "a") == "two"


def test_what_is_not_there_is_none_or_empty() -> None:
    empty = Snapshot()
    assert (empty.only("x", 1), empty.all("x", 1), list(empty.keys("x"))) == (None, (), [])


def test_remembered_answer_belongs_to_its_snapshot_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "MEMO_LIMIT", 10)
    first = Snapshot()
    asked: list[int] = []
    for _ in range(3):
        assert first.remembered("k", lambda: asked.append(1) or "v") == "v"
    assert asked == [1]
    assert first.with_changes(1, {}).remembered("k", lambda: "other") == "other"
    for number in range(100):
        first.remembered(number, lambda: None)
    assert len(first.memo) <= 10


def test_failure_is_not_remembered() -> None:
    one = Snapshot()
    with pytest.raises(ZeroDivisionError):
        one.remembered("k", lambda: 1 / 0)
    assert one.remembered("k", lambda: 5) == 5
