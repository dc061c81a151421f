"""What would help where the platform itself would not go."""

from __future__ import annotations

import pytest

from stockade.decisions.record import CONTROLS, Refusal
from stockade.decisions.remedies import _egress_help
from stockade.kernel.control import Control
from stockade.policy.rules.outbound import EGRESS


@pytest.mark.parametrize(
    ("because", "said"),
    [
        ({"host": "h.example", "why": "address: private"}, "of the kind 'private'"),
        ({"host": "h.example", "why": "scheme"}, "list http://h.example"),
        ({"host": "h.example", "why": "redirects"}, "where the content itself is"),
        ({}, "where the content itself is"),
    ],
)
def test_help_fits_the_reason(because: dict[str, str], said: str) -> None:
    assert said in _egress_help(Refusal(EGRESS, "OutboundDenied", because=because)).what


def test_refusals_on_the_way_count_to_loss_prevention() -> None:
    assert CONTROLS[EGRESS] is Control.DLP
