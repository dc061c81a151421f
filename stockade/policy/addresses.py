"""Sets of addresses: the networks that rules name, compiled so that a look-up costs the same for ten rules and for ten thousand.

Two CIDR networks are disjoint or one lies in the other. So what remains when every network that lies in another is left out is a sorted list of
disjoint ranges, and one bisection finds the only range that can hold an address. Families are kept apart; an IPv4-mapped IPv6 address
(`::ffff:203.0.113.7`) is the IPv4 address it maps, in rules and in callers, so neither spelling slips past a rule for the other. Other
addresses that carry an IPv4 address inside (6to4, NAT64, IPv4-compatible) are themselves and nothing else. Source: choices.md (row "IP rules").
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, TypeAlias

Family: TypeAlias = Literal[4, 6]
Span: TypeAlias = tuple[int, int, str]
"""First address, last address, and the rule as written in its normal form."""

_MAPPED_BITS = 96


def read_address(text: str) -> tuple[Family, int]:
    """Return an address as its family and number, mapped ones as IPv4; ValueError for anything else. A zone index is left out."""
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return 4, int(address)
    number = int(address)
    return (4, number & 0xFFFFFFFF) if number >> 32 == 0xFFFF else (6, number)


def written(family: Family, number: int) -> str:
    """Return an address as text, in its one normal form."""
    return str(IPv4Address(number) if family == 4 else IPv6Address(number))


class AddressSet:
    """An immutable set of addresses, made of networks. Equal sets hold the same broadest networks."""

    __slots__ = ("_starts", "rules", "spans")

    def __init__(self, spans: dict[Family, tuple[Span, ...]], rules: int) -> None:
        """Take spans that are sorted and disjoint; use `of` or `union` to make a set."""
        self.spans = spans
        self.rules = rules
        """How many rules the set was made of; those inside others count."""
        self._starts = {family: tuple(span[0] for span in found) for family, found in spans.items()}

    @classmethod
    def of(cls, networks: Iterable[str], within: str = "") -> AddressSet:
        """Compile addresses and CIDR ranges; ValueError for one that is neither, host bits set included.

        within: whose networks they are, for explanations: a rule is then called `10.0.0.0/24 in <within>`.
        """
        found: dict[Family, list[Span]] = {4: [], 6: []}
        count = 0
        for text in networks:
            family, (first, last, rule) = _span(text)
            found[family].append((first, last, f"{rule} in {within}" if within else rule))
            count += 1
        return cls(_broadest(found), count)

    @classmethod
    def union(cls, sets: Iterable[AddressSet]) -> AddressSet:
        """Return the set of what is in any of the sets, without reading a rule again."""
        found: dict[Family, list[Span]] = {4: [], 6: []}
        count = 0
        for one in sets:
            count += one.rules
            for family, spans in one.spans.items():
                found[family] += spans
        return cls(_broadest(found), count)

    def contains(self, address: str) -> bool:
        """Say whether the address is in the set. What is no address is in none."""
        return self.rule_for(address) is not None

    def rule_for(self, address: str) -> str | None:
        """Return the rule that holds the address, the broadest of several; None when none does."""
        try:
            family, number = read_address(address)
        except ValueError:
            return None
        place = bisect_right(self._starts[family], number) - 1
        if place < 0:
            return None
        _, last, rule = self.spans[family][place]
        return rule if number <= last else None

    def nearest(self, address: str) -> str | None:
        """Return the rule that comes closest to an address, for explanations; None when no rule is of its family."""
        return nearest_of((self,), address)

    def around(self, family: Family, number: int) -> tuple[Span, ...]:
        """Return the ranges on both sides of an address, at most two."""
        place = bisect_right(self._starts[family], number)
        return self.spans[family][max(0, place - 1) : place + 1]

    def __len__(self) -> int:
        """Return the number of disjoint ranges."""
        return len(self.spans[4]) + len(self.spans[6])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AddressSet) and (self.spans, self.rules) == (other.spans, other.rules)

    def __hash__(self) -> int:
        return hash((self.spans[4], self.spans[6], self.rules))

    def __repr__(self) -> str:
        return f"AddressSet({', '.join(span[2] for family in self.spans.values() for span in family[:8])})"


def _span(text: str) -> tuple[Family, Span]:
    # Not `ip_network`, which takes five times as long: a change to an account with 10,000 rules is compiled inside somebody's request.
    address, slash, prefix = text.partition("/")
    raw = ip_address(address)
    bits, number, family = raw.max_prefixlen, int(raw), raw.version
    length = int(prefix) if prefix.isascii() and prefix.isdigit() else bits if not slash else -1
    if not 0 <= length <= bits:
        raise ValueError(f"{text[:80]!r} is no network")
    if family == 6 and number >> 32 == 0xFFFF and length >= _MAPPED_BITS:
        family, number, bits, length = 4, number & 0xFFFFFFFF, 32, length - _MAPPED_BITS
    size = 1 << (bits - length)
    if number & (size - 1):
        raise ValueError(f"{text[:80]!r} has host bits set")
    rule = written(family, number)
    return family, (number, number + size - 1, rule if length == bits else f"{rule}/{length}")


def _broadest(found: dict[Family, list[Span]]) -> dict[Family, tuple[Span, ...]]:
    kept: dict[Family, tuple[Span, ...]] = {}
    for family, spans in found.items():
        disjoint: list[Span] = []
        # A network sorts before everything inside it, so it is enough to compare with the last one kept.
        for span in sorted(spans, key=lambda one: (one[0], -one[1], one[2])):
            if not disjoint or span[0] > disjoint[-1][1]:
                disjoint.append(span)
        kept[family] = tuple(disjoint)
    return kept


def _distance(span: Span, number: int) -> int:
    return max(span[0] - number, number - span[1], 0)


def nearest_of(sets: Iterable[AddressSet], address: str) -> str | None:
    """Return the rule of any of the sets that comes closest to an address; None when none is of its family."""
    try:
        family, number = read_address(address)
    except ValueError:
        return None
    candidates = [span for one in sets for span in one.around(family, number)]
    return min(candidates, key=lambda span: _distance(span, number))[2] if candidates else None


NOWHERE = AddressSet.of(())
"""No address at all."""
