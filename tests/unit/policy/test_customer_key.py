"""When a customer's key serves: everything in order, and each thing that takes it away."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from stockade.policy import customer_key
from stockade.policy.customer_key import Unavailable
from stockade.policy.snapshot import (
    DenyAssignment,
    NetworkPolicy,
    Permission,
    PrincipalPolicy,
    RemoteKeyState,
    RoleAssignment,
    Snapshot,
)
from tests.factories.customer_key import (
    ENCRYPTION_USER,
    GROUP,
    IDENTITY,
    NEW,
    NOW,
    OLD,
    VAULT_ID,
    held,
    kid,
    snapshot,
    vault,
    version,
)
from tests.factories.customer_key import customer_key as key
from tests.factories.policy import ACCOUNT


def problem(policy: Snapshot, **changes: Any) -> str:
    found = customer_key.unavailable(policy, ACCOUNT, key(**changes), NOW)
    return found.problem if found is not None else ""


def test_it_serves_when_everything_is_in_order() -> None:
    assert problem(snapshot()) == ""
    assert problem(snapshot(), key_version=NEW) == ""
    assert problem(snapshot(scope=VAULT_ID)) == "", "a role on the whole vault does too"
    assert problem(snapshot(scope=GROUP)) == ""


TAKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no-identity": ({"principal": None}, "IdentityMissing"),
    "identity-disabled": (
        {"principal": PrincipalPolicy(IDENTITY, "ServicePrincipal", "mi", "a", enabled=False)}, "IdentityMissing",
    ),
    "no-vault": ({"vaults": ()}, "VaultNotFound"),
    "no-key": ({"versions": ()}, "KeyNotFound"),
    "disabled": ({"versions": (version(enabled=False),)}, "KeyDisabled"),
    "not-yet": ({"versions": (version(not_before=NOW + 1),)}, "KeyNotYetValid"),
    "expired": ({"versions": (version(expires=NOW),)}, "KeyExpired"),
    "no-unwrap": ({"versions": (version(operations=frozenset({"wrapKey"})),)}, "KeyOperationNotPermitted"),
    "no-role": ({"role": None}, "AccessDenied"),
    "small-role": ({"role": "21090545-7ca7-4776-b22c-e363652d74d2"}, "AccessDenied"),
    "role-elsewhere": ({"scope": VAULT_ID + "/keys/other"}, "AccessDenied"),
    "no-policy": ({"vaults": (vault(rbac=False),)}, "AccessDenied"),
    "network": ({"vaults": (vault(network=NetworkPolicy(admit_by_default=False)),)}, "VaultNetworkDenied"),
    "no-public-access": ({"vaults": (vault(network=NetworkPolicy(public_access=False)),)}, "VaultNetworkDenied"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_each_thing_that_is_missing_takes_it_away(name: str) -> None:
    changes, expected = TAKEN[name]
    assert problem(snapshot(**changes)) == expected


def test_a_deny_assignment_takes_it_away_whatever_roles_there_are() -> None:
    denied = Permission((), (), ("microsoft.keyvault/vaults/keys/unwrap/action",), ())
    deny = DenyAssignment("d", "no", VAULT_ID, (denied,), frozenset({IDENTITY}), frozenset(), this_scope_only=False)
    assert problem(snapshot(more=(("deny", VAULT_ID, deny),))) == "AccessDenied"


def test_access_policies_count_where_the_vault_has_no_rbac() -> None:
    rights = frozenset({"keys/get", "keys/wrapkey", "keys/unwrapkey"})
    by_policy = vault(rbac=False, access={IDENTITY: rights})
    assert problem(snapshot(vaults=(by_policy,), role=None)) == ""
    for one in rights:
        less = dataclasses.replace(by_policy, access={IDENTITY: rights - {one}})
        assert problem(snapshot(vaults=(less,), role=None)) == "AccessDenied"


def test_without_a_version_the_newest_usable_one_serves_and_a_pinned_one_stays() -> None:
    both = snapshot(versions=(version(OLD), version(NEW)))
    serving = customer_key.serving_version(both, key(), NOW)
    assert not isinstance(serving, Unavailable)
    assert serving.version == NEW
    pinned = customer_key.serving_version(both, key(key_version=OLD), NOW)
    assert not isinstance(pinned, Unavailable)
    assert pinned.version == OLD
    newest_off = snapshot(versions=(version(OLD), version(NEW, enabled=False)))
    assert problem(newest_off) == "", "the newest enabled one is followed"
    assert problem(newest_off, key_version=NEW) == "KeyDisabled"


def test_the_version_that_data_keys_are_wrapped_with_has_to_be_there_too() -> None:
    wrapped_new = (("data-keys", ACCOUNT, held(NEW)),)
    assert problem(snapshot(versions=(version(OLD), version(NEW)), more=wrapped_new)) == ""
    off = (version(OLD), version(NEW, enabled=False))
    assert problem(snapshot(versions=off, more=wrapped_new)) == "KeyDisabled", "an older version does not open them"
    assert problem(snapshot(versions=(version(OLD),), more=wrapped_new)) == "KeyNotFound"
    rotated = (version(OLD, expires=NOW - 1), version(NEW))
    assert problem(snapshot(versions=rotated, more=(("data-keys", ACCOUNT, held(OLD)),))) == "", (
        "one that has expired still unwraps, until the data keys are wrapped anew"
    )


def test_of_another_vault_it_is_what_was_last_found_there() -> None:
    elsewhere = key(vault_uri="https://v9.example.net")
    state = RemoteKeyState("https://v9.example.net", "k1", "", "", NOW)

    def found(policy: Snapshot) -> str:
        given = customer_key.unavailable(policy, ACCOUNT, elsewhere, NOW)
        return given.problem if given is not None else ""

    assert found(snapshot()) == "VaultNotFound", "never asked is not allowed"
    assert found(snapshot(more=(("remote-key", ACCOUNT, state),))) == ""
    failed = dataclasses.replace(state, failure="KeyDisabled", message="It is disabled.")
    assert found(snapshot(more=(("remote-key", ACCOUNT, failed),))) == "KeyDisabled"
    other = dataclasses.replace(state, key_name="k2")
    assert found(snapshot(more=(("remote-key", ACCOUNT, other),))) == "VaultNotFound", "what was found of another key"
    assert found(snapshot(principal=None, more=(("remote-key", ACCOUNT, state),))) == "IdentityMissing"


def test_what_is_remembered_ends_when_a_version_begins_or_ends() -> None:
    timed = snapshot(versions=(version(not_before=NOW + 10, expires=NOW + 20),))
    found = [(at, customer_key.unavailable(timed, ACCOUNT, key(), NOW + at)) for at in (0, 9, 10, 19, 20, 30, 15, 5)]
    problems = {at: one.problem if one is not None else "" for at, one in found}
    assert problems == {
        0: "KeyNotYetValid", 5: "KeyNotYetValid", 9: "KeyNotYetValid", 10: "", 15: "", 19: "", 20: "KeyExpired", 30: "KeyExpired",
    }  # fmt: skip


def test_all_problems_are_told_at_once() -> None:
    broken = snapshot(
        vaults=(vault(network=NetworkPolicy(public_access=False)),),
        versions=(version(enabled=False, expires=NOW - 1, operations=frozenset()),),
        role=None,
    )
    found = [one.problem for one in customer_key.problems(broken, key(), NOW)]
    assert found == ["KeyDisabled", "KeyExpired", "KeyOperationNotPermitted", "AccessDenied", "VaultNetworkDenied"]


def test_a_version_is_read_from_a_keys_id() -> None:
    assert customer_key.version_in(kid(OLD)) == OLD
    assert customer_key.version_in("") == ""
    assert customer_key.version_in("https://v1.example/keys/k1") == ""


def test_a_role_for_a_while_serves_while_it_lasts_though_answers_are_remembered() -> None:
    """The same snapshot, asked before, during and after, and before once more: what was remembered then is not what is so now."""
    timed = RoleAssignment("while", VAULT_ID, ENCRYPTION_USER, IDENTITY, since=NOW, until=NOW + 10)
    policy = snapshot(role=None, more=(("assignment", VAULT_ID, timed),))

    def at(now: float) -> str:
        found = customer_key.unavailable(policy, ACCOUNT, key(), now)
        return found.problem if found is not None else ""

    instants = (NOW - 1, NOW, NOW + 9.999, NOW + 10, NOW + 5, NOW - 1)
    assert [at(now) for now in instants] == ["AccessDenied", "", "", "AccessDenied", "", "AccessDenied"]
