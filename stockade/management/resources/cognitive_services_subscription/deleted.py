"""`deletedAccounts`: what was deleted, until when it can be restored, and getting rid of it at once."""

from __future__ import annotations

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.cognitive_services.kinds import ACCOUNTS, PROVIDER
from stockade.management.locations import normalised
from stockade.management.resource_type import Call, Reply
from stockade.management.resources.cognitive_services_accounts import soft_delete
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json, State

PAGE = 1000


def list_deleted(call: Call, reader: Reader) -> Json:
    """Answer `deletedAccounts`, in pages by id."""
    after = call.query.get("$skiptoken", "").lower()
    found = reader.list(ACCOUNTS, subscription=call.id.subscription, state=State.SOFT_DELETED)
    left = [document for document in found if document.id > after and not soft_delete.is_expired(document, call.now)]
    answer: Json = {"value": [soft_delete.deleted_body(document) for document in left[:PAGE]]}
    if len(left) > PAGE:
        path = f"/subscriptions/{call.id.subscription}/providers/{PROVIDER}/deletedAccounts"
        answer["nextLink"] = f"{call.base_url}{path}?api-version={call.api_version}&$skiptoken={left[PAGE - 1].id}"
    return answer


def get_deleted(call: Call, reader: Reader) -> Json:
    """Answer one deleted account; Fault(NOT_FOUND)."""
    document = _deleted(call, reader)
    if document is None:
        message = f"The Resource '{soft_delete.DELETED_TYPE}/{call.parameters['account']}' was not found."
        raise Fault(FaultKind.NOT_FOUND, message)
    return soft_delete.deleted_body(document)


def purge_deleted(call: Call, writer: Writer) -> Reply:
    """Purge a deleted account: 200, or 204 when there is none. Fault(CONFLICT) for an account that is not deleted."""
    live = writer.get(_account_id(call))
    if live is not None:
        message = f"The account '{call.parameters['account']}' is not deleted. Delete it first, then purge it."
        raise Fault(FaultKind.CONFLICT, message, code="ResourceNotDeleted")
    document = _deleted(call, writer)
    if document is None:
        return Reply(204)
    soft_delete.purge(call.platform, writer, document)
    return Reply(200)


def _deleted(call: Call, reader: Reader) -> Document | None:
    document = reader.get(_account_id(call), State.SOFT_DELETED)
    if document is None or soft_delete.is_expired(document, call.now):
        return None
    return document if document.body["location"] == normalised(call.parameters["location"]) else None


def _account_id(call: Call) -> str:
    group, account = call.parameters["group"], call.parameters["account"]
    return f"/subscriptions/{call.id.subscription}/resourceGroups/{group}/providers/{ACCOUNTS}/{account}"
