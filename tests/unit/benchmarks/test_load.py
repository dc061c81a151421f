"""A run counts only if every answer was right and every connection ended cleanly."""

import json

import pytest

from benchmarks.load import Load, WrongAnswerError, read

_GOOD = {"right": 10, "wrong": 0, "parked": 4, "socket_errors": 0, "seconds": 1.5, "p50_us": 80, "p99_us": 200}


def _said(**changes: int) -> str:
    return f"Running 1s test\n@{json.dumps(_GOOD | changes)}\n"


def test_clean_run_is_read() -> None:
    assert read(_said(), "", connections=4) == Load(requests=10, seconds=1.5, p50_us=80, p99_us=200)


@pytest.mark.parametrize("changes", [{"wrong": 1}, {"socket_errors": 1}, {"parked": 3}, {"right": 0}])
def test_any_fault_refuses_the_run(changes: dict[str, int]) -> None:
    with pytest.raises(WrongAnswerError):
        read(_said(**changes), "500 oops", connections=4)


def test_what_the_server_said_is_in_the_refusal() -> None:
    with pytest.raises(WrongAnswerError, match="500 oops"):
        read(_said(wrong=1), "500 oops", connections=4)


def test_silence_of_the_generator_refuses_the_run() -> None:
    with pytest.raises(WrongAnswerError, match="unable to connect"):
        read("", "unable to connect to localhost:1", connections=4)
