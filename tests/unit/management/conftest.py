from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories.arm import Arm
from tests.factories.control_plane import ControlPlane


@pytest.fixture
def arm(tmp_path: Path) -> Arm:
    return Arm(tmp_path)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    control_plane = ControlPlane(tmp_path)
    yield control_plane
    control_plane.close()
