"""From documents to entries: what cannot be read adds nothing, and so allows nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stockade.policy.compile import Compiler
from stockade.policy.snapshot import Entry, Snapshot
from stockade.storage.documents import Document, State


def read(document: Document) -> Iterator[Entry]:
    yield ("name", document.body["name"], document.id)
    if document.body.get("late failure"):
        raise ValueError("after the first entry")
    yield ("id", document.id, 1)


compiler = Compiler({"Test/Type": read})


def document(state: State = State.LIVE, **body: Any) -> Document:
    return Document("/d", "test/type", body, state=state)


def test_live_document_gives_its_entries() -> None:
    assert compiler.entries(document(name="a")) == (("name", "a", "/d"), ("id", "/d", 1))


@pytest.mark.parametrize("state", [State.SOFT_DELETED, State.GONE])
def test_document_that_is_not_live_gives_none(state: State) -> None:
    assert compiler.entries(document(state, name="a")) == ()


def test_type_nobody_knows_gives_none() -> None:
    assert compiler.entries(Document("/d", "other/type", {"name": "a"})) == ()


@pytest.mark.parametrize(
    "body", [{}, {"name": "a", "late failure": True}, {"name": ["unhashable"]}, {"name": {"a": 1}}]
)
def test_document_that_does_not_compile_gives_nothing_at_all_and_says_so(
    body: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    before = compiler.apply(Snapshot(), 1, [document(name="a")])
    after = compiler.apply(before, 2, [document(**body)])
    assert after == Snapshot()
    assert after.generation == 2
    assert "does not compile" in caplog.text


def test_broken_document_takes_no_other_down(caplog: pytest.LogCaptureFixture) -> None:
    other = Document("/e", "test/type", {"name": "b"})
    assert compiler.apply(Snapshot(), 1, [document(), other]).only("name", "b") == "/e"
    assert caplog.records
