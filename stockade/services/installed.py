"""The services of this installation: one folder each."""

from __future__ import annotations

from stockade.kernel.shelf import Shelf
from stockade.services.service import Service
from stockade.settings import Settings


def installed(settings: Settings) -> list[Service]:
    """Build every service. Connections are made when something is first asked of one, so this is cheap and opens nothing."""
    shelf: Shelf[type] = Shelf.load("stockade.services", type, folders_only=True, beside=("uris",))
    return [plugin(settings) for plugin in shelf]
