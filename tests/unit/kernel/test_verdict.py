"""A verdict is matched, never tested for truth."""

from __future__ import annotations

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Allow, Deny, Verdict


@pytest.mark.parametrize("verdict", [Allow(), Deny("rule", Fault(FaultKind.NOT_FOUND, "x"))])
def test_truth_of_a_verdict_is_an_error(verdict: Verdict) -> None:
    for use in (bool, lambda v: v and 1, lambda v: not v, lambda v: 1 if v else 2):
        with pytest.raises(TypeError, match="match a Verdict"):
            use(verdict)
