"""The operations of all services, as far as management has to know them: to say which one a described request is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation
from stockade.services.installed import installed
from stockade.services.routing import Router
from stockade.services.service import Service
from stockade.settings import Settings


@lru_cache(1)
def _services(settings: Settings) -> tuple[tuple[Service, ...], Router]:
    services = tuple(installed(settings))
    return services, Router(services)


def named(settings: Settings, kind: str, name: str) -> Operation:
    """Return an account kind's operation by its name in any case; Fault(INVALID) naming those there are."""
    services, _ = _services(settings)
    known = [operation for one in services if not one.kinds or kind in one.kinds for operation in one.operations]
    for operation in known:
        if operation.name.lower() == name.lower():
            return operation
    names = ", ".join(sorted({operation.name for operation in known}))
    message = f"'{name[:80]}' is no operation of an account of kind {kind}; there is: {names}."
    raise Fault(FaultKind.INVALID, message, target="operation")


def addressed(settings: Settings, kind: str, method: str, path: str) -> tuple[Operation, Mapping[str, str]]:
    """Return the operation for a method and a path below the account, and the path's values; Fault(INVALID) when there is none."""
    _, router = _services(settings)
    route = router.match(method.upper(), path.partition("?")[0], kind) if path.startswith("/") else None
    if route is None:
        message = f"No operation of an account of kind {kind} answers {method[:10]} {path[:200]}."
        raise Fault(FaultKind.INVALID, message, target="path")
    return route.operation, route.values
