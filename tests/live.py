"""The running server that examples in the documentation and tests with real clients share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Live:
    """Tell how to reach the server of this test run."""

    environment: Mapping[str, str]
    """What `stockade env` prints for it, and STOCKADE_DATA_DIR."""
    account: Callable[[str], Mapping[str, str]]
    """What `stockade env --account NAME` prints in addition."""
