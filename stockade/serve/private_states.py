"""How the private listeners stand: written by their process, read by `stockade status` and `stockade doctor`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

from stockade.serve.files import write_private
from stockade.settings import Settings

STATES_FILE: Final = "private.json"


@dataclass(frozen=True, slots=True)
class ListenerState:
    """How one approved connection stands. Ports: 0 while there is no listener. reason: why one or both of them are not listened on."""

    connection: str
    account: str
    address: str
    port: int
    state: Literal["listening", "waiting"]
    reason: str = ""
    websocket_port: int = 0


def write(configured: Settings, states: Sequence[ListenerState]) -> None:
    """Say how this process's listeners stand."""
    told = {"pid": os.getpid(), "listeners": [asdict(one) for one in states]}
    write_private(configured.run_dir / STATES_FILE, json.dumps(told).encode())


def withdraw(configured: Settings) -> None:
    """Say that there are none any more."""
    (configured.run_dir / STATES_FILE).unlink(missing_ok=True)


def read(configured: Settings) -> tuple[ListenerState, ...] | None:
    """Return how the listeners stand; None when their process does not run."""
    try:
        told = json.loads((configured.run_dir / STATES_FILE).read_bytes())
        os.kill(int(told["pid"]), 0)
        return tuple(ListenerState(**one) for one in told["listeners"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
