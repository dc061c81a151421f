from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.factories.console import ConsoleWorld, Directory


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    made = Directory(tmp_path_factory.mktemp("directory"))
    yield made
    made.close()


@pytest.fixture
def world(directory: Directory) -> ConsoleWorld:
    return ConsoleWorld(directory)


@pytest.fixture
def named(directory: Directory) -> ConsoleWorld:
    """The same where DNS is set up: passkeys made in software are of that name."""
    return ConsoleWorld(directory, "stockade.localhost")
