"""The services of this installation: one folder each."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from stockade.kernel.shelf import Shelf
from stockade.keys.root import RootKey
from stockade.services.service import Service, TakesKeys
from stockade.settings import Settings

BESIDE: Final = ("uris",)
"""Folders here that are no services: what services share."""
_SERVED_OTHERWISE: Final = frozenset({"openai", "session_tokens"})
"""Services without an upstream of their own: models have theirs, and tokens are made here."""


@lru_cache(1)
def _shelf() -> Shelf[type]:
    return Shelf.load("stockade.services", type, folders_only=True, beside=BESIDE)


def served(settings: Settings, kind: str) -> tuple[str, ...]:
    """Return, as people know them, the services behind which the settings name an upstream and that an account of a kind answers for."""
    named = {service.name.lower() for service in settings.services}
    return tuple(
        plugin.title  # type: ignore[attr-defined]
        for plugin in _shelf()
        if plugin.name in named and kind in plugin.kinds  # type: ignore[attr-defined]
    )


def installed(settings: Settings, keys: RootKey | None = None) -> list[Service]:
    """Build every service. Connections are made when something is first asked of one, so this is cheap and opens nothing.

    keys: lends purposes' keys to those that make something with them; without it they answer nothing.

    Raises ValueError when the settings name an upstream for a service that takes none.
    """
    services: list[Service] = [plugin(settings) for plugin in _shelf()]
    if keys is not None:
        for service in services:
            if isinstance(service, TakesKeys):
                service.lend(keys)
    known = {service.name for service in services} - _SERVED_OTHERWISE
    for named in settings.services:
        if named.name.lower() not in known:
            message = (
                f"services: {named.name!r} is no service that takes an upstream; these do: {', '.join(sorted(known))}"
            )
            raise ValueError(message)
    return services
