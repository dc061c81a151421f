"""`Stockade.Keys`: what hangs on a customer's key, and receipts of destroyed ones."""

from __future__ import annotations

from collections.abc import Sequence

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys import receipts
from stockade.management.cognitive_services import destruction
from stockade.management.cognitive_services.dependents import KeyName, dependents, named
from stockade.management.resource_type import Call, Plugin, Route, bodies
from stockade.storage.database import Reader
from stockade.storage.documents import Json
from stockade.vault.documents import VAULTS

_PROVIDER = "/subscriptions/{subscription}/providers/Stockade.Keys"
_VAULT = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{VAULTS}/{{vault}}"


class Keys(Plugin):
    """Stockade.Keys."""

    name = "Stockade.Keys"

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", f"{_PROVIDER}/dependents", "Stockade.Keys/dependents/read", _dependents),
            # For whoever looks after the vault: the right to read its keys there is enough.
            Route(
                "GET", f"{_VAULT}/keys/{{key}}/dependents", f"{VAULTS}/keys/read", _dependents_in_vault, scope=_VAULT
            ),
            Route("GET", f"{_PROVIDER}/receipts", f"{destruction.RECEIPTS}/read", _receipts),
            Route("GET", f"{_PROVIDER}/receipts/{{receipt}}", f"{destruction.RECEIPTS}/read", _receipt),
            Route("GET", "/providers/Stockade.Keys/receiptKey", None, _receipt_key),
        )


def _dependents(call: Call, reader: Reader) -> Json:
    return dependents(call, reader, named(call.snapshot, call.query.get("key", "")))


def _dependents_in_vault(call: Call, reader: Reader) -> Json:
    return dependents(call, reader, KeyName(call.id.key, call.parameters["key"].lower()))


def _receipts(call: Call, reader: Reader) -> Json:
    return bodies(one.body for one in destruction.receipts_of(reader, call.parameters["subscription"].lower()))


def _receipt(call: Call, reader: Reader) -> Json:
    found = destruction.receipt_of(reader, call.parameters["subscription"], call.parameters["receipt"])
    if found is None:
        raise Fault(FaultKind.NOT_FOUND, "There is no such receipt.")
    return dict(found.body)


def _receipt_key(call: Call, reader: Reader) -> Json:
    return {
        "algorithm": receipts.ALGORITHM,
        "publicKey": receipts.to_text(call.platform.broker.receipt_key()),
    }


PLUGIN = Keys()
