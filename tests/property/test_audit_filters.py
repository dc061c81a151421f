"""Whatever stands in a `$filter`: it is read as it was meant, or refused in the caller's words, and nothing else happens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from stockade.audit.criteria import Wanted
from stockade.kernel.faults import Fault, FaultKind
from stockade.management.audit.records import read_filter
from stockade.management.odata import Comparison, parse_comparisons, parse_time

FIELDS = st.from_regex(r"[A-Za-z][A-Za-z/]{0,10}", fullmatch=True).filter(lambda name: name.lower() != "and")
comparisons = st.builds(Comparison, FIELDS, st.sampled_from(("eq", "ge", "le")), st.text(max_size=20))
words = st.sampled_from(
    [
        "account",
        "principal",
        "decision",
        "status",
        "time",
        "eq",
        "ge",
        "le",
        "and",
        "or",
        "'",
        "''",
        "'x'",
        "403",
        "(",
        ")",
        " ",
        "/",
        "deny",
    ]
)


def refusal(read: Callable[[str], object], text: str) -> Fault | None:
    """Return what a filter is refused with, and whatever else goes wrong as it is."""
    try:
        read(text)
    except Fault as fault:
        return fault
    return None


@given(st.lists(comparisons, max_size=5), st.sampled_from([" and ", " AND ", "  and\t"]))
def test_what_is_written_is_read(terms: list[Comparison], joint: str) -> None:
    text = joint.join(f"{one.field} {one.operator} '{one.value.replace(chr(39), chr(39) * 2)}'" for one in terms)
    assert list(parse_comparisons(text)) == terms


@given(
    st.one_of(
        st.text(max_size=80), st.lists(words, max_size=12).map(" ".join), st.lists(words, max_size=12).map("".join)
    )
)
def test_anything_else_is_refused_as_a_mistake(text: str) -> None:
    for read in (parse_comparisons, read_filter):
        told = refusal(read, text)
        assert told is None or (told.kind is FaultKind.INVALID and len(told.message) < 1000)


@given(st.one_of(st.text(max_size=30), st.datetimes().map(str), st.times().map(str), st.dates().map(str)))
def test_times_are_times_or_mistakes(text: str) -> None:
    with contextlib.suppress(Fault):
        assert isinstance(parse_time(text), float)


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_value_becomes_another_condition(principal: str, operation: str) -> None:
    quoted = [value.replace("'", "''") for value in (principal, operation)]
    if principal and operation:
        wanted = read_filter(f"principal eq '{quoted[0]}' and operation eq '{quoted[1]}'")
        assert wanted == Wanted(who=principal, operation=operation)
