"""Azure's clients as tests of whole journeys use them: as the administrator, and with what `stockade env` puts into the environment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pytest
import uvloop

from tests.live import Live

if TYPE_CHECKING:  # a second to import, which only the tests that use it should pay for
    from tests.factories.azure import Azure

BOTH_LOOPS = {"test_inline_content.py"}
"""What opens connections of its own runs on the data plane's loop too; asyncio's is the one that can be watched."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops = {"asyncio": asyncio.new_event_loop}
    if item.path.name in BOTH_LOOPS:
        loops["uvloop"] = uvloop.new_event_loop
    return loops


@pytest.fixture(scope="module")
def client_environment(live: Live) -> Iterator[Mapping[str, str]]:
    """Give clients in this process what `eval "$(stockade env)"` gives a shell, while the tests of one file run."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in live.environment.items():
            patch.setenv(name, value)
        yield live.environment


@pytest.fixture(scope="module")
def azure(live: Live, client_environment: Mapping[str, str]) -> Azure:
    """Azure's management clients, as the administrator of the server of this run."""
    from tests.factories.azure import Azure

    return Azure(live)
