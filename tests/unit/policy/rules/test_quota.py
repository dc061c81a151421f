"""Calls per minute of the SKU and of the deployment."""

from __future__ import annotations

import pytest

from stockade.kernel.faults import FaultKind
from stockade.policy.rules import quota
from tests.factories import policy

NOTHING = policy.snapshot()


@pytest.mark.parametrize(("used", "refused"), [(0, False), (9, False), (10, True), (11, True)])
@pytest.mark.parametrize("whose", ["account", "deployment"])
def test_call_beyond_the_limit_is_refused(whose: str, used: int, refused: bool) -> None:
    if whose == "account":
        facts = policy.facts(account=policy.account(calls_per_minute=10), calls_this_minute=used)
    else:
        facts = policy.facts(deployment=policy.deployment(calls_per_minute=10), deployment_calls_this_minute=used)
    denied = quota.decide(NOTHING, facts)
    assert (denied is not None) is refused
    if denied is not None:
        assert denied.fault.kind is FaultKind.LIMIT
        assert ("deployment 'chat'" in denied.fault.message) is (whose == "deployment")


def test_without_a_limit_nothing_is_refused() -> None:
    assert quota.decide(NOTHING, policy.facts(deployment=policy.deployment(), calls_this_minute=10**9)) is None


def test_limit_of_zero_refuses_every_call() -> None:
    assert quota.decide(NOTHING, policy.facts(account=policy.account(calls_per_minute=0))) is not None


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (60.0, "60 seconds"),
        (59.2, "60 seconds"),
        (1.0, "1 second."),
        (0.01, "1 second."),
        (0.0, "1 second."),
        (500.0, "60 seconds"),
    ],
)
def test_wait_that_is_told_is_whole_seconds_up_to_a_minute(left: float, told: str) -> None:
    facts = policy.facts(account=policy.account(calls_per_minute=1), calls_this_minute=1, seconds_to_next_minute=left)
    denied = quota.decide(NOTHING, facts)
    assert denied is not None
    assert f"Please retry after {told}" in denied.fault.message
    assert denied.fault.retry_after_s is not None and 1 <= denied.fault.retry_after_s <= 60
