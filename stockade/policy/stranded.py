"""Which accounts a change takes their customer's key from: the same question asked of the policy before and after. Pure.

Whatever the change is: a key, a vault, a role, a group, an identity, a network rule. It is made all the same, because taking the key away has to
work; whoever made it is told, in the reply's header `x-stockade-warning`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stockade.policy.customer_key import unavailable
from stockade.policy.snapshot import AccountPolicy, CustomerKey, EncryptionScopePolicy, Snapshot

HEADER: Final = "x-stockade-warning"
MAX_NAMED: Final = 5
MAX_ASKED: Final = 2_000
"""Accounts and scopes with a customer's key that are looked at; a change on a platform with more is not slowed down for the rest."""


def stranded(before: Snapshot, after: Snapshot, now: float) -> tuple[tuple[str, str], ...]:
    """Return the accounts and scopes that still have a customer's key and have just lost it: id as it is shown, and the problem."""
    if before is after:
        return ()
    return tuple(_lost(before, after, now))


def warning(before: Snapshot, after: Snapshot, now: float) -> str:
    """Return the header's value; "" when nothing is stranded. Names, ids and problems are ASCII by the rules for resource names."""
    found = stranded(before, after, now)
    if not found:
        return ""
    named = ", ".join(f"{shown.rsplit('/', 1)[-1]} ({problem})" for shown, problem in found[:MAX_NAMED])
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    text = f"The customer-managed key cannot be used any more by: {named}{more}. What they keep cannot be read until it can."
    return text.encode("ascii", "replace").decode()


def _lost(before: Snapshot, after: Snapshot, now: float) -> Iterator[tuple[str, str]]:
    for number, (owner_id, shown, key) in enumerate(_bound(after)):
        if number >= MAX_ASKED:
            return
        gone = unavailable(after, owner_id, key, now)
        if gone is None:
            continue
        had = _key_of(before, owner_id)
        if had is not None and unavailable(before, owner_id, had, now) is None:
            yield shown, gone.problem


def _bound(snapshot: Snapshot) -> Iterator[tuple[str, str, CustomerKey]]:
    for owner_id in snapshot.keys("customer-key"):
        key = _key_of(snapshot, str(owner_id))
        if key is not None:
            yield str(owner_id), str(snapshot.only("customer-key", owner_id)), key


def _key_of(snapshot: Snapshot, owner_id: str) -> CustomerKey | None:
    account: AccountPolicy | None = snapshot.only("account", owner_id)
    if account is not None:
        return account.customer_key
    scope: EncryptionScopePolicy | None = snapshot.only("encryption-scope", owner_id)
    return scope.customer_key if scope is not None else None
