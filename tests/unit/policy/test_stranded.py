"""Whoever takes a customer's key from an account by some change is told so, and the change is made all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.policy.stranded import HEADER
from tests.factories.bound import ACCOUNT, KEY, VAULT, Bound
from tests.factories.control_plane import AUTH, RG, ControlPlane

DENY = f"{VAULT}{AUTH}/denyAssignments/bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Bound]:
    plane = ControlPlane(tmp_path)
    made = Bound(plane)
    made.bind()
    yield made
    plane.close()


def warned(bound: Bound, method: str, path: str, body: Any = None, **options: Any) -> str:
    reply = bound.plane.send(method, path, body, **options)
    assert reply.status_code < 300, reply.text
    return reply.headers.get(HEADER, "")


def test_a_role_that_is_taken_away(bound: Bound) -> None:
    path = bound.grant(bound.principal, RG)
    assert warned(bound, "DELETE", path) == "", "another assignment gives the same"
    (own,) = (one["id"] for one in bound.plane.ok("GET", f"{KEY}{AUTH}/roleAssignments")["value"] if KEY in one["id"])
    told = warned(bound, "DELETE", own)
    assert "a1 (AccessDenied)" in told
    assert warned(bound, "PATCH", ACCOUNT, {"tags": {"a": "b"}}) == "", "it is told once"


def test_an_identity_a_network_rule_and_a_vault(bound: Bound) -> None:
    closed = {"properties": {"networkAcls": {"defaultAction": "Deny", "bypass": "None"}}}
    assert "VaultNetworkDenied" in warned(bound, "PATCH", VAULT, closed)
    opened = {"properties": {"networkAcls": {"defaultAction": "Allow", "bypass": "AzureServices"}}}
    assert warned(bound, "PATCH", VAULT, opened) == ""
    assert "IdentityMissing" in warned(bound, "PATCH", ACCOUNT, {"identity": {"type": "None"}})
    bound.plane.ok("PATCH", ACCOUNT, {"identity": {"type": "SystemAssigned"}})
    bound.grant(bound.principal)
    assert "VaultNotFound" in warned(bound, "DELETE", VAULT)


def test_nothing_is_said_where_nothing_is_lost(bound: Bound) -> None:
    other = ACCOUNT.replace("a1", "a2")
    bound.account(other)
    assert warned(bound, "DELETE", other) == ""
    assert warned(bound, "DELETE", ACCOUNT) == "", "an account that is deleted has no more use for it"
