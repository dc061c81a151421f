from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from stockade.content.format import (
    BODY_MAGIC,
    FIRST_BYTES,
    HEAD_BYTES,
    MAX_METADATA_BYTES,
    REST_BYTES,
    SEGMENT_BYTES,
    DamagedError,
    Head,
    Layout,
    body_bound_to,
    bound_to,
    open_metadata,
    pack_metadata,
    seal_metadata,
)
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from tests.factories import tink_streams
from tests.factories.sealed import BOUND, KEY, open_whole, seal, some

SIZES = [0, 1, FIRST_BYTES - 1, FIRST_BYTES, FIRST_BYTES + 1, FIRST_BYTES + REST_BYTES, FIRST_BYTES + REST_BYTES + 1]


@pytest.mark.parametrize("size", SIZES)
def test_tink_reads_what_is_written_here_and_the_other_way_round(size: int) -> None:
    body = some(size)
    stored = seal(body)
    assert len(stored) == Layout(size).stored
    assert stored.startswith(BODY_MAGIC)
    assert tink_streams.decrypt(KEY, stored[len(BODY_MAGIC) :], BOUND) == body
    theirs = BODY_MAGIC + tink_streams.encrypt(KEY, body, BOUND)
    assert len(theirs) == len(stored)
    assert open_whole(theirs, size) == body


@pytest.mark.parametrize("piece", [1 << 30, SEGMENT_BYTES, FIRST_BYTES, 100_003])
def test_pieces_of_any_size_make_the_same_object(piece: int) -> None:
    body, head = some(3 * SEGMENT_BYTES), Head(bytes(32), bytes(7))
    assert seal(body, head=head, piece=piece) == seal(body, head=head)


@pytest.mark.parametrize("size", SIZES)
def test_segments_lie_one_after_the_other_and_hold_everything(size: int) -> None:
    layout = Layout(size)
    places = [layout.stored_at(number) for number in range(layout.last + 1)]
    assert places[0][0] == HEAD_BYTES
    assert places[-1][1] == layout.stored
    assert all(before[1] == after[0] for before, after in pairwise(places))
    assert all((end - len(BODY_MAGIC)) % SEGMENT_BYTES == 0 for _, end in places[:-1])
    for number in range(layout.last + 1):
        first = layout.starts_at(number)
        if first < size:
            assert layout.segment_at(first) == number
            assert layout.segment_at(max(0, first - 1)) == max(0, number - 1)


def test_another_key_account_path_or_version_opens_nothing() -> None:
    bound = body_bound_to("/a", "files/f", "1")
    stored = seal(b"body", bound=bound)
    assert open_whole(stored, 4, bound=bound) == b"body"
    for other in (
        body_bound_to("/b", "files/f", "1"),
        body_bound_to("/a", "files/g", "1"),
        body_bound_to("/a", "files/f", "2"),
        body_bound_to("/af", "iles/f", "1"),
    ):
        with pytest.raises(DamagedError):
            open_whole(stored, 4, bound=other)
    with pytest.raises(DamagedError):
        open_whole(stored, 4, bound=bound, key=bytes(32))


def test_every_body_has_a_salt_of_its_own() -> None:
    assert seal(b"same")[:HEAD_BYTES] != seal(b"same")[:HEAD_BYTES]


@pytest.mark.parametrize(
    "stored", [b"", b"STKDOBJ\2" + bytes(40), b"x" * 48, seal(b"")[:47]], ids=["none", "version", "other", "short"]
)
def test_what_is_no_stored_body_is_said_to_be_none(stored: bytes) -> None:
    with pytest.raises(DamagedError, match="not a stored body of a known format"):
        Head.decode(stored)


def test_metadata_comes_back_for_exactly_what_it_was_sealed_for() -> None:
    metadata: dict[str, Any] = {"filename": "ä.jsonl", "n": 1, "list": [1.5, None, {"deep": True}]}
    bound = bound_to(b"M", "/a", "files/f", "v", "status")
    sealed = seal_metadata(Secret(KEY), bound, pack_metadata(metadata))
    assert open_metadata(Secret(KEY), bound, sealed) == metadata
    for key, other, data in [
        (bytes(32), bound, sealed),
        (KEY, bound_to(b"M", "/a", "files/f", "v", "other"), sealed),
        (KEY, bound, sealed[:-1]),
        (KEY, bound, b""),
        (KEY, bound, sealed[:9]),
    ]:
        with pytest.raises(DamagedError):
            open_metadata(Secret(key), other, data)


def test_what_metadata_cannot_hold_is_refused() -> None:
    for metadata, kind in [
        ({"n": 2**70}, FaultKind.INVALID),
        ({"t": "\ud800"}, FaultKind.INVALID),
        ({"t": "x" * MAX_METADATA_BYTES}, FaultKind.TOO_LARGE),
    ]:
        with pytest.raises(Fault) as caught:
            pack_metadata(metadata)
        assert caught.value.kind is kind
