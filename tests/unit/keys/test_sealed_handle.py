"""Handles: opened by who sealed them, for what they are bound to, and not otherwise."""

from __future__ import annotations

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.sealed_handle import HandleSeal, wipe

KEY = Secret(bytes(range(32)))


def test_opens_what_it_sealed_and_nothing_else() -> None:
    seal = HandleSeal(KEY, "hsm")
    handle = seal.seal(b"content", "a")
    assert b"content" not in handle
    assert handle != seal.seal(b"content", "a")
    assert seal.open(handle, "a") == b"content"
    others = [
        (HandleSeal(KEY, "hsm2"), handle, "a"),
        (HandleSeal(Secret(bytes(32)), "hsm"), handle, "a"),
        (seal, handle, "b"),
        (seal, b"\x02" + handle[1:], "a"),
        *((seal, handle[:length], "a") for length in (0, 1, 12, 13, 28, len(handle) - 1)),
        *((seal, bytes([*handle[:at], handle[at] ^ 1, *handle[at + 1 :]]), "a") for at in range(len(handle))),
    ]
    messages = set()
    for other, shown, bound_to in others:
        with pytest.raises(Fault) as caught:
            other.open(shown, bound_to)
        assert caught.value.kind is FaultKind.UNAVAILABLE
        messages.add(caught.value.message)
    assert len(messages) == 1


def test_a_handle_of_this_version_opens_forever() -> None:
    """Frozen on 2026-11-26: handles are stored with keys that nobody can make again."""
    handle = bytes.fromhex("01000102030405060708090a0b246db86fa08bb60150f76971c63a849edc1012cf94eba4")
    assert HandleSeal(KEY, "hsm").open(handle, "a") == b"content"


def test_wiped() -> None:
    content = bytearray(b"secret")
    wipe(content)
    assert content == bytes(6)
