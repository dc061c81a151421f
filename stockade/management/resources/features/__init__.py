"""Preview features of a subscription: registered, or not. None changes anything here; registrations are kept because scripts make them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.resource_type import Call, Plugin, Route, bodies
from stockade.policy.compile import Compile
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

FEATURE = "stockade.resources/features"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_PERMISSIONS = "Microsoft.Features/providers/features"


class Features(Plugin):
    """Microsoft.Features/providers/features."""

    name = "Microsoft.Features/providers/features"

    @property
    def routes(self) -> Sequence[Route]:
        base = "/subscriptions/{subscription}/providers/Microsoft.Features"
        every = f"{base}/providers/{{namespace}}/features"
        one = f"{every}/{{feature}}"
        return (
            Route("GET", f"{base}/features", "Microsoft.Features/features/read", _list),
            Route("GET", every, f"{_PERMISSIONS}/read", _list),
            Route("GET", one, f"{_PERMISSIONS}/read", _show),
            Route("POST", f"{one}/register", f"{_PERMISSIONS}/register/action", _register, writes=True),
            Route("POST", f"{one}/unregister", f"{_PERMISSIONS}/unregister/action", _unregister, writes=True),
        )

    @property
    def documents(self) -> Mapping[str, Compile]:
        return {FEATURE: _compile}


def _list(call: Call, reader: Reader) -> Json:
    namespace = call.parameters.get("namespace", "").lower()
    found = reader.list(FEATURE, subscription=call.id.subscription)
    return bodies(
        item.body for item in found if not namespace or str(item.body["name"]).lower().startswith(namespace + "/")
    )


def _show(call: Call, reader: Reader) -> Json:
    document = reader.get(_document_id(call))
    return dict(document.body) if document is not None else _body(call, "NotRegistered")


def _register(call: Call, writer: Writer) -> Json:
    return _set(call, writer, "Registered")


def _unregister(call: Call, writer: Writer) -> Json:
    return _set(call, writer, "Unregistered")


def _set(call: Call, writer: Writer, state: str) -> Json:
    for name in ("namespace", "feature"):
        if not _NAME.fullmatch(call.parameters[name]):
            raise Fault(
                FaultKind.INVALID, f"The {name} '{call.parameters[name][:80]}' is not a valid name.", target=name
            )
    document = writer.put(_document_id(call), FEATURE, _body(call, state), subscription=str(call.id.subscription))
    return dict(document.body)


def _document_id(call: Call) -> str:
    return str(_body(call, "")["id"]).lower()


def _body(call: Call, state: str) -> Json:
    namespace, feature = call.parameters["namespace"], call.parameters["feature"]
    return {
        "id": f"{call.id.text}/providers/Microsoft.Features/providers/{namespace}/features/{feature}",
        "name": f"{namespace}/{feature}",
        "type": "Microsoft.Features/providers/features",
        "properties": {"state": state},
    }


def _compile(document: Document) -> Iterable[Entry]:
    return ()


PLUGIN = Features()
