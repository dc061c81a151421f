"""The services of this installation: one folder each."""

from __future__ import annotations

from typing import Final

from stockade.kernel.shelf import Shelf
from stockade.services.service import Service
from stockade.settings import Settings

BESIDE: Final = ("uris",)
"""Folders here that are no services: what services share."""
_SERVED_OTHERWISE: Final = frozenset({"openai", "session_tokens"})
"""Services without an upstream of their own: models have theirs, and tokens are made here."""


def installed(settings: Settings) -> list[Service]:
    """Build every service. Connections are made when something is first asked of one, so this is cheap and opens nothing.

    Raises ValueError when the settings name an upstream for a service that takes none.
    """
    shelf: Shelf[type] = Shelf.load("stockade.services", type, folders_only=True, beside=BESIDE)
    services: list[Service] = [plugin(settings) for plugin in shelf]
    known = {service.name for service in services} - _SERVED_OTHERWISE
    for named in settings.services:
        if named.name.lower() not in known:
            message = (
                f"services: {named.name!r} is no service that takes an upstream; these do: {', '.join(sorted(known))}"
            )
            raise ValueError(message)
    return services
