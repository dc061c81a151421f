from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stockade.kernel.faults import Fault
from stockade.kernel.resource_id import ResourceId, scope_chain

GUIDS = st.uuids().map(str)
NAMES = st.text("abcXYZ019._-()", min_size=1, max_size=12).filter(
    lambda text: text not in {".", ".."} and text.lower() != "providers"
)
NAMESPACES = st.sampled_from(["Microsoft.CognitiveServices", "microsoft.authorization", "Contoso.Things"])
BASES = st.one_of(
    st.just(""),
    GUIDS.map(lambda guid: f"/subscriptions/{guid}"),
    st.tuples(GUIDS, NAMES).map(lambda parts: f"/subscriptions/{parts[0]}/resourceGroups/{parts[1]}"),
)
RESOURCES = st.tuples(NAMESPACES, st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=3)).map(
    lambda parts: f"/providers/{parts[0]}/" + "/".join("/".join(pair) for pair in parts[1])
)
IDS = st.tuples(BASES, st.lists(RESOURCES, max_size=2)).map(lambda parts: (parts[0] + "".join(parts[1])) or "/")


@given(IDS)
def test_what_was_parsed_is_what_was_said(text: str) -> None:
    parsed = ResourceId.parse(text)
    assert parsed.text == text
    assert ResourceId.parse(parsed.text) == parsed
    assert parsed.key == text.lower()


@given(IDS, st.integers(min_value=0))
def test_case_never_matters(text: str, bits: int) -> None:
    swapped = "".join(letter.swapcase() if bits >> place & 1 else letter for place, letter in enumerate(text))
    one, other = ResourceId.parse(text), ResourceId.parse(swapped)
    assert one.key == other.key
    assert scope_chain(one.key) == scope_chain(other.key)
    assert (one.type or "").lower() == (other.type or "").lower()


@given(IDS)
def test_every_scope_in_the_chain_is_an_id_and_holds_the_resource(text: str) -> None:
    chain = scope_chain(text.lower())
    assert chain[-1] == "/"
    assert chain[0] == ResourceId.parse(text).key
    assert list(chain) == sorted(chain, key=len, reverse=True)
    for inner, outer in pairwise(chain):
        assert ResourceId.parse(inner).parent == outer
        assert ResourceId.parse(inner).within(outer)
    assert all(ResourceId.parse(text).within(scope) for scope in chain)


@given(IDS, IDS)
def test_within_is_exactly_being_in_the_chain(one: str, other: str) -> None:
    inner, scope = ResourceId.parse(one), other.lower()
    if inner.within(scope):
        assert scope in scope_chain(inner.key)
    elif scope != "/":
        assert scope not in scope_chain(inner.key)


@given(IDS, NAMES)
def test_a_longer_name_is_another_resource(text: str, more: str) -> None:
    if ResourceId.parse(text).name not in ("", ResourceId.parse(text).subscription):
        assert not ResourceId.parse(text + more).within(text.lower())


@given(st.text(max_size=200))
def test_any_text_is_an_id_or_a_fault(text: str) -> None:
    try:
        parsed = ResourceId.parse(text)
    except Fault:
        return
    assert parsed.text.startswith("/")
    assert not any(mark in parsed.text for mark in "\\?#%\x00\n")
    assert ".." not in parsed.text.split("/")
    assert scope_chain(parsed.key)[-1] == "/"


@given(IDS, st.sampled_from(["/..", "/.", "//x", "/x%2fy", "/x?y", "/x#y", "/x\\y", "/\x00", "/ x", "/x\n"]))
def test_tricks_are_not_ids(text: str, trick: str) -> None:
    try:
        ResourceId.parse(text + trick + "/name")
    except Fault:
        return
    raise AssertionError(text + trick)
