"""What is known of the private listeners from outside their process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stockade.serve import private_states
from stockade.serve.private_states import ListenerState
from stockade.settings import Settings

STATES = (
    ListenerState("c1", "a1", "127.20.0.4", 8446, "listening"),
    ListenerState("c2", "a2", "192.0.2.1", 0, "waiting", "it is not an address of this machine"),
)


@pytest.fixture
def configured(tmp_path: Path) -> Settings:
    found = Settings(data_dir=tmp_path)
    found.run_dir.mkdir()
    return found


def test_what_is_written_is_read(configured: Settings) -> None:
    assert private_states.read(configured) is None
    private_states.write(configured, STATES)
    assert private_states.read(configured) == STATES
    private_states.withdraw(configured)
    private_states.withdraw(configured)
    assert private_states.read(configured) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "null", '{"pid": "x", "listeners": []}', '{"pid": 999999999, "listeners": []}'),
        f'{{"pid": {os.getpid()}, "listeners": [{{}}]}}',
        f'{{"pid": {os.getpid()}, "listeners": 5}}',
        f'{{"pid": {10**40}, "listeners": []}}',
    ],
    ids=range(9),
)
def test_nonsense_and_a_process_that_is_gone_are_nothing(configured: Settings, text: str) -> None:
    (configured.run_dir / private_states.STATES_FILE).write_text(text)
    assert private_states.read(configured) is None
