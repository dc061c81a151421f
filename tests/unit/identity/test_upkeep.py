import asyncio

import pytest

from stockade.identity import signing_keys, upkeep
from tests.factories.identity import World


def current(world: World) -> list[str]:
    return [key["kid"] for key in signing_keys.published(world.snapshot(), world.issuer, world.clock.now())]


def test_keys_are_rotated_and_tidied_when_it_is_time(world: World) -> None:
    [first] = current(world)
    assert not upkeep.rotate_if_due(world.services)
    world.manual.advance(91 * 86_400)
    assert upkeep.rotate_if_due(world.services)
    assert len(current(world)) == 2
    assert not upkeep.rotate_if_due(world.services)
    world.manual.advance(signing_keys.RETIREMENT_S + 1)
    assert upkeep.rotate_if_due(world.services)
    [second] = current(world)
    assert second != first


async def test_it_runs_until_it_is_cancelled_and_outlives_a_lost_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stockade.kernel.faults import Fault, FaultKind

    tried = asyncio.Event()
    loop = asyncio.get_running_loop()

    def lost(_: object) -> bool:
        loop.call_soon_threadsafe(tried.set)
        raise Fault(FaultKind.UNAVAILABLE, "gone")

    monkeypatch.setattr(upkeep, "rotate_if_due", lost)
    task = asyncio.create_task(upkeep.run(world.services))
    await asyncio.wait_for(tried.wait(), 10)
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
