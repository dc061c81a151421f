"""Failed sign-ins are counted by network, for a while, in bounded memory."""

from __future__ import annotations

import pytest

from stockade.console.attempts import MAX_KEPT, TRIES, WINDOW_S, Attempts
from stockade.kernel.clock import ManualClock
from stockade.kernel.faults import Fault, FaultKind


def test_after_some_failures_nothing_is_tried_until_the_window_ends() -> None:
    clock = ManualClock()
    attempts = Attempts(clock)
    for _ in range(TRIES):
        attempts.require("192.0.2.1")
        attempts.failed("192.0.2.1")
    with pytest.raises(Fault) as refused:
        attempts.require("192.0.2.1")
    assert refused.value.kind is FaultKind.LIMIT
    assert refused.value.retry_after_s == WINDOW_S
    attempts.require("192.0.2.2")
    clock.advance(WINDOW_S)
    attempts.require("192.0.2.1")
    attempts.failed("192.0.2.1")
    attempts.require("192.0.2.1")


def test_the_addresses_of_one_ipv6_network_are_one_caller() -> None:
    attempts = Attempts(ManualClock())
    for number in range(TRIES):
        attempts.failed(f"2001:db8::{number:x}")
    with pytest.raises(Fault):
        attempts.require("2001:db8:0:0:ffff::1")
    attempts.require("2001:db8:0:1::1")


def test_the_network_that_failed_longest_ago_is_forgotten_first() -> None:
    attempts = Attempts(ManualClock())
    for _ in range(TRIES):
        attempts.failed("192.0.2.1")
    for number in range(MAX_KEPT):
        attempts.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    attempts.require("192.0.2.1")
