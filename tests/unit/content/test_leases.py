from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from stockade.content.format import Head
from stockade.content.leases import BodyLease, Borrower
from stockade.kernel.clock import ManualClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.broker import ObjectKeys, ObjectRef
from tests.factories.contents import ACCOUNT, EVIDENCE, FakeLender

REF = ObjectRef("files/f", "v1")


def borrower(lender: Any, clock: ManualClock | None = None) -> Borrower:
    return Borrower(lender, clock or ManualClock(), ACCOUNT, EVIDENCE, "write", "test")


def lease(lender: Any, clock: ManualClock | None = None, ref: ObjectRef = REF) -> BodyLease:
    return BodyLease(borrower(lender, clock), ref, "write", b"bound", Head())


async def test_a_key_is_asked_for_again_when_its_time_is_over_and_not_before() -> None:
    lender, clock = FakeLender(lease_s=5), ManualClock()
    held = lease(lender, clock)
    first = await held.cipher()
    clock.advance(4.9)
    assert await held.cipher() is first
    clock.advance(0.2)
    assert await held.cipher() is not first
    assert len(lender.asked) == 2
    held.end()
    await held.cipher()
    assert len(lender.asked) == 3
    held.end()


async def test_a_body_stays_under_the_data_key_that_its_writing_began_with() -> None:
    lender, clock = FakeLender(), ManualClock()
    held = lease(lender, clock)
    assert held.data_key == ""
    await held.cipher()
    lender.newest = "d00000000002"
    clock.advance(6)
    await held.cipher()
    assert held.data_key == "d00000000001"
    assert [refs[0].data_key for _, refs, _, _ in lender.asked] == ["", "d00000000001"]
    held.end()


async def test_whoever_waits_holds_no_key_longer_than_it_was_lent() -> None:
    """Here real time passes: nobody asks for the cipher any more, and it goes all the same."""
    held = lease(FakeLender(lease_s=0.01))
    await held.cipher()
    gone = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, gone.set)
    await gone.wait()
    assert held._cipher is None


async def test_a_refusal_comes_out_as_it_is() -> None:
    lender = FakeLender()
    lender.refuse(FaultKind.PERMISSION_DENIED)
    with pytest.raises(Fault) as caught:
        await lease(lender).cipher()
    assert caught.value.kind is FaultKind.PERMISSION_DENIED


@pytest.mark.parametrize(("takes", "keys"), [(5.0, 1), (0.0, 0), (0.0, 2)], ids=["slow", "too few", "too many"])
async def test_an_answer_that_cannot_be_used_is_not(takes: float, keys: int) -> None:
    """The lease counts from the question: a key that took as long to come as it may be used has been used up."""
    clock = ManualClock()

    class Odd:
        async def object_keys(self, account_id: str, objects: Sequence[ObjectRef], *_: object) -> ObjectKeys:
            clock.advance(takes)
            return ObjectKeys((Secret(bytes(32)),) * keys, "d1", 5.0)

    with pytest.raises(Fault) as caught:
        await borrower(Odd(), clock).keys([REF], "read")
    assert caught.value.kind is FaultKind.UNAVAILABLE
