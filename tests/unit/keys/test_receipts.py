"""A receipt says what was destroyed, and holds only as it was signed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stockade.kernel.faults import Fault
from stockade.keys import receipts
from stockade.keys.broker import WrappedDataKey

SIGNING = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
PUBLIC = SIGNING.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
KEY = WrappedDataKey("4f6a09c2d1e8", 1.5, b"wrapped", "7", "https://v.example/keys/k/4f")


def receipt(text: str | None = None) -> dict[str, Any]:
    made = (
        text if text is not None else receipts.statement("r1", "/A", "i", "2026-01-01T00:00:00Z", [("/a", KEY)], 3, 9)
    )
    return {"statement": made, "signature": receipts.to_text(SIGNING.sign(made.encode()))}


def test_what_was_signed_is_what_is_stated() -> None:
    stated = receipts.verify(receipt(), PUBLIC)
    assert stated["accountSha256"] == receipts.digest(b"/a")
    assert stated["content"] == {"items": 3, "bytes": 9}
    (key,) = stated["dataKeys"]
    assert key["wrappedSha256"] == receipts.digest(b"wrapped")
    assert "v.example" not in receipt()["statement"], "whose key it was is not told"
    assert receipts.verify({"id": "x", "properties": receipt()}, PUBLIC) == stated, "as ARM shows it, too"


@pytest.mark.parametrize(
    "change",
    [
        {"statement": receipt()["statement"].replace('"items":3', '"items":4')},
        {"signature": receipts.to_text(b"\x00" * 64)},
        {"signature": "not base64!"},
        {"statement": None},
        receipt(json.dumps({"statement": "something else"})),
        receipt("[]"),
    ],
    ids=["count", "signature", "text", "nothing", "other-statement", "no-object"],
)
def test_anything_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Fault):
        receipts.verify({**receipt(), **change}, PUBLIC)


def test_another_platforms_key_does_not_verify_it() -> None:
    other = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32).public_key()
    with pytest.raises(Fault):
        receipts.verify(receipt(), other.public_bytes(Encoding.Raw, PublicFormat.Raw))


def test_many_keys_make_no_longer_a_statement() -> None:
    text = receipts.statement("r", "/a", "", "t", [(f"/a/{number}", KEY) for number in range(1000)], 0, 0)
    assert len(text) < receipts.MAX_STATEMENT
    assert json.loads(text)["dataKeyCount"] == 1000
