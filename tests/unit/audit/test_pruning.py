"""The record of what retention removes: in the log it is about, and read back from its line."""

from __future__ import annotations

import msgspec
import pytest

from stockade.audit.ledger import PLATFORM_LOG, log_of
from stockade.audit.pruning import OPERATION, pruned_below, record_of_pruning
from tests.factories.logs import LOG


@pytest.mark.parametrize("log", [LOG, PLATFORM_LOG])
def test_it_stands_in_the_log_it_is_about_and_is_read_back(log: str) -> None:
    record = record_of_pruning(log, 1234, 5.0, "keep_days 400")
    assert log_of(record.resource) == log
    assert pruned_below(msgspec.json.encode(record)) == 1234


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"no JSON " + f'"{OPERATION}"'.encode(),
        b'{"operation":"other","because":{"before":"5","why":"%s"}}' % f'"{OPERATION}"'.replace('"', '\\"').encode(),
        b'{"operation":"other","why":"%s","because":{"before":"5"}}' % OPERATION.encode(),
        b'{"operation":"%s"}' % OPERATION.encode(),
        b'{"operation":"%s","because":{"before":"-5"}}' % OPERATION.encode(),
        b'{"operation":"%s","because":{"before":5}}' % OPERATION.encode(),
    ],
    ids=range(7),
)
def test_nothing_else_is_one(line: bytes) -> None:
    assert pruned_below(line) == 0
