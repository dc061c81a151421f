from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories.vault import Vaulted


@pytest.fixture
def vaulted(tmp_path: Path) -> Iterator[Vaulted]:
    made = Vaulted(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vaulted]:
    """For tests that change nothing, or only what is theirs."""
    made = Vaulted(tmp_path_factory.mktemp("vaulted"))
    yield made
    made.close()
