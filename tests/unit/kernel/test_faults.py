"""One error type, one closed list of kinds."""

from __future__ import annotations

import pytest

from stockade.kernel.faults import Fault, FaultKind


def test_fault_carries_what_the_caller_may_know() -> None:
    fault = Fault(FaultKind.LIMIT, "Too fast.", code="C", target="t", retry_after_s=2, details={"a": 1})
    assert (fault.kind, fault.message, fault.code, fault.target, fault.retry_after_s, fault.details) == (
        FaultKind.LIMIT,
        "Too fast.",
        "C",
        "t",
        2,
        {"a": 1},
    )
    assert str(fault) == "Too fast."
    assert repr(fault) == "Fault(LIMIT, 'Too fast.')"


def test_cause_stays_out_of_the_message() -> None:
    with pytest.raises(Fault) as caught:  # noqa: PT012
        try:
            raise OSError("/internal/path")
        except OSError as failure:
            raise Fault(FaultKind.UNAVAILABLE, "Not there.") from failure
    assert "/internal" not in str(caught.value) + repr(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_kinds_are_told_apart_by_their_values() -> None:
    assert len({kind.value for kind in FaultKind}) == len(FaultKind)
