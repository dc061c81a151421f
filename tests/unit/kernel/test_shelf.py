"""Plug-in folders are checked when they are read, and doubt is an error that names the file."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from stockade.kernel.shelf import Shelf

GOOD = "class P:\n    name = '{name}'\n    def work(self): ...\nPLUGIN = P()\n"
_numbers = itertools.count()
Make = Callable[[Mapping[str, str]], str]


@runtime_checkable
class Worker(Protocol):
    name: str

    def work(self) -> None: ...


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.syspath_prepend(tmp_path)

    def build(files: Mapping[str, str]) -> str:
        package = f"shelf_{next(_numbers)}"
        for name, content in {"__init__.py": "", **files}.items():
            path = tmp_path / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return package

    yield build
    for name in [name for name in sys.modules if name.startswith("shelf_")]:
        del sys.modules[name]


def test_modules_and_folders_are_found_in_any_case_of_their_name(make: Make) -> None:
    files = {
        "b.py": GOOD.format(name="Beta"),
        "a/__init__.py": GOOD.format(name="alpha"),
        "_private.py": "raise RuntimeError",
        "notes.txt": "",
    }
    shelf = Shelf.load(make(files), Worker)  # type: ignore[type-abstract]
    assert [worker.name for worker in shelf] == ["alpha", "Beta"]
    assert len(shelf) == 2
    assert shelf["BETA"] is shelf.get("beta")
    assert shelf.get("gamma") is None
    with pytest.raises(KeyError):
        shelf["gamma"]


def test_folders_alone_are_taken_where_modules_are_the_packages_own(make: Make) -> None:
    files = {"helper.py": "x = 1", "a/__init__.py": GOOD.format(name="alpha")}
    assert len(Shelf.load(make(files), Worker, folders_only=True)) == 1  # type: ignore[type-abstract]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.py": "x = 1"}, "a has no PLUGIN"),
        ({"a.py": "PLUGIN = None"}, "a has no PLUGIN"),
        ({"a.py": "PLUGIN = 5"}, "a.PLUGIN is not a Worker"),
        ({"a.py": "class P:\n    name = 'a'\nPLUGIN = P()"}, "a.PLUGIN is not a Worker"),
        ({"a.py": GOOD.format(name="")}, "a.PLUGIN has no name"),
        ({"a.py": GOOD.format(name="Same"), "b.py": GOOD.format(name="sAME")}, "b reuses the name 'same'"),
    ],
)
def test_doubtful_plug_in_stops_the_start(make: Make, files: Mapping[str, str], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Shelf.load(make(files), Worker)  # type: ignore[type-abstract]


def test_plug_in_that_fails_to_import_is_not_passed_over(make: Make) -> None:
    with pytest.raises(ZeroDivisionError):
        Shelf.load(make({"a.py": "1 / 0"}), Worker)  # type: ignore[type-abstract]
