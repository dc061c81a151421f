"""The record of what was found: bounded, and without a URI."""

from __future__ import annotations

import pytest

from stockade.gateway.output.findings import MAX_FINDINGS, MAX_REFUSED, Findings
from stockade.kernel.faults import Fault, FaultKind


def test_same_host_in_the_same_place_is_counted() -> None:
    findings = Findings(enforced=False)
    for _ in range(3):
        findings.note("evil.example", "choices[0].delta.content")
    findings.note("", "choices[0].delta.content")
    first, second = findings.told()
    assert (first.rule, first.fault.kind) == ("output", FaultKind.OUTBOUND_DENIED)
    assert first.because == {
        "host": "evil.example",
        "path": "choices[0].delta.content",
        "why": "host",
        "count": 3,
        "action": "passed",
    }
    assert second.because["why"] == "unreadable"


def test_nothing_found_is_nothing_told() -> None:
    assert Findings(enforced=True).told() == ()


def test_a_model_cannot_make_the_record_grow() -> None:
    findings = Findings(enforced=True)
    for number in range(MAX_REFUSED):
        findings.note(f"{number}.example" + "a" * 300, "x" * 300)
    told = findings.told()
    assert len(told) == MAX_FINDINGS + 1
    assert told[-1].because["count"] == MAX_REFUSED - MAX_FINDINGS
    assert max(len(str(value)) for one in told for value in one.because.values()) <= 100
    with pytest.raises(Fault):
        findings.note("one.more", "x")
