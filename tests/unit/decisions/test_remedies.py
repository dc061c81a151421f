"""What would help where the platform itself would not go."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from stockade.decisions.record import CONTROLS, Decision, Refusal
from stockade.decisions.remedies import _egress_help, helps
from stockade.kernel.control import Control
from stockade.policy.rules.outbound import EGRESS
from tests.factories import customer_key, policy


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


def test_help_for_a_customers_key_is_the_command_that_gives_it_back() -> None:
    bound = dataclasses.replace(policy.account(), customer_key=customer_key.customer_key())
    made = Decision(id="d", time=1.0, account=policy.ACCOUNT, account_id=policy.ACCOUNT)
    told = Refusal("customer-key", "CustomerKeyUnavailable", because={"problem": "KeyDisabled"})
    snapshot = customer_key.snapshot(more=(("account", policy.ACCOUNT, bound),))
    first, second = helps(told, made, snapshot)
    assert first.command == "az keyvault key set-attributes --vault-name v1 -n k1 --enabled true"
    assert "statelessInference=allowed" in second.command
    keeps = msgspec.structs.replace(made, stores="customer-content")
    assert [one.command for one in helps(told, keeps, snapshot)] == [first.command]
    unbound = customer_key.snapshot(more=(("account", policy.ACCOUNT, policy.account()),))
    assert [one.command for one in helps(told, made, unbound)] == [""]


def test_refusals_on_the_way_count_to_loss_prevention() -> None:
    assert CONTROLS[EGRESS] is Control.DLP
