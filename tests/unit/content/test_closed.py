"""Where an account keeps nothing there is no way to write."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator

import pytest

from stockade.content.closed import KeepsNothing
from stockade.content.item import AccountContent
from stockade.kernel.evidence import CallerKey
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from tests.factories.content import KeptInMemory

READS = {"get", "find", "read", "delete"}


async def nothing_asked() -> AsyncIterator[bytes]:
    raise AssertionError("a body was read that nobody may keep")
    yield b""


async def test_nothing_is_added_or_changed_and_what_is_there_can_be_read_and_removed() -> None:
    kept = KeptInMemory(lambda: 1.0)
    opened = kept.of("/a", CallerKey(Secret("k")), "OpenAI/files/write", "test")
    item = await opened.create("files", "file-1", {"filename": "a"})
    closed = KeepsNothing(opened)
    with pytest.raises(Fault) as caught:
        await closed.create("files", "file-2", {}, nothing_asked())
    assert (caught.value.kind, caught.value.code) == (FaultKind.UNSUPPORTED, "ContentStorageDisabled")
    with pytest.raises(Fault):
        await closed.update(item, metadata={"filename": "b"})
    assert await closed.get("files", "file-1") == item
    assert await closed.find("files") == [item]
    assert [piece async for piece in closed.read(item)] == []
    await closed.delete(item)
    assert kept.items == {}


def test_every_way_into_the_store_is_known() -> None:
    """A new method of the protocol has to be thought about here."""
    ways = {name for name, value in vars(AccountContent).items() if inspect.isfunction(value) and name[0] != "_"}
    assert ways == READS | {"create", "update"}
    assert ways <= set(vars(KeepsNothing))
