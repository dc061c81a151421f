"""What a close frame says, from this side and from the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.gateway.session import MAX_REASON_BYTES, _ended, cut
from stockade.services.session import EngineEnded


@given(st.text(max_size=300))
def test_reason_fits_a_close_frame_and_is_the_beginning_of_the_text(text: str) -> None:
    found = cut(text)
    assert len(found.encode()) <= MAX_REASON_BYTES
    if found != text:
        assert found.endswith("…")
        assert text.startswith(found[:-1])
        assert len(found.encode()) > MAX_REASON_BYTES - 4


@pytest.mark.parametrize(
    ("of_the_engine", "reason", "told"),
    [
        (1000, "bye", (1000, "bye", None)),
        (1008, "no", (1008, "no", None)),
        (1011, "oh", (1011, "oh", None)),
        (1005, "", (1000, "", None)),
        (1002, "you", (1011, "The model server broke off the session.", "UpstreamFailed")),
        (4000, "own", (1011, "The model server broke off the session.", "UpstreamFailed")),
        (None, "", (1011, "The model server broke off the session.", "UpstreamFailed")),
    ],
)
def test_engines_end_is_passed_on_where_it_is_about_the_session(
    of_the_engine: int | None, reason: str, told: tuple[int, str, str | None]
) -> None:
    end = _ended(EngineEnded(of_the_engine, reason))
    assert (end.code, end.reason, end.fault.kind.value if end.fault is not None else None) == told
