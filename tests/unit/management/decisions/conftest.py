from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories.decisions import DecidedPlane


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[DecidedPlane]:
    made = DecidedPlane(tmp_path)
    yield made
    made.close()
