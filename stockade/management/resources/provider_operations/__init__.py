"""The ARM actions that exist here, by provider: `/providers/Microsoft.Authorization/providerOperations[/{namespace}]`."""

from __future__ import annotations

from collections.abc import Sequence

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.resource_type import Call, Plugin, ResourceType, Route, bodies
from stockade.storage.database import Reader
from stockade.storage.documents import Json

_VERBS = (("read", ("GET",)), ("write", ("PUT", "PATCH")), ("delete", ("DELETE",)))


class ProviderOperations(Plugin):
    """Microsoft.Authorization/providerOperations."""

    name = "Microsoft.Authorization/providerOperations"

    @property
    def routes(self) -> Sequence[Route]:
        # Like Azure: no role is needed to learn what could be granted.
        base = "/providers/Microsoft.Authorization/providerOperations"
        return (Route("GET", base, None, _list), Route("GET", f"{base}/{{namespace}}", None, _show))


def _list(call: Call, reader: Reader) -> Json:
    return bodies(_body(call, namespace) for namespace in _namespaces(call))


def _show(call: Call, reader: Reader) -> Json:
    wanted = call.parameters["namespace"].lower()
    for namespace in _namespaces(call):
        if namespace.lower() == wanted:
            return _body(call, namespace)
    message = f"The provider '{call.parameters['namespace'][:100]}' was not found."
    raise Fault(FaultKind.NOT_FOUND, message, code="ProviderNotFound")


def _namespaces(call: Call) -> list[str]:
    """Return the namespaces of types and of endpoints, each in one spelling."""
    named = {permission.partition("/")[0] for permission in call.platform.types.permissions()}
    found = {namespace.lower(): namespace for namespace in (*sorted(named), *call.platform.types.namespaces())}
    return sorted(found.values())


def _body(call: Call, namespace: str) -> Json:
    kinds = [kind for kind in call.platform.types if kind.type.partition("/")[0] == namespace]
    detailed = "resourcetypes" in call.query.get("$expand", "resourceTypes").lower()
    return {
        "id": f"/providers/Microsoft.Authorization/providerOperations/{namespace}",
        "name": namespace,
        "type": "Microsoft.Authorization/providerOperations",
        "displayName": namespace,
        "operations": [_operation(name) for name in _of_endpoints(call, namespace)],
        "resourceTypes": [_type_body(kind) for kind in kinds] if detailed else [],
    }


def _type_body(kind: ResourceType) -> Json:
    names = [f"{kind.permissions_prefix}/{verb}" for verb, methods in _VERBS if kind.methods.intersection(methods)]
    names += sorted({action.permission for action in kind.actions} - set(names))
    data = {action.permission for action in kind.actions if action.data}
    return {
        "name": kind.type.partition("/")[2],
        "displayName": kind.type,
        "operations": [_operation(name, data=name in data) for name in names],
    }


def _of_endpoints(call: Call, namespace: str) -> list[str]:
    """Return the actions of a namespace that are no resource type's."""
    of_types = {one["name"].lower() for kind in call.platform.types for one in _type_body(kind)["operations"]}
    permissions = sorted(call.platform.types.permissions())
    within = [one for one in permissions if one.partition("/")[0].lower() == namespace.lower()]
    return [one for one in within if one.lower() not in of_types]


def _operation(name: str, *, data: bool = False) -> Json:
    return {"name": name, "displayName": name, "origin": "user,system", "isDataAction": data}


PLUGIN = ProviderOperations()
