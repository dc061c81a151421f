"""`POST {account}/testLossPrevention`: what the account's loss prevention would make of a request. Not Azure's.

    {"operation": "Face_Detect" | "method": "POST", "path": "/face/v1.0/detect", "query": "a=b", "contentType": "application/json",
     "headers": {"name": "value"}, "body": "<base64>"}

Everything but the body may be left out. The services' own reading and `decide` judge, as in the gateway; nothing is sent anywhere, looked up or
stored. The URIs are shown, because the caller has brought them. On an account that restricts nothing the answer says what its list would do if it
did. An action of its own and not a read: the list tells where an account's data may go.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny
from stockade.management.resource_type import Call
from stockade.policy.decide import decide
from stockade.policy.facts import Facts
from stockade.policy.snapshot import AccountPolicy
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.loss_prevention import LossPrevention
from stockade.services.installed import installed
from stockade.services.service import Service
from stockade.services.trial import Described, Looked, look
from stockade.settings import Settings
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json

MAX_SHOWN: Final = 500
MAX_SHOWN_CHARACTERS: Final = 2000


class _Body(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    body: str = ""
    content_type: str = "application/json"
    operation: str = ""
    method: str = "POST"
    path: str = ""
    query: str = ""
    headers: dict[str, str] = {}


def try_request(call: Call, reader: Reader, document: Document) -> Json:
    """Answer what is found and what would happen; Fault(INVALID) for a description that describes nothing."""
    described = _described(call.body)
    account = call.snapshot.only("account", document.id)
    if account is None:
        raise Fault(FaultKind.CONFLICT, "The account is not in force, so there is nothing to test.")
    restricted = document.body["properties"].get("restrictOutboundNetworkAccess") is True
    rules = account.outbound or _would_be(call, document)
    answer: Json = {
        "restricted": restricted,
        "mode": account.modes.get(Control.DLP, "enforce"),
        "deepScan": rules.deep_scan,
        "inlineContent": rules.inline,
        "allowedEntries": len(rules.allowed.entries),
    }
    try:
        looked = look(
            _services(call.platform.settings), account, call.snapshot, described, deep=rules.deep_scan, now=call.now
        )
    except Fault as fault:
        if fault.target in ("operation", "path", "contentType"):
            raise
        # The gateway reads every body before it looks for URIs, whatever the control's mode.
        return {**answer, "outcome": "refused", "message": fault.message, "uris": [], "more": 0}
    shown = [_shown(found, rules, restricted=restricted) for found in looked.uris[:MAX_SHOWN]]
    return {
        **answer,
        "service": looked.service,
        "operation": looked.operation.name,
        "method": looked.operation.method,
        "path": looked.operation.path,
        **_outcome(call, replace(account, outbound=rules), looked, restricted=restricted),
        "uris": shown,
        "more": len(looked.uris) - len(shown),
    }


def _described(body: Mapping[str, object]) -> Described:
    try:
        read = msgspec.convert(dict(body), _Body)
        content = base64.b64decode(read.body, validate=True)
        query = {
            name.lower(): value for name, value in parse_qsl(read.query, keep_blank_values=True, max_num_fields=64)
        }
    except msgspec.ValidationError as failure:
        problem, _, where = str(failure).partition(" - at `$.")
        message = f"The request content is invalid: {problem}."
        raise Fault(
            FaultKind.INVALID, message, code="InvalidRequestContent", target=where.rstrip("`") or None
        ) from failure
    except binascii.Error as failure:
        raise Fault(FaultKind.INVALID, "The property 'body' is not base64.", target="body") from failure
    except ValueError as failure:
        raise Fault(FaultKind.INVALID, "The property 'query' cannot be read.", target="query") from failure
    headers = {name.lower(): value for name, value in read.headers.items()}
    return Described(content, read.content_type, read.operation, read.method, read.path, query, headers)


def _outcome(call: Call, account: AccountPolicy, looked: Looked, *, restricted: bool) -> Json:
    """Return what `decide` says, with the account's own mode; where nothing is restricted, what the list would say."""
    facts = Facts(call.now, "", account, False, None, looked.operation, looked.operation.path, looked.operation.method)
    facts.uris = looked.uris
    verdict = decide(call.snapshot, facts, "body")
    denied = verdict if isinstance(verdict, Deny) else next(iter(verdict.reported), None)
    if denied is None:
        return {"outcome": "passes", "message": None}
    if not restricted:
        return {"outcome": "passes", "message": f"If the account restricted outbound access: {denied.fault.message}"}
    return {"outcome": "refused" if isinstance(verdict, Deny) else "reported", "message": denied.fault.message}


def _shown(found: FoundUri, rules: LossPrevention, *, restricted: bool) -> Json:
    refused = rules.refuse(found)
    content = found.uri[:5].lower() == "data:"
    fetched = refused is None and restricted and found.inline and rules.inline and not content
    return {
        "place": found.path,
        "uri": found.uri[:MAX_SHOWN_CHARACTERS],
        "declared": found.declared,
        "content": content,
        "allowed": refused is None,
        "reason": refused.reason if refused is not None else None,
        "host": refused.host if refused is not None else None,
        "detail": refused.detail or None if refused is not None else None,
        "fetchedHere": fetched,
    }


def _would_be(call: Call, document: Document) -> LossPrevention:
    """Return what the account's list and extension come to when they are in force: what the account's own type makes of it with the switch on."""
    kind, properties = call.platform.types.of_document(document), document.body["properties"]
    extension = properties.get("stockade") or {}
    drafted = {
        **properties,
        "restrictOutboundNetworkAccess": True,
        "stockade": {**extension, "controls": {**(extension.get("controls") or {}), "dlp": "enforce"}},
    }
    assert kind is not None
    entries = kind.compile(replace(document, body={**document.body, "properties": drafted}))
    outbound: LossPrevention = next(entry for entry in entries if entry[0] == "account")[2].outbound
    return outbound


@lru_cache(1)
def _services(settings: Settings) -> tuple[Service, ...]:
    return tuple(installed(settings))
