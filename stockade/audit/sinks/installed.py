"""The types of sinks there are."""

from __future__ import annotations

from functools import cache

from stockade.audit.sinks.sink import OpenSink, SinkType, Undelivered
from stockade.kernel.shelf import Shelf
from stockade.settings import Sink


@cache
def types() -> Shelf[SinkType]:
    """Return the shelf."""
    return Shelf.load("stockade.audit.sinks", SinkType, beside=("installed", "sink"))  # type: ignore[type-abstract]


def open_sink(configured: Sink) -> OpenSink:
    """Return a sink that the settings describe; Undelivered, saying what is missing, where it cannot be used on this machine."""
    found = types().get(configured.type)
    if found is None:
        raise Undelivered(f"there are no sinks of type {configured.type}")
    return found.open(configured)
