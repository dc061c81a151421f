"""The part of OData's `$filter` that ARM's clients use: comparisons and functions joined by `and`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from stockade.kernel.faults import Fault, FaultKind

MAX_LENGTH = 2048
_STRING = r"'(?P<{}>(?:[^']|'')*)'"
_TERM = re.compile(
    r"\s*(?:(?P<function>[A-Za-z]+)\(\s*(?:" + _STRING.format("argument") + r"\s*(?:,\s*(?P<field2>[A-Za-z/]+)\s*)?)?\)"
    r"|(?P<field>[A-Za-z/]+)\s+(?P<operator>eq)\s+" + _STRING.format("value") + r")\s*",
    re.IGNORECASE,
)
_AND = re.compile(r"and\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: `field eq 'value'` (kind "eq"), or a function of a literal such as `assignedTo('x')` (kind: its lower-case name).

    name: the field in lower case, "" for functions without one. value: the literal, "" when there is none.
    """

    kind: str
    name: str
    value: str


def parse_filter(text: str) -> tuple[Term, ...]:
    """Return the conditions of a filter, () for none; Fault(INVALID) for anything this subset does not hold."""
    terms: list[Term] = []
    position = 0
    if len(text) > MAX_LENGTH:
        raise invalid_filter(text)
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None:
            raise invalid_filter(text)
        if match["function"]:
            argument = match["argument"] or ""
            terms.append(Term(match["function"].lower(), (match["field2"] or "").lower(), argument.replace("''", "'")))
        else:
            terms.append(Term("eq", match["field"].lower(), match["value"].replace("''", "'")))
        position = match.end()
        if position < len(text):
            joined = _AND.match(text, position)
            if joined is None or joined.end() >= len(text):
                raise invalid_filter(text)
            position = joined.end()
    return tuple(terms)


def invalid_filter(text: str) -> Fault:
    """Return the refusal of a filter."""
    return Fault(
        FaultKind.INVALID,
        f"The filter '{text[:200]}' is not supported here.",
        code="InvalidFilterInQueryString",
        target="$filter",
    )


Operator: TypeAlias = Literal["eq", "ge", "le"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`field eq 'value'`, `field ge 2026-01-01T00:00:00Z`; the literal with or without quotes, the field as it was written."""

    field: str
    operator: Operator
    value: str


_COMPARISON = re.compile(
    r"\s*(?P<field>[A-Za-z][A-Za-z/]{0,63})\s+(?P<operator>eq|ge|le)\s+"
    r"(?:'(?P<quoted>(?:[^']|'')*)'|(?P<bare>[^\s'()]+))\s*",
    re.IGNORECASE,
)


def parse_comparisons(text: str) -> tuple[Comparison, ...]:
    """Return the comparisons of a filter, () for none, those of times and numbers included; Fault(INVALID) for anything else."""
    found: list[Comparison] = []
    position = 0
    if len(text) > MAX_LENGTH:
        raise invalid_filter(text)
    while position < len(text):
        match = _COMPARISON.match(text, position)
        if match is None:
            raise invalid_filter(text)
        value = match["bare"] if match["quoted"] is None else match["quoted"].replace("''", "'")
        operator: Operator = "eq"
        if match["operator"].lower() != "eq":
            operator = "ge" if match["operator"].lower() == "ge" else "le"
        found.append(Comparison(match["field"], operator, value))
        position = match.end()
        if position < len(text):
            joined = _AND.match(text, position)
            if joined is None or joined.end() >= len(text):
                raise invalid_filter(text)
            position = joined.end()
    return tuple(found)


def parse_time(text: str) -> float:
    """Return an ISO 8601 time, UTC where it says nothing else, as epoch seconds; Fault(INVALID)."""
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as failure:
        message = f"'{text[:60]}' is no time; write 2026-01-31T12:00:00Z."
        raise Fault(FaultKind.INVALID, message, code="InvalidFilterInQueryString", target="$filter") from failure
