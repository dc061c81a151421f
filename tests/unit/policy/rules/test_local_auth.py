"""An account that takes identities only."""

from __future__ import annotations

import dataclasses

from stockade.kernel.faults import FaultKind
from stockade.kernel.operation import Operation
from stockade.kernel.principal import Credential
from stockade.policy.rules import local_auth
from tests.factories import policy


def refusal(presented: Credential | None, **changes: object) -> FaultKind | None:
    denied = local_auth.decide(policy.snapshot(), policy.facts(credential=presented, **changes))
    return denied.fault.kind if denied is not None else None


def test_account_without_local_authentication_takes_tokens_only() -> None:
    closed = policy.account(local_auth=False)
    assert refusal(policy.KEY, account=closed) is FaultKind.LOCAL_AUTH_DISABLED
    assert refusal(dataclasses.replace(policy.KEY, via_token=True), account=closed) is FaultKind.LOCAL_AUTH_DISABLED
    assert refusal(policy.TOKEN, account=closed) is None


def test_account_with_it_takes_keys_and_what_needs_no_credential_asks_for_none() -> None:
    assert refusal(policy.KEY) is None
    public = Operation("Languages", "GET", "/languages", None)
    assert refusal(policy.KEY, account=policy.account(local_auth=False), operation=public) is None
