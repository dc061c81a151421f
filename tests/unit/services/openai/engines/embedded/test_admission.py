import asyncio

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.openai.engines.embedded.admission import Admission


async def test_a_freed_place_goes_to_the_one_who_waits():
    admission = Admission(running=1, waiting=1, patience_s=60)
    await admission.enter()
    second = asyncio.create_task(admission.enter())
    await asyncio.sleep(0)
    assert not second.done()
    admission.leave()
    await second


async def test_beyond_the_queue_a_request_is_refused_at_once_with_a_time_to_come_back():
    admission = Admission(running=1, waiting=1, patience_s=60)
    await admission.enter()
    second = asyncio.create_task(admission.enter())
    await asyncio.sleep(0)
    with pytest.raises(Fault) as refused:
        await admission.enter()
    assert refused.value.kind is FaultKind.LIMIT
    assert refused.value.retry_after_s
    second.cancel()


async def test_waiting_ends_when_patience_does():
    admission = Admission(running=1, waiting=1, patience_s=0.01)
    await admission.enter()
    with pytest.raises(Fault) as refused:
        await admission.enter()
    assert refused.value.kind is FaultKind.LIMIT


async def test_one_who_gives_up_waiting_takes_no_place_and_no_room_in_the_queue():
    admission = Admission(running=1, waiting=1, patience_s=60)
    await admission.enter()
    for _ in range(3):
        waiting = asyncio.create_task(admission.enter())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    admission.leave()
    await admission.enter()
