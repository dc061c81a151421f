"""From a method and a path to what is meant: a route, a document, a collection or an action, with the ARM action it takes and where.

Paths compare without regard to case. Nothing here looks at storage, so nothing here can reveal what exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.kernel.shelf import Shelf
from stockade.management.resource_type import Action, Call, Method, Plugin, ResourceType, Route
from stockade.policy.compile import Compile
from stockade.storage.database import Writer
from stockade.storage.documents import Document

RESOURCE_GROUPS = "Microsoft.Resources/resourceGroups"
SUBSCRIPTIONS = "Microsoft.Resources/subscriptions"
_VERBS: Mapping[Method, str] = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a request is about.

    id:         the document (of an action: the one that is asked), or the scope of a list or route.
    permission: the ARM action; None when every authenticated caller may ask.
    scope:      lower-case scope at which the permission is needed.
    """

    id: ResourceId
    permission: str | None
    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentTarget(Target):
    """One resource: GET, HEAD, PUT, PATCH, DELETE."""

    type: ResourceType


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTarget(Target):
    """The resources of one type at a scope."""

    type: ResourceType
    permission: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionTarget(Target):
    """Something one resource is asked."""

    type: ResourceType
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTarget(Target):
    """An endpoint that is no document. parameters: what its template captured."""

    route: Route
    parameters: Mapping[str, str]


class Registry:
    """The plug-ins, and the way from a path to one of them."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self._types: dict[str, ResourceType] = {}
        self._routes: list[tuple[tuple[str, ...], Route]] = []
        self._compilers: dict[str, Compile] = {}
        for plugin in plugins:
            self._routes += [(tuple(route.template.strip("/").split("/")), route) for route in plugin.routes]
            self._compilers.update({name.lower(): compile_ for name, compile_ in plugin.documents.items()})
            if isinstance(plugin, ResourceType):
                self._types[plugin.type.lower()] = plugin
                self._compilers[plugin.type.lower()] = plugin.compile

    @classmethod
    def load(cls) -> Registry:
        """Take every plug-in of `management/resources`."""
        return cls(Shelf.load("stockade.management.resources", Plugin))

    def __iter__(self) -> Iterator[ResourceType]:
        return iter(self._types.values())

    def compilers(self) -> Mapping[str, Compile]:
        """Return how each type's documents become policy, for `policy.compile.Compiler`."""
        return self._compilers

    def of(self, resource: ResourceId) -> ResourceType | None:
        if resource.type is None:
            name = (
                RESOURCE_GROUPS
                if resource.resource_group is not None
                else SUBSCRIPTIONS
                if resource.subscription
                else ""
            )
            return self._types.get(name.lower())
        kind = self._types.get(resource.type.lower())
        if kind is None or kind.extension:
            return kind
        # Everything that is no extension lives in a resource group, or in its subscription, and extends nothing.
        in_place = (resource.resource_group is None) == kind.in_subscription and resource.subscription is not None
        return kind if in_place and resource.key.count("/providers/") == 1 else None

    def of_document(self, document: Document) -> ResourceType | None:
        return self._types.get(document.type)

    def remove_below(self, call: Call, writer: Writer, document_id: str) -> None:
        below: Sequence[Document] = writer.below(document_id)
        for document in sorted(below, key=lambda found: found.id.count("/")):
            current = writer.get(document.id)
            if current is None:
                continue
            kind = self.of_document(current)
            if kind is not None:
                kind.remove(call, writer, current)
            else:
                writer.remove(current)

    def namespaces(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for kind in self._types.values():
            namespace, _, name = kind.type.partition("/")
            found.setdefault(namespace, []).append(name)
        return found

    def permissions(self) -> Iterable[str]:
        return {
            route.permission for _, route in self._routes if route.permission and not route.permission.startswith("{")
        }

    def resolve(self, method: Method, segments: Sequence[str]) -> Target:
        """Say what a request is about; Fault(NOT_FOUND) for what this platform does not have, Fault(METHOD_NOT_ALLOWED)."""
        route = self._route(method, segments)
        if route is not None:
            return route
        target = self._document(method, segments) or self._below(method, segments)
        if target is not None:
            return target
        if self._route(None, segments) is not None:
            raise _method_not_allowed(method)
        raise _unknown(segments)

    def implied_version(self, method: Method, segments: Sequence[str]) -> str | None:
        """Return the api-version of a request that names none; None where it has to name one."""
        target = self._route(method, segments)
        return target.route.version if isinstance(target, RouteTarget) else None

    def _route(self, method: Method | None, segments: Sequence[str]) -> Target | None:
        """Return the route with the most literal segments that fits. method None: of any method."""
        wanted = "GET" if method == "HEAD" else method
        best: tuple[int, RouteTarget] | None = None
        for template, route in self._routes:
            if method is not None and route.method != wanted:
                continue
            captured = _match(template, segments)
            if captured is None:
                continue
            literal = sum(not part.startswith("{") for part in template)
            if best is None or literal > best[0]:
                scope = _route_scope(route, template, captured)
                if scope is not None:
                    best = (
                        literal,
                        RouteTarget(
                            id=scope,
                            permission=_filled(route.permission, captured),
                            scope=scope.key,
                            route=route,
                            parameters=captured,
                        ),
                    )
        return best[1] if best is not None else None

    def _document(self, method: Method, segments: Sequence[str]) -> Target | None:
        resource = _parsed(segments)
        kind = self.of(resource) if resource is not None and resource.key != "/" else None
        if resource is None or kind is None:
            return None
        if ("GET" if method == "HEAD" else method) not in kind.methods:
            raise _method_not_allowed(method)
        # What extends a scope is decided at that scope, so that "this scope only" deny assignments there count.
        scope = _parse(resource.parent) if kind.extension else resource
        return DocumentTarget(
            id=resource, permission=f"{kind.permissions_prefix}/{_VERBS[method]}", scope=scope.key, type=kind
        )

    def _below(self, method: Method, segments: Sequence[str]) -> Target | None:
        """Read the path as a resource and one word more: a collection, or an action."""
        if not segments:
            return None
        *front, last = segments
        read = method in ("GET", "HEAD")
        if len(front) >= 2 and front[-2].lower() == "providers":
            scope, kind = _parsed(front[:-2]), self._types.get(f"{front[-1]}/{last}".lower())
            if scope is not None and kind is not None and (kind.extension or scope.key.count("/providers/") == 0):
                return self._collection(kind, scope, read=read, method=method)
            return None
        parent = _parsed(front)
        owner = self.of(parent) if parent is not None and parent.key != "/" else None
        if parent is None or owner is None:
            return None
        child = self._types.get(
            RESOURCE_GROUPS.lower()
            if owner.type == SUBSCRIPTIONS and last.lower() == "resourcegroups"
            else f"{parent.type or '?'}/{last}".lower()
        )
        if child is not None:
            return self._collection(child, parent, read=read, method=method)
        for action in owner.actions:
            if action.name.lower() == last.lower():
                if action.method != ("GET" if read else method):
                    raise _method_not_allowed(method)
                return ActionTarget(
                    id=parent, permission=action.permission, scope=parent.key, type=owner, action=action
                )
        return None

    def _collection(self, kind: ResourceType, scope: ResourceId, *, read: bool, method: Method) -> Target:
        if not read or "GET" not in kind.methods:
            raise _method_not_allowed(method)
        return ListTarget(id=scope, permission=f"{kind.permissions_prefix}/read", scope=scope.key, type=kind)


def _match(template: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    captured: dict[str, str] = {}
    if template and template[0] == "{scope}":
        surplus = len(segments) - (len(template) - 1)
        if surplus < 0:
            return None
        captured["scope"] = "/" + "/".join(segments[:surplus])
        template, segments = template[1:], segments[surplus:]
    if len(template) != len(segments):
        return None
    for part, segment in zip(template, segments, strict=True):
        if part.startswith("{"):
            captured[part.strip("{}")] = segment
        elif part.lower() != segment.lower():
            return None
    return captured


def _route_scope(route: Route, template: Sequence[str], captured: Mapping[str, str]) -> ResourceId | None:
    """Return the scope of a matched route; None when what was captured is not one."""
    if route.scope is None and template[0] == "{scope}":
        pattern: Sequence[str] = template[:1]
    elif route.scope is not None:
        pattern = route.scope.strip("/").split("/")
    else:
        lower = [part.lower() for part in template]
        pattern = template[: lower.index("providers")] if "providers" in lower else template
        if pattern == template and not (lower[0] == "subscriptions" and len(template) in (2, 4)):
            pattern = template[:2] if lower[0] == "subscriptions" and len(template) > 1 else ()
    parts = [captured[part.strip("{}")].strip("/") if part.startswith("{") else part for part in pattern]
    return _parsed([segment for part in parts for segment in part.split("/") if segment])


def _filled(permission: str | None, captured: Mapping[str, str]) -> str | None:
    if permission is not None and permission.startswith("{"):
        name, brace, rest = permission[1:].partition("}")
        return captured[name] + rest if brace else permission
    return permission


def _parse(text: str) -> ResourceId:
    return ResourceId.parse(text)


def _parsed(segments: Sequence[str]) -> ResourceId | None:
    try:
        return _parse("/" + "/".join(segments))
    except Fault:
        return None


def _method_not_allowed(method: str) -> Fault:
    return Fault(FaultKind.METHOD_NOT_ALLOWED, f"The HTTP method '{method}' is not supported at this address.")


def _unknown(segments: Sequence[str]) -> Fault:
    lower = [segment.lower() for segment in segments]
    if "providers" in lower:
        after = len(lower) - 1 - lower[::-1].index("providers")
        kind = "/".join((*segments[after + 1 : after + 2], *segments[after + 2 :: 2]))
        message = f"No registered resource provider found for type '{kind[:200]}'."
        return Fault(FaultKind.NOT_FOUND, message, code="NoRegisteredProviderFound")
    if lower[:1] == ["subscriptions"] and len(lower) > 1 and _parsed(segments[:2]) is None:
        message = f"The provided subscription identifier '{segments[1][:80]}' is malformed or invalid."
        return Fault(FaultKind.INVALID, message, code="InvalidSubscriptionId")
    return Fault(FaultKind.NOT_FOUND, "There is nothing at this address.", code="NotFound")
