"""Data keys come back from a document as they were put into it, and nothing else comes back."""

from __future__ import annotations

import json

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys import wrapped
from stockade.keys.broker import WrappedDataKey

PLATFORM = WrappedDataKey("4f6a09c2d1e8", 1764144000.25, bytes(range(64)), "7")
CUSTOMER = WrappedDataKey("5f6a09c2d1e8", 1764144001.0, b"\xff" * 256, "8", "https://v.example/keys/k/4f6a09c2d1e84b7c")


def test_they_survive_the_way_through_json_in_their_order() -> None:
    private = wrapped.with_data_keys({"keys": {"Key1": {}}}, [PLATFORM, CUSTOMER])
    read = json.loads(json.dumps(private))
    assert wrapped.data_keys(read) == (PLATFORM, CUSTOMER)
    assert read["keys"] == {"Key1": {}}
    assert "customer" not in read["dataKeys"][0]


def test_a_document_from_before_has_none() -> None:
    assert wrapped.data_keys({"keys": {}}) == ()


@pytest.mark.parametrize(
    "change",
    [{"wrapped": "not base64!"}, {"wrapped": None}, {"version": 4}, {"createdAt": "now"}, {"unknown": 1}],
    ids=["wrapped-text", "wrapped-null", "version", "created", "unknown"],
)
def test_damage_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Fault) as caught:
        wrapped.from_json({**wrapped.to_json(PLATFORM), **change})
    assert caught.value.kind is FaultKind.UNAVAILABLE
