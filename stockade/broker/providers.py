"""The key providers of this installation, each built when it is first needed: one that cannot be is nobody else's trouble."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import Lock
from typing import Final

from stockade.keys.keyring import Keyring
from stockade.keys.providers.installed import install
from stockade.keys.providers.provider import KeyProvider
from stockade.keys.providers.software import SoftwareProvider
from stockade.settings import Keys

HANDLES_PURPOSE: Final = "broker/key-handles/1"


class Installed(Mapping[str, KeyProvider]):
    """By name. Fault(UNAVAILABLE) from one that lacks what it needs, each time it is asked for."""

    def __init__(self, settings: Keys, keyring: Keyring) -> None:
        self._seal_key = keyring.keys.derive(HANDLES_PURPOSE)
        self._places = {place.name: place for place in settings.providers if place.name != SoftwareProvider.type}
        self._built: dict[str, KeyProvider] = {
            SoftwareProvider.type: SoftwareProvider(self._seal_key, kept_open_s=settings.lease_s)
        }
        self._lock = Lock()

    def __getitem__(self, name: str) -> KeyProvider:
        with self._lock:
            if name not in self._built:
                self._built[name] = install(self._places[name], self._seal_key)
            return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter((SoftwareProvider.type, *self._places))

    def __len__(self) -> int:
        return 1 + len(self._places)

    def close(self) -> None:
        """Let go of those that were built."""
        with self._lock:
            while self._built:
                self._built.popitem()[1].close()


class Providers:
    """Makes them for a keyring."""

    def __init__(self, settings: Keys) -> None:
        self._settings = settings

    def __call__(self, keyring: Keyring) -> Installed:
        return Installed(self._settings, keyring)
