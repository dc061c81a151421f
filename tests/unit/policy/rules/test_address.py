"""Is there an account at this address?"""

from __future__ import annotations

from stockade.kernel.faults import FaultKind
from stockade.policy.rules import address
from tests.factories import policy


def test_account_or_the_regional_endpoint_is_an_address() -> None:
    assert address.decide(policy.snapshot(), policy.facts()) is None
    assert address.decide(policy.snapshot(), policy.facts(account=None, regional=True)) is None


def test_anything_else_is_nobodys() -> None:
    denied = address.decide(policy.snapshot(), policy.facts(account=None))
    assert denied is not None
    assert (denied.fault.kind, denied.fault.message, dict(denied.because)) == (
        FaultKind.NOT_FOUND,
        "Resource not found",
        {},
    )
