"""Objects of the day the format was made: they open for ever, and what is written today is what was written then."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any

import pytest

from stockade.content.format import BODY_MAGIC, HEAD_BYTES, Head, body_bound_to, metadata_bound_to, open_metadata
from stockade.kernel.secret import Secret
from tests.factories import tink_streams
from tests.factories.sealed import open_whole, seal
from tests.outside import ROOT

VECTORS: dict[str, Any] = json.loads((ROOT / "tests" / "vectors" / "content" / "format-1.json").read_text())


def named(part: str) -> Any:
    return pytest.mark.parametrize("vector", VECTORS[part], ids=[vector["name"] for vector in VECTORS[part]])


@named("bodies")
def test_a_body_opens(vector: dict[str, Any]) -> None:
    stored, body, key = base64.b64decode(vector["stored"]), bytes.fromhex(vector["body"]), bytes.fromhex(vector["key"])
    bound = body_bound_to(vector["account"], vector["path"], vector["version"])
    assert open_whole(stored, len(body), key=key, bound=bound) == body
    assert seal(body, key=key, bound=bound, head=Head.decode(stored[:HEAD_BYTES])) == stored
    assert tink_streams.decrypt(key, stored[len(BODY_MAGIC) :], bound) == body


@named("long")
def test_a_long_body_is_sealed_as_it_was_then_and_opens(vector: dict[str, Any]) -> None:
    size = vector["size"]
    body = b"".join(sha256(number.to_bytes(8, "big")).digest() for number in range(size // 32 + 1))[:size]
    bound = body_bound_to(vector["account"], vector["path"], vector["version"])
    head, key = Head(bytes.fromhex(vector["salt"]), bytes.fromhex(vector["prefix"])), bytes.fromhex(vector["key"])
    stored = seal(body, key=key, bound=bound, head=head)
    assert sha256(stored).hexdigest() == vector["sha256"]
    assert open_whole(stored, size, key=key, bound=bound) == body


@named("metadata")
def test_metadata_opens(vector: dict[str, Any]) -> None:
    known = {name: vector[name] for name in ("version", "status", "created_at", "expires_at", "size", "body_version")}
    bound = metadata_bound_to(vector["account"], f"files/{vector['id']}", **known)
    opened = open_metadata(Secret(bytes.fromhex(vector["key"])), bound, bytes.fromhex(vector["sealed"]))
    assert opened == vector["metadata"]
