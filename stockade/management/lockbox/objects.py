"""`GET {account}/providers/Stockade.Lockbox/objects`: what can be seen of what an account keeps without an approval, a page at a time."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from stockade.content import outside
from stockade.content.outside import Outside
from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox import visible
from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.resource_type import Call
from stockade.storage.database import Reader
from stockade.storage.documents import Json

READ: Final = "Stockade.Lockbox/objects/read"


def listed(call: Call, reader: Reader) -> Json:
    """Return a page of an account's objects, and where the next one is. `$top`: at most 1000."""
    where = call.parameters
    arm_id = f"/subscriptions/{where['subscription']}/resourceGroups/{where['group']}/providers/{ACCOUNTS}/{where['account']}"
    account = reader.get(arm_id)
    if account is None:
        raise Fault(FaultKind.NOT_FOUND, f"The Resource '{ACCOUNTS}/{where['account']}' was not found.")
    after, limit = _number(call, "$skiptoken", 0), min(_number(call, "$top", outside.MOST), outside.MOST)
    found = outside.page(reader.connection, account.id, after, limit + 1)
    answer: Json = {"value": [_shown(one) for one in found[:limit]]}
    if len(found) > limit:
        path = f"{quote(arm_id)}/providers/Stockade.Lockbox/objects"
        answer["nextLink"] = f"{call.base_url}{path}?$skiptoken={found[limit - 1].ordinal}&$top={limit}"
    return answer


def _shown(one: Outside) -> Json:
    found: Json = {
        "path": f"{one.kind}/{one.id}",
        "kind": one.kind,
        "id": one.id,
        "state": one.state,
        "status": one.status,
        "bytes": one.size,
        "createdAt": iso(one.created_at),
        "updatedAt": iso(one.updated_at),
        "expiresAt": iso(one.expires_at) if one.expires_at is not None else None,
        "dataKey": one.data_key,
    }
    return {member.member: found[member.member] for member in visible.OBJECT}


def _number(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 15 or (name == "$top" and int(text) == 0):
        raise Fault(FaultKind.INVALID, f"'{name}' is not one of ours.", target=name)
    return int(text)
