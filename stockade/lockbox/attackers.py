"""Whom a statement's `callers` stop, and whom not: one table, for whoever signs one and for docs/lockbox.md.

Rows are about the customer's own way in, which every statement leaves open: whoever can pretend to be a caller needs no approval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from stockade.lockbox.statement import Callers

Way: TypeAlias = Literal["platform", "issuers", "keys", "jobs"]


@dataclass(frozen=True, slots=True)
class Attacker:
    """who: with the article, to begin a row. lets_in: the ways by which they get in."""

    who: str
    lets_in: frozenset[Way]


def _in_by(*ways: Way) -> frozenset[Way]:
    return frozenset(ways)


ATTACKERS: Final = (
    Attacker("an operator with no approval and no other right", _in_by()),
    Attacker("an operator who assigns themselves a role, or lists the account's keys", _in_by("platform")),
    Attacker("who writes the database: a key, a role or an identity put there", _in_by("platform")),
    Attacker("who signs tokens with the platform's own token service", _in_by("platform")),
    Attacker("who reads the database and asks the broker while a batch runs", _in_by("platform", "jobs")),
    Attacker("who has a signing key of an issuer that is pinned", _in_by("issuers")),
    Attacker("who has found one of the account's subscription keys", _in_by("platform", "keys")),
    Attacker(
        "root on the live machine, who reads memory while a call is served", _in_by("platform", "issuers", "keys")
    ),
)


def ways(callers: Callers) -> tuple[Way, ...]:
    """Return the ways in that callers leave open."""
    chosen: tuple[tuple[Way, object], ...] = (
        ("platform", callers.platform),
        ("issuers", callers.issuers),
        ("keys", callers.keys),
        ("jobs", callers.jobs),
    )
    return tuple(way for way, taken in chosen if taken)


def stopped(callers: Callers) -> tuple[tuple[Attacker, bool], ...]:
    """Return every attacker, and whether callers stop them: one open way is enough to get in."""
    chosen = frozenset(ways(callers))
    return tuple((one, not one.lets_in & chosen) for one in ATTACKERS)
