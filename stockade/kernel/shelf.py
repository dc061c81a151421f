"""Plug-in folders: find every `PLUGIN` of one package, check it, and refuse doubt at start-up rather than at request time."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Shelf(Generic[T]):
    """The plug-ins of one folder, keyed by one attribute. Only our own packages are scanned."""

    def __init__(self, items: dict[str, T]) -> None:
        self._items = items

    @classmethod
    def load(
        cls,
        package: str,
        contract: type[T],
        key: str = "name",
        *,
        folders_only: bool = False,
        beside: Collection[str] = (),
    ) -> Shelf[T]:
        """Import each module or folder directly below the package and take its `PLUGIN`.

        folders_only: modules beside the folders are the package's own, no plug-ins. beside: folders that are its own too.
        Raises TypeError naming the file when a plug-in is missing, does not satisfy the contract, or reuses a key.
        """
        items: dict[str, T] = {}
        parent = importlib.import_module(package)
        for found in sorted(pkgutil.iter_modules(parent.__path__), key=lambda module: module.name):
            if found.name.startswith("_") or found.name in beside or (folders_only and not found.ispkg):
                continue
            module = importlib.import_module(f"{package}.{found.name}")
            plugin = getattr(module, "PLUGIN", None)
            if plugin is None:
                raise TypeError(f"{module.__name__} has no PLUGIN")
            if not isinstance(plugin, contract):
                raise TypeError(f"{module.__name__}.PLUGIN is not a {contract.__name__}")
            identity = str(getattr(plugin, key, "")).lower()
            if not identity:
                raise TypeError(f"{module.__name__}.PLUGIN has no {key}")
            if identity in items:
                raise TypeError(f"{module.__name__} reuses the {key} {identity!r}")
            items[identity] = plugin
        return cls(items)

    def __getitem__(self, key: str) -> T:
        return self._items[key.lower()]

    def get(self, key: str) -> T | None:
        return self._items.get(key.lower())

    def __iter__(self) -> Iterator[T]:
        return iter(self._items.values())

    def __len__(self) -> int:
        return len(self._items)
