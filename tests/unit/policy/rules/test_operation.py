"""Operations that no service knows."""

from __future__ import annotations

from stockade.kernel.faults import FaultKind
from stockade.policy.rules import operation
from tests.factories import policy


def test_operation_that_does_not_exist_is_not_found_for_anyone() -> None:
    for credential in (policy.KEY, policy.TOKEN):
        denied = operation.decide(policy.snapshot(), policy.facts(credential=credential, operation=None))
        assert denied is not None
        assert denied.fault.kind is FaultKind.NOT_FOUND


def test_operation_that_exists_passes() -> None:
    assert operation.decide(policy.snapshot(), policy.facts()) is None
