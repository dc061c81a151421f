"""What is refused while the customer's key does not serve."""

from __future__ import annotations

import dataclasses

import pytest

from stockade.kernel.faults import FaultKind
from stockade.kernel.operation import Operation
from stockade.policy.facts import Facts
from stockade.policy.rules import customer_key as rule
from tests.factories import policy
from tests.factories.customer_key import NOW, VAULT_URI, customer_key, snapshot, version

FILES = Operation("Files", "GET", "/openai/files", "OpenAI/files/read", stores="customer-content")
ASKED = Operation("Responses", "POST", "/openai/responses", "OpenAI/responses/write", "json", stores="on-request")
GONE = snapshot(versions=(version(enabled=False),))


def facts(
    operation: Operation | None = policy.CHAT, *, guards: bool = True, bound: bool = True, now: float = NOW
) -> Facts:
    key = customer_key(guards_stateless=guards) if bound else None
    return policy.facts(account=policy.account(customer_key=key), operation=operation, now=now)


@pytest.mark.parametrize("operation", [policy.CHAT, FILES, ASKED], ids=lambda operation: str(operation.name))
def test_everything_is_refused_without_it_and_nothing_with_it(operation: Operation) -> None:
    assert rule.decide(snapshot(), facts(operation)) is None
    denied = rule.decide(GONE, facts(operation))
    assert denied is not None
    assert denied.fault.kind is FaultKind.CUSTOMER_KEY_UNAVAILABLE
    assert denied.because == {"problem": "KeyDisabled", "vault": VAULT_URI, "key": "k1", "keyVersion": "newest"}
    assert rule.decide(GONE, facts(operation, bound=False)) is None, "an account with the platform's key"


def test_what_keeps_nothing_may_be_let_through() -> None:
    assert rule.decide(GONE, facts(policy.CHAT, guards=False)) is None
    assert rule.decide(GONE, facts(ASKED, guards=False)) is None, (
        "what is kept on request is refused when it is asked for"
    )
    assert rule.decide(GONE, facts(FILES, guards=False)) is not None


def test_it_hangs_on_the_time() -> None:
    ends = snapshot(versions=(version(expires=NOW + 10),))
    assert rule.decide(ends, facts(now=NOW + 9)) is None
    assert rule.decide(ends, facts(now=NOW + 10)) is not None


def test_without_account_or_operation_others_refuse() -> None:
    assert rule.decide(GONE, dataclasses.replace(facts(), account=None)) is None
    assert rule.decide(GONE, facts(None)) is None
