"""The public keys that everything here is verified with. No secret and nobody's: also for whoever has no account, below `/.well-known/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stockade.audit.checkpoint import HeadKey
from stockade.kernel.faults import Fault
from stockade.keys import request_receipts
from stockade.keys.broker import Broker
from stockade.keys.receipts import to_text
from stockade.management.arm_wire import error_reply
from stockade.management.resource_type import Call
from stockade.storage.database import Reader
from stockade.storage.documents import Json

AUDIT_PATH: Final = "/.well-known/stockade-audit-keys"
RECEIPTS_PATH: Final = "/.well-known/stockade-receipt-keys"


def show(call: Call, reader: Reader) -> Json:
    """Answer with the keys."""
    return published(call.platform.broker, call.platform.tenant_id)


def published(broker: Broker, tenant_id: str) -> Json:
    """Return the keys: of tree heads, and of receipts as a JWK set (RFC 7517). They stay the same for as long as the platform's keyring."""
    head = HeadKey(broker.tree_head_key())
    return {
        "treeHeads": {
            "algorithm": "Ed25519",
            "publicKey": to_text(head.public),
            "pem": head.pem(),
            "origin": f"stockade/{tenant_id}/",
        },
        "receipts": {"keys": [request_receipts.jwk(broker.request_receipt_key())]},
    }


def routes(broker: Broker, tenant_id: str) -> list[Route]:
    """Return the routes of the control plane that give them to anybody. The broker is asked until it has answered once."""
    known: list[Json] = []

    def document() -> Json:
        if not known:
            known.append(published(broker, tenant_id))
        return known[0]

    def route(path: str, chosen: Callable[[Json], Json]) -> Route:
        async def answer(_: Request) -> Response:
            try:
                found = await run_in_threadpool(document)
            except Fault as fault:
                reply = error_reply(fault)
                return JSONResponse(reply.body, reply.status, dict(reply.headers))
            return JSONResponse(chosen(found), headers={"cache-control": "public, max-age=300"})

        return Route(path, answer, methods=["GET"])

    return [route(AUDIT_PATH, lambda keys: keys), route(RECEIPTS_PATH, lambda keys: dict(keys["receipts"]))]
