"""Wrapped data keys and objects' keys: the frozen vectors open for ever, and nothing that differs from them in a bit does."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from stockade.broker.data_keys import INNER_BYTES, OpenDataKeys, object_key, unwrap_inner, wrap_inner
from stockade.kernel.clock import ManualClock
from stockade.kernel.faults import Fault
from stockade.kernel.secret import Secret
from stockade.keys.broker import ObjectRef
from tests.outside import ROOT

VECTORS: list[dict[str, Any]] = json.loads((ROOT / "tests" / "vectors" / "keys" / "data_keys.json").read_text())
KEK = Secret(b"k" * 32)


def octets(text: str) -> bytes:
    return base64.b64decode(text)


def opened(vector: dict[str, Any], wrapped: bytes, **changes: str) -> bytes:
    told = {"statement": "", **vector, **changes}
    kek = Secret(octets(vector["kek"]))
    return bytes(unwrap_inner(kek, told["account"], told["version"], wrapped, told["statement"]))


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_what_was_wrapped_once_opens_for_ever(vector: dict[str, Any]) -> None:
    inner = octets(vector["inner"])
    if "rsa" in vector:
        key = load_pem_private_key(vector["rsa"].encode(), None)
        oaep = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
        assert key.decrypt(octets(vector["outer"]), oaep) == inner  # type: ignore[union-attr]
    data_key = opened(vector, inner)
    assert data_key == octets(vector["dataKey"])
    for told in vector["objects"]:
        ref = ObjectRef(told["path"], told["version"], part=told["part"])
        assert object_key(data_key, vector["account"], vector["version"], ref) == octets(told["key"])


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_nothing_else_opens(vector: dict[str, Any]) -> None:
    inner = octets(vector["inner"])

    def wrong() -> Iterator[tuple[bytes, dict[str, str]]]:
        for place in range(len(inner)):
            yield inner[:place] + bytes([inner[place] ^ 1]) + inner[place + 1 :], {}
            yield inner[:place], {}
        yield inner + b"\x00", {}
        yield inner, {"account": vector["account"] + "x"}
        yield inner, {"version": "000000000000"}
        yield inner, {"statement": "0" * 64}
        if "statement" in vector:
            yield inner, {"statement": ""}

    messages = set()
    for wrapped, changes in wrong():
        with pytest.raises(Fault) as caught:
            opened(vector, wrapped, **changes)
        messages.add(caught.value.message)
    assert messages == {"A data key could not be opened."}


def test_account_and_version_cannot_run_into_each_other() -> None:
    wrapped = wrap_inner(KEK, "ab", "c", b"d" * 32)
    assert len(wrapped) == INNER_BYTES
    with pytest.raises(Fault):
        unwrap_inner(KEK, "a", "bc", wrapped)
    refs = [ObjectRef("files/ab", "c"), ObjectRef("files/a", "bc"), ObjectRef("files/ab", "c", part="metadata")]
    assert len({object_key(b"d" * 32, "a", "v", ref) for ref in refs}) == 3


def test_open_keys_are_wiped_at_the_end_of_their_lease_when_forgotten_and_when_there_are_too_many() -> None:
    clock = ManualClock()
    held = OpenDataKeys(clock, lease_s=5, limit=2)
    keys = [bytearray(bytes([number]) * 32) for number in range(1, 6)]
    refs = (ObjectRef("files/f", "aa"),)
    for number, key in enumerate(keys[:3]):
        held.put(f"a{number}", "v", key, customer=False)
    assert keys[0] == bytes(32), "the least recently used falls out"
    assert held.derive("a0", "v", refs) is None
    assert held.derive("a1", "v", refs) is not None
    held.forget("a1")
    assert keys[1] == bytes(32)
    held.put("a2", "v", keys[3], customer=True)
    assert keys[2] == bytes(32), "one that is opened again replaces the first"
    held.sweep(lambda _, customer: not customer)
    assert keys[3] == bytes(32)
    held.put("a4", "v", keys[4], customer=False)
    clock.advance(5)
    assert held.derive("a4", "v", refs) is None
    assert keys[4] == bytes(32)
    assert len(held) == 0
