"""What an approval may say, and everything else, which is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox.approval import BREAK_GLASS, Operator, encode, read
from tests.factories.lockbox import PERSON, an_approval


def refused(payload: bytes) -> Fault:
    with pytest.raises(Fault) as caught:
        read(payload)
    assert (caught.value.kind, caught.value.code) == (FaultKind.INVALID, "InvalidApproval")
    return caught.value


@pytest.mark.parametrize("changes", [{}, {"type": BREAK_GLASS}, {"case": "", "scope": ("files/*", "responses/r-1")}])
def test_what_was_written_is_read_again(changes: dict[str, Any]) -> None:
    payload = encode(an_approval(**changes))
    assert encode(read(payload)) == payload


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "stockade-lockbox-statement/1"},
        {"request": "7"},
        {"request": PERSON.format(0xAA).upper()},
        {"account": "a1"},
        {"statement": "0" * 63},
        {"scope": ()},
        {"scope": ("*",)},
        {"scope": ("files/",)},
        {"scope": ("files/a/b",)},
        {"scope": ("files/f*",)},
        {"scope": ("files/../x",)},
        {"scope": ("files/a", "files/a")},
        {"scope": tuple(f"files/{n}" for n in range(101))},
        {"operator": Operator("somebody", "t")},
        {"operator": Operator(PERSON.format(1), "")},
        {"purpose": ""},
        {"purpose": "x" * 2001},
        {"purpose": "reads \u202e backwards"},
        {"purpose": "\x1b[2J"},
        {"case": "http://support.example/7"},
        {"case": "javascript:x"},
        {"duration_s": 0.0},
        {"duration_s": -1.0},
        {"duration_s": 8 * 3600.0 + 1},
        {"not_before": 0.0},
        {"not_after": 1_800_000_000.0},
        {"not_after": 1_800_000_000.0 + 6 * 86_400},
        {"not_after": 1e300},
        {"nonce": ""},
        {"nonce": "a.b"},
        {"nonce": "a" * 257},
    ],
    ids=range(31),
)
def test_what_no_approval_says(changes: dict[str, Any]) -> None:
    refused(encode(an_approval(**changes)))


def test_what_is_not_of_the_form() -> None:
    told = json.loads(encode(an_approval()))
    for wrong in (told | {"also": 1}, told | {"duration_s": "8"}, told | {"operator": "me"}, []):
        refused(json.dumps(wrong).encode())
    refused(encode(an_approval()).replace(b'"case"', b'"nonce":"m","case"'))
    refused(b" " * 17_000)
