"""Resource providers: which namespaces there are, what is in them, and whether a subscription uses them.

Everything is registered from the start. Writes to one that was unregistered fail with MissingSubscriptionRegistration until it is
registered again, which SDKs then do by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.locations import accepted
from stockade.management.resource_type import Call, Plugin, Reply, Route, bodies
from stockade.policy.compile import Compile
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

UNREGISTERED = "stockade.resources/unregisteredproviders"
_ALWAYS = frozenset({"microsoft.authorization", "microsoft.resources", "microsoft.features"})
# What clients that ask first (`az resource ...`) are told to send; every well-formed version is accepted.
_API_VERSIONS: Mapping[str, tuple[str, ...]] = {
    "microsoft.authorization": ("2022-05-01-preview", "2022-04-01"),
    "microsoft.cognitiveservices": ("2026-05-15-preview", "2025-09-01", "2025-06-01"),
    "microsoft.customerlockbox": ("2018-02-28-preview",),
    "microsoft.features": ("2021-07-01",),
    "microsoft.insights": ("2021-05-01-preview", "2017-05-01-preview", "2015-04-01"),
    "microsoft.keyvault": ("2026-05-15", "2026-02-01", "2023-07-01"),
    "microsoft.managedidentity": ("2024-11-30", "2023-01-31"),
    "microsoft.network": ("2025-05-01", "2025-01-01", "2024-07-01", "2024-05-01"),
    "microsoft.resources": ("2025-04-01", "2024-11-01", "2022-12-01"),
}
# What has routes and no resource types.
_ROUTED: Mapping[str, tuple[str, ...]] = {
    "Microsoft.CustomerLockbox": ("requests", "tenantOptedIn"),
    "Microsoft.Features": ("providers", "providers/features"),
}


class Providers(Plugin):
    """Microsoft.Resources/providers."""

    name = "Microsoft.Resources/providers"

    @property
    def routes(self) -> Sequence[Route]:
        read = "Microsoft.Resources/subscriptions/providers/read"
        one = "/subscriptions/{subscription}/providers/{namespace}"
        return (
            Route("GET", "/subscriptions/{subscription}/providers", read, _list),
            Route("GET", one, read, _show),
            Route("GET", "/providers", None, _list),
            Route("GET", "/providers/{namespace}", None, _show),
            Route("POST", f"{one}/register", "{namespace}/register/action", _register, writes=True),
            Route("POST", f"{one}/unregister", "{namespace}/unregister/action", _unregister, writes=True),
        )

    @property
    def documents(self) -> Mapping[str, Compile]:
        return {UNREGISTERED: _compile}


def _list(call: Call, reader: Reader) -> Json:
    return bodies(_body(call, namespace, kinds) for namespace, kinds in _namespaces(call).items())


def _show(call: Call, reader: Reader) -> Json:
    namespace = _known(call)
    return _body(call, namespace, _namespaces(call)[namespace])


def _register(call: Call, writer: Writer) -> Json:
    namespace = _known(call)
    document = writer.get(_document_id(call, namespace))
    if document is not None:
        writer.remove(document)
    return _body(call, namespace, _namespaces(call)[namespace], state="Registered")


def _unregister(call: Call, writer: Writer) -> Json | Reply:
    namespace = _known(call)
    if namespace.lower() in _ALWAYS:
        message = f"The provider '{namespace}' is part of the platform and stays registered."
        raise Fault(FaultKind.CONFLICT, message, code="CannotUnregisterProvider")
    in_use = [
        kind
        for kind in call.platform.types
        if kind.type.lower().startswith(namespace.lower() + "/")
        and writer.list(kind.type, subscription=call.id.subscription, limit=1)
    ]
    if in_use:
        message = f"The provider '{namespace}' cannot be unregistered while the subscription has resources of the type '{in_use[0].type}'."
        raise Fault(FaultKind.CONFLICT, message, code="CannotUnregisterProvider")
    body = {"namespace": namespace, "subscription": str(call.id.subscription).lower()}
    writer.put(_document_id(call, namespace), UNREGISTERED, body, subscription=str(call.id.subscription))
    return _body(call, namespace, _namespaces(call)[namespace], state="NotRegistered")


def _compile(document: Document) -> Iterable[Entry]:
    yield ("unregistered-provider", (document.body["subscription"], str(document.body["namespace"]).lower()), True)


def _namespaces(call: Call) -> Mapping[str, Sequence[str]]:
    found = {**call.platform.types.namespaces(), **_ROUTED}
    return dict(sorted(found.items()))


def _known(call: Call) -> str:
    wanted = call.parameters["namespace"]
    for namespace in _namespaces(call):
        if namespace.lower() == wanted.lower():
            return namespace
    raise Fault(FaultKind.NOT_FOUND, f"The resource namespace '{wanted}' is invalid.", code="InvalidResourceNamespace")


def _document_id(call: Call, namespace: str) -> str:
    return f"/subscriptions/{call.id.subscription}/providers/{namespace}".lower()


def _body(call: Call, namespace: str, kinds: Sequence[str], state: str | None = None) -> Json:
    subscription = call.id.subscription
    if state is None and subscription is not None:
        off = call.snapshot.only("unregistered-provider", (subscription.lower(), namespace.lower()))
        state = "Registered" if off is None else "NotRegistered"
    versions = _API_VERSIONS.get(namespace.lower(), ("2025-04-01",))
    places = list(accepted(call.platform.settings))
    body: Json = {
        "id": f"{call.id.text.rstrip('/')}/providers/{namespace}",
        "namespace": namespace,
        "registrationPolicy": "RegistrationFree" if namespace.lower() in _ALWAYS else "RegistrationRequired",
        "resourceTypes": [
            {
                "resourceType": kind,
                "locations": places,
                "apiVersions": list(versions),
                "defaultApiVersion": versions[0],
                "capabilities": "None",
            }
            for kind in sorted(kinds)
        ],
    }
    if state is not None:
        body["registrationState"] = state
    return body


PLUGIN = Providers()
