"""The stored format: whatever is changed of an object, it is noticed."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stockade.content.format import (
    BODY_MAGIC,
    FIRST_BYTES,
    HEAD_BYTES,
    REST_BYTES,
    SEGMENT_BYTES,
    DamagedError,
    Layout,
    bound_to,
    open_metadata,
    pack_metadata,
    seal_metadata,
)
from stockade.kernel.secret import Secret
from tests.factories.sealed import KEY, open_whole, seal, some

EDGES = (0, 1, FIRST_BYTES, FIRST_BYTES + 1, FIRST_BYTES + REST_BYTES, FIRST_BYTES + REST_BYTES + 1)
SIZES = st.sampled_from(EDGES) | st.integers(0, 3 * SEGMENT_BYTES)
LONG = FIRST_BYTES + 2 * REST_BYTES + 1000
STORED = seal(some(LONG))
SMALL = seal(b"a small body")


@settings(max_examples=40)
@given(SIZES, st.integers(1, 2 * SEGMENT_BYTES))
def test_what_was_sealed_opens(size: int, piece: int) -> None:
    body = some(size)
    stored = seal(body, piece=max(piece, size // 50, 1))
    assert len(stored) == Layout(size).stored
    assert open_whole(stored, size) == body


def test_no_byte_of_a_small_object_can_be_changed() -> None:
    for place in range(len(SMALL)):
        for bit in range(8):
            changed = bytearray(SMALL)
            changed[place] ^= 1 << bit
            with pytest.raises(DamagedError):
                open_whole(bytes(changed), 12)


def test_a_small_object_cannot_be_cut_or_extended() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(DamagedError):
            open_whole(SMALL[:length], 12)
    with pytest.raises(DamagedError):
        open_whole(SMALL + b"\0", 12)


@settings(max_examples=60)
@given(st.integers(0, len(STORED) - 1), st.integers(1, 255))
def test_no_byte_of_a_long_object_can_be_changed(place: int, change: int) -> None:
    changed = bytearray(STORED)
    changed[place] ^= change
    with pytest.raises(DamagedError):
        open_whole(bytes(changed), LONG)


@settings(max_examples=60)
@given(st.integers(0, len(STORED)) | st.sampled_from([len(BODY_MAGIC) + n * SEGMENT_BYTES for n in range(1, 4)]))
def test_a_long_object_cut_anywhere_is_not_opened_as_any_size(length: int) -> None:
    """Also where the row was made to agree."""
    assume(length < len(STORED))
    sizes = {LONG} | {size for size in range(LONG - 40, LONG) if Layout(size).stored == length}
    for segments in range(4):
        sizes.add(max(0, length - HEAD_BYTES - 16 * segments))
    for size in sizes:
        with pytest.raises(DamagedError):
            open_whole(STORED[:length], size)


@given(st.permutations(range(4)))
def test_segments_keep_their_places(order: list[int]) -> None:
    layout = Layout(LONG)
    segments = [STORED[slice(*layout.stored_at(number))] for number in range(4)]
    moved = STORED[:HEAD_BYTES] + b"".join(segments[number] for number in order)
    if order == [0, 1, 2, 3]:
        assert open_whole(moved, LONG) == some(LONG)
    else:
        with pytest.raises(DamagedError):
            open_whole(moved, LONG)


def test_a_segment_of_another_writing_of_the_same_body_does_not_fit() -> None:
    other = seal(some(LONG))
    start, end = Layout(LONG).stored_at(1)
    with pytest.raises(DamagedError):
        open_whole(STORED[:start] + other[start:end] + STORED[end:], LONG)


@given(st.lists(st.text(max_size=6), max_size=4), st.lists(st.text(max_size=6), max_size=4))
def test_different_names_are_bound_to_differently(some_names: list[str], others: list[str]) -> None:
    assert (bound_to(b"M", *some_names) == bound_to(b"M", *others)) == (some_names == others)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4), st.data())
def test_metadata_comes_back_and_no_byte_of_it_can_be_changed(metadata: dict[str, object], data: st.DataObject) -> None:
    sealed = seal_metadata(Secret(KEY), b"bound", pack_metadata(metadata))
    assert open_metadata(Secret(KEY), b"bound", sealed) == metadata
    changed = bytearray(sealed)
    changed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DamagedError):
        open_metadata(Secret(KEY), b"bound", bytes(changed))
