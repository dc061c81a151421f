"""Is there an account at this address?"""

from __future__ import annotations

from typing import Any

import pytest

from stockade.kernel.control import Control
from stockade.kernel.faults import FaultKind
from stockade.kernel.verdict import Deny
from stockade.policy.rules import address
from stockade.policy.snapshot import PrivateEndpointPolicy
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


CONNECTION = f"{policy.ACCOUNT}/privateendpointconnections/pe"


def behind(status: Any = "Approved", owner: str = policy.ACCOUNT, **changes: Any) -> Deny | None:
    """Ask at the listener of a private endpoint."""
    known = ("private-endpoint-connection", CONNECTION, PrivateEndpointPolicy(CONNECTION, owner, status, None, None))
    return address.decide(policy.snapshot(known), policy.facts(private_endpoint=CONNECTION, **changes))


def test_private_endpoint_knows_its_own_account_alone() -> None:
    assert behind() is None
    refused = [
        behind(owner=policy.ACCOUNT + "2"),
        behind(account=None),
        behind(account=None, regional=True),
        behind(regional=True),
        address.decide(policy.snapshot(), policy.facts(private_endpoint=CONNECTION)),
    ]
    unknown = address.decide(policy.snapshot(), policy.facts(account=None))
    assert unknown is not None
    for denied in refused:
        assert denied is not None
        assert (denied.fault.kind, denied.fault.message) == (unknown.fault.kind, unknown.fault.message)


@pytest.mark.parametrize("status", ["Pending", "Rejected", "Disconnected"])
def test_private_endpoint_that_is_not_approved_is_refused_in_every_mode(status: str) -> None:
    denied = behind(status, account=policy.account(modes={Control.NETWORK: "off"}))
    assert denied is not None
    assert (denied.fault.kind, denied.because["status"]) == (FaultKind.NETWORK_DENIED, status)
    assert address.CONTROL is None
