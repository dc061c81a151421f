"""Does the credential prove who is asking, and does this account take its kind?"""

from __future__ import annotations

import dataclasses

import pytest

from stockade.kernel.faults import FaultKind
from stockade.kernel.operation import Operation
from stockade.kernel.principal import Credential, KeyCredential, RejectedCredential
from stockade.policy.rules import credential
from tests.factories import policy

NOTHING = policy.snapshot()
PUBLIC = Operation("Languages", "GET", "/languages", None)


def refusal(presented: Credential | None, **changes: object) -> FaultKind | None:
    denied = credential.decide(NOTHING, policy.facts(credential=presented, **changes))
    return denied.fault.kind if denied is not None else None


@pytest.mark.parametrize(
    ("presented", "kind"),
    [
        (policy.KEY, None),
        (policy.TOKEN, None),
        (None, FaultKind.UNAUTHENTICATED),
        (KeyCredential("/other", "Key1", b""), FaultKind.KEY_REJECTED),
        (RejectedCredential("key", "unknown_key"), FaultKind.KEY_REJECTED),
        (RejectedCredential("token", "expired"), FaultKind.UNAUTHENTICATED),
        (RejectedCredential("several", "several_credentials"), FaultKind.CONFLICTING_CREDENTIALS),
        (dataclasses.replace(policy.TOKEN, tenant_id="other"), FaultKind.UNAUTHENTICATED),
    ],
)
def test_each_credential_gets_its_answer(presented: Credential | None, kind: FaultKind | None) -> None:
    assert refusal(presented) is kind


def test_token_needs_an_address_of_the_account() -> None:
    assert refusal(policy.TOKEN, account=None, regional=True) is FaultKind.SUBDOMAIN_REQUIRED
    assert refusal(policy.TOKEN, account=policy.account(subdomain=None)) is FaultKind.SUBDOMAIN_REQUIRED
    assert refusal(policy.TOKEN, regional=True) is FaultKind.SUBDOMAIN_REQUIRED


def test_operation_open_to_all_asks_for_none_but_needs_an_account() -> None:
    assert refusal(None, operation=PUBLIC) is None
    assert refusal(None, operation=PUBLIC, account=None, regional=True) is FaultKind.UNAUTHENTICATED


def test_unknown_operation_is_not_told_to_those_without_a_credential() -> None:
    assert refusal(None, operation=None) is FaultKind.UNAUTHENTICATED
