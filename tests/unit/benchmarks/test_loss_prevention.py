"""The bodies that loss prevention is measured with are what they are called."""

from __future__ import annotations

import json

import pytest

from benchmarks.loss_prevention import BODIES, LINK, best
from stockade.policy.uris.scan import scan_json


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("size", [1 << 10, 1 << 16])
def test_body_has_its_size_and_its_links(name: str, size: int) -> None:
    body = BODIES[name](size)
    json.loads(body)
    assert size * 0.9 < len(body) < size * 1.2
    assert [found.uri for found in scan_json(body)] == ([LINK] if "with links" in name else [])


def test_best_is_the_least_time_of_one_call() -> None:
    calls: list[None] = []
    assert 0 <= best(lambda: calls.append(None), seconds=0.01) < 1
    assert calls
