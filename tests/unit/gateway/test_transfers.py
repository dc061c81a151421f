"""Files that go up and down at a time are few."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from stockade.gateway.transfers import AT_ONCE, OF_ONE_ACCOUNT, Transfers
from stockade.kernel.faults import Fault, FaultKind


def refused(transfers: Transfers, account: str) -> bool:
    try:
        with transfers.one(account):
            return False
    except Fault as fault:
        return fault.kind is FaultKind.LIMIT and fault.retry_after_s == 1


def test_one_account_leaves_room_for_others_and_all_together_are_bounded() -> None:
    transfers = Transfers()
    with ExitStack() as under_way:
        for _ in range(OF_ONE_ACCOUNT):
            under_way.enter_context(transfers.one("a"))
        assert refused(transfers, "a")
        assert not refused(transfers, "b")
        for number in range(AT_ONCE - OF_ONE_ACCOUNT):
            under_way.enter_context(transfers.one(f"other{number}"))
        assert refused(transfers, "b")
    assert not refused(transfers, "a")
    assert not transfers._of


def test_what_ends_badly_counts_no_more() -> None:
    transfers = Transfers()
    with pytest.raises(KeyError), transfers.one("a"):
        raise KeyError
    assert not transfers._of
