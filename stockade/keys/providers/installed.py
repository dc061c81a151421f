"""The providers of this installation: the software one always, and those that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.kernel.shelf import Shelf
from stockade.keys.providers.provider import KeyProvider, ProviderType
from stockade.keys.providers.software import SoftwareProvider
from stockade.settings import Keys, Provider


@cache
def types() -> Shelf[ProviderType]:
    """Return the shelf."""
    return Shelf.load("stockade.keys.providers", ProviderType, "type", beside=("installed", "provider"))  # type: ignore[type-abstract]


def install(place: Provider, seal_key: Secret) -> KeyProvider:
    """Return one provider that the settings describe."""
    found = types().get(place.type)
    if found is None:
        raise Fault(FaultKind.UNSUPPORTED, f"There are no key providers of type {place.type}.")
    return found.install(place, seal_key)


def installed(settings: Keys, seal_key: Secret) -> Mapping[str, KeyProvider]:
    """Return them by name. seal_key: 32 bytes for handles and nothing else; Fault(UNAVAILABLE) where one lacks what it needs."""
    found: dict[str, KeyProvider] = {SoftwareProvider.type: SoftwareProvider(seal_key)}
    for place in settings.providers:
        if place.name in found:
            raise Fault(FaultKind.INVALID, f"Two key providers are called {place.name}.")
        found[place.name] = install(place, seal_key)
    return found
