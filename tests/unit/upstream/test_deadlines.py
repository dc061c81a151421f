"""Many time limits behind one timer."""

from __future__ import annotations

import asyncio

import pytest

from stockade.upstream import deadlines
from stockade.upstream.deadlines import Deadlines


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "TICK_S", 0.005)


async def test_limit_that_is_over_calls_back_once_with_its_arguments() -> None:
    loop = asyncio.get_running_loop()
    limits, over = Deadlines(loop), loop.create_future()
    limits.after(0.01, over.set_result, "over")
    assert await asyncio.wait_for(over, 10) == "over"


async def test_cancelled_limit_never_calls_back_and_later_ones_do() -> None:
    loop = asyncio.get_running_loop()
    limits, later = Deadlines(loop), loop.create_future()
    called: list[str] = []
    first = limits.after(0.0, called.append, "cancelled")
    limits.cancel(first)
    limits.cancel(first)
    limits.after(0.02, later.set_result, None)
    await asyncio.wait_for(later, 10)
    assert called == []


async def test_callback_may_cancel_another_that_is_over_too() -> None:
    loop = asyncio.get_running_loop()
    limits, done = Deadlines(loop), loop.create_future()
    called: list[str] = []
    numbers: list[int] = []
    limits.after(0.0, lambda: limits.cancel(numbers[0]))
    numbers.append(limits.after(0.0, called.append, "too late"))
    limits.after(0.02, done.set_result, None)
    await asyncio.wait_for(done, 10)
    assert called == []


async def test_timer_rests_while_there_is_nothing_to_look_at_and_wakes_again() -> None:
    loop = asyncio.get_running_loop()
    limits = Deadlines(loop)
    for _ in range(2):
        over = loop.create_future()
        limits.after(0.0, over.set_result, None)
        await asyncio.wait_for(over, 10)
        assert limits._timer is None
